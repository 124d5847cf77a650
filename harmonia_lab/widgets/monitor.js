// The table of jobs: draws the rows of the view, sets every word as text, and sends clicks.

const cell = (row, index, tag = "td") => row.children[index] || row.appendChild(document.createElement(tag));

const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

function render({ model, el }) {
  const table = document.createElement("table");
  table.className = "hl-monitor";
  table.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes Enter on a button for "edit this cell"
  const caption = table.createCaption();
  const head = table.createTHead().insertRow();
  const body = table.createTBody();
  el.append(table);

  const button = (place, name, id, title, shown) => {
    let node = place.querySelector(`[data-ask="${name}"]`);
    if (!node) {
      node = document.createElement("button");
      node.type = "button";
      node.dataset.ask = name;
      node.textContent = name === "cancel" ? "Cancel" : "Retry";
      node.addEventListener("click", () => model.send({ ask: name, id: node.dataset.id }));
      place.append(node);
    }
    node.dataset.id = id;
    node.hidden = !shown;
    node.setAttribute("aria-label", `${node.textContent} ${title}`);
  };

  const drawRow = (row, job) => {
    row.dataset.status = job.status;
    setText(cell(row, 0, "th"), job.title);
    row.children[0].scope = "row";
    setText(cell(row, 1), job.status);
    const progress = cell(row, 2).querySelector("progress") || cell(row, 2).appendChild(document.createElement("progress"));
    progress.max = 100;
    progress.value = job.percent;
    progress.setAttribute("aria-label", `Progress of ${job.title}`);
    [job.step, job.began, job.took].forEach((text, index) => setText(cell(row, 3 + index), text));
    button(cell(row, 6), "cancel", job.id, job.title, job.canCancel);
    button(cell(row, 6), "retry", job.id, job.title, job.canRetry);
  };

  const draw = () => {
    const view = model.get("view");
    const jobs = view.rows || [];
    setText(caption, view.notice || (jobs.length ? "" : "No songs yet"));
    [...(view.columns || []), ""].forEach((name, index) => setText(cell(head, index, "th"), name));
    while (body.rows.length > jobs.length) body.deleteRow(-1);
    jobs.forEach((job, index) => drawRow(body.rows[index] || body.insertRow(), job));
  };

  model.on("change:view", draw);
  draw();
  return () => model.off("change:view", draw);
}

export default { render };

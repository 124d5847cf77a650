// The live panel's front end: draws one small view (see view_model.py) and sends clicks. It decides nothing, and sets
// every word as text, because a story or a model may have written it.

const PATIENCE_MS = 2000; // a kernel that has nothing else to do answers a click in a tenth of it

const make = (tag, className, attributes = {}) => {
  const node = document.createElement(tag);
  node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

// Sets only a text that differs: a screen reader reads out every text that is set.
const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
  node.hidden = text === "";
};

const bar = (label) => {
  const row = make("div", "hl-row");
  const name = make("span", "hl-name");
  const track = make("div", "hl-track", {
    role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0",
  });
  const fill = make("div", "hl-fill");
  const note = make("span", "hl-note");
  name.textContent = label;
  track.append(fill);
  row.append(name, track, note);
  const set = (percent, state, text, title = label) => {
    track.setAttribute("aria-valuenow", String(Math.round(percent)));
    track.setAttribute("aria-label", title);
    fill.style.width = `${percent}%`;
    row.dataset.state = state;
    if (name.textContent !== title) name.textContent = title;
    if (note.textContent !== text) note.textContent = text;
  };
  return { row, set };
};

const button = (text, className, click) => {
  const node = make("button", `hl-button ${className}`, { type: "button" });
  node.textContent = text;
  node.addEventListener("click", click);
  return node;
};

const blobUrl = (data, type) => URL.createObjectURL(new Blob([data], { type }));

const save = (name, data) => {
  const link = make("a", "", { href: blobUrl(data, "application/octet-stream"), download: name.split("/").pop() });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

// Plays chunks of a song that is still being made, one after the other.
const previewPlayer = () => {
  const box = make("div", "hl-preview");
  const label = make("span", "hl-name");
  const audio = make("audio", "", { "aria-label": "What has been made so far" });
  let chunks = [];
  let next = 0;
  let source = "";
  box.append(label, audio);
  box.hidden = true;
  const play = (start) => {
    if (next >= chunks.length) return;
    audio.src = chunks[next++];
    if (start) audio.play().catch(() => {});
  };
  audio.addEventListener("ended", () => play(true));
  const clear = () => {
    audio.pause();
    audio.removeAttribute("src");
    chunks.forEach((url) => URL.revokeObjectURL(url));
    [chunks, next, source] = [[], 0, ""];
    box.hidden = true;
  };
  const add = (piece, data) => {
    const name = piece.instrument || "mix";
    if (name !== source) {
      clear();
      source = name;
    }
    label.textContent = `Preview: ${name}`;
    chunks.push(blobUrl(data, piece.type));
    audio.controls = true; // a player's buttons are a hundred nodes: not before there is something to play
    box.hidden = false;
    if (!audio.src) play(false);
    else if (audio.ended) play(true);
  };
  return { box, add, clear };
};

function render({ model, el }) {
  // The attribute keeps the page's shortcuts away: JupyterLab would take Enter on a button for "edit this cell".
  const root = make("section", "hl-panel", { "aria-label": "Song", "data-lm-suppress-shortcuts": "true" });
  const title = make("h3", "hl-title");
  const facts = make("p", "hl-facts");
  const wishes = make("p", "hl-facts");
  const warnings = make("p", "hl-plan", { role: "note" });
  const shared = make("p", "hl-facts");
  const overall = bar("Song");
  overall.row.classList.add("hl-overall");
  const stages = [bar("Lyrics"), bar("Music")];
  const chips = make("ul", "hl-chips", { "aria-label": "Instruments" });
  const status = make("p", "hl-status", { role: "status" });
  const numbers = make("p", "hl-numbers");
  const alert = make("p", "hl-error", { role: "alert" });
  const plan = make("p", "hl-plan");
  const connection = make("p", "hl-error", { role: "alert" });
  const notice = make("p", "hl-error", { role: "alert" });
  const busy = make("p", "hl-plan", { role: "alert" });
  busy.hidden = true;
  const lyrics = make("pre", "hl-lyrics", { tabindex: "0", "aria-label": "Lyrics" });
  const picture = make("img", "hl-picture");
  const audio = make("audio", "hl-audio", { preload: "metadata", "aria-label": "The song" });
  const files = make("ul", "hl-files", { "aria-label": "Downloads" });
  const preview = previewPlayer();
  const ask = (what, more = {}) => model.send({ ask: what, ...more });
  let waiting = 0;
  // Older kernels handle clicks only between cells. A cancel is sent again, at ever longer intervals, in case a broken
  // connection lost it: a second cancel does no harm.
  const watchForAnswer = (node, what, after) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      if (!node.disabled) return;
      setText(busy, "The kernel has not answered yet: it may be busy with a cell, and hear this when the cell has ended. Interrupt the kernel to stop the cell now.");
      if (what !== "cancel") return;
      ask(what);
      watchForAnswer(node, what, 2 * after);
    }, after);
  };
  const click = (node, what) => {
    node.disabled = true;
    ask(what);
    watchForAnswer(node, what, PATIENCE_MS);
  };
  const release = (node) => {
    if (!node.disabled) return;
    node.disabled = false;
    setText(busy, "");
  };
  const cancel = button("Cancel", "hl-cancel", () => click(cancel, "cancel"));
  const retry = button("Retry", "hl-retry", () => click(retry, "retry"));
  const progress = make("div", "hl-progress");
  const buttons = make("div", "hl-buttons");
  const words = make("div", "hl-words");
  const song = make("div", "hl-song");
  buttons.append(cancel, retry);
  progress.append(overall.row, stages[0].row, stages[1].row, chips, status, numbers, alert, plan, connection, notice, buttons, busy);
  words.append(title, facts, wishes, warnings, shared, lyrics);
  song.append(picture, audio, preview.box, files);
  root.append(progress, words, song);
  el.classList.add("hl-container");
  el.append(root);

  const drawChips = (list) => {
    while (chips.children.length > list.length) chips.lastChild.remove();
    list.forEach((chip, index) => {
      const node = chips.children[index] || chips.appendChild(make("li", "hl-chip"));
      node.dataset.state = chip.state;
      const text = chip.role && chip.role !== chip.name ? `${chip.name} · ${chip.role}` : chip.name;
      if (node.textContent !== text) node.textContent = text;
      node.title = `${chip.name}, ${chip.role}: ${chip.state}`;
    });
    chips.hidden = list.length === 0;
  };

  const draw = () => {
    const view = model.get("view");
    if (!view.id) return;
    root.dataset.status = view.status;
    setText(title, view.title);
    setText(facts, view.facts);
    setText(wishes, view.wishes ? `Wishes: ${view.wishes}` : "");
    setText(warnings, view.warnings || "");
    setText(shared, view.shared || "");
    const state = { completed: "done", failed: "stopped", cancelled: "stopped", pending: "waiting" }[view.status];
    overall.set(view.overall, state || "active", view.eta || `${Math.round(view.overall)} %`);
    view.stages.forEach((stage, index) => {
      const note = stage.step || (stage.state === "waiting" ? "" : `${Math.round(stage.percent)} %`);
      stages[index].set(stage.percent, stage.state, note, stage.name);
    });
    drawChips(view.chips);
    setText(status, view.summary ? `${view.headline}: ${view.summary}` : view.headline);
    setText(numbers, [view.tokens, view.memory].filter(Boolean).join(" · "));
    setText(alert, view.code ? `${view.error} (${view.code})` : view.error);
    setText(plan, view.plan);
    setText(connection, view.connection);
    setText(notice, view.notice);
    const follow = lyrics.scrollTop + lyrics.clientHeight >= lyrics.scrollHeight - 4;
    setText(lyrics, view.lyrics);
    if (follow && view.status === "processing") lyrics.scrollTop = lyrics.scrollHeight;
    cancel.hidden = !view.canCancel;
    retry.hidden = !view.canRetry;
    if (view.notice || !view.canCancel) release(cancel);
    if (view.notice || !view.canRetry) release(retry);
    if (view.status !== "processing") preview.clear();
  };

  const showBytes = (node, data, type) => {
    if (node.src) URL.revokeObjectURL(node.src);
    node.hidden = !data || data.byteLength === 0;
    if (node.hidden) node.removeAttribute("src");
    else node.src = blobUrl(data, type);
  };

  const drawPicture = () => {
    showBytes(picture, model.get("picture"), "image/png");
    picture.alt = `Waveform, sung lines and spectrogram of ${model.get("view").title || "the song"}`;
  };

  const drawAudio = () => {
    showBytes(audio, model.get("audio"), "audio/mpeg");
    audio.controls = !audio.hidden;
    if (audio.hidden) delete root.dataset.song;
    else root.dataset.song = "here";
  };

  const drawFiles = () => {
    const names = model.get("files");
    files.replaceChildren(...names.map((name) => {
      const item = make("li", "");
      const link = button(name.replace("stems/", ""), "hl-file", () => ask("file", { name }));
      link.setAttribute("aria-label", `Download ${name}`);
      item.append(link);
      return item;
    }));
    files.hidden = names.length === 0;
  };

  const hear = (message, buffers) => {
    if (message.file) save(message.file, buffers[0]);
    if (message.preview) preview.add(message.preview, buffers[0]);
  };

  const listeners = {
    "change:view": draw,
    "change:picture": drawPicture,
    "change:audio": drawAudio,
    "change:files": drawFiles,
    "msg:custom": hear,
  };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  [draw, drawPicture, drawAudio, drawFiles].forEach((each) => each());
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    clearTimeout(waiting);
    preview.clear();
    [picture, audio].forEach((node) => showBytes(node, null));
    // The page keeps the element that it gave us, and a player keeps its audio until it loads another source.
    audio.load();
    root.remove();
  };
}

export default { render };

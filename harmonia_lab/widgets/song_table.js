// The table of songs: draws the head and the rows, sets every word as text, sends clicks, and plays one song at a time.

import { drawNoMore, drawSoon, hide, mark } from "./frame.js";

const LABELS = { cancel: "Cancel", retry: "Retry", play: "Play", open: "Open" };
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 240;
const HEIGHT = 32;

const make = (tag, className, parent) => {
  const node = document.createElement(tag);
  node.className = className;
  parent.append(node);
  return node;
};

const cell = (row, index, tag = "td") => row.children[index] || row.appendChild(document.createElement(tag));

const setText = (node, text) => {
  if (node.textContent !== (text || "")) node.textContent = text || "";
};

const setBar = (bar, percent, name) => {
  if (bar.max !== 100) bar.max = 100;
  if (bar.value !== percent) bar.value = percent;
  if (bar.getAttribute("aria-label") !== name) bar.setAttribute("aria-label", name);
};

// One curve of memory: points are fractions of the highest one.
const curve = (parent) => {
  const figure = make("div", "hl-curve", parent);
  const svg = figure.appendChild(document.createElementNS(SVG, "svg"));
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = svg.appendChild(document.createElementNS(SVG, "polyline"));
  const words = make("span", "hl-curve-words", figure);
  return ({ points, text }) => {
    const most = Math.max(...points, 1);
    const step = points.length > 1 ? WIDTH / (points.length - 1) : 0;
    const at = (value, index) => `${(index * step).toFixed(1)},${((HEIGHT - 1) * (1 - value / most) + 0.5).toFixed(1)}`;
    const drawn = points.map(at).join(" ");
    if (line.getAttribute("points") !== drawn) line.setAttribute("points", drawn);
    const shown = points.length > 1 ? "" : "none";
    if (svg.style.display !== shown) svg.style.display = shown;
    setText(words, text);
  };
};

const headOf = (parent, ask) => {
  const status = make("p", "hl-batch-status", parent);
  status.setAttribute("role", "status");
  const line = make("div", "hl-batch-bar", parent);
  const bar = make("progress", "", line);
  const left = make("span", "hl-batch-left", line);
  const cancel = make("button", "", line);
  cancel.type = "button";
  cancel.textContent = "Cancel all";
  cancel.addEventListener("click", () => ask("cancelAll", ""));
  const curves = [curve(parent), curve(parent)];
  return (head) => {
    hide(parent, !head.headline);
    if (parent.hidden) return;
    mark(parent, "state", head.state);
    setText(status, head.headline);
    setBar(bar, head.percent, "Progress of all songs");
    setText(left, head.left);
    hide(cancel, !head.canCancel);
    [head.memory, head.gpu].forEach((memory, index) => curves[index](memory));
  };
};

function render({ model, el }) {
  const ask = (name, id) => model.send({ ask: name, id });
  const root = make("div", "hl-songs", el);
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes Enter on a button for "edit this cell"
  const paintHead = headOf(make("div", "hl-batch", root), ask);
  const table = make("table", "", root);
  const caption = table.createCaption();
  caption.setAttribute("role", "status");
  const headings = table.createTHead().insertRow();
  const body = table.createTBody();
  const known = new Map(); // a row's id → its node: a row that moves keeps its player and its focus
  let sound = null; // { audio, url }

  const stop = () => {
    if (!sound) return;
    sound.audio.pause();
    sound.audio.remove();
    URL.revokeObjectURL(sound.url);
    sound = null;
  };

  const drawActions = (place, song) => {
    for (const name of Object.keys(LABELS)) {
      let node = place.querySelector(`[data-ask="${name}"]`);
      const shown = song.actions.includes(name);
      if (!node && !shown) continue;
      if (!node) {
        node = make("button", "", place);
        node.type = "button";
        node.dataset.ask = name;
        node.textContent = LABELS[name];
        node.addEventListener("click", () => ask(name, song.id));
      }
      hide(node, !shown);
      const label = `${LABELS[name]} ${song.title}${song.detail ? `, ${song.detail}` : ""}`;
      if (node.getAttribute("aria-label") !== label) node.setAttribute("aria-label", label);
    }
  };

  const drawRow = (row, song, count) => {
    mark(row, "status", song.status);
    const head = cell(row, 0, "th");
    if (head.scope !== "row") head.scope = "row";
    setText(head.children[0] || make("span", "hl-songs-title", head), song.title);
    setText(head.children[1] || make("small", "", head), song.detail);
    setText(cell(row, 1), song.status);
    const bar = cell(row, 2).querySelector("progress") || make("progress", "", cell(row, 2));
    setBar(bar, song.percent, `Progress of ${song.title}`);
    setText(cell(row, 3), song.step);
    song.cells.forEach((text, index) => setText(cell(row, 4 + index), text));
    drawActions(cell(row, count), song);
  };

  const drawHead = () => paintHead(model.get("head"));

  // The song that is being made changes at each drawing, the other rows seldom.
  let current = "";
  const drawNow = () => {
    const { rows = [], columns = [] } = model.get("view");
    const now = model.get("now");
    for (const song of rows) {
      if (known.has(song.id) && [current, now.id].includes(song.id)) {
        drawRow(known.get(song.id), song.id === now.id ? { ...song, ...now } : song, columns.length);
      }
    }
    current = now.id;
  };

  const draw = () => {
    const view = model.get("view");
    const now = model.get("now");
    const songs = (view.rows || []).map((song) => (song.id === now.id ? { ...song, ...now } : song));
    const columns = view.columns || [];
    current = now.id;
    setText(caption, view.notice || (songs.length ? "" : "No songs yet"));
    [...columns, "Actions"].forEach((name, index) => setText(cell(headings, index, "th"), name));
    const ids = new Set(songs.map((song) => song.id));
    for (const [id, row] of known) {
      if (ids.has(id)) continue;
      if (sound && row.contains(sound.audio)) stop();
      row.remove();
      known.delete(id);
    }
    songs.forEach((song, index) => {
      if (!known.has(song.id)) known.set(song.id, document.createElement("tr"));
      const row = known.get(song.id);
      if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] || null);
      drawRow(row, song, columns.length);
    });
  };

  const receive = (message, buffers) => {
    const row = known.get(message.play);
    if (!row) return;
    stop();
    const url = URL.createObjectURL(new Blob([buffers[0]], { type: message.type }));
    const audio = make("audio", "", row.children[0]);
    sound = { audio, url };
    audio.controls = true;
    audio.setAttribute("aria-label", `Player of ${row.querySelector(".hl-songs-title").textContent}`);
    audio.src = url;
    audio.play().catch(() => {}); // a page may forbid it; the player is there
  };

  const draws = { "change:view": draw, "change:head": drawHead, "change:now": drawNow };
  const listeners = { "msg:custom": receive };
  for (const [name, each] of Object.entries(draws)) listeners[name] = () => drawSoon(each);
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  drawHead();
  draw();
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    Object.values(draws).forEach(drawNoMore);
    stop();
  };
}

export default { render };

// The live panel's front end: draws one small view (see view_model.py) and sends clicks. It decides nothing, and sets
// every word as text, because a story or a model may have written it. A finished song's player is `player/player.js`.
import { aboutList, button, make, mount, save, setText } from "../player/player.js";
import { drawNoMore, drawSoon, hide, mark } from "./frame.js";
import { copyOf, fileName, kernelSounds } from "./kernel_sounds.js";

const PATIENCE_MS = 2000; // a kernel that has nothing else to do answers a click in a tenth of it

const bar = (label) => {
  const row = make("div", "hl-row");
  const name = make("span", "hl-name", {}, label);
  const track = make("div", "hl-track", {
    role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0",
  });
  const fill = make("div", "hl-fill");
  const note = make("span", "hl-note");
  track.append(fill);
  row.append(name, track, note);
  const set = (percent, state, text, title = label) => {
    const now = String(Math.round(percent));
    if (track.getAttribute("aria-valuenow") !== now) track.setAttribute("aria-valuenow", now);
    if (track.getAttribute("aria-label") !== title) track.setAttribute("aria-label", title);
    if (fill.style.width !== `${percent}%`) fill.style.width = `${percent}%`;
    mark(row, "state", state);
    if (name.textContent !== title) name.textContent = title;
    if (note.textContent !== text) note.textContent = text;
  };
  return { row, set };
};

const blobUrl = (data, type) => URL.createObjectURL(new Blob([data], { type }));

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
  const root = make("section", "hl-panel", { role: "group", "aria-label": "Song", "data-lm-suppress-shortcuts": "true", tabindex: "-1" });
  const title = make("h3", "hl-title", { dir: "auto" });
  const status = make("p", "hl-status", { role: "status" });
  const facts = make("p", "hl-facts", { dir: "auto" });
  const wishes = make("p", "hl-facts");
  const heard = make("p", "hl-facts");
  const warnings = make("p", "hl-plan", { role: "note" });
  const shared = make("p", "hl-facts");
  const overall = bar("Song");
  overall.row.classList.add("hl-overall");
  const stages = [bar("Lyrics"), bar("Music")];
  const chips = make("ul", "hl-chips", { "aria-label": "Instruments" });
  const numbers = make("p", "hl-numbers");
  const alert = make("p", "hl-error", { role: "alert" });
  const plan = make("p", "hl-plan");
  const connection = make("p", "hl-error", { role: "alert" });
  const notice = make("p", "hl-error", { role: "alert" });
  const busy = make("p", "hl-plan", { role: "alert" });
  busy.hidden = true;
  const lyrics = make("pre", "hl-lyrics", { dir: "auto" });
  const picture = make("img", "hl-picture");
  const files = make("ul", "hl-files", { "aria-label": "Downloads" });
  const about = make("div", "hl-about");
  const preview = previewPlayer();
  const sounds = kernelSounds(model);
  const ask = (what, more = {}) => model.send({ ask: what, ...more });
  let player = null;
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
  // The answer to "file" is the file, or a notice that says why there is none.
  let expecting = 0;
  const askForFile = (name) => {
    clearTimeout(expecting);
    expecting = setTimeout(() => setText(busy, `${name} has not come: the kernel is busy with a cell, or has ended. The song's folder has it.`), PATIENCE_MS);
    ask("file", { name });
  };
  const heardOfFile = () => {
    if (!expecting) return;
    clearTimeout(expecting);
    expecting = 0;
    setText(busy, "");
  };
  const release = (node) => {
    if (!node.disabled) return;
    node.disabled = false;
    setText(busy, "");
  };
  const cancel = button("Cancel", "hl-button hl-cancel", () => click(cancel, "cancel"));
  const retry = button("Retry", "hl-button hl-retry", () => click(retry, "retry"));
  // Title and player on top; what the making showed folds away under them when the player is there.
  const head = make("div", "hl-head", {}, title, status, facts);
  const stage = make("div", "hl-stage");
  const words = make("div", "hl-words", { tabindex: "0", role: "group", "aria-label": "Words" }, lyrics, wishes, heard, warnings, shared);
  const buttons = make("div", "hl-buttons", {}, cancel, retry);
  const alerts = make("div", "hl-alerts", {}, alert, plan, connection, notice, buttons, busy);
  const made = make("details", "hl-made", { open: "" }, make("summary", "", {}, "How it was made, picture and files"),
    overall.row, stages[0].row, stages[1].row, chips, numbers, preview.box, about, files, picture);
  root.append(head, stage, words, alerts, made);
  el.classList.add("hl-container");
  el.append(root);

  // What was laid out while the song was made keeps its height when it is done, so that the notebook doesn't jump.
  const loosen = () => { root.style.minHeight = words.style.height = ""; };
  const freeze = () => {
    const heights = [root, words].map(({ offsetHeight }) => (offsetHeight ? `${offsetHeight}px` : ""));
    [root.style.minHeight, words.style.height] = heights;
  };

  const drawChips = (list) => {
    while (chips.children.length > list.length) chips.lastChild.remove();
    list.forEach((chip, index) => {
      const node = chips.children[index] || chips.appendChild(make("li", "hl-chip"));
      mark(node, "state", chip.state);
      const text = chip.role && chip.role !== chip.name ? `${chip.name} · ${chip.role}` : chip.name;
      if (node.textContent !== text) node.textContent = text;
      const told = `${chip.name}, ${chip.role}: ${chip.state}`;
      if (node.title !== told) node.title = told;
    });
    hide(chips, list.length === 0);
  };

  const draw = () => {
    const view = model.get("view");
    if (!view.id) return;
    const focused = root.contains(document.activeElement) ? document.activeElement : null;
    if (view.status !== "completed") loosen();
    else if (root.dataset.status && root.dataset.status !== "completed") freeze();
    mark(root, "status", view.status);
    if (title.textContent !== view.title) title.textContent = view.title;
    hide(title, false); // its line is kept free, so that nothing moves when it comes
    setText(facts, view.facts);
    setText(wishes, view.wishes ? `Wishes: ${view.wishes}` : "");
    setText(heard, view.heard || "");
    setText(warnings, view.warnings || "");
    setText(shared, view.shared || "");
    const state = { completed: "done", failed: "stopped", cancelled: "stopped", pending: "waiting" }[view.status];
    overall.set(view.overall, state || "active", view.eta || `${Math.round(view.overall)} %`);
    view.stages.forEach((each, index) => {
      const note = each.step || (each.state === "waiting" ? "" : `${Math.round(each.percent)} %`);
      stages[index].set(each.percent, each.state, note, each.name);
    });
    drawChips(view.chips);
    setText(status, view.summary ? `${view.headline}: ${view.summary}` : view.headline);
    setText(numbers, [view.tokens, view.memory].filter(Boolean).join(" · "));
    setText(alert, view.code ? `${view.error} (${view.code})` : view.error);
    setText(plan, view.plan);
    setText(connection, view.connection);
    setText(notice, view.notice);
    const written = player ? "" : view.lyrics;
    if (lyrics.textContent !== written) { // reading what is scrolled lays the page out: not at each drawing
      const follow = words.scrollTop + words.clientHeight >= words.scrollHeight - 4;
      setText(lyrics, written);
      if (follow && view.status === "processing") words.scrollTop = words.scrollHeight;
    }
    hide(cancel, !view.canCancel);
    hide(retry, !view.canRetry);
    if (view.notice) heardOfFile();
    if (focused?.hidden) root.focus(); // until there is something else to press
    if (view.notice || !view.canCancel) release(cancel);
    if (view.notice || !view.canRetry) release(retry);
    if (view.status !== "processing") preview.clear();
  };

  const drawPicture = () => {
    const data = model.get("picture");
    if (picture.src) URL.revokeObjectURL(picture.src);
    picture.hidden = !data || data.byteLength === 0;
    if (picture.hidden) picture.removeAttribute("src");
    else picture.src = blobUrl(data, "image/png");
    picture.alt = model.get("view").picture || "";
  };

  const load = async (_take, file) => {
    if (file !== "mix") return sounds.load(file);
    const audio = model.get("audio");
    return audio?.byteLength ? copyOf(audio) : sounds.load("song.flac"); // its copy is still being encoded
  };

  const unfold = () => {
    player?.destroy();
    player = null;
    delete root.dataset.song;
    made.open = true;
    about.replaceChildren();
  };

  const drawPlayer = () => {
    draw(); // the heights before the player are kept
    const song = model.get("song");
    unfold();
    if (song.seconds) {
      const idle = document.activeElement === root;
      root.dataset.song = "here";
      made.open = false;
      // What the sound doesn't follow is said among the words already.
      player = mount(stage, { ...song, note: "" }, { load, title: 0, about: false, words, download: (_take, file) => ask("file", { name: file === "mix" ? "song.flac" : file }) });
      about.replaceChildren(aboutList(song));
      words.scrollTop = 0;
      if (idle) stage.querySelector(".hp-play").focus();
    } else if (model.get("view").status === "completed") { // an older one, whose cell's summary has the player
      root.dataset.song = "summary";
      made.open = false;
      loosen();
    }
    draw();
  };

  const drawFiles = () => {
    const names = model.get("files");
    files.replaceChildren(...names.map((name) => {
      const link = button(name.replace("stems/", ""), "hl-button hl-file", () => askForFile(name), { "aria-label": `Download ${name}` });
      return make("li", "", {}, link);
    }));
    files.hidden = names.length === 0;
  };

  const hear = (message, buffers) => {
    if (message.file) {
      heardOfFile();
      save(fileName(model.get("song"), message.file), buffers[0]);
    }
    if (message.preview) preview.add(message.preview, buffers[0]);
    sounds.hear(message, buffers);
  };

  const listeners = {
    "change:view": () => drawSoon(draw),
    "change:picture": drawPicture,
    "change:song": drawPlayer,
    "change:files": drawFiles,
    "msg:custom": hear,
  };
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  window.addEventListener("resize", loosen);
  [draw, drawPicture, drawPlayer, drawFiles].forEach((each) => each());
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
    window.removeEventListener("resize", loosen);
    drawNoMore(draw);
    clearTimeout(waiting);
    clearTimeout(expecting);
    preview.clear();
    player?.destroy();
    if (picture.src) URL.revokeObjectURL(picture.src);
    root.remove();
  };
}

export default { render };

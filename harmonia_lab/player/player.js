// The player's face: `mount(element, song, options)` for a panel, a static summary, `listen.html` and a served page.
// Owns elements, keys and words of the player; time and levels are `deck.js`'s, the seek bar is `waveform.js`'s.
// Every word of a song is set as text, because a story or a model may have written it.
import { Deck } from "./deck.js";
import { Waveform, sectionColour } from "./waveform.js";

const TICK_MS = 50; // how often time and line are compared while it plays
const STEP_S = 5;

export const make = (tag, className = "", attributes = {}, ...children) => {
  const node = document.createElement(tag);
  node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

// Sets only a text that differs: a screen reader reads out every text that is set.
export const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
  if (node.hidden !== (text === "")) node.hidden = text === "";
};

export const button = (text, className, click, attributes = {}) => {
  const node = make("button", className, { type: "button", ...attributes }, text);
  node.addEventListener("click", click);
  return node;
};

export const save = (name, data) => {
  const link = make("a", "", { href: URL.createObjectURL(new Blob([data], { type: "application/octet-stream" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

// A page that may not write to the clipboard (a sandboxed one) selects the text, for Ctrl+C.
const copy = async (node, value) => {
  try {
    await navigator.clipboard.writeText(node.textContent);
    setText(value, "Copied");
  } catch {
    getSelection().selectAllChildren(node);
    setText(value, "Selected: Ctrl+C copies it");
  }
};

// Seed, engines, folder and id, each with a button that copies it. song.about: [[name, value], …].
export const aboutList = (song) => {
  const rows = song.about.flatMap(([name, value]) => {
    const text = make("span", "hp-value", { dir: "auto" }, value);
    const click = button("Copy", "hp-copy", () => copy(text, click), { "aria-label": `Copy ${name}` });
    return [make("dt", "", {}, name), make("dd", "", {}, text, click)];
  });
  return make("dl", "hp-about", {}, ...rows);
};

const icon = (path) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [name, value] of [["viewBox", "0 0 16 16"], ["aria-hidden", "true"], ["class", "hp-icon"]]) svg.setAttribute(name, value);
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
};
const PLAY = "M3 1.5v13l11-6.5z";
const PAUSE = "M3 2h3.5v12H3zM9.5 2H13v12H9.5z";

// songs: one song or several, which are compared at the same moment and equal loudness. A song:
// { title, name (of downloads), seconds, lufs, peaks (base64 of bytes), sections [{ name, start, end }],
//   lines [{ text, spans [[start, end], …] }], note, facts, stems [{ name, file, gain, pan }], about [[name, value], …] }
// options: load(number of the song, "mix" or a stem's file) → Promise of the encoded sound, or an Error whose message
//   says what is missing and what to do; title: the heading's level, 0 for none; words: an element for the lines;
//   about: whether the list of seed, engines, … is shown; extension: of `load`'s sounds; download(number, file): in its
//   place. Returns { root, deck, key(event), destroy() }.
export function mount(element, songs, options) {
  const takes = Array.isArray(songs) ? songs : [songs];
  const { load, title: level = 2, about = true, extension = "mp3" } = options;
  const deck = new Deck(takes, load);
  const name = (take) => String.fromCharCode(65 + take);
  const song = () => takes[deck.take];
  const end = clock(deck.seconds);

  // The attribute keeps the page's shortcuts away: JupyterLab would take Enter on a button for "edit this cell".
  const root = make("section", "hp", { role: "group", "aria-label": "Player", "data-lm-suppress-shortcuts": "true" });
  const title = make(`h${level || 2}`, "hp-title", { dir: "auto" });
  const facts = make("p", "hp-facts", { dir: "auto" });
  const wave = make("div", "hp-wave", { role: "slider", tabindex: "0", "aria-label": "Position in seconds", "aria-valuemin": "0", "aria-valuemax": String(Math.round(deck.seconds)) });
  const strip = make("div", "hp-sections", { role: "group", "aria-label": "Sections" });
  const time = make("span", "hp-time");
  const stems = make("ul", "hp-stems", { "aria-label": "Stems" });
  const words = options.words || make("div", "hp-words", { tabindex: "0", role: "group", "aria-label": "Words" });
  const note = make("p", "hp-note");
  const status = make("p", "hp-status", { role: "status" });
  const say = (text) => setText(status, text);
  const tell = (error) => say(error.message);
  const waveform = new Waveform(wave, deck.seconds, (seconds) => deck.seek(seconds));

  const toggle = () => {
    say("");
    if (deck.playing) deck.pause();
    else deck.play().catch(tell);
  };
  const choose = (take, useStems = false) => {
    say("");
    return deck.choose(take, useStems && takes[take].stems.length > 0).catch(tell);
  };
  const section = () => song().sections.find(({ start, end: stop }) => deck.position >= start && deck.position < stop);
  const loop = () => deck.loop(deck.region ? null : section() || null);
  const download = async (file) => {
    const part = file === "mix" ? "" : `-${file.split("/").pop().replace(/\.\w+$/, "")}`;
    try {
      save(`${song().name}${part}.${extension}`, await load(deck.take, file));
      if (location.protocol.startsWith("http") && origin === "null") say("If nothing was saved: this page may not save files where it is shown. Open the file itself.");
    } catch (error) {
      tell(error);
    }
  };
  const fetchFile = (file) => (options.download ? options.download(deck.take, file) : download(file));

  const play = button("", "hp-play", toggle);
  const modes = [button("Mix", "", () => choose(deck.take)), button("Stems", "", () => choose(deck.take, true))];
  const mode = make("span", "hp-group", { role: "group", "aria-label": "Mix or stems" }, ...modes);
  const looping = button("Loop", "", loop, { "aria-label": "Loop section" });
  const saving = button("Download", "", () => fetchFile("mix"));
  const picks = takes.map((each, take) => {
    const text = make("span", "hp-take", { dir: "auto" }, each.title, make("small", "", {}, each.facts || ""));
    const pick = button("", "", () => choose(take, deck.stems));
    pick.append(make("b", "", {}, name(take)), text);
    return pick;
  });
  const compared = make("div", "hp-takes", { role: "group", "aria-label": "Songs that are compared" }, ...picks);
  const details = make("details", "hp-more", {}, make("summary", "", {}, "About this song"));
  const bar = make("div", "hp-bar", {}, play, time, mode, looping, saving);
  const parts = [wave, strip, bar, stems, note, status];
  if (takes.length > 1) parts.unshift(compared);
  else if (level) parts.unshift(title, facts);
  root.append(make("div", "hp-main", {}, ...parts), ...(options.words ? [] : [words]), ...(about ? [details] : []));
  element.append(root);

  const drawStems = () => {
    stems.replaceChildren(...deck.tracks.filter((track) => track.stem && track.take === deck.take).map((track) => {
      const flip = (what, text) => button(text, "", (event) => {
        track[what] = !track[what];
        event.currentTarget.setAttribute("aria-pressed", String(track[what]));
        deck.setGains();
      }, { "aria-pressed": String(track[what]), "aria-label": `${text} ${track.name}` });
      const fader = make("input", "", { type: "range", min: "0", max: "1.5", step: "0.05", value: String(track.level), "aria-label": `Level of ${track.name}` });
      fader.addEventListener("input", () => {
        track.level = Number(fader.value);
        deck.setGains();
      });
      const row = make("li", "", {}, make("span", "hp-stem", { dir: "auto" }, track.name), flip("solo", "Solo"), flip("mute", "Mute"), fader,
        button("Download", "", () => fetchFile(track.file), { "aria-label": `Download ${track.name}` }), make("span", "hp-missing"));
      row.track = track;
      return row;
    }));
  };

  const drawLines = () => {
    const list = make("ol", "hp-lines", {}, ...song().lines.map((line) => {
      const item = make("li", "", { dir: "auto" }, line.text || "\u00a0");
      if (line.spans.length) {
        item.dataset.sung = "";
        item.title = `Sung at ${line.spans.map(([start]) => clock(start)).join(", ")}`;
        item.addEventListener("click", () => deck.seek(line.spans[0][0]));
      }
      return item;
    }));
    words.querySelector(":scope > .hp-lines")?.remove();
    words.prepend(list);
    words.hidden = !options.words && !song().lines.length;
    words.classList.toggle("hp-sung", song().lines.some(({ spans }) => spans.length));
    return list;
  };

  const drawSections = () => {
    const part = (seconds) => `${(100 * seconds) / deck.seconds}%`;
    strip.replaceChildren(...song().sections.map((each, index) => {
      const node = button(each.name, "hp-section", () => deck.seek(each.start), { title: each.name, "aria-label": `${index + 1}: ${each.name}, at ${clock(each.start)}` });
      node.style.left = part(each.start);
      node.style.width = part(each.end - each.start);
      node.style.borderColor = sectionColour(song(), each);
      return node;
    }));
    strip.hidden = looping.hidden = !song().sections.length;
    fitNames();
  };

  // A name that doesn't fit whole gives way to its number, which is its key, or to nothing.
  const fitNames = () => [...strip.children].forEach((node, index) => {
    for (const text of [song().sections[index].name, String(index + 1), ""]) {
      node.textContent = text;
      if (node.scrollWidth <= node.clientWidth) break;
    }
  });

  let shown = -1;
  let list = null;
  const drawSong = () => {
    if (shown === deck.take) return;
    shown = deck.take;
    const each = song();
    setText(title, each.title);
    setText(facts, each.facts || "");
    setText(note, each.note || "");
    mode.hidden = !each.stems.length;
    list = drawLines();
    drawStems();
    drawSections();
    details.replaceChildren(details.firstChild, aboutList(each));
    waveform.show(each);
  };

  const follow = (line) => { // within its own box: the page doesn't move
    const { offsetTop, offsetHeight } = list.children[line];
    words.scrollTop = offsetTop - (words.clientHeight - offsetHeight) / 2;
  };

  let lit = -1;
  const showTime = () => {
    const at = deck.position;
    const line = song().lines.findIndex(({ spans }) => spans.some(([start, stop]) => at >= start && at < stop));
    waveform.moveTo(at);
    setText(time, `${clock(at)} / ${end}`);
    wave.setAttribute("aria-valuenow", String(Math.round(at)));
    const where = section();
    wave.setAttribute("aria-valuetext", [clock(at), where?.name, song().lines[line]?.text].filter(Boolean).join(", "));
    if (lit === line && (line < 0 || list.children[line].hasAttribute("aria-current"))) return;
    list.querySelector("[aria-current]")?.removeAttribute("aria-current");
    lit = line;
    if (line < 0) return;
    list.children[line].setAttribute("aria-current", "true");
    if (deck.playing) follow(line);
  };

  const press = (node, on) => node.setAttribute("aria-pressed", String(on));
  let ticking = 0;
  const tick = () => {
    clearTimeout(ticking);
    if (deck.playing && !root.isConnected) return destroy(); // a cell was cleared, a page replaced
    showTime();
    if (deck.playing) ticking = setTimeout(tick, TICK_MS);
    return undefined;
  };
  const show = () => {
    drawSong();
    const label = deck.playing ? "Pause" : "Play";
    if (play.getAttribute("aria-label") !== label) {
      play.setAttribute("aria-label", label);
      play.replaceChildren(icon(deck.playing ? PAUSE : PLAY));
    }
    picks.forEach((pick, take) => press(pick, take === deck.take));
    modes.forEach((node, index) => press(node, deck.stems === Boolean(index)));
    press(looping, deck.region !== null);
    stems.hidden = !deck.stems;
    for (const row of stems.children) setText(row.lastChild, row.track.missing);
    tick();
  };
  deck.addEventListener("change", show);
  const fitting = new ResizeObserver(fitNames);
  fitting.observe(strip);

  const key = (event) => {
    const { key: pressed, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.isContentEditable) return;
    const step = { ArrowLeft: -STEP_S, ArrowRight: STEP_S, Home: -deck.seconds, End: deck.seconds }[pressed];
    const take = takes.length > 1 ? { ArrowUp: deck.take - 1, ArrowDown: deck.take + 1 }[pressed] ?? pressed.toUpperCase().charCodeAt(0) - 65 : -1;
    const sections = song().sections;
    if (pressed === " " && /^(BUTTON|SUMMARY|A)$/.test(target.tagName)) return;
    if (pressed === " ") toggle();
    else if (step) deck.seek(deck.position + step);
    else if (pressed >= "1" && pressed <= "9" && sections[pressed - 1]) deck.seek(sections[pressed - 1].start);
    else if (takes[take] && (pressed.length === 1 || pressed.startsWith("Arrow"))) choose(take, deck.stems);
    else if (pressed === "l" && sections.length) loop();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  root.addEventListener("keydown", key);
  show();

  function destroy() {
    clearTimeout(ticking);
    deck.removeEventListener("change", show);
    fitting.disconnect();
    waveform.destroy();
    deck.free();
    if (options.words) list.remove();
    root.remove();
  }
  return { root, deck, key, destroy };
}

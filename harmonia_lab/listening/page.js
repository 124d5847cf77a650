// The listener's page: a start, the trials in an order drawn here, and the end, where the answers are saved or sent.
// Owns what a listener sees and presses, the order, and the form of the answers (`answers.py` reads them). Time, levels
// and switching at the same moment are the player's deck's. No waveform is drawn: it would be seen which sound is which.
import { Deck } from "../player/deck.js";

const ANSWERS_VERSION = 1;
const HEARD_STEP_MS = 50;
const SCALE = ["bad", "poor", "fair", "good", "excellent"]; // of ITU-R BS.1534, 0 to 100

const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const press = (text, click, attributes = {}) => {
  const node = element("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", click);
  return node;
};
const textOf = (id) => document.getElementById(id)?.textContent;
const root = document.querySelector("main");
const minutes = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const letter = (index) => String.fromCharCode(65 + index);

// Where the test is: in this page, or on the server that sent it, for whoever holds the link's token.
const served = textOf("served") === "yes";
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
const ask = async (path, options = {}) => {
  const base = new URL(`../api/listening/${location.pathname.split("/").pop()}`, location.href).href;
  const answer = await fetch(base + path, { ...options, headers: { Authorization: `Bearer ${token}`, ...options.headers } });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error([told.error?.message || `The server answered ${answer.status}.`, told.error?.hint].filter(Boolean).join(" "));
};
const soundOf = async (id) => {
  if (served) return (await ask(`/sounds/${id}`)).arrayBuffer();
  return Uint8Array.from(atob(textOf(id)), (each) => each.charCodeAt(0)).buffer;
};

// The same numbers as `design.py`'s listener_order.
export const mulberry32 = (seed) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
};
const shuffled = (values, draw) => {
  for (let last = values.length - 1; last > 0; last -= 1) {
    const other = Math.floor(draw() * (last + 1));
    [values[last], values[other]] = [values[other], values[last]];
  }
  return values;
};
export const orderOf = (trials, seed) => {
  const draw = mulberry32(seed);
  return shuffled([...trials], draw).map((trial) => ({ ...trial, stimuli: shuffled([...trial.stimuli], draw) }));
};

const show = (...children) => {
  root.replaceChildren(...children);
  const heading = root.querySelector("h1");
  heading.setAttribute("tabindex", "-1");
  heading.focus();
  scrollTo(0, 0);
};

const drawn = crypto.getRandomValues(new Uint32Array(3));
const state = { test: null, order: [], at: 0, answers: [], listener: "", startedAt: null, done: false, keys: null };

const begin = (test) => {
  state.test = test;
  document.title = test.title;
  const name = element("input", { type: "text", id: "listener", maxlength: "64", autocomplete: "off" });
  const start = () => {
    state.listener = name.value.trim();
    state.startedAt = new Date().toISOString();
    state.order = orderOf(test.trials, drawn[0]);
    trial();
  };
  const keys = element("p", {}, "Keys: space plays and pauses, A, B … switch between the sounds at the same moment.");
  show(
    element("h1", { dir: "auto" }, test.title),
    ...(test.intro ? [element("p", { dir: "auto", class: "intro" }, test.intro)] : []),
    element("p", {}, `${test.trials.length} short comparisons. Wear headphones, sit somewhere quiet, and set the volume with the first sound; then leave it.`),
    keys,
    ...(served ? [] : [element("p", {}, element("label", { for: "listener" }, "Your name or a code for you (may be left empty)"), name)]),
    press("Start", start, { class: "main" }),
  );
};

const trial = () => {
  const { test, at, order } = state;
  const { id, stimuli, reference } = order[at];
  const sounds = reference ? [...stimuli, reference] : stimuli;
  const names = sounds.map((_, index) => (index < stimuli.length ? letter(index) : "Reference"));
  const length = Math.max(...sounds.map((each) => test.seconds[each]));
  const deck = new Deck(sounds.map((each) => ({ seconds: test.seconds[each], stems: [] })), (take) => soundOf(sounds[take]));
  const heard = sounds.map(() => 0);
  const began = performance.now();
  const status = element("p", { role: "status" });
  const say = (text) => { status.textContent = text; };
  const fail = (error) => say(error.message);

  const play = press("Play", () => { say(""); (deck.playing ? Promise.resolve(deck.pause()) : deck.play()).catch(fail); }, { class: "play" });
  const choose = (take) => { say(""); deck.choose(take).then(() => deck.playing || deck.play()).catch(fail); };
  const picks = sounds.map((_, take) => press(names[take], () => choose(take), { "aria-pressed": "false" }));
  const seek = element("input", { type: "range", min: "0", max: String(length), step: "0.1", value: "0", "aria-label": "Position in seconds" });
  seek.addEventListener("input", () => deck.seek(Number(seek.value)));
  const clock = element("span", { class: "clock" });

  let last = 0;
  let ticking = 0;
  const tick = () => {
    clearTimeout(ticking);
    const now = performance.now();
    if (last) heard[deck.take] += (now - last) / 1000;
    last = deck.playing ? now : 0;
    seek.value = String(deck.position);
    clock.textContent = `${minutes(deck.position)} / ${minutes(length)}`;
    if (deck.playing) ticking = setTimeout(tick, HEARD_STEP_MS);
  };
  deck.addEventListener("change", () => {
    play.textContent = deck.playing ? "Pause" : "Play";
    picks.forEach((pick, take) => pick.setAttribute("aria-pressed", String(take === deck.take)));
    tick();
  });
  tick();

  const asked = test.kind === "pairs" ? pairQuestion(stimuli) : scaleQuestion(stimuli);
  const next = (stop) => {
    tick();
    const unheard = sounds.findIndex((each, take) => heard[take] < Math.min(test.listenS, 0.9 * test.seconds[each]));
    const missing = asked.missing();
    if (!stop && unheard >= 0) return say(`Listen to ${names[unheard]} a little longer first.`);
    if (!stop && missing) return say(missing);
    clearTimeout(ticking);
    deck.free();
    if (!missing && unheard < 0) {
      const times = Object.fromEntries(sounds.map((each, take) => [each, Math.round(heard[take] * 100) / 100]));
      state.answers.push({ trial: id, order: stimuli, ...asked.answer(), heard: times, seconds: Math.round((performance.now() - began) / 10) / 100 });
    }
    if (stop) return end(false);
    state.at += 1;
    return state.at < order.length ? trial() : end(true);
  };
  state.keys = (key) => {
    const take = key.toUpperCase().charCodeAt(0) - 65;
    if (key === " ") play.click();
    else if (key.length === 1 && stimuli[take]) choose(take);
    else if (key.toUpperCase() === "R" && reference) choose(stimuli.length);
    else return false;
    return true;
  };
  show(
    element("h1", {}, `${at + 1} of ${order.length}`),
    element("progress", { max: String(order.length), value: String(at), "aria-label": "Comparisons done" }),
    element("div", { class: "sounds", role: "group", "aria-label": "Sounds" }, play, ...picks),
    element("div", { class: "seek" }, seek, clock),
    asked.node,
    status,
    element("div", { class: "steps" }, press(at + 1 < order.length ? "Next" : "Finish", () => next(false), { class: "main" }), press("Stop here", () => next(true))),
  );
};

const pairQuestion = (stimuli) => {
  const boxes = stimuli.map((each, index) => element("input", { type: "radio", name: "choice", id: `choice-${index}`, value: each }));
  const labels = boxes.map((box, index) => element("label", { for: box.id }, box, letter(index)));
  return {
    node: element("fieldset", {}, element("legend", { dir: "auto" }, state.test.question), ...labels),
    missing: () => (boxes.some((box) => box.checked) ? "" : "Choose one of the two."),
    answer: () => ({ choice: boxes.find((box) => box.checked).value }),
  };
};

const scaleQuestion = (stimuli) => {
  const rated = new Map();
  const rows = stimuli.map((each, index) => {
    const told = element("output", { for: `rating-${index}` }, "not yet rated");
    const slider = element("input", { type: "range", min: "0", max: "100", step: "1", value: "50", id: `rating-${index}`, "aria-valuetext": "not yet rated" });
    slider.addEventListener("input", () => {
      const value = Number(slider.value);
      rated.set(each, value);
      told.textContent = `${value}, ${SCALE[Math.min(4, Math.floor(value / 20))]}`;
      slider.setAttribute("aria-valuetext", told.textContent);
    });
    return element("div", { class: "rating" }, element("label", { for: slider.id }, `${letter(index)}`), slider, told);
  });
  return {
    node: element("fieldset", {}, element("legend", { dir: "auto" }, state.test.question), ...rows),
    missing: () => (rated.size === stimuli.length ? "" : "Move the slider of each sound."),
    answer: () => ({ ratings: Object.fromEntries(rated) }),
  };
};

const answerSet = (complete) => ({
  harmoniaAnswers: ANSWERS_VERSION,
  test: state.test.id,
  kind: state.test.kind,
  attempt: [...drawn].map((each) => each.toString(16).padStart(8, "0")).join(""),
  listener: state.listener,
  seed: drawn[0],
  startedAt: state.startedAt,
  finishedAt: new Date().toISOString(),
  complete,
  answers: state.answers,
});

const end = (complete) => {
  state.keys = null;
  const text = JSON.stringify(answerSet(complete), null, 1);
  const name = `answers-${state.test.id}-${drawn[0].toString(16)}.json`;
  const status = element("p", { role: "status" });
  const save = () => {
    const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    state.done = true;
    status.textContent = `Saved as ${name}. Send this file to whoever gave you the test.`;
  };
  const copy = element("details", {}, element("summary", {}, "If no file can be saved here"), element("p", {}, element("label", { for: "answers" }, "Copy this text, and send it:")), element("textarea", { id: "answers", readonly: "", rows: "8" }));
  copy.querySelector("textarea").value = text;
  const saving = press("Save the answers", save, served ? {} : { class: "main" });
  const send = async () => {
    status.textContent = "Sending the answers …";
    try {
      await ask("/answers", { method: "POST", body: text, headers: { "Content-Type": "application/json" } });
      state.done = true;
      sending.remove();
      status.textContent = "The answers have arrived. You can close this page.";
    } catch (error) {
      status.textContent = `They did not arrive: ${error.message} Try again, or save them and send the file.`;
    }
  };
  const sending = press("Send again", send, { class: "main" });
  show(
    element("h1", {}, complete ? "Thank you, that was all." : "Thank you. What you have answered so far is kept."),
    ...(served ? [] : [element("p", {}, "Your answers are in this page alone. Save them as a file, and send it to whoever gave you the test.")]),
    element("div", { class: "steps" }, ...(served ? [sending, saving] : [saving])),
    status,
    copy,
  );
  if (served) send();
};

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (!state.keys || event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.tagName === "TEXTAREA" || (target.tagName === "INPUT" && (target.type === "text" || key === " "))) return;
  if (key === " " && /^(BUTTON|SUMMARY|A)$/.test(target.tagName)) return;
  if (state.keys(key)) event.preventDefault();
});
addEventListener("beforeunload", (event) => {
  if (state.startedAt && !state.done) event.preventDefault(); // the answers are in this page alone
});

try {
  begin(served ? await (await ask("")).json().then((told) => told.test) : JSON.parse(textOf("test")));
} catch (error) {
  show(element("h1", {}, "This test can't be opened"), element("p", { role: "alert" }, error.message));
}

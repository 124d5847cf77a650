// A chart of runs that are songs: one point a run, its values on hover or focus, and a click plays it.
// Owns the points, their keys and which songs are compared; `run_points.py` makes the values, `player.js` the player.
import { make, mount, setText } from "./player.js";

const SVG = "http://www.w3.org/2000/svg";
const TALL = 280;
const EDGE = { left: 62, right: 10, top: 12, bottom: 10 };
const SHAPES = ["M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0", "M-4.5,-4.5h9v9h-9z", "M0,-6L5.5,4.5h-11z", "M0,-6L6,0L0,6L-6,0z"];
const COLOURS = 8;

const draw = (parent, tag, attributes) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return parent.appendChild(node);
};

const told = (value) => String(Number(value.toPrecision(4)));

// Round values between two others: 1, 2, 5 and their tens where they lie far apart on a logarithmic axis.
const ticks = (low, high, logarithmic) => {
  const found = [];
  if (logarithmic && high > 4 * low) {
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
      for (const digit of [1, 2, 5]) found.push(Number(`${digit}e${power}`));
    }
    return found.filter((value) => value >= low && value <= high);
  }
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= rough);
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(Number(value.toPrecision(12)));
  return found;
};

const scale = (values) => {
  const logarithmic = Math.min(...values) > 0;
  let [low, high] = [logarithmic ? Math.min(...values) : Math.min(0, ...values), Math.max(...values)];
  if (logarithmic) [low, high] = [low / 1.03, high * 1.03];
  else high += 0.05 * (high - low || 1);
  const of = (value) => (logarithmic ? Math.log(value) : value);
  const part = (value) => (of(value) - of(low)) / (of(high) - of(low));
  return { low, high, logarithmic, y: (value) => TALL - EDGE.bottom - part(value) * (TALL - EDGE.top - EDGE.bottom) };
};

const middle = (values) => {
  if (Math.min(...values) > 0) return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
  return values.reduce((sum, value) => sum + value, 0) / values.length;
};

// data: { columns [{ name, unit }], groups [name], runs [{ group, block, label, values [number or null], song, why }], note }.
//   song: its number, or null, and `why` says why.
// options: song(number) → Promise of the song as `player.js` takes it; load(number, file) → of an encoded sound.
// Returns { root, destroy() }.
export function mountRuns(element, data, { song, load }) {
  const root = make("section", "hr", { role: "group", "aria-label": "Runs", "data-lm-suppress-shortcuts": "true" });
  const choice = make("select", "", { "aria-label": "Column" }, ...data.columns.map(({ name, unit }, index) =>
    make("option", "", { value: String(index) }, unit ? `${name}, ${unit}` : name)));
  const scaleName = make("span", "hr-soft");
  const plot = make("div", "hr-plot");
  const tip = make("div", "hr-tip", { "aria-hidden": "true", dir: "auto" });
  const names = make("div", "hr-names", { "aria-hidden": "true" });
  const key = make("ol", "hr-key");
  const status = make("p", "hr-status", { role: "status" });
  const stage = make("div", "hr-stage");
  root.append(make("div", "hr-head", {}, choice, scaleName), plot, names, key, status, stage);
  element.append(root);

  let column = 0;
  let points = []; // { run, node, x, y }
  let current = 0; // the point that the keyboard reaches
  let opened = null; // the run that the player plays
  let player = null;

  const say = (text) => setText(status, text);
  const words = ({ run }) => {
    const { name, unit } = data.columns[column];
    return [data.groups[run.group], `${name} ${told(run.values[column])}${unit ? ` ${unit}` : ""}`, run.label].filter(Boolean);
  };

  const showTip = (point) => {
    tip.replaceChildren(...words(point).map((text) => make("div", "", {}, text)));
    tip.hidden = false;
    const wide = plot.clientWidth;
    tip.style.left = `${Math.max(0, Math.min(point.x + 12, wide - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, point.y - tip.offsetHeight - 8)}px`;
    for (const node of plot.querySelectorAll("[data-block]")) node.toggleAttribute("data-lit", point.run.block !== null && node.dataset.block === String(point.run.block));
  };
  const hideTip = () => {
    tip.hidden = true;
    plot.querySelectorAll("[data-lit]").forEach((node) => node.removeAttribute("data-lit"));
  };

  const mark = () => points.forEach(({ node, run }, index) => {
    node.setAttribute("tabindex", index === current ? "0" : "-1");
    node.setAttribute("aria-pressed", String(run === opened));
  });

  // Runs of one block have the same story, seed and length: they are compared at the same moment.
  const open = async (point) => {
    const { run } = point;
    current = points.indexOf(point);
    say("");
    if (run.song === null) return say(run.why || "The song of this run was not kept.");
    const among = (each) => each.song !== null && (each === run || (run.block !== null && each.block === run.block));
    const compared = data.runs.filter(among).sort((a, b) => a.group - b.group);
    try {
      if (!player || !compared.includes(opened)) {
        const songs = await Promise.all(compared.map(({ song: number }) => song(number)));
        player?.destroy();
        player = mount(stage, songs, { load: (take, file) => load(compared[take].song, file), title: 4 });
      } else if (opened === run && player.deck.playing) {
        return player.deck.pause();
      }
      opened = run;
      mark();
      await player.deck.choose(compared.indexOf(run));
      await player.deck.play();
    } catch (error) {
      say(error.message);
    }
    return undefined;
  };

  const near = (point, name) => {
    const own = points.filter(({ run }) => run.group === point.run.group).sort((a, b) => b.y - a.y);
    const step = { ArrowUp: 1, ArrowDown: -1 }[name];
    if (step) return own[own.indexOf(point) + step];
    const aside = { ArrowLeft: -1, ArrowRight: 1 }[name];
    const others = points.filter(({ run }) => run.group === point.run.group + aside);
    return others.find(({ run }) => run.block !== null && run.block === point.run.block) || others[0];
  };
  const press = (event, point) => {
    const wanted = { Home: points[0], End: points.at(-1) }[event.key] || (event.key.startsWith("Arrow") ? near(point, event.key) : null);
    if (event.key === "Escape") hideTip();
    else if (event.key === "Enter" || event.key === " ") open(point);
    else if (wanted) {
      current = points.indexOf(wanted);
      mark();
      wanted.node.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };

  // The names stand below where they fit, else numbers, with a key.
  const drawNames = () => {
    const { groups } = data;
    names.style.marginInlineStart = `${EDGE.left}px`;
    names.style.marginInlineEnd = `${EDGE.right}px`;
    names.replaceChildren(...groups.map((name) => make("span", "", { dir: "auto" }, name)));
    const fits = [...names.children].every((node) => node.scrollWidth <= node.clientWidth && node.offsetHeight < 60);
    if (!fits) names.replaceChildren(...groups.map((_, index) => make("span", "", {}, String(index + 1))));
    key.replaceChildren(...(fits ? [] : groups.map((name) => make("li", "", { dir: "auto" }, name))));
    key.hidden = fits;
  };

  const drawPlot = () => {
    const width = plot.clientWidth;
    if (!width) return;
    const focused = points.findIndex(({ node }) => node === document.activeElement);
    const shown = data.runs.filter(({ values }) => values[column] !== null);
    const svg = document.createElementNS(SVG, "svg");
    for (const [name, value] of [["viewBox", `0 0 ${width} ${TALL}`], ["width", width], ["height", TALL], ["role", "group"], ["aria-label", "Points"]]) svg.setAttribute(name, value);
    plot.replaceChildren(svg, tip);
    hideTip();
    setText(scaleName, shown.length ? "" : "No run has this column.");
    points = [];
    if (!shown.length) return;
    const { low, high, logarithmic, y } = scale(shown.map(({ values }) => values[column]));
    setText(scaleName, logarithmic ? "logarithmic axis; bars: geometric means" : "bars: means");
    for (const value of ticks(low, high, logarithmic)) {
      draw(svg, "line", { class: "hr-grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) });
      draw(svg, "text", { class: "hr-tick", x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end", "aria-hidden": "true" }).textContent = told(value);
    }
    const room = (width - EDGE.left - EDGE.right) / data.groups.length;
    const placed = data.groups.flatMap((_, group) => {
      const own = shown.filter((run) => run.group === group);
      const apart = Math.min(9, (0.75 * room) / Math.max(1, own.length));
      const centre = EDGE.left + (group + 0.5) * room;
      return own.map((run, index) => ({ run, x: centre + (index - (own.length - 1) / 2) * apart, y: y(run.values[column]), centre }));
    });
    for (const block of new Set(shown.map(({ block: each }) => each).filter((each) => each !== null))) {
      const line = placed.filter(({ run }) => run.block === block).map((each) => `${each.x},${each.y}`).join(" ");
      draw(svg, "polyline", { class: "hr-block", "data-block": block, points: line });
    }
    data.groups.forEach((_, group) => {
      const own = placed.filter(({ run }) => run.group === group);
      if (!own.length) return;
      const mean = y(middle(own.map(({ run }) => run.values[column])));
      const half = Math.min(26, room / 3);
      draw(svg, "line", { class: "hr-mean", x1: own[0].centre - half, x2: own[0].centre + half, y1: mean, y2: mean });
    });
    points = placed.map((each) => {
      const node = draw(svg, "path", {
        class: "hr-point", d: SHAPES[each.run.group % SHAPES.length], transform: `translate(${each.x},${each.y})`,
        "data-colour": each.run.group % COLOURS, role: "button",
      });
      if (each.run.song === null) node.setAttribute("data-silent", "");
      const point = { ...each, node };
      node.setAttribute("aria-label", words(point).join(", "));
      node.addEventListener("pointerenter", () => showTip(point));
      node.addEventListener("pointerleave", hideTip);
      node.addEventListener("focus", () => showTip(point));
      node.addEventListener("blur", hideTip);
      node.addEventListener("click", () => open(point));
      node.addEventListener("keydown", (event) => press(event, point));
      return point;
    });
    current = Math.min(current, points.length - 1);
    mark();
    if (focused >= 0) points[Math.min(focused, points.length - 1)].node.focus();
  };

  const drawAll = () => {
    drawNames();
    drawPlot();
  };
  choice.addEventListener("change", () => {
    column = Number(choice.value);
    drawPlot();
  });
  let drawn = 0;
  const size = new ResizeObserver(() => { // a widget is rendered before it is on the page
    if (plot.clientWidth === drawn) return;
    drawn = plot.clientWidth;
    drawAll();
  });
  size.observe(plot);
  say(data.note || "");
  tip.hidden = key.hidden = true;

  const destroy = () => {
    size.disconnect();
    player?.destroy();
    root.remove();
  };
  return { root, destroy };
}

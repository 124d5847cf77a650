// Draws all widgets of a page together. Whatever has changed, a frame of a page like JupyterLab costs 4 ms without a
// GPU, and two messages of one moment, a panel's and a batch's, would often make two.
const TOGETHER_MS = 40;

const frame = (globalThis[Symbol.for("harmonia.frame")] ??= { draws: new Set(), timer: 0 });

const drawFrame = () => {
  const draws = [...frame.draws];
  frame.draws.clear();
  frame.timer = 0;
  for (const draw of draws) {
    try {
      draw();
    } catch (error) {
      reportError(error);
    }
  }
};

// Calls `draw` soon, once, however often it is asked for.
export const drawSoon = (draw) => {
  frame.draws.add(draw);
  frame.timer ||= setTimeout(drawFrame, TOGETHER_MS);
};

export const drawNoMore = (draw) => frame.draws.delete(draw);

// Sets a data attribute that differs: each one that is set has its element's style looked at again.
export const mark = (node, name, value) => {
  if (node.dataset[name] !== value) node.dataset[name] = value;
};

export const hide = (node, hidden) => {
  if (node.hidden !== hidden) node.hidden = hidden;
};

// The front end of `lab.chart`: the chart of runs, whose songs come from the kernel when they are asked for.
import { mountRuns } from "../player/runs.js";
import { kernelSounds } from "./kernel_sounds.js";

function render({ model, el }) {
  const sounds = kernelSounds(model);
  model.on("msg:custom", sounds.hear);
  const read = async (data) => JSON.parse(new TextDecoder().decode(await data));
  const chart = mountRuns(el, model.get("runs"), {
    song: (number) => read(sounds.load(`${number}/song`)),
    load: (number, file) => sounds.load(`${number}/${file}`),
  });
  chart.root.classList.add("hl-runs");
  return () => {
    model.off("msg:custom", sounds.hear);
    chart.destroy();
  };
}

export default { render };

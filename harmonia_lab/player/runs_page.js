// The script of a chart of runs in a page without a kernel: a study's page, or a cell's output that was kept.
// The values are the element's text, in a page of ours, or its attribute, which JupyterLab keeps as it is.
import { pageSound } from "./page_sounds.js";
import { mountRuns } from "./runs.js";

for (const box of document.querySelectorAll("[data-runs]")) {
  const data = JSON.parse(box.dataset.runs || document.getElementById("runs").textContent);
  delete box.dataset.runs; // each output of the page brings this script: once is enough
  const sounds = data.songs.map(pageSound);
  box.replaceChildren();
  mountRuns(box, data, { song: async (song) => data.songs[song], load: (song, file) => sounds[song](file) });
}

// The script of a finished song's static summary (`widgets/summary.py`): puts a player in the place of the plain <audio>.
// Where a page runs no script, title, <audio> and words stay as they are.
import { make, mount } from "./player.js";

for (const box of document.querySelectorAll(".hl-summary[data-song]")) {
  const song = JSON.parse(box.dataset.song);
  delete box.dataset.song; // each summary of the page brings this script: once is enough
  const audio = box.querySelector("audio");
  const place = make("div", "hl-player");
  const load = async () => Uint8Array.from(atob(audio.src.split(",")[1]), (letter) => letter.charCodeAt(0)).buffer;
  audio.before(place);
  mount(place, song, { load, title: 0 });
  audio.hidden = true;
  box.querySelector("pre")?.remove();
}

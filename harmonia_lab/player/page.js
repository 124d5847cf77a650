// The script of `listen.html`: a player for each group of songs, whose sounds are in the page or in files beside it.
// Owns which player the keys speak to; `page_sounds.js` finds the sounds.
import { pageSound } from "./page_sounds.js";
import { mount } from "./player.js";

const groups = JSON.parse(document.getElementById("groups").textContent);
const players = groups.map(({ songs, level }, index) => {
  const box = document.getElementById(`group-${index}`);
  const plain = [...box.children];
  const sounds = songs.map(pageSound);
  const player = mount(box, songs, { load: (take, file) => sounds[take](file), title: level });
  plain.forEach((node) => { node.hidden = true; });
  return player;
});
let active = players[0];
players.forEach((player) => {
  const speak = () => { active = player; };
  player.root.addEventListener("focusin", speak);
  player.root.addEventListener("pointerdown", speak);
});
document.addEventListener("keydown", (event) => active?.key(event));

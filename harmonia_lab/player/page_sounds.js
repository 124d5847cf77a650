// Where a page without a server finds a song's sound: in the page, or in files beside it.
// Owns those two ways. A song has `sounds`: { file: { key, address, base64 } }, and `missing`: { file: why }.
import { make } from "./player.js";

const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;

// A file beside the page is a script that calls `harmoniaSound`: a page from a disk may load scripts, and may not fetch.
const waiting = new Map();
globalThis.harmoniaSound = (key, base64) => waiting.get(key)?.(base64);
const besidePage = (key, address) => new Promise((done, fail) => {
  const script = make("script", "", { src: address });
  waiting.set(key, done);
  script.addEventListener("load", () => script.remove());
  script.addEventListener("error", () => fail(new Error(`${address} isn't beside this page, or may not be loaded where the page is shown. Copy the whole folder, and open the page from there.`)));
  document.head.append(script);
});

export const pageSound = (song) => async (file) => {
  const sound = song.sounds[file];
  if (!sound) throw new Error(song.missing[file] || `${file} isn't in this page.`);
  if (sound.base64) return bytes(sound.base64);
  if (sound.address) return bytes(await besidePage(sound.key, sound.address));
  const plain = document.querySelector(`audio[data-sound="${sound.key}"]`);
  return bytes(plain ? plain.src.split(",")[1] : document.getElementById(sound.key).textContent);
};

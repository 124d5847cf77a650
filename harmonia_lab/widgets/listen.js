// The front end of `lab.listen`: the player alone, of one song or of several that are compared.
import { mount } from "../player/player.js";
import { kernelSounds } from "./kernel_sounds.js";

function render({ model, el }) {
  const sounds = kernelSounds(model);
  model.on("msg:custom", sounds.hear);
  const load = (take, file) => sounds.load(`${take}/${file}`);
  const player = mount(el, model.get("songs"), { load, title: 3, extension: "flac" });
  return () => {
    model.off("msg:custom", sounds.hear);
    player.destroy();
  };
}

export default { render };

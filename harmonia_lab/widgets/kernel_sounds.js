// A widget's sounds and files, which come from the kernel when they are asked for.
// Owns those messages: { ask: "sound", name } is answered by { sound: name, missing } and a buffer.

const SOUND_PATIENCE_MS = 30000; // a stem may come from a server far away

// A copy: decoding takes the bytes away, and the widget manager keeps the message.
export const copyOf = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);

// Asks the kernel for encoded sounds, each by its file's name.
export const kernelSounds = (model) => {
  const asked = new Map();
  const load = (name, more = {}) => new Promise((done, fail) => {
    const late = setTimeout(() => fail(new Error(
      "The kernel has not sent the sound: it is busy with a cell, or gone. Try again when the cell has ended; after a restart, run the cell again.",
    )), SOUND_PATIENCE_MS);
    asked.set(name, (missing, data) => {
      clearTimeout(late);
      asked.delete(name);
      if (missing) fail(new Error(missing));
      else done(copyOf(data));
    });
    model.send({ ask: "sound", name, ...more });
  });
  const hear = (message, buffers) => message.sound && asked.get(message.sound)?.(message.missing, buffers?.[0]);
  return { load, hear };
};

// The name of a download says which song it is.
export const fileName = (song, file) => {
  const own = file.split("/").pop();
  if (!song.name) return own;
  return own.startsWith("song.") ? `${song.name}${own.slice(4)}` : `${song.name}-${own}`;
};

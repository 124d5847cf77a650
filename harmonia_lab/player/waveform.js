// The waveform as a seek bar: two canvases, one for what is to come and one, clipped, for what was played.
// Owns drawing, pointer and colours. Keys, and what a screen reader hears, are `player.js`'s.

const HEIGHT = 72; // CSS pixels

// A canvas understands neither var() nor the theme's system colours: a node on the page resolves them.
const resolved = (node, colour) => {
  const probe = document.createElement("span");
  probe.style.color = colour;
  node.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

export const sectionColour = (song, section) => {
  const names = [...new Set(song.sections.map(({ name }) => name))];
  return `var(--hp-s${names.indexOf(section.name) % 6})`;
};

// The page's theme is watched once, and the watch refers to no waveform, nor to the module of a cell's summary: nobody
// is told when a page clears a cell.
const watchTheme = () => {
  const drawn = new Set();
  const drawAll = () => drawn.forEach((each) => {
    const waveform = each.deref();
    if (waveform) waveform.draw();
    else drawn.delete(each);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  // JupyterLab gives the page no width while it changes its theme.
  const theme = new MutationObserver(() => setTimeout(drawAll, 200));
  const attributeFilter = ["data-jp-theme-light", "data-jp-theme-name", "data-theme", "class"];
  for (const node of [document.documentElement, document.body]) theme.observe(node, { attributes: true, attributeFilter });
  return drawn;
};
const followTheme = (waveform) => (globalThis[Symbol.for("harmonia.drawn")] ??= watchTheme()).add(new WeakRef(waveform));

export class Waveform {
  // box: an empty element. seconds: the bar's length, which may be longer than the song. seek: called with a position.
  constructor(box, seconds, seek) {
    Object.assign(this, { box, seconds, song: null, part: 0 });
    this.life = new AbortController();
    const { signal } = this.life;
    [this.ahead, this.played] = [0, 1].map(() => {
      const canvas = document.createElement("canvas");
      canvas.className = "hp-canvas";
      box.append(canvas);
      return canvas;
    });
    this.head = document.createElement("div");
    this.head.className = "hp-playhead";
    box.append(this.head);
    const seekTo = (event) => {
      const { left, width } = box.getBoundingClientRect();
      seek(Math.max(0, Math.min(1, (event.clientX - left) / width)) * seconds);
    };
    box.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      box.setPointerCapture(event.pointerId);
      seekTo(event);
    }, { signal });
    box.addEventListener("pointermove", (event) => event.buttons === 1 && seekTo(event), { signal });
    // A widget is rendered before it is on the page, where nothing has a width or a colour: the first call draws.
    this.size = new ResizeObserver(() => this.draw());
    this.size.observe(box);
    followTheme(this);
  }

  show(song) {
    this.song = song;
    this.peaks = Uint8Array.from(atob(song.peaks), (letter) => letter.charCodeAt(0));
    this.draw();
  }

  moveTo(seconds) {
    this.part = this.seconds ? seconds / this.seconds : 0;
    this.played.style.clipPath = `inset(0 ${100 - 100 * this.part}% 0 0)`;
    this.head.style.transform = `translateX(${this.part * this.box.clientWidth}px)`;
  }

  draw() {
    const { box, song, peaks } = this;
    if (!song || !box.clientWidth) return;
    const width = Math.round(box.clientWidth * devicePixelRatio);
    const height = Math.round(HEIGHT * devicePixelRatio);
    const end = Math.round((width * song.seconds) / this.seconds);
    [[this.ahead, (c) => `color-mix(in srgb, ${c} 45%, var(--hp-back))`], [this.played, (c) => c]].forEach(([canvas, tint]) => {
      Object.assign(canvas, { width, height });
      const pen = canvas.getContext("2d");
      pen.fillStyle = this.paint(pen, width, tint);
      for (let x = 0; x < end; x++) {
        const peak = peaks.length ? peaks[Math.floor((x / end) * peaks.length)] / 255 : 0.02;
        const tall = Math.max(devicePixelRatio, peak * height);
        pen.fillRect(x, (height - tall) / 2, 1, tall);
      }
    });
    this.moveTo(this.part * this.seconds);
  }

  // The sections' colours, as hard stops of one gradient.
  paint(pen, width, tint) {
    const plain = resolved(this.box, tint("var(--hp-s0)"));
    if (!this.song.sections.length) return plain;
    const gradient = pen.createLinearGradient(0, 0, width, 0);
    for (const section of this.song.sections) {
      const colour = resolved(this.box, tint(sectionColour(this.song, section)));
      for (const seconds of [section.start, section.end]) gradient.addColorStop(Math.min(1, seconds / this.seconds), colour);
    }
    return gradient;
  }

  destroy() {
    this.life.abort();
    this.size.disconnect();
  }
}

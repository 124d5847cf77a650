// The deck: one Web Audio clock for all sounds of a player, and the gain of each.
// Owns time, levels and which sounds are loaded. It draws nothing; `player.js` is its face, `waveform.js` its seek bar.
//
// A take is one song: { seconds, lufs, stems: [{ name, file, gain (dB), pan (-1…1) }] }. `load(take, file)` resolves to
// the encoded sound (ArrayBuffer) of take number `take`, "mix" or a stem's file; it is called once, when it is needed.
// Sounds are decoded whole and played by buffer sources that start at one moment of one AudioContext: mix, stems and
// takes stay together to the sample, which media elements don't.

const RAMP_S = 0.015; // a cross-fade without a click
const AHEAD_S = 0.03; // what a start is scheduled ahead, so that all sources get it in time
const RESUME_MS = 1500; // a browser that doesn't let a page sound before a click leaves `resume` pending
const FULL_VOLUME_LUFS = -14; // what the mixer masters to, and what a song without a measured loudness is taken to have

// One AudioContext for a page, and one player that sounds. Not in module variables: each widget has a module of its own.
const page = (globalThis[Symbol.for("harmonia.player")] ??= { context: null, sounding: null });

const context = () => (page.context ??= new AudioContext({ latencyHint: "interactive", sampleRate: 48000 }));

const runningContext = async () => {
  const running = context();
  if (running.state !== "running") {
    await Promise.race([running.resume(), new Promise((done) => setTimeout(done, RESUME_MS))]);
  }
  if (running.state !== "running") throw new Error("The browser lets this page sound only after a click on it. Click Play.");
  return running;
};

const decibels = (value) => 10 ** (value / 20);

// A pan as the mixer's: constant power, 1 in the middle (a StereoPannerNode of a mono sound has 0.7 there).
const panned = (from, pan, to) => {
  if (!pan) return [from.connect(to)];
  const split = new ChannelSplitterNode(to.context, { numberOfOutputs: 2 });
  const merge = new ChannelMergerNode(to.context, { numberOfInputs: 2 });
  const angle = ((pan + 1) * Math.PI) / 4;
  from.connect(split);
  [Math.cos(angle), Math.sin(angle)].forEach((part, channel) => {
    const gain = new GainNode(to.context, { gain: Math.SQRT2 * part });
    split.connect(gain, channel).connect(merge, 0, channel);
  });
  merge.connect(to);
  return [split, merge];
};

// Events: "change" (playing, position, choice or loop) and "end".
export class Deck extends EventTarget {
  constructor(takes, load) {
    super();
    this.takes = takes;
    this.seconds = Math.max(...takes.map((take) => take.seconds));
    this.take = 0; // the number of the take that is heard
    this.stems = false; // whether its stems are heard in place of its mix
    this.region = null; // { start, end } in seconds: the loop
    this.playing = false;
    this.at = 0; // seconds: the position when `startedAt` was set
    this.startedAt = 0; // of the context's clock
    this.loadSound = load;
    const levels = takes.map((take) => take.lufs ?? FULL_VOLUME_LUFS);
    const softest = Math.min(...levels);
    this.tracks = takes.flatMap((take, index) => {
      const match = decibels(softest - levels[index]);
      const track = { take: index, match, level: 1, mute: false, solo: false, missing: "", sound: null, source: null, fader: null };
      const stems = take.stems.map((stem) => ({ ...track, ...stem, stem: true, match: match * decibels(stem.gain ?? 0) }));
      return [{ ...track, name: "mix", file: "mix", stem: false }, ...stems];
    });
  }

  // What is heard now: the schedule, less what is still on its way to the loudspeaker.
  get position() {
    if (!this.playing) return this.at;
    const { currentTime, outputLatency } = context();
    return Math.min(this.seconds, this.wrapped(this.at + Math.max(0, currentTime - this.startedAt - (outputLatency || 0))));
  }

  wrapped(seconds) {
    const { region } = this;
    return region && seconds > region.end ? region.start + ((seconds - region.start) % (region.end - region.start)) : seconds;
  }

  seek(seconds) {
    const goOn = this.playing;
    this.halt();
    this.at = Math.max(0, Math.min(seconds, this.seconds));
    if (this.region && (this.at < this.region.start || this.at >= this.region.end)) this.region = null;
    if (goOn) this.begin();
    this.tell("change");
  }

  loop(region) {
    const goOn = this.playing;
    this.halt();
    this.region = region;
    if (region && (this.at < region.start || this.at >= region.end)) this.at = region.start;
    if (goOn) this.begin();
    this.tell("change");
  }

  async play() {
    if (this.playing) return;
    // One song at a time: another player of this page, or a plain <audio>, falls silent.
    if (page.sounding !== this) page.sounding?.pause();
    page.sounding = this;
    document.querySelectorAll("audio").forEach((other) => other.pause());
    try {
      await runningContext();
      await this.load(this.chosen());
    } catch (error) {
      if (page.sounding === this) page.sounding = null;
      throw error;
    }
    if (page.sounding !== this || this.playing || this.freed) return;
    if (this.at >= this.seconds) this.at = 0;
    this.begin();
    this.tell("change");
  }

  pause() {
    if (page.sounding === this) page.sounding = null;
    this.halt();
    this.tell("change");
    // A context that runs keeps the machine's sound awake.
    setTimeout(() => page.sounding === null && page.context?.suspend(), 500);
  }

  // Switches to another take, or between mix and stems, at the same moment.
  async choose(take, stems = false) {
    await this.load(this.tracks.filter((track) => track.take === take && track.stem === stems));
    [this.take, this.stems] = [take, stems];
    this.setGains();
    this.tell("change");
  }

  setGains() {
    const solo = this.tracks.some((track) => track.solo && track.take === this.take);
    const heard = new Set(this.chosen().filter((track) => !track.mute && (!track.stem || !solo || track.solo)));
    for (const track of this.tracks) {
      track.fader?.gain.setTargetAtTime(heard.has(track) ? track.level * track.match : 0, context().currentTime, RAMP_S / 3);
    }
  }

  // Frees the decoded sounds: mix and five stems of three minutes are 415 MB.
  free() {
    this.freed = true;
    this.pause();
    for (const track of this.tracks) {
      track.nodes?.forEach((node) => node.disconnect());
      track.fader?.disconnect();
      Object.assign(track, { fader: null, nodes: null, sound: null, loading: null });
    }
  }

  // What only the deck calls.

  tell(name) {
    this.dispatchEvent(new Event(name));
  }

  chosen() {
    return this.tracks.filter((track) => track.take === this.take && track.stem === this.stems);
  }

  // A stem that isn't there leaves the others playing; where nothing is there, the first reason is raised.
  async load(tracks) {
    await Promise.all(tracks.map((track) => (track.loading ??= this.fetch(track))));
    this.tell("change");
    if (tracks.length && tracks.every((track) => track.missing)) throw new Error(tracks[0].missing);
  }

  async fetch(track) {
    try {
      const encoded = await this.loadSound(track.take, track.file);
      try {
        track.sound = await context().decodeAudioData(encoded);
      } catch {
        throw new Error(`${track.name}: this browser can't decode it; the file may be damaged.`);
      }
      track.missing = "";
      if (this.playing && !this.freed) this.voice(track);
    } catch (error) {
      track.missing = error.message;
      track.loading = null; // another click tries again
    }
  }

  begin() {
    this.playing = true;
    this.startedAt = context().currentTime + AHEAD_S;
    for (const track of this.tracks) if (track.sound) this.voice(track, this.startedAt);
    if (!this.region) this.ending = setTimeout(() => this.finish(), (this.seconds - this.at + AHEAD_S) * 1000);
  }

  finish() {
    if (this.seconds - this.position > 0.05) { // the context stood still meanwhile
      this.ending = setTimeout(() => this.finish(), (this.seconds - this.position) * 1000);
      return;
    }
    this.pause();
    this.at = this.seconds;
    this.tell("change");
    this.tell("end");
  }

  halt() {
    this.at = this.position;
    this.playing = false;
    clearTimeout(this.ending);
    for (const track of this.tracks) {
      track.source?.stop();
      track.source?.disconnect();
      track.source = null;
    }
  }

  // Starts a track at the place where the others will be at the moment `when`.
  voice(track, when = context().currentTime + AHEAD_S) {
    if (!track.fader) {
      track.fader = new GainNode(context(), { gain: 0, channelCount: 2, channelCountMode: "explicit" });
      track.nodes = panned(track.fader, track.pan, context().destination);
    }
    const { region } = this;
    const offset = this.wrapped(this.at + when - this.startedAt);
    if (offset >= track.sound.duration && !region) return;
    track.source = new AudioBufferSourceNode(context(), { buffer: track.sound });
    if (region) Object.assign(track.source, { loop: true, loopStart: region.start, loopEnd: region.end });
    track.source.connect(track.fader);
    track.source.start(when, Math.min(offset, track.sound.duration));
    this.setGains();
  }
}

// A plain <audio> of the page (a page without our script made it) that begins silences the player.
if (!page.listens) {
  page.listens = true;
  document.addEventListener("play", (event) => event.target.tagName === "AUDIO" && page.sounding?.pause(), true);
}

// One song on the page: title, bar, words as they are written, Cancel and Retry; then the player.
//
// It draws a `Song` and decides nothing. Every word is set as text, because a story or a model has written it. Nothing in
// here is a live region: `main.ts` says what has ended, once, and a screen reader isn't told each percent.

import { button, make, mount, setText, type Player, type PlayerSong } from "../harmonia_lab/player/player.js";
import type { Connection } from "./connection";
import { ACTIVE, type Song } from "./songs";

const STATUSES: Record<Song["status"], string> = {
  pending: "Waiting for its turn", processing: "Being made", completed: "Done", failed: "Failed", cancelled: "Cancelled",
};

export const titleOf = ({ title, narrative }: Song): string =>
  title || (narrative.length > 60 ? `${narrative.slice(0, 60).trimEnd()}…` : narrative) || "A song without a title yet";

export class SongView {
  readonly root = make("article", "song");
  private readonly title = make("h3", "", { dir: "auto" });
  private readonly status = make("p", "status", { dir: "auto" });
  private readonly bar = make("progress", "", { max: "100", "aria-label": "How far the song is" });
  private readonly draft = make("p", "draft");
  private readonly lyrics = make("pre", "words", { dir: "auto", tabindex: "0", role: "group", "aria-label": "Words" });
  private readonly warnings = make("p", "note", { dir: "auto" });
  private readonly error = make("p", "error");
  private readonly notice = make("p", "error", { role: "alert" });
  private readonly stage = make("div", "player");
  private readonly cancel = button("Cancel", "", () => this.command(this.cancel, "cancel-generation"));
  private readonly retry = button("Retry", "", () => this.command(this.retry, "retry-generation"));
  private readonly listen = button("Listen", "", () => void this.toggle(), { "aria-expanded": "false" });
  private player: Player | null = null;
  private song: Song;

  constructor(song: Song, private readonly connection: Connection) {
    this.song = song;
    const buttons = make("div", "buttons", {}, this.listen, this.cancel, this.retry);
    this.root.append(this.title, this.status, this.bar, buttons, this.error, this.notice, this.draft, this.lyrics, this.warnings, this.stage);
    this.root.setAttribute("tabindex", "-1");
    setText(this.notice, "");
    this.update(song);
  }

  update(song: Song): void {
    const before = this.song.status;
    this.song = song;
    const active = ACTIVE.has(song.status);
    const focused = this.root.contains(document.activeElement) ? document.activeElement : null;
    const title = titleOf(song);
    setText(this.title, title);
    for (const [node, what] of [[this.cancel, "Cancel"], [this.retry, "Retry"], [this.listen, this.player ? "Close" : "Listen"]] as const) {
      if (node.textContent !== what) node.textContent = what;
      if (node.getAttribute("aria-label") !== `${what}: ${title}`) node.setAttribute("aria-label", `${what}: ${title}`);
    }
    const eta = active && song.etaSeconds !== undefined ? `about ${Math.ceil(song.etaSeconds)} s left` : "";
    const owner = song.access === "owner" ? "" : `shared by ${song.owner}`;
    setText(this.status, [STATUSES[song.status], song.step === STATUSES[song.status] ? "" : song.step, eta, owner].filter(Boolean).join(" · "));
    this.bar.hidden = !active;
    if (this.bar.value !== song.percent) this.bar.value = song.percent;
    setText(this.error, song.status === "completed" || !song.error ? "" : `${song.error.message} (${song.error.code})`);
    const follow = this.lyrics.scrollTop + this.lyrics.clientHeight >= this.lyrics.scrollHeight - 4;
    setText(this.lyrics, this.player ? "" : song.lyrics);
    if (follow && song.draft) this.lyrics.scrollTop = this.lyrics.scrollHeight;
    setText(this.draft, song.draft && active && song.lyrics ? "A draft, as it is written:" : "");
    setText(this.warnings, song.warnings.join(" "));
    const controls = song.access !== "viewer";
    this.show(this.cancel, active && controls);
    this.show(this.retry, song.status === "failed" && controls && song.error?.recoverable !== false);
    this.show(this.listen, song.status === "completed");
    if (before !== song.status) setText(this.notice, "");
    if (song.status !== "completed" && this.player) this.fold();
    if (focused instanceof HTMLElement && focused.hidden) this.root.focus(); // it must not fall back to the page's top
  }

  /** Shows the player, or takes it away with the sounds that it has decoded. */
  async toggle(): Promise<void> {
    if (this.player) {
      this.fold();
    } else {
      this.listen.disabled = true;
      try {
        const path = `api/generations/${this.song.id}`;
        const { song } = (await (await this.connection.fetch(`${path}/player`)).json()) as { song: PlayerSong };
        const load = async (_take: number, file: string): Promise<ArrayBuffer> =>
          (await this.connection.fetch(`${path}/${file === "mix" ? "audio" : file.split("/").map(encodeURIComponent).join("/")}`)).arrayBuffer();
        this.player = mount(this.stage, song, { load, title: 0, extension: "flac" });
        setText(this.notice, "");
      } catch (error) {
        setText(this.notice, (error as Error).message);
      }
      this.listen.disabled = false;
    }
    this.listen.setAttribute("aria-expanded", String(this.player !== null));
    this.update(this.song);
  }

  remove(): void {
    this.fold();
    this.root.remove();
  }

  private fold(): void {
    this.player?.destroy();
    this.player = null;
    this.listen.setAttribute("aria-expanded", "false");
  }

  private show(node: HTMLButtonElement, on: boolean): void {
    node.hidden = !on;
    if (!on) node.disabled = false;
  }

  private async command(node: HTMLButtonElement, name: "cancel-generation" | "retry-generation"): Promise<void> {
    node.disabled = true;
    const answer = await this.connection.ask(name, { generationId: this.song.id });
    node.disabled = false;
    setText(this.notice, answer.ok ? "" : `${answer.error.message} (${answer.error.code})`);
  }
}

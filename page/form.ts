// The form that starts a song: a story, and what else `start-generation` takes.
//
// The server alone knows what is right, so nothing is checked here: its error names the fields that it is about
// (`details.fields`), and is shown beside the first of them, with its code.

import { make, setText } from "../harmonia_lab/player/player.js";
import { NO_ANSWER, type Connection } from "./connection";
import type { ErrorInfo, StartGeneration } from "./harmonia";

type Kind = "story" | "text" | "number" | "list" | "switch" | "boolean" | "integer" | "sound";
interface Field { name: string; row: HTMLElement; input: HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement; error: HTMLElement; kind: Kind }

const FIELDS: [name: keyof StartGeneration & string, label: string, kind: Kind, hint: string][] = [
  ["narrative", "Story", "story", "A wish in it is followed: \u201ca slow waltz, no drums, a calm mood\u201d."],
  ["seconds", "Seconds", "number", "1 to 600; if empty, what the story wishes, or 20"],
  ["seed", "Seed", "number", "a whole number; drawn if empty"],
  ["genre", "Genre", "text", "such as folk"],
  ["bpm", "Tempo", "number", "40 to 220 beats a minute"],
  ["key", "Key", "text", "such as A minor"],
  ["language", "Language of the words", "text", "such as de; else the story\u2019s"],
  ["instruments", "Instruments", "list", "with commas between: piano, double bass"],
  ["wishes", "Follow the story\u2019s wishes", "switch", ""],
];

const camel = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

export class Form {
  readonly root = make("form", "", { novalidate: "", "aria-label": "A new song" });
  private readonly fields: Field[];
  private options: Field[] = [];
  private readonly sound = make("details", "", {}, make("summary", "", {}, "Sound"));
  private readonly start = make("button", "primary", { type: "submit" }, "Make a song");
  private readonly error = make("p", "error", { role: "alert" });
  private offered = "";
  /** The new song's id, chosen here and kept until there is an answer: one that is lost in a cut starts no second song. */
  private id = "";

  /** onStarted: called with the id of a song that has begun. */
  constructor(private readonly connection: Connection, private readonly onStarted: (id: string) => void) {
    this.fields = FIELDS.map(([name, label, kind, hint]) => field(name, label, kind, hint));
    const [story, seconds, seed, genre, ...more] = this.fields.map(({ row }) => row) as [HTMLElement, HTMLElement, HTMLElement, HTMLElement, ...HTMLElement[]];
    const details = make("details", "", {}, make("summary", "", {}, "More of the music"), make("div", "row", {}, ...more));
    this.root.append(story, make("div", "row", {}, seconds, seed, genre), details, this.sound, this.start, this.error);
    this.sound.hidden = true;
    setText(this.error, "");
    this.root.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.submit();
    });
  }

  /** Offers what the audio engine lets one song set for itself: name → "text", "number", "sound", … */
  offer(options: Record<string, string>): void {
    if (this.offered === JSON.stringify(options)) return; // again, after a cut: what was typed stays
    this.offered = JSON.stringify(options);
    this.options = Object.entries(options).map(([name, kind]) => field(name, name.replaceAll("_", " "), kind as Kind, kind === "sound" ? "a recording, which is uploaded" : ""));
    this.sound.hidden = !this.options.length;
    this.sound.replaceChildren(this.sound.firstElementChild as Element, make("div", "row", {}, ...this.options.map(({ row }) => row)));
  }

  private async submit(): Promise<void> {
    if (this.start.disabled) return;
    this.start.disabled = true;
    [...this.fields, ...this.options].forEach((each) => complain(each, ""));
    setText(this.error, "");
    const id = (this.id ||= crypto.getRandomValues(new Uint32Array(2)).reduce((text, part) => text + part.toString(16).padStart(8, "0"), ""));
    try {
      const request: Record<string, unknown> = { generationId: id };
      for (const each of this.fields) add(request, each);
      const audioOptions: Record<string, unknown> = {};
      for (const each of this.options) await this.addOption(audioOptions, each);
      if (Object.keys(audioOptions).length) request["audioOptions"] = audioOptions;
      const answer = await this.connection.ask("start-generation", request);
      if (answer.ok || answer.error !== NO_ANSWER) this.id = "";
      if (answer.ok || this.connection.songs.has(id)) this.onStarted(id);
      else this.refuse(answer.error);
    } catch (error) {
      const { message, info } = error as Error & { info?: ErrorInfo };
      this.refuse(info ?? { code: "INTERNAL", message, recoverable: true });
    }
    this.start.disabled = false;
  }

  private async addOption(options: Record<string, unknown>, each: Field): Promise<void> {
    const file = each.input instanceof HTMLInputElement ? each.input.files?.[0] : undefined;
    if (!file) return add(options, each);
    const sent = await this.connection.fetch("api/sounds", { method: "POST", body: file }).catch((error: Error & { info?: ErrorInfo }) => {
      if (error.info) error.info = { ...error.info, details: { ...error.info.details, fields: [each.name] } };
      throw error;
    });
    options[each.name] = ((await sent.json()) as { soundId: string }).soundId;
  }

  private refuse({ code, message, details }: ErrorInfo): void {
    const told = details?.["fields"];
    const names = Array.isArray(told) ? told.map((name) => String(name).split(".").pop() ?? "") : [];
    const about = [...this.fields, ...this.options].filter(({ name }) => names.some((each) => each === name || camel(each) === name));
    const [first] = about;
    if (!first) {
      setText(this.error, `${message} (${code})`);
      return;
    }
    complain(first, `${message} (${code})`);
    about.forEach(({ input }) => input.setAttribute("aria-invalid", "true"));
    first.row.closest("details")?.setAttribute("open", "");
    first.input.focus(); // a screen reader reads the field with its error
  }
}

function field(name: string, label: string, kind: Kind, hint: string): Field {
  const attributes = { id: `field-${name}`, name, autocomplete: "off" };
  const choices = ["", "true", "false"].map((value) => make("option", "", { value }, { "": "the server\u2019s", true: "yes", false: "no" }[value] as string));
  const input =
    kind === "story" ? make("textarea", "", { ...attributes, rows: "4", dir: "auto" })
    : kind === "boolean" ? make("select", "", attributes, ...choices)
    : make("input", "", { ...attributes, type: { switch: "checkbox", sound: "file" }[kind as string] ?? "text" });
  if (kind === "number" || kind === "integer") input.setAttribute("inputmode", "decimal");
  if (kind === "sound") input.setAttribute("accept", "audio/*");
  if (kind === "switch") (input as HTMLInputElement).checked = true;
  const note = make("small", "", { id: `hint-${name}` }, hint);
  const error = make("p", "error", { id: `error-${name}` });
  setText(error, "");
  input.setAttribute("aria-describedby", `${hint ? `hint-${name} ` : ""}error-${name}`);
  const row = make("div", `field ${kind}`, {}, make("label", "", { for: `field-${name}` }, label), input, ...(hint ? [note] : []), error);
  return { name, row, input, error, kind };
}

/** Puts the field's value among others, if there is one. What is no number goes as it is, for the server to refuse. */
function add(values: Record<string, unknown>, { name, input, kind }: Field): void {
  const text = input.value.trim();
  if (kind === "switch") values[name] = (input as HTMLInputElement).checked;
  else if (kind === "story") values[name] = text;
  else if (!text || kind === "sound") return;
  else if (kind === "boolean") values[name] = text === "true";
  else if (kind === "list") values[name] = text.split(",").map((each) => each.trim()).filter(Boolean);
  else if (kind === "number" || kind === "integer") values[name] = Number.isFinite(Number(text)) ? Number(text) : text;
  else values[name] = text;
}

function complain({ input, error }: Field, text: string): void {
  if (!text) input.removeAttribute("aria-invalid");
  setText(error, text);
}

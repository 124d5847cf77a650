// The types of `player.js`, for pages that are written in TypeScript.

export interface PlayerSong {
  title: string;
  /** Of downloads, without suffix. */
  name: string;
  seconds: number;
  lufs?: number | null;
  /** Bytes in base64, 255 for the loudest. */
  peaks: string;
  sections: { name: string; start: number; end: number }[];
  lines: { text: string; spans: [number, number][] }[];
  note?: string;
  facts?: string;
  stems: { name: string; file: string; gain?: number; pan?: number }[];
  about: [string, string][];
}

export interface PlayerOptions {
  /** Resolves to the encoded sound of a song by its number: "mix" or a stem's file. */
  load(take: number, file: string): Promise<ArrayBuffer>;
  /** The heading's level; 0 for none. */
  title?: number;
  about?: boolean;
  words?: HTMLElement;
  /** Of what `load` resolves to. */
  extension?: string;
  download?(take: number, file: string): void;
}

export interface Player {
  root: HTMLElement;
  key(event: KeyboardEvent): void;
  destroy(): void;
}

export function mount(element: HTMLElement, songs: PlayerSong | PlayerSong[], options: PlayerOptions): Player;
export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag, className?: string, attributes?: Record<string, string>, ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag];
/** Sets only a text that differs, and hides the element if it is "". */
export function setText(node: HTMLElement, text: string): void;
export function button(text: string, className: string, click: (event: MouseEvent) => void, attributes?: Record<string, string>): HTMLButtonElement;

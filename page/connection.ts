// The connection: one socket, and the songs that the server tells it of.
//
// 1. `jobs:subscribe:user` lists the user's songs and tells of new ones. Those that others share with the user come from
//    `GET /api/shared`, which is asked again at a `generation-shared` of an unknown song, and now and then: what is
//    taken back is told only to those who have joined it.
// 2. Each song that is being made is joined (`join-generation`), with `afterSeq`: the number of the last event that is
//    known here. The server sends what is missing first, then what happens. The same after each cut, and in a gap.
// 3. A token that ends is refused with a reason; what to do then is `main.ts`'s to say.

import { io, type Socket } from "socket.io-client";
import type { ClientToServerEvents, ErrorAck, ErrorInfo, Job, JobsAck, JoinAck, ServerEvent, ServerToClientEvents, User } from "./harmonia";
import { ACTIVE, applyEvent, applyJob, applySnapshot, songOf, type Song } from "./songs";

const PATIENCE_MS = 20_000;
const SHARED_MS = 15_000;
const AGAIN_MS = 3000;
export const NO_ANSWER: ErrorInfo = {
  code: "NETWORK_TEMPORARY", message: "The server has not answered. It goes on when the connection is back; look before you try again.", recoverable: true,
};

export interface Listener {
  /** songs: newest first. */
  onSongs(songs: Song[]): void;
  onHello(user: User, features: string[]): void;
  /** "connected", or why there is no connection. refused: the token is of no use, so nothing more is tried. */
  onConnection(state: "connected" | "lost" | "refused", why: string): void;
  onExpiring(at: string): void;
}

export class Connection {
  readonly songs = new Map<string, Song>();
  /** Where older songs begin, for `older`. */
  cursor: string | undefined;
  private readonly socket: Socket<ServerToClientEvents, ClientToServerEvents>;
  private readonly asked = new Map<string, number>();
  private user = "";
  private telling = 0;
  private token = "";

  /** base: the page's own address, which may have a proxy's path in it. socketPath: Socket.IO's below it. */
  constructor(private readonly base: URL, socketPath: string, private readonly listener: Listener) {
    const path = new URL(socketPath, base).pathname;
    const transports = ["websocket", "polling"]; // the second where a proxy passes no websocket on
    const auth = (send: (auth: object) => void): void => send({ token: this.token });
    this.socket = io(base.origin, { path, auth, transports, tryAllTransports: true, autoConnect: false });
    this.socket.on("connect", () => {
      listener.onConnection("connected", "");
      void this.catchUp();
    });
    this.socket.on("disconnect", (reason) => {
      listener.onConnection("lost", "The connection is lost. Trying again…");
      if (reason === "io server disconnect") this.socket.connect(); // the token's end: the answer says so
    });
    this.socket.on("connect_error", (error) => {
      const told = (error as Error & { data?: ErrorInfo }).data;
      if (told?.code === "UNAUTHORIZED") listener.onConnection("refused", told.message);
      else listener.onConnection("lost", `${told?.message ?? "The server can't be reached."} Trying again…`);
      if (told && told.code !== "UNAUTHORIZED" && !this.socket.active) setTimeout(() => this.socket.connect(), AGAIN_MS);
    });
    this.socket.on("server-hello", ({ user, features }) => {
      if (user.id !== this.user) this.songs.clear(); // what one user may see is not the next one's
      this.user = user.id;
      listener.onHello(user, features);
    });
    this.socket.on("token-expiring", ({ expiresAt }) => listener.onExpiring(expiresAt));
    this.socket.on("generation-shared", ({ generationId, access }) => {
      const song = this.songs.get(generationId);
      if (song && access) song.access = access;
      else if (access) void this.readShared();
      else this.songs.delete(generationId);
      this.tell();
    });
    this.socket.on("job:status", ({ id, job, status, position }) => {
      if (job && !this.songs.has(id)) this.songs.set(id, songOf(job, job.userId === this.user ? "owner" : "viewer"));
      const song = this.songs.get(id);
      if (!song) return;
      if (status === "pending") Object.assign(song, { status, step: position ? `Waiting: ${position} before it` : "Waiting for its turn" });
      if (ACTIVE.has(status)) void this.join(id);
      this.tell();
    });
    this.socket.onAny((name: string, event: unknown) => this.hear({ name, event } as ServerEvent));
    setInterval(() => document.visibilityState === "visible" && this.socket.connected && void this.readShared(), SHARED_MS);
  }

  connect(token: string): void {
    this.token = token;
    this.socket.disconnect().connect();
  }

  /** A command's acknowledgement. One that doesn't come, because of a cut, is an error like the server's. */
  async ask<Ack extends { ok: true }>(name: keyof ClientToServerEvents, ...payload: object[]): Promise<Ack | ErrorAck> {
    try { // by its types, the acknowledgement may be left out, which `timeout` can't express
      return (await (this.socket.timeout(PATIENCE_MS) as unknown as Socket).emitWithAck(name, ...payload)) as Ack | ErrorAck;
    } catch {
      return { ok: false, error: NO_ANSWER };
    }
  }

  /** What an HTTP route answers. The token is sent as a header, never in the address. */
  async fetch(path: string, options: RequestInit = {}): Promise<Response> {
    const response = await fetch(new URL(path, this.base), { ...options, headers: { Authorization: `Bearer ${this.token}` } });
    if (response.ok) return response;
    const told = (await response.json().catch(() => null)) as { error?: ErrorInfo } | null;
    throw Object.assign(new Error(told?.error?.message ?? `The server answered ${response.status}.`), { info: told?.error });
  }

  async older(): Promise<void> {
    const page = (await (await this.fetch(`api/generations?cursor=${encodeURIComponent(this.cursor ?? "")}`)).json()) as { jobs: Job[]; nextCursor?: string };
    this.take(page.jobs, "owner");
    this.cursor = page.nextCursor;
    this.tell();
  }

  private async catchUp(): Promise<void> {
    this.asked.clear();
    const [answer] = await Promise.all([this.ask<JobsAck>("jobs:subscribe:user"), this.readShared()]);
    if (!answer.ok) return;
    this.cursor ??= answer.nextCursor;
    this.take(answer.jobs, "owner");
    for (const { id, seq } of this.songs.values()) if (seq > 0) void this.join(id);
    this.tell();
  }

  private async readShared(): Promise<void> {
    const page = await this.fetch("api/shared").then((answer) => answer.json() as Promise<{ jobs: Job[]; nextCursor?: string }>, () => null);
    if (!page) return;
    const listed = new Set(page.jobs.map(({ id }) => id));
    for (const { id, access } of this.songs.values()) if (access !== "owner" && !listed.has(id) && !page.nextCursor) this.songs.delete(id);
    this.take(page.jobs, "viewer");
    this.tell();
  }

  private take(jobs: Job[], access: Song["access"]): void {
    for (const job of jobs) {
      const known = this.songs.get(job.id);
      if (!known) this.songs.set(job.id, songOf(job, access));
      else if (known.seq === 0) applyJob(known, job); // of one that was joined, the events know more
      if (ACTIVE.has(job.status) || job.status === "failed") void this.join(job.id);
    }
  }

  /** Has the server send what is not known yet of a song, once for each number that is known. */
  private async join(id: string): Promise<void> {
    const song = this.songs.get(id);
    if (!song || this.asked.get(id) === song.seq) return;
    this.asked.set(id, song.seq);
    const answer = await this.ask<JoinAck>("join-generation", { generationId: id, afterSeq: song.seq });
    if (!answer.ok) this.asked.delete(id);
    // What was missed came before this answer, and what came since is newer than its snapshot.
    else if (answer.snapshot && answer.snapshot.seq >= song.seq) applySnapshot(song, answer.snapshot);
    this.tell();
  }

  private hear(news: ServerEvent): void {
    if (!("generationId" in news.event)) return;
    const song = this.songs.get(news.event.generationId);
    if (!song) return;
    const found = applyEvent(song, news);
    if (found === "gap") void this.join(song.id);
    if (found === "changed") this.tell();
  }

  /** At most twenty times a second, however many events there are. */
  private tell(): void {
    if (this.telling) return;
    this.telling = window.setTimeout(() => {
      this.telling = 0;
      this.listener.onSongs([...this.songs.values()].sort((a, b) => b.createdAt.localeCompare(a.createdAt)));
    }, 50);
  }
}

// The songs: what the server's events add up to. No sockets and no page in here.
//
// Each song's events are numbered by `seq`, 1, 2, 3 … without gaps. So a client that keeps the last number applies an
// event once, sees that some are missing, and asks for them again (`join-generation` with `afterSeq`). Progress events
// between two of these carry the number of the last one, and a `tick` that only grows: an older one is dropped.

import type { ErrorInfo, Job, ServerEvent, Snapshot, SongMetadata } from "./harmonia";

export interface Song {
  id: string;
  owner: string;
  /** As what this user may use it; a viewer can't cancel it. */
  access: NonNullable<Snapshot["access"]>;
  status: Job["status"];
  createdAt: string;
  seq: number;
  tick: number;
  narrative: string;
  title: string;
  lyrics: string;
  /** Whether title and lyrics are still being written. */
  draft: boolean;
  /** What is being done, and how far, in percent. */
  step: string;
  percent: number;
  etaSeconds: number | undefined;
  /** Of the last failure. While the server tries again by itself, the song goes on. */
  error: ErrorInfo | undefined;
  warnings: string[];
}

/** What `apply` says of an event: it has changed the song, it is old, or events before it are missing. */
export type Applied = "changed" | "old" | "gap";

export const ACTIVE = new Set<Job["status"]>(["pending", "processing"]);

export function songOf(job: Job, access: Song["access"]): Song {
  const song: Song = {
    id: job.id, owner: job.userId, access, status: job.status, createdAt: job.createdAt, seq: 0, tick: 0,
    narrative: "", title: "", lyrics: "", draft: false, step: "", percent: 0, etaSeconds: undefined, error: undefined,
    warnings: [],
  };
  applyJob(song, job);
  return song;
}

/** The job says where a song is, the generation's events say how it came there: a list of jobs is enough to begin with. */
export function applyJob(song: Song, job: Job): void {
  song.status = job.status;
  song.percent = Math.max(job.progress.percentage, job.status === "completed" ? 100 : 0);
  song.step = ACTIVE.has(job.status) ? job.progress.message : "";
  if (job.result?.metadata) applyMetadata(song, job.result.metadata);
}

/** A snapshot moves no number: what is missing must come as events. */
export function applySnapshot(song: Song, snapshot: Snapshot): void {
  song.access = snapshot.access ?? song.access;
  applyJob(song, snapshot.job);
  if (snapshot.progress) applyEvent(song, { name: snapshot.progress.event, event: snapshot.progress.data } as ServerEvent);
}

function applyMetadata(song: Song, metadata: SongMetadata): void {
  Object.assign(song, { title: metadata.title, lyrics: metadata.lyrics, warnings: metadata.warnings, draft: false });
}

/** Takes one event of a generation. Events of jobs are none of its business. */
export function applyEvent(song: Song, news: ServerEvent): Applied {
  if (news.name === "metadata-generation-progress" || news.name === "audio-generation-progress") {
    const { seq, tick, overallProgress, status, etaSeconds } = news.event;
    if (seq > song.seq) return "gap";
    if (seq < song.seq || tick <= song.tick) return "old";
    Object.assign(song, { tick, percent: overallProgress, step: status, etaSeconds });
    if (news.name === "metadata-generation-progress" && news.event.partial) {
      const { title, lyrics } = news.event.partial;
      Object.assign(song, { title: title ?? song.title, lyrics: lyrics ?? song.lyrics, draft: true });
    }
    return "changed";
  }
  if (!("generationId" in news.event && "seq" in news.event) || news.name === "audio-preview") return "old";
  const { seq } = news.event;
  if (seq > song.seq + 1) return "gap";
  if (seq <= song.seq) return "old";
  Object.assign(song, { seq, tick: 0 });
  switch (news.name) {
    case "metadata-generation-started":
      Object.assign(song, { status: "processing", narrative: news.event.narrative, owner: news.event.userId, error: undefined });
      Object.assign(song, { percent: 0, step: "Starting...", title: "", lyrics: "", draft: true });
      break;
    case "metadata-generation-complete":
      applyMetadata(song, news.event.metadata);
      break;
    case "audio-generation-started":
      Object.assign(song, { status: "processing", error: undefined });
      break;
    case "audio-generation-complete":
      Object.assign(song, { status: "completed", percent: 100, step: "", error: undefined });
      break;
    case "generation-error":
      song.error = news.event.error;
      if (news.event.final) Object.assign(song, { status: "failed", step: "" });
      break;
    case "generation-timeout":
      song.step = `Stage ${news.event.stage} took longer than ${news.event.timeoutAfter} s.`;
      break;
    case "generation-cancelled":
      Object.assign(song, { status: "cancelled", step: news.event.reason === "timeout" ? song.step : "" });
      break;
  }
  return "changed";
}

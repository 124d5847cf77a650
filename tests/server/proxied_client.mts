// An external client behind JupyterHub, typed by what `harmonia protocol typescript > harmonia.mts` prints.
import { io, type Socket } from "socket.io-client";
import type { ClientToServerEvents, ServerToClientEvents } from "./harmonia.mjs";

declare const process: { argv: [string, string, string, string, string, string, "websocket" | "polling"] };
const [, , origin, path, jupyterToken, token, transport] = process.argv;

const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io(origin, {
  path, // Socket.IO's own option: "/user/ann/proxy/3333/socket.io"
  query: { token: jupyterToken }, // opens Jupyter's door; a page that the hub serves has a cookie, and leaves it out
  auth: { token }, // ours: `server.token("ann")`, or `harmonia token ann`
  transports: [transport],
  reconnection: false,
});
const heard: [string, unknown][] = [];
const end = (extra: object): void => {
  console.log(JSON.stringify({ heard, ...extra }));
  socket.disconnect();
};
socket.onAny((name: string, event: unknown) => heard.push([name, event]));
socket.on("connect_error", (error) => end({ error: error.message }));
socket.on("audio-generation-complete", (event) => end({ url: event.audioUrl, seconds: event.duration }));
socket.emit("start-generation", { narrative: "A small boat goes home.", seconds: 1 }, (answer) => {
  if (!answer.ok) end({ error: answer.error.code });
});

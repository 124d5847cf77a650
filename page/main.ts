// The page that a Harmonia server has at `/`, for those without Jupyter; and the example from which to write a front end
// of your own. It uses nothing but what any client has: Socket.IO, the types that `harmonia protocol typescript` prints
// (`harmonia.ts`), and HTTP. Read it in this order:
//
//   main.ts         the token, and what belongs to the page as a whole
//   connection.ts   the socket, commands, and how nothing is missed when the connection is cut
//   songs.ts        what the events add up to: the only thing that is worth a library
//   song_view.ts    one song; form.ts: how one is started
//
// The token comes in the address's fragment (`#token=…`), which no browser sends to a server. It is moved to this tab's
// storage at once, so that it is not in the address bar, and in no history entry that is left.

import "./page.css";
import { button, make, setText } from "../harmonia_lab/player/player.js";
import { Connection } from "./connection";
import { Form } from "./form";
import { SongView, titleOf } from "./song_view";
import type { Song } from "./songs";

const base = new URL("./", location.href); // behind a proxy, it has the proxy's path
const KEY = `harmonia-token ${base.pathname}`; // servers behind one proxy share their storage
const socketPath = document.querySelector<HTMLMetaElement>("meta[name=socket-path]")?.content ?? "socket.io";

const state = make("p", "state", { role: "status" });
const news = make("p", "unseen", { role: "status" }); // what has ended; never how far something is
const expiring = make("p", "note", { role: "status" });
const door = make("form", "door", { "aria-label": "Token" });
const why = make("p", "error", { role: "alert" });
const pasted = make("input", "", { id: "token", type: "password", autocomplete: "off", "aria-describedby": "token-hint" });
const nothing = make("p", "note", {}, "No song yet.");
const list = make("div", "songs");
const older = button("Older songs", "", () => void connection.older().catch((error: Error) => setText(why, error.message)));
const testList = make("ul");
const tests = make("section", "", { "aria-labelledby": "tests" }, make("h2", "", { id: "tests" }, "Listening tests"), testList,
  make("p", "note", {}, "A listener needs a link of their own: harmonia listen --test ID --invite NAME."));
const desk = make("main");

const views = new Map<string, SongView>();
let user = "";
let started = ""; // the id of the song that this page started last, which is opened when it is done

const connection = new Connection(base, socketPath, {
  onSongs: draw,
  onHello(who, features) {
    if (who.id !== user) views.forEach((view) => view.remove());
    if (who.id !== user) views.clear();
    user = who.id;
    desk.hidden = false;
    setText(state, `Connected as ${user}.`);
    void showTests();
    if (features.includes("audio-options")) {
      void connection.fetch("api/engines").then((answer) => answer.json()).then(({ audioOptions }) => form.offer(audioOptions ?? {}), () => undefined);
    }
  },
  onConnection(how, told) {
    desk.classList.toggle("offline", how !== "connected");
    if (how === "connected") askForToken("");
    else setText(state, how === "lost" ? told : "Not connected.");
    if (how !== "lost") setText(expiring, "");
    if (how === "refused") askForToken(told);
  },
  onExpiring(at) {
    setText(expiring, `Your token ends at ${new Date(at).toLocaleTimeString()}. To stay connected, paste a new one.`);
    door.hidden = false;
  },
});
const form = new Form(connection, (id) => {
  started = id;
  news.textContent = "The song has begun.";
});

function draw(songs: Song[]): void {
  const ids = new Set(songs.map(({ id }) => id));
  for (const [id, view] of views) if (!ids.has(id)) {
    view.remove();
    views.delete(id);
  }
  songs.forEach((song, index) => {
    let view = views.get(song.id);
    const before = view?.root.dataset["status"];
    if (view) view.update(song);
    else views.set(song.id, (view = new SongView(song, connection)));
    Object.assign(view.root.dataset, { id: song.id, status: song.status, seq: song.seq }); // for whoever looks at the page from outside
    if (list.children[index] !== view.root) list.insertBefore(view.root, list.children[index] ?? null);
    if (before === undefined || before === song.status) return;
    if (["completed", "failed", "cancelled"].includes(song.status)) news.textContent = `${titleOf(song)}: ${song.status}.`;
    if (song.status === "completed" && song.id === started) void view.toggle();
  });
  nothing.hidden = songs.length > 0;
  older.hidden = connection.cursor === undefined;
}

/** Lists the home's listening tests for those who may see which there are; a server without tests has no such list. */
async function showTests(): Promise<void> {
  const listed = await connection.fetch("api/listening").then((answer) => answer.json() as Promise<{ tests: { id: string; title: string; answers: number }[] }>, () => null);
  tests.hidden = !listed?.tests.length;
  testList.replaceChildren(...(listed?.tests ?? []).map(({ id, title, answers }) => {
    const link = make("a", "", { href: new URL(`listen/${encodeURIComponent(id)}`, base).href, dir: "auto" }, title || id);
    return make("li", "", {}, link, ` · ${answers === 1 ? "1 answer" : `${answers} answers`}`);
  }));
}

/** Says why there is no connection, and what to do; "": there is one. wrong: whether a token was refused. */
function askForToken(text: string, wrong = true): void {
  why.className = wrong ? "error" : "note";
  setText(why, text && `${text} Open a new link: \`harmonia token NAME --link\` prints one where the server runs, \`server.link()\` in its notebook. Or paste a link or a token here.`);
  door.hidden = !text;
}

function stored(token?: string): string {
  try { // a browser may forbid it; then the token lasts as long as the page
    if (token) sessionStorage.setItem(KEY, token);
    return token ?? sessionStorage.getItem(KEY) ?? "";
  } catch {
    return token ?? "";
  }
}

function tokenIn(text: string): string {
  return new URLSearchParams(text.slice(text.indexOf("#") + 1)).get("token") ?? "";
}

function enter(): void {
  const given = tokenIn(location.hash);
  if (given) history.replaceState(null, "", location.pathname + location.search);
  const token = stored(given || undefined);
  if (token) connection.connect(token);
  else {
    setText(state, "Not connected.");
    askForToken("This page shows your songs once it has a token.", false);
  }
}

door.append(why, make("label", "", { for: "token" }, "Link or token"), pasted,
  make("small", "", { id: "token-hint" }, "It stays in this tab, until you close it."), make("button", "", { type: "submit" }, "Connect"));
door.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = pasted.value.trim();
  const token = tokenIn(text) || text;
  pasted.value = "";
  if (token) connection.connect(stored(token));
});
window.addEventListener("hashchange", () => tokenIn(location.hash) && enter());

const making = make("section", "", { "aria-labelledby": "making" }, make("h2", "", { id: "making" }, "A new song"), form.root);
const songs = make("section", "", { "aria-labelledby": "songs" }, make("h2", "", { id: "songs" }, "Songs"), nothing, list, older);
desk.append(making, songs, tests);
door.hidden = older.hidden = tests.hidden = desk.hidden = true;
setText(expiring, "");
document.body.replaceChildren(make("header", "", {}, make("h1", "", {}, "Harmonia Lab"), state), expiring, door, desk, news);
enter();

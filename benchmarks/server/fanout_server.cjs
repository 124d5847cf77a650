// The JavaScript server of `make bench-fanout`: socket.io as its documentation shows it.
"use strict";

const { createServer } = require("node:http");
const { createInterface } = require("node:readline");
const { Server } = require("socket.io");

const ROOM = "generation-bench";
const reply = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const http = createServer();
const io = new Server(http);

io.on("connection", (socket) => {
  socket.on("join-generation", (id, callback) => {
    socket.join(ROOM);
    callback({ ok: true });
  });
});

async function publish({ name, payload, first, count, gap_s }) {
  for (let tick = first; tick < first + count; tick++) {
    const stamp = process.hrtime.bigint().toString().padStart(20, "0"); // the monotonic clock
    io.to(ROOM).emit(name, {
      ...payload,
      emittedAt: new Date().toISOString(),
      tick,
      status: `Rendering instruments... @${stamp}`,
    });
    await pause(gap_s * 1000);
  }
  reply({ published: count });
}

http.listen(0, "127.0.0.1", () => reply({ url: `http://127.0.0.1:${http.address().port}`, token: "" }));
createInterface({ input: process.stdin })
  .on("line", (line) => publish(JSON.parse(line)))
  .on("close", () => process.exit(0));

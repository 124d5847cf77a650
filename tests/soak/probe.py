"""A process that asks to join a finished song again and again, and times the answers.

A process of its own, because the load's clients keep all that they heard: their own pauses would be taken for the
server's. Joins are sent at fixed times; the next one waits for the answer, so one that is late delays those after it.
"""

import time

from benchmarks.server.children import commands, reply
from benchmarks.server.websocket import LightSocket

PER_S = 5


def main():
    asked = next(commands())
    socket = LightSocket(asked["url"], asked["token"])
    began, number, acks = time.monotonic(), 0, []
    while (due := number / PER_S) < asked["seconds"]:
        time.sleep(max(0.0, began + due - time.monotonic()))
        number += 1
        sent = time.perf_counter()
        socket.emit(number, "join-generation", {"generationId": asked["song"], "afterSeq": 0})
        packets = socket.receive_until(f"43{number}[".encode())
        acks.append((due, 1e3 * (time.perf_counter() - sent)))
        if b"2" in packets:  # the server's ping, which came before the answer
            socket.send("3")
    socket.close()
    reply(acks=acks)


if __name__ == "__main__":
    main()

"""A redis-server of a test's own, which can be killed, paused and started again."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

import pytest
import redis

from tests.waiting import until

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None and "CI" not in os.environ,
    reason="needs a redis-server: apt-get install redis-server",
)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class RedisServer:
    """`url` works while it runs. folder: where its append-only file is. tls: its certificate and key, if it speaks
    TLS alone. by: those by which its clients say who they are."""

    def __init__(self, folder, *options, fsync="always", password=None, tls=None, by=None):
        self.folder, self.port, self.password = folder, free_port(), password
        self.options = ["--appendonly", "yes", "--appendfsync", fsync, "--save", "", *options]
        if password is not None:
            self.options += ["--requirepass", password]
        where = f"{'' if password is None else f':{password}@'}127.0.0.1:{self.port}/0"
        self.url = f"redis://{where}" if tls is None else f"rediss://{where}?ssl_ca_certs={tls[0]}"
        if by is not None:
            self.url += f"&ssl_certfile={by[0]}&ssl_keyfile={by[1]}"
        if tls is None:
            self.options += ["--port", str(self.port)]
        else:
            files = ["--tls-cert-file", str(tls[0]), "--tls-key-file", str(tls[1]), "--tls-auth-clients", "no"]
            self.options = ["--port", "0", "--tls-port", str(self.port), *files, *self.options]
        self.start()

    def start(self):
        command = ["redis-server", "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.process = subprocess.Popen([*command, *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.answers, "a redis-server that answers")

    def answers(self):
        with contextlib.suppress(redis.exceptions.RedisError), self.client() as client:
            return client.ping()
        return False

    def client(self):
        return redis.Redis.from_url(self.url, decode_responses=True, retry=None)

    def kill(self):
        """End it without a word, as a power cut does to its process."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """End it as an operator does."""
        self.process.terminate()
        self.process.wait()

    def age(self, seconds):
        """Wait until it has been up for so long."""
        with self.client() as client:
            while client.info("server")["uptime_in_seconds"] < seconds:
                time.sleep(0.05)


@contextlib.contextmanager
def running_redis(folder, *options, **settings):
    server = RedisServer(folder, *options, **settings)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()

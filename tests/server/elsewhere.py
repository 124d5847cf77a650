"""A server in a process of its own, for tests that kill it."""

import json
import subprocess
import sys

SERVE = """
import json, pathlib, sys
from tests.server.engines import Player, Writer, make_lab
folder, writer, player, port = json.loads(sys.argv[1])
lab = make_lab(pathlib.Path(folder), metadata=Writer(**writer), audio=Player(**player))
print(lab.serve(port=port).url, flush=True)
sys.stdin.read()
"""


class Elsewhere:
    """A process with a server of the test engines. writer, player: options of the engines. port: 0 for a free one."""

    def __init__(self, folder, *, player=None, port=0, **writer):
        command = [sys.executable, "-c", SERVE, json.dumps([str(folder), writer, player or {}, port])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def kill(self):
        """Send SIGKILL. Idempotent."""
        self.process.kill()
        self.process.wait(60)
        self.process.stdin.close()
        self.process.stdout.close()

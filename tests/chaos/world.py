"""What a run happens in: folders, serving processes, an Ollama endpoint, and two users' clients behind a proxy.

Owns their start and end, and what the clients heard. `kinds.py` does harm to it, `invariants.py` looks at it.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from pathlib import Path

from benchmarks.server.children import ROOT, Child
from harmonia_lab.child_process import python_command
from harmonia_lab.client import Backoff, Client
from harmonia_lab.engines.process_tree import descendants, pss_bytes
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.events import ProgressEvent
from harmonia_lab.protocol.models import Instrument, SongMetadata
from harmonia_lab.storage import package_environment
from harmonia_lab.testing import FakeOllama, Reply
from tests.chaos.engines import BYSTANDER, FAULT_FILE, install
from tests.client.proxy import Proxy
from tests.metadata_engines.prompting.test_structured import SONG

MARK = "HARMONIA_CHAOS_WORLD"
"""The environment variable by which a world's processes are found, whoever their parent is."""

PATIENCE_S = 60.0
"""For the end of a song, on a machine with other work. It ends a hang, which is then a broken invariant."""

START_S = 300.0
"""For a process to start."""

USERS = ("ann", "bob", "cat", "eve", "root")

ANSWER = json.dumps(SONG)
PIECE_S = 0.004
"""Between two words of the endpoint's answer: it then takes 0.2 s."""

TIMEOUTS = {"connect": 5.0, "load": 10.0, "first": 3.0, "between": 2.0, "busy": 10.0}
LIMITS = {"metadata_s": 60.0, "audio_s": 60.0}
SMALL_DISK_BYTES = 100_000_000

CALM = SongMetadata(
    title=BYSTANDER, lyrics="[Verse 1]\nThe sea is calm", genre="folk", mood=["calm"], bpm=90, key="A minor",
    instruments=[Instrument(name="piano", role="chords")],
)  # fmt: skip


class Ear:
    """One user's client, and all that it heard. lost: how often its connection was lost."""

    def __init__(self, user, victim):
        self.user, self.heard, self.lost = user, [], 0
        self.proxy = Proxy(victim)
        self._token = victim.tokens[user]
        self._news = asyncio.Event()

    async def __aenter__(self):
        await self.proxy.__aenter__()
        self.client = Client(self.proxy.url, backoff=Backoff(0.02, 0.2), ack_timeout_s=PATIENCE_S)
        await self.client.connect(self._token)
        await self.client.subscribe_to_user_jobs()
        self._stream = self.client.everything()
        self._connected = True
        self.client.store.observe(self._look)
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_):
        await self.client.disconnect()
        await self._task
        await self.proxy.__aexit__(None, None, None)

    def _look(self, *_):
        if self._connected and not self.client.connected:
            self.lost += 1
        self._connected = self.client.connected
        self._news.set()

    async def _listen(self):
        with contextlib.suppress(HarmoniaError):
            async for event in self._stream:
                self.heard.append(event)
                self._news.set()

    def of(self, generation_id):
        return [event for event in self.heard if event.generation_id == generation_id]

    def lifecycle(self, generation_id):
        return [event for event in self.of(generation_id) if event.delivery == "lifecycle"]

    def ends(self, generation_id):
        """Return how often each family has ended."""
        events = self.lifecycle(generation_id)
        return [sum(event.ends for event in events if event.family == family) for family in ("generation", "job")]

    def progress(self, generation_id):
        """Return the overall progress so far, 0…1; 1 after an end."""
        events = self.of(generation_id)
        if any(event.ends for event in events if event.delivery == "lifecycle"):
            return 1.0
        return max((e.overall_progress / 100 for e in events if isinstance(e, ProgressEvent)), default=0.0)

    async def until(self, happened, timeout_s=PATIENCE_S):
        """Wait until `happened()`. Return whether it did in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not happened():
                    self._news.clear()
                    await self._news.wait()
        return happened()

    async def until_over(self, generation_id, attempts=1, timeout_s=PATIENCE_S):
        return await self.until(lambda: min(self.ends(generation_id)) >= attempts, timeout_s)

    def forget(self):
        self.heard.clear()


class World:
    """`async with`: a server, and the clients `ann`, whose songs meet faults, and `bob`, whose should not."""

    def __init__(self, kind):
        self.kind = kind
        self.mark = secrets.token_hex(8)
        self.replies = deque()
        """What the endpoint answers next; after these, the whole song, word by word."""
        self.refusals = {path: _Refusals() for path in ("/api/version", "/api/tags", "/api/show", "/api/chat")}
        self.base = None
        """What the victim said of itself after its warm-up songs."""
        self.victims = []

    @property
    def victim(self):
        return self.victims[0]

    async def __aenter__(self):
        async with contextlib.AsyncExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harmonia-chaos-")))
            install(self.folder / "site")
            self.home, self.songs = self.folder / "home", self.folder / "songs"
            self.fault_file = self.folder / "fault.json"
            for small in self.kind.small:
                stack.enter_context(small_disk(getattr(self, small)))
            if self.kind.metadata == "ollama":
                self.ollama = stack.enter_context(FakeOllama(self._answer, refusals=self.refusals))
            stack.callback(self._end_all)
            victim = await self.start_victim()
            self.tokens = victim.tokens
            self.ann = await stack.enter_async_context(Ear("ann", victim))
            self.bob = await stack.enter_async_context(Ear("bob", victim))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error):
        await self._stack.__aexit__(*error)

    def _answer(self, _body):
        return self.replies.popleft() if self.replies else Reply(ANSWER, piece_s=PIECE_S)

    async def start_victim(self):
        """Start a serving process on the same files. The first one in `victims` is the one that clients reach."""
        path = os.pathsep.join([str(self.folder / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = package_environment() | {
            "PYTHONPATH": path, MARK: self.mark, FAULT_FILE: str(self.fault_file), "HARMONIA_HOME": str(self.home),
        }  # fmt: skip
        # glibc gives each new thread an arena, which keeps what its songs took: 15 MB where a worker was abandoned.
        # With one arena, memory that grows is memory that is held.
        environment["MALLOC_ARENA_MAX"] = "1"
        victim = Child("victim", python_command("tests.chaos.victim"), environment)
        victim.pid = victim._process.pid
        settings = {}
        if self.kind.metadata == "ollama":
            settings = {"host": self.ollama.url, "timeouts": TIMEOUTS}
        victim.send(
            metadata=self.kind.metadata, metadata_settings=settings, audio=self.kind.audio, songs=str(self.songs),
            home=str(self.home), limits=LIMITS | self.kind.limits, users=USERS,
        )  # fmt: skip
        self.victims.append(victim)
        started = await asyncio.to_thread(victim.receive, START_S)
        victim.url, victim.tokens = started["url"], started["tokens"]
        return victim

    async def kill(self, victim, how=signal.SIGKILL):
        self.victims.remove(victim)
        os.kill(victim.pid, how)
        await asyncio.to_thread(victim.__exit__, None, None, None)

    async def restart(self):
        """Have clients reach the first victim that lives; start one if there is none."""
        victim = self.victims[0] if self.victims else await self.start_victim()
        for ear in (self.ann, self.bob):
            ear.proxy.port = int(victim.url.rpartition(":")[2])

    async def ask(self, **command):
        """Send a command to the victim, and return what it says about itself, with its memory in bytes."""
        state = await asyncio.to_thread(self.victim.request, PATIENCE_S, **{"do": "state", **command})
        return state | {"pss": pss_bytes([self.victim.pid, *descendants(self.victim.pid)])}

    def _end_all(self):
        for victim in self.victims:
            victim.send(do="close")
            victim.__exit__(None, None, None)

    # What is looked at

    def orphans(self):
        """Return the world's processes that no living victim has started."""
        known = {victim.pid for victim in self.victims}
        known |= {child for victim in self.victims for child in descendants(victim.pid)}
        return [pid for pid in _marked(self.mark) if pid not in known]


class _Refusals(deque):
    """An iterator over what is appended to it, which never ends for good."""

    def __iter__(self):
        return self

    def __next__(self):
        if not self:
            return None
        return self.popleft()


def _marked(mark):
    found = []
    needle = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                if needle in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
    return found


class NoSmallDisk(Exception):
    """Mounting takes rights that this user doesn't have."""


@contextlib.contextmanager
def small_disk(folder):
    """Mount a small file system in memory at `folder`. Raises NoSmallDisk where this user may not."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoSmallDisk(f"A small disk can't be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
    """Write until the disk of `folder` is full. Return the file, whose end frees it."""
    ballast = folder / ".ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return ballast


def empty(folder):
    """Delete what a run left in the folder of songs."""
    for path in folder.iterdir():
        shutil.rmtree(path, ignore_errors=True)

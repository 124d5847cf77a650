"""Counts the functions that three things pass through, by running them: `python docs/walks.py`.

A walk is the chain of frames of `harmonia_lab` that are on the stack where the thing is handed from one thread to the
next, and where it arrives. Functions that a frame calls and that return before the hand-over are helpers; they don't
count. `docs/architecture.md` quotes the output, and `tests/test_walks.py` holds the counts.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from harmonia_lab import BlockingClient, Lab
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine, FakeOllama

PACKAGE = str(Path(__file__).parents[1] / "harmonia_lab")

Walk = dict[str, list[str]]
"""Where the stack was looked at → the functions of ours on it, outermost first."""


def functions(frame: FrameType | None, first: str = "") -> list[str]:
    """Return the functions of ours on the stack below `frame`, outermost first.

    first: where the walk begins; functions before it don't count, and a stack without it has none.
    """
    found: list[str] = []
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE) and "<" not in code.co_name:
            found.insert(0, code.co_qualname if sys.version_info >= (3, 11) else code.co_name)
        frame = frame.f_back
    if not first:
        return found
    return found[found.index(first) :] if first in found else []


@contextmanager
def watched(owner: Any, name: str, walk: Walk, place: str, first: str = "") -> Iterator[threading.Event]:
    """While inside, note the longest stack on which `owner.name` is called. Yields an event that is set then."""
    original, seen = getattr(owner, name), threading.Event()

    def noting(*args: Any, **options: Any) -> Any:
        before = functions(sys._getframe(1), first)
        if (before or not first) and len(before) >= len(walk.get(place, [])):
            walk[place] = [*before, original.__qualname__]
        seen.set()
        return original(*args, **options)

    with patch.object(owner, name, noting):
        yield seen


def narrative_to_prompt(folder: Path) -> Walk:
    """From `lab.compose` to the function that has made the narrative into a prompt."""
    from harmonia_lab.backends.job_queue import JobQueue
    from harmonia_lab.metadata_engines.ollama.dialogue import OllamaDialogue

    walk: Walk = {}
    with (
        FakeOllama() as server,
        patch.dict("os.environ", {"OLLAMA_HOST": server.url}),
        Lab(metadata="ollama", audio=FakeAudioEngine(), songs=folder / "songs", home=folder / "home") as lab,
        watched(JobQueue, "submit", walk, "to the queue"),
        watched(OllamaDialogue, "ask", walk, "to the prompt"),
        contextlib.suppress(HarmoniaError),  # the server has no answer: the prompt is all that is looked at
    ):
        lab.compose("A lighthouse keeper's last night.", seconds=1, seed=7, progress=False)
    walk["to the prompt"].pop()  # what asks the finished prompt
    return walk


def event_to_socket(folder: Path) -> Walk:
    """From the stage that emits an event to the socket of a client."""
    from harmonia_lab.server.broadcast import Wire
    from harmonia_lab.server.thread_bridge import ThreadBridge

    walk: Walk = {}
    with (
        watched(ThreadBridge, "__call__", walk, "to the server's thread", "EventLog.__call__"),
        watched(Wire, "send", walk, "to the socket", "ThreadBridge._deliver_ready"),
        watched(Wire, "write", walk, "progress, to the socket", "ThreadBridge._deliver_ready"),
        Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=folder / "songs", home=folder) as lab,
    ):
        server = lab.serve(port=0)
        with BlockingClient(server.url) as client:
            client.connect(server.token("local"))
            ack = client.start("A story.", seconds=1)
            for _event in client.events(ack.generation_id):
                pass
    return walk


def event_to_panel(folder: Path) -> Walk:
    """From the fan-out to what draws a panel."""
    from harmonia_lab.widgets.live import LiveFrontend
    from harmonia_lab.widgets.panel import Panel

    walk: Walk = {}
    with (
        watched(Panel, "_changed", walk, "to the panel", "Fanout.__call__"),
        watched(LiveFrontend, "show", walk, "to the page", "Panel.paint"),
        Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=folder / "songs", home=folder) as lab,
    ):
        job = lab.submit("A story.", seconds=1)
        assert lab.panel(job.id).widget is not None
        job.result()
        assert lab.panel(job.id).settled.wait(60)
    return walk


def click_to_engine(folder: Path) -> Walk:
    """From a click on a panel's button to the engine that stops."""
    from harmonia_lab.engines.base import CancelToken
    from harmonia_lab.widgets.panel import Panel

    walk: Walk = {}
    with (
        watched(Panel, "_clicked", walk, "to a thread of its own"),
        watched(CancelToken, "cancel", walk, "to the engine"),
        Lab(
            metadata=FakeMetadataEngine(step_s=60), audio=FakeAudioEngine(), songs=folder / "songs", home=folder
        ) as lab,
    ):
        job = lab.submit("A story.", seconds=1)
        widget = lab.panel(job.id).widget
        while not job.events:
            job.wait(0.05)
        widget._handle_custom_msg({"ask": "cancel"}, [])
        job.wait(60)
    return walk


WALKS: dict[str, tuple[Callable[[Path], Walk], int]] = {
    "a narrative from lab.compose to the prompt": (narrative_to_prompt, 13),
    "an event from its stage to a socket": (event_to_socket, 8),
    "an event from the fan-out to the panel": (event_to_panel, 6),
    "a cancel from a click to the engine": (click_to_engine, 9),
}
"""What walks where, and the most functions that it may pass through."""


def count(walk: Walk) -> int:
    """Return the functions on the way; of several ends ("progress, …"), the longest counts."""
    ends: dict[str, int] = {}
    for place, names in walk.items():
        end = place.rpartition(", ")[2]
        ends[end] = max(ends.get(end, 0), len(names))
    return sum(ends.values())


def main() -> None:
    for name, (run, most) in WALKS.items():
        with tempfile.TemporaryDirectory() as folder:
            walk = run(Path(folder))
        print(f"{name}: {count(walk)} functions (at most {most})")
        for place, names in walk.items():
            print(f"  {place}: {' → '.join(names)}")


if __name__ == "__main__":
    main()

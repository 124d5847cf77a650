"""`Panel`: one generation, live in a notebook, wherever the song is made.

Owns what happens between an event source and a front end: which state is shown when, what a click does, and the plain
summary that each cell with a panel also holds. `view_model.py` owns the words, `live.py` and `plain.py` the looks, and
`throttle.py` how often a panel is drawn.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, Self

import soundfile
from IPython.display import display, publish_display_data

from harmonia_lab.client.reconnect import Token
from harmonia_lab.client.store import GenerationAccess, State
from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.events import AudioPreview
from harmonia_lab.protocol.models import ENDED, SongMetadata
from harmonia_lab.widgets.event_sources import EventSource, ServerEvents
from harmonia_lab.widgets.finished import FinishedSong, load
from harmonia_lab.widgets.frontend import has_live_frontend, in_kernel
from harmonia_lab.widgets.memory import memory_now
from harmonia_lab.widgets.summary import EMPTY, Bundle, bundles
from harmonia_lab.widgets.throttle import HEARTBEAT_S, THROTTLE
from harmonia_lab.widgets.view_model import TokenRate, View, view

__all__ = ["Panel", "PanelFrontend"]

POLL_S = 0.1

KEPT_SONGS = 3
"""How many panels hold their song's sound and picture: the latest. An older one's cell shows its summary instead."""

REMOTE_MEMORY = "memory: that of another process, not seen from here"
"""Shown in place of this machine's memory where another process makes the song."""

_panels_with_media: list[weakref.ref[Panel]] = []
"""The panels that hold a song's sound and picture, the latest last."""

_SONG_LOADER = ThreadPoolExecutor(1, "harmonia-summary")
"""Reads finished songs. One thread for all: each new thread would leave a heap of 1.5 MB behind."""

_log = logging.getLogger(__name__)


class PanelFrontend(Protocol):
    """Shows a panel in a page. Called from any thread, by one at a time."""

    widget: Any

    def show(self, view: View) -> None: ...

    def finish(self, song: FinishedSong) -> None: ...

    def send_file(self, name: str, data: bytes) -> None: ...

    def preview(self, event: AudioPreview) -> None: ...


class Panel:
    """A live view of one generation. Jupyter shows it where it is a cell's last expression, in any number of cells.

    >>> Panel(server.url, token, generation_id)  # a generation of any server
    >>> lab.panel(generation_id)  # a generation of this kernel; needs no server

    Where no front end can show it live (papermill, nbconvert), `display` waits for the song, prints a line for each
    step, and leaves the summary as the cell's output.
    """

    def __init__(self, url: str, token: Token, generation_id: str, *, plain: bool = False) -> None:
        """token: as for `Client.connect`. plain: use stock ipywidgets, for a page without anywidget.

        Raises Disconnected if there is no server, Refused if the server refuses the token or the generation.
        """
        self._open(ServerEvents(url, token, generation_id), plain)

    @classmethod
    def from_source(cls, source: EventSource, *, plain: bool = False) -> Self:
        """Return a panel that shows the events of `source`."""
        panel = cls.__new__(cls)
        panel._open(source, plain)  # noqa: SLF001 - a second constructor
        return panel

    def _open(self, source: EventSource, plain: bool) -> None:
        self._source, self._plain = source, plain
        self._lock = threading.RLock()
        self._state = GenerationState(source.generation_id)
        self._rate, self._connection = TokenRate(), ""
        self._frontend: PanelFrontend | None = None
        self._memory, self._memory_at = "" if source.local else REMOTE_MEMORY, 0.0
        self._notice = ""
        self._sharing: GenerationAccess | None = None
        self._ended_job: object = None
        """The ended job whose song is being loaded or is shown."""
        self._song = FinishedSong()
        self._cells: list[tuple[str, str]] = []
        """Display ids of the two outputs that hold the summary, for each cell."""
        self.settled = threading.Event()
        """Set while the generation has ended and every cell holds its summary."""
        self.live = True
        self.closed = False
        source.start(self._changed, self._preview)
        self._read_sharing()
        THROTTLE.mark(self)

    @property
    def view(self) -> View:
        """What the panel shows now, as one JSON value."""
        with self._lock:
            return view(
                self._state,
                connection=self._connection,
                rate=self._rate,
                memory=self._memory if self.live else "",
                notice=self._notice,
                sharing=self._sharing,
            )

    @property
    def metadata(self) -> SongMetadata | None:
        """The song's metadata; None until stage 1 has written it."""
        return self._state.metadata

    def observe(self, observer: Callable[[State], None]) -> Callable[[], None]:
        """Call `observer` with the present state, then with every new one, after the panel itself has taken it.

        Return the function that ends the calls.
        """
        unsubscribe = self._source.store.observe(observer)
        observer(self._source.store.state)
        return unsubscribe

    @property
    def widget(self) -> Any:
        """The ipywidget, to be put into other widgets."""
        with self._lock:
            if self._frontend is None:
                self._frontend = _make_frontend(self._clicked, plain=self._plain)
                self._frontend.show(self.view)
                self._frontend.finish(self._song)
            return self._frontend.widget

    def display(self) -> None:
        """Show the panel in the running cell."""
        if not in_kernel():
            print(repr(self))  # noqa: T201 - the panel of a terminal
            return
        if not has_live_frontend():
            self._print_until_settled()
            for bundle in self.summary():
                _show(bundle)
            return
        display(self.widget)  # type: ignore[no-untyped-call]  # IPython has no types here
        with self._lock:
            released = self._state.status == "completed" and not self._song.audio
            outputs = self.summary() if self.settled.is_set() and not released else (EMPTY, EMPTY)
            self._cells.append((_show(outputs[0]), _show(outputs[1])))
            if self.settled.is_set() and released:
                self._ended_job = None  # so that the next drawing loads the song again
                THROTTLE.mark(self)

    def _ipython_display_(self) -> None:
        self.display()

    def __repr__(self) -> str:
        shown = self.view
        return f"Panel({shown['id']}, {shown['status']}, {shown['overall']:g} %)"

    def summary(self) -> tuple[Bundle, Bundle]:
        """Return two plain outputs of the song: its words with the sound, and its picture."""
        with self._lock:
            return bundles(self.view, self._song)

    def close(self) -> None:
        """End the subscription, and remove the widget. Idempotent."""
        self._source.stop()
        with self._lock:
            self.live, self.closed = False, True
            if self._frontend is not None:
                self._frontend.widget.close()

    def refresh(self) -> None:
        """Have the panel drawn: something has changed that no event tells."""
        THROTTLE.mark(self)

    # Events, in any thread

    def _changed(self, state: State) -> None:
        with self._lock:
            self._state = state.generations.get(self._state.id, self._state)
            self._rate = self._rate.after(self._state, time.monotonic())
            self._connection = "" if state.connected else state.connection_error or ""
            self.live = self._state.status not in ENDED
            if self.live:
                self._ended_job = None
                self.settled.clear()
        THROTTLE.mark(self)

    def _preview(self, event: AudioPreview) -> None:
        with self._lock:
            if self._frontend is not None:
                self._frontend.preview(event)

    # Drawing, in the thread of `throttle.py`

    def _read_sharing(self) -> None:
        with contextlib.suppress(HarmoniaError):  # the journal can't be read now: what was known stays
            self._sharing = self._source.sharing()

    def paint(self) -> None:
        self._read_sharing()
        if self.live and self._source.local and time.monotonic() - self._memory_at >= HEARTBEAT_S:
            self._memory, self._memory_at = memory_now(), time.monotonic()
        with self._lock:
            if self._frontend is not None:
                self._frontend.show(self.view)
            job = self._state.job
            if self.live or job is None or self._ended_job is job:
                return
            self._ended_job = job
        # In another thread, because reading the song takes a while and this one draws all panels.
        _SONG_LOADER.submit(self._settle, job)

    def _settle(self, job: object) -> None:
        """Load the song of `job`, which has ended, and show it in every cell, unless a retry has begun meanwhile."""
        song = FinishedSong()
        if self._state.status == "completed":
            try:
                song = load(self._source.files())
            except (HarmoniaError, OSError, soundfile.LibsndfileError) as error:
                self._set_notice(f"The song's files cannot be shown. {error}")
        with self._lock:
            if self._ended_job is not job:
                return
            self._song = song
            if self._frontend is not None:
                self._frontend.finish(song)
            for cell in self._cells:
                for output, bundle in zip(cell, self.summary(), strict=True):
                    _show(bundle, output)
            self.settled.set()
        if song.audio:
            _keep_media(self)

    def release_media(self) -> None:
        """Free sound and picture; `display` loads them again."""
        with self._lock:
            self._song = FinishedSong(self._song.files)
            if self._frontend is not None:
                self._frontend.finish(self._song)

    # Clicks

    def _clicked(self, what: str, name: str) -> None:
        threading.Thread(target=self._run_command, args=(what, name), name="harmonia-click", daemon=True).start()

    def _run_command(self, what: str, name: str) -> None:
        self._set_notice("")
        commands: dict[str, Callable[[], None]] = {
            "cancel": self._source.cancel, "retry": self._source.retry, "file": partial(self._send_file, name)
        }  # fmt: skip
        try:
            if what in commands:
                commands[what]()
        except (HarmoniaError, OSError) as error:
            self._set_notice(str(error))

    def _send_file(self, name: str) -> None:
        read = self._song.files.get(name)
        if read is None:
            raise Refused("There is no such file.", code=ErrorCode.NOT_FOUND)
        data = read()
        with self._lock:
            if self._frontend is not None:
                self._frontend.send_file(name, data)

    def _set_notice(self, notice: str) -> None:
        with self._lock:
            self._notice = notice
        THROTTLE.mark(self)

    # Without a front end

    def _print_until_settled(self) -> None:
        """Wait for the end, and print one line on standard error for each new step."""
        printed, settled = "", False
        while not settled:
            settled = self.settled.wait(POLL_S)
            shown = self.view
            line = "".join(c for c in shown["headline"] if c.isprintable())
            if line != printed:
                print(f"{shown['overall']:3.0f} %  {line}", file=sys.stderr, flush=True)  # noqa: T201 - its purpose
                printed = line


def _keep_media(panel: Panel) -> None:
    """Let `panel` hold its song's sound and picture, and have the oldest panels beyond `KEPT_SONGS` free theirs."""
    others = [ref for ref in _panels_with_media if ref() not in (None, panel)]
    panels = [*others, weakref.ref(panel)]
    _panels_with_media[:] = panels[-KEPT_SONGS:]
    for ref in panels[:-KEPT_SONGS]:
        oldest = ref()
        if oldest is not None:
            oldest.release_media()


def _show(bundle: Bundle, output: str | None = None) -> str:
    """Publish a new output of the running cell, or replace the one with the display id `output`. Return its display id.

    By that id a replacement reaches its own cell, whatever thread sends it and whatever cell runs.
    """
    display_id = output or secrets.token_hex(8)
    publish_display_data(  # type: ignore[no-untyped-call]  # IPython has no types here
        bundle, transient={"display_id": display_id}, update=output is not None
    )
    return display_id


def _make_frontend(clicked: Callable[[str, str], None], *, plain: bool) -> PanelFrontend:
    """Return the live front end if anywidget is installed, else the plain one."""
    if not plain:
        try:
            from harmonia_lab.widgets.live import LiveFrontend  # noqa: PLC0415 - anywidget may be missing
        except ImportError:
            _log.info("anywidget is not installed: the panel is the plain one.")
        else:
            return LiveFrontend(clicked)
    from harmonia_lab.widgets.plain import PlainFrontend  # noqa: PLC0415 - loaded only where it is used

    return PlainFrontend(clicked)

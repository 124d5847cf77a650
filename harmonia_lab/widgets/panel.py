"""`Panel`: one generation, live in a notebook, wherever it is made.

Owns what happens between an event source and a frontend: which state is shown when, what a click does, and the plain
summary that each cell with a panel also carries. The words are `view_model.py`'s, the looks `live.py`'s and
`plain.py`'s; `throttle.py` says how often it is drawn.
"""

from __future__ import annotations

import logging
import secrets
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, Self

import soundfile
from IPython.display import display, publish_display_data

from harmonia_lab.client.reconnect import Token
from harmonia_lab.client.store import State
from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.events import AudioPreview
from harmonia_lab.protocol.models import ENDED, SongMetadata
from harmonia_lab.widgets.event_sources import EventSource, ServerEvents
from harmonia_lab.widgets.finished import FinishedSong, load
from harmonia_lab.widgets.frontend import front_end, in_kernel
from harmonia_lab.widgets.memory import memory_now
from harmonia_lab.widgets.summary import EMPTY, Bundle, bundles
from harmonia_lab.widgets.throttle import HEARTBEAT_S, Pacer
from harmonia_lab.widgets.view_model import TokenRate, View, view

__all__ = ["PACER", "Panel"]

POLL_S = 0.1

KEPT_SONGS = 3
"""Panels that hold their song's sound and picture, the latest; the cell of an older one shows its summary instead."""

ELSEWHERE = "memory: that of another process, not seen from here"
"""What stands in the place of this machine's memory, which is not where the song is made."""

_HOLDING: deque[weakref.ref[Panel]] = deque()

_READER = ThreadPoolExecutor(1, "harmonia-summary")
"""Reads finished songs. One thread for all: a new one for each song would leave its own heap behind, 1.5 MB a song."""

PACER = Pacer()
"""Of all views of this process."""
_log = logging.getLogger(__name__)


class Face(Protocol):
    """What shows a panel. Any thread calls it, one at a time."""

    widget: Any

    def show(self, view: View) -> None: ...

    def finish(self, song: FinishedSong) -> None: ...

    def hand_over(self, name: str, data: bytes) -> None: ...

    def preview(self, event: AudioPreview) -> None: ...


class Panel:
    """At the end of a cell it shows itself, in as many cells as one likes.

    >>> Panel(server.url, token, generation_id)  # of any server
    >>> lab.panel(generation_id)  # of this kernel, no server needed

    Where no front end can show it live (papermill, nbconvert), showing it waits for the song instead, with a line for
    each step, and leaves the summary.
    """

    def __init__(self, url: str, token: Token, generation_id: str, *, plain: bool = False) -> None:
        """token: as `Client.connect`. plain: stock ipywidgets, for a front end without anywidget.

        Raises Disconnected where there is no server, Refused where it refuses.
        """
        self._open(ServerEvents(url, token, generation_id), plain)

    @classmethod
    def over(cls, source: EventSource, *, plain: bool = False) -> Self:
        panel = cls.__new__(cls)
        panel._open(source, plain)  # noqa: SLF001 - our own
        return panel

    def _open(self, source: EventSource, plain: bool) -> None:
        self._source, self._plain = source, plain
        self._lock = threading.RLock()
        self._state = GenerationState(source.generation_id)
        self._rate, self._connection = TokenRate(), ""
        self._face: Face | None = None
        self._memory, self._memory_at = "" if source.local else ELSEWHERE, 0.0
        self._notice = ""
        self._end: object = None
        self._song = FinishedSong()
        self._cells: list[tuple[str, str]] = []
        """The outputs that carry the summary, by their ids."""
        self.settled = threading.Event()
        """Set while it has ended and the summary stands in every cell."""
        self.live = True
        self.closed = False
        source.start(self._changed, self._preview)
        PACER.mark(self)

    @property
    def view(self) -> View:
        """What it shows now, as one JSON value."""
        with self._lock:
            return view(
                self._state,
                connection=self._connection,
                rate=self._rate,
                memory=self._memory if self.live else "",
                notice=self._notice,
            )

    @property
    def metadata(self) -> SongMetadata | None:
        """What stage 1 wrote, or was given, once that is known."""
        return self._state.metadata

    def observe(self, observer: Callable[[State], None]) -> Callable[[], None]:
        """As `Store.observe`, and at once with the present state; what the panel knows is up to date when the observer
        is called."""
        leave = self._source.store.observe(observer)
        observer(self._source.store.state)
        return leave

    @property
    def widget(self) -> Any:
        """The ipywidget itself, to be put into others."""
        with self._lock:
            if self._face is None:
                self._face = _make_face(self._clicked, plain=self._plain)
                self._face.show(self.view)
                self._face.finish(self._song)
            return self._face.widget

    def display(self) -> None:
        """Shows it in the running cell."""
        if not in_kernel():
            print(repr(self))  # noqa: T201 - on a terminal, that is how it is shown
            return
        if not front_end():
            self._tell()
            for bundle in self.summary():
                _show(bundle)
            return
        display(self.widget)  # type: ignore[no-untyped-call]  # IPython has no types here
        with self._lock:
            shed = self._state.status == "completed" and not self._song.audio
            shown = self.summary() if self.settled.is_set() and not shed else (EMPTY, EMPTY)
            self._cells.append((_show(shown[0]), _show(shown[1])))
            if self.settled.is_set() and shed:
                self._end = None
                PACER.mark(self)

    def _ipython_display_(self) -> None:
        self.display()

    def __repr__(self) -> str:
        shown = self.view
        return f"Panel({shown['id']}, {shown['status']}, {shown['overall']:g} %)"

    def summary(self) -> tuple[Bundle, Bundle]:
        """The end as plain outputs: words with sound, picture."""
        with self._lock:
            return bundles(self.view, self._song)

    def close(self) -> None:
        """Hears and shows nothing any more. Idempotent."""
        self._source.stop()
        with self._lock:
            self.live, self.closed = False, True
            if self._face is not None:
                self._face.widget.close()

    # Events, in any thread

    def _changed(self, state: State) -> None:
        with self._lock:
            self._state = state.generations.get(self._state.id, self._state)
            self._rate = self._rate.after(self._state, time.monotonic())
            self._connection = "" if state.connected else state.connection_error or ""
            self.live = self._state.status not in ENDED
            if self.live:
                self._end = None
                self.settled.clear()
        PACER.mark(self)

    def _preview(self, event: AudioPreview) -> None:
        with self._lock:
            if self._face is not None:
                self._face.preview(event)

    # Drawing, in the pacer's thread

    def paint(self) -> None:
        if self.live and self._source.local and time.monotonic() - self._memory_at >= HEARTBEAT_S:
            self._memory, self._memory_at = memory_now(), time.monotonic()
        with self._lock:
            if self._face is not None:
                self._face.show(self.view)
            job = self._state.job
            if self.live or job is None or self._end is job:
                return
            self._end = job
        # Reading the song takes a while: others are drawn meanwhile.
        _READER.submit(self._settle, job)

    def _settle(self, end: object) -> None:
        """end: the job as it ended. Told to every cell, unless it is being tried again meanwhile."""
        song = FinishedSong()
        if self._state.status == "completed":
            try:
                song = load(self._source.files())
            except (HarmoniaError, OSError, soundfile.LibsndfileError) as error:
                self._note(f"The song's files cannot be shown. {error}")
        with self._lock:
            if self._end is not end:
                return
            self._song = song
            if self._face is not None:
                self._face.finish(song)
            for cell in self._cells:
                for output, bundle in zip(cell, self.summary(), strict=True):
                    _show(bundle, output)
            self.settled.set()
        if song.audio:
            _hold(self)

    def shed(self) -> None:
        """Lets go of sound and picture, until it is shown again."""
        with self._lock:
            self._song = FinishedSong(self._song.files)
            if self._face is not None:
                self._face.finish(self._song)

    # Clicks

    def _clicked(self, what: str, name: str) -> None:
        threading.Thread(target=self._obey, args=(what, name), name="harmonia-click", daemon=True).start()

    def _obey(self, what: str, name: str) -> None:
        self._note("")
        try:
            if what == "cancel":
                self._source.cancel()
            elif what == "retry":
                self._source.retry()
            elif what == "file":
                self._hand_over(name)
        except (HarmoniaError, OSError) as error:
            self._note(str(error))

    def _hand_over(self, name: str) -> None:
        read = self._song.files.get(name)
        if read is None:
            raise Refused("There is no such file.", code=ErrorCode.NOT_FOUND)
        data = read()
        with self._lock:
            if self._face is not None:
                self._face.hand_over(name, data)

    def _note(self, notice: str) -> None:
        with self._lock:
            self._notice = notice
        PACER.mark(self)

    # Without a front end

    def _tell(self) -> None:
        """Waits for the end, with one line on standard error for each new step."""
        said = ""
        while not self.settled.wait(POLL_S):
            said = _say(self.view, said)
        _say(self.view, said)


def _hold(panel: Panel) -> None:
    held = [ref for ref in _HOLDING if ref() not in (None, panel)]  # once, however often it has settled
    _HOLDING.clear()
    _HOLDING.extend([*held, weakref.ref(panel)])
    while len(_HOLDING) > KEPT_SONGS:
        oldest = _HOLDING.popleft()()
        if oldest is not None and oldest is not panel:
            oldest.shed()


def _say(shown: View, said: str) -> str:
    line = "".join(c for c in shown["headline"] if c.isprintable())
    if line != said:
        sys.stderr.write(f"{shown['overall']:3.0f} %  {line}\n")
        sys.stderr.flush()
    return line


def _show(bundle: Bundle, output: str | None = None) -> str:
    """As a new output of the running cell, or in the place of `output`. Returns its id.

    By that id a replacement goes to its own cell, whatever thread sends it and whatever cell runs.
    """
    place = output or secrets.token_hex(8)
    publish_display_data(  # type: ignore[no-untyped-call]  # IPython has no types here
        bundle, transient={"display_id": place}, update=output is not None
    )
    return place


def _make_face(clicked: Callable[[str, str], None], *, plain: bool) -> Face:
    """The main face where anywidget is installed, else the plain one."""
    if not plain:
        try:
            from harmonia_lab.widgets.live import LiveFace  # noqa: PLC0415 - it may be missing
        except ImportError:
            _log.info("anywidget is not installed: the panel is the plain one.")
        else:
            return LiveFace(clicked)
    from harmonia_lab.widgets.plain import PlainFace  # noqa: PLC0415 - only where it is shown

    return PlainFace(clicked)

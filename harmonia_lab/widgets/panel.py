"""`Panel`: one generation, live in a notebook, wherever the song is made.

Owns what happens between an event source and a front end: which state is shown when, what a click does, and the plain
summary that each cell with a panel also holds. `view_model.py` owns the words, `live.py` and `plain.py` the looks, and
`throttle.py` how often a panel is drawn. `frontend.py` decides which of them somebody can see.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Self

import soundfile

from harmonia_lab.client.reconnect import Token
from harmonia_lab.client.store import GenerationAccess, State
from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.player.song import PlayerSong, missing_sound, song_in_folder, song_of_files
from harmonia_lab.protocol.events import AudioPreview
from harmonia_lab.protocol.models import ENDED, SongMetadata
from harmonia_lab.protocol.text import printable, printable_lines
from harmonia_lab.waiting import wait_for
from harmonia_lab.widgets.cell_outputs import shown_in_cell
from harmonia_lab.widgets.event_sources import SOCKET_PATH, EventSource, Files, ServerEvents
from harmonia_lab.widgets.faces import PanelFrontend, make_frontend
from harmonia_lab.widgets.finished import FinishedSong, load
from harmonia_lab.widgets.frontend import has_live_frontend, in_kernel, installed
from harmonia_lab.widgets.memory import memory_now
from harmonia_lab.widgets.outputs import Still, display_object, folded, publish
from harmonia_lab.widgets.summary import EMPTY, Bundle, bundles
from harmonia_lab.widgets.throttle import HEARTBEAT_S, THROTTLE
from harmonia_lab.widgets.view_model import TokenRate, View, view

__all__ = ["Panel", "settle_shown_panels"]

POLL_S = 0.1

SETTLE_S = 10.0
"""Seconds that closing waits, at most, until the cells of an ended song hold its sound and picture."""

KEPT_SONGS = 3
"""How many panels hold their song's sound and picture: the latest. An older one's cell shows its summary instead."""

REMOTE_MEMORY = "memory: that of another process, not seen from here"
"""Shown in place of this machine's memory where another process makes the song."""

_panels_with_media: list[weakref.ref[Panel]] = []
"""The panels that hold a song's sound and picture, the latest last."""

_shown_panels: weakref.WeakSet[Panel] = weakref.WeakSet()
"""The panels that cells show."""

_SONG_LOADER = ThreadPoolExecutor(1, "harmonia-summary")
"""Reads finished songs. One thread for all: each new thread would leave a heap of 1.5 MB behind."""


class Panel:
    """A live view of one generation. Jupyter shows it where it is a cell's last expression, in any number of cells.

    >>> Panel(server.url, token, generation_id)  # a generation of any server
    >>> lab.panel(generation_id)  # a generation of this kernel; needs no server

    Where no front end can show it live (papermill, nbconvert), `display` waits for the song, prints a line for each
    step, and leaves the summary as the cell's output.
    """

    def __init__(
        self, url: str, token: Token, generation_id: str, *, path: str = SOCKET_PATH, plain: bool = False
    ) -> None:
        """token: as for `Client.connect`. url, path: as for `Client`; behind jupyter-server-proxy, the Jupyter server's
        URL with its token in the query, and `/…/proxy/PORT/socket.io`. plain: use stock ipywidgets, for a page without
        anywidget.

        Raises Disconnected if there is no server, Refused if the server refuses the token or the generation.
        """
        self._open(ServerEvents(url, token, generation_id, path=path), plain)

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
        self._embedded = False
        """Whether the widget was asked for, and so may be within another one."""
        self._on_page = True
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
        self._embedded = True
        return self._make_widget()

    def _make_widget(self) -> Any:
        with self._lock:
            if self._frontend is None:
                self._frontend = make_frontend(self._clicked, plain=self._plain)
                self._frontend.show(self.view)
                self._frontend.finish(self._song)
            return self._frontend.widget

    def display(self) -> None:
        """Show the panel in the running cell."""
        if not in_kernel():
            print(self._text())  # noqa: T201 - the panel of a terminal
            return
        if self.closed or not has_live_frontend():
            if not self.closed:
                self._print_until_settled()
            for bundle in self.summary():
                _show(bundle)
            return
        with self._lock:
            self._on_page = True
            widget = self._make_widget()
        display_object(widget)
        _shown_panels.add(self)
        shown_in_cell(self)
        with self._lock:
            released = self._state.status == "completed" and not self._song.audio
            outputs = self.summary() if self.settled.is_set() and not released else (EMPTY, EMPTY)
            self._cells.append((_show(outputs[0]), _show(outputs[1])))
            if self.settled.is_set() and released:
                self.settled.clear()
                self._ended_job = None  # so that the next drawing loads the song again
                THROTTLE.mark(self)

    def _ipython_display_(self) -> None:
        self.display()

    def _display_(self) -> Any:
        """Return what marimo shows: the widget, where anywidget is installed; else the panel by its mimebundle."""
        return self.widget if installed("anywidget") and not self.closed else Still(self._repr_mimebundle_())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Bundle:
        """Return the panel as one output that doesn't move, for front ends without a display of their own."""
        del include, exclude
        self.settle()
        return folded(*self.summary())

    def __repr__(self) -> str:
        shown = self.view
        return f"Panel({shown['id']}, {shown['status']}, {shown['overall']:g} %)"

    def _text(self) -> str:
        """Return what a terminal shows: how far the song is, or its words and where its file is."""
        shown = self.view
        if self.live:
            words = (repr(self), shown["headline"], shown["eta"])
            return printable(" · ".join(word for word in words if word))
        text = printable_lines(self.summary()[0]["text/plain"])
        path = self._state.song_path
        return text if path is None else f"{text}\n\n{path}"

    def summary(self) -> tuple[Bundle, Bundle]:
        """Return two plain outputs of the song: its words with the sound, and its picture."""
        with self._lock:
            return bundles(self.view, self._song)

    def settle(self, timeout_s: float = SETTLE_S) -> bool:
        """Wait until the cells of a song that has ended hold its summary; return whether they do. A song that is still
        being made isn't waited for."""
        if self.closed or self._state.status not in ENDED:
            return self.settled.is_set()
        self.paint()  # the drawing that begins to load the song may not have had its turn
        return wait_for(self.settled, timeout_s)

    def close(self) -> None:
        """End the subscription, and remove the widget; the cells keep the song as it is now. Idempotent."""
        if self.closed:
            return
        if self._cells:
            self.settle()
        self._source.stop()
        with self._lock:
            self.live, self.closed = False, True
            if not self.settled.is_set():
                self._fill_cells()
            if self._frontend is not None:
                self._frontend.widget.close()

    def left_page(self) -> None:
        """Close the widget of a song that has ended; one that is being made may be open in another tab."""
        with self._lock:
            self._on_page = False
            self._cells.clear()
            if self.settled.is_set():
                self._free_widget()

    def _free_widget(self) -> None:
        if self._frontend is not None and not self._embedded:
            self._frontend.widget.close()
            self._frontend, self._song = None, FinishedSong(self._song.files)

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
            if self.live or self.closed or job is None or self._ended_job is job:
                return
            self._ended_job = job
        # In another thread, because reading the song takes a while and this one draws all panels.
        _SONG_LOADER.submit(self._settle, job)

    def _settle(self, job: object) -> None:
        """Load the song of `job`, which has ended, and show it in every cell, unless a retry has begun meanwhile."""
        song = FinishedSong()
        if self._state.status == "completed":
            try:
                files = self._source.files()
                facts = self._player_song(files)
                # The player is there before the copy of its sound is encoded: until then it asks for the song itself.
                self._show_finished(job, FinishedSong(files, player=facts))
                song = load(files, facts)
            except (HarmoniaError, OSError, soundfile.LibsndfileError) as error:
                self._set_notice(f"The song's files cannot be shown. {error}")
        with self._lock:
            if not self._show_finished(job, song):
                return
            self._fill_cells()
            if not self._on_page:
                self._free_widget()
            self.settled.set()
            if not self._on_page:
                return
        if song.audio:
            _keep_media(self)

    def _show_finished(self, job: object, song: FinishedSong) -> bool:
        """Show `song`, unless a retry has begun. Return whether it is shown."""
        with self._lock:
            if self._ended_job is not job:
                return False
            self._song = song
            if self._frontend is not None:
                self._frontend.finish(song)
            return True

    def _fill_cells(self) -> None:
        """Put the present summary into every cell."""
        for cell in self._cells:
            for output, bundle in zip(cell, self.summary(), strict=True):
                _show(bundle, output)

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
            "cancel": self._source.cancel, "retry": self._source.retry, "file": partial(self._send_file, name),
            "sound": partial(self._send_sound, name),
        }  # fmt: skip
        try:
            if what in commands:
                commands[what]()
        except (HarmoniaError, OSError) as error:
            self._set_notice(str(error))

    def _player_song(self, files: Files) -> PlayerSong:
        if "song.flac" not in files:
            return {}
        folder = self._source.folder()
        if folder is not None:
            return song_in_folder(folder)
        follows = None if self._state.song is None else self._state.song.follows
        return song_of_files(self._state.id, self._state.metadata, follows, files)

    def _read_file(self, name: str) -> bytes:
        read = self._song.files.get(name)
        if read is None:
            raise Refused("There is no such file.", code=ErrorCode.NOT_FOUND)
        return read()

    def _send_file(self, name: str) -> None:
        data = self._read_file(name)
        with self._lock:
            if self._frontend is not None:
                self._frontend.send_file(name, data)

    def _send_sound(self, name: str) -> None:
        data, missing = b"", ""
        try:
            data = self._read_file(name)
        except (HarmoniaError, OSError) as error:
            missing = missing_sound(name, error)
        with self._lock:
            if self._frontend is not None:
                self._frontend.send_sound(name, data, missing)

    def _set_notice(self, notice: str) -> None:
        with self._lock:
            self._notice = notice
        THROTTLE.mark(self)

    # Without a front end

    def _print_until_settled(self) -> None:
        """Wait for the end, and print a line for each new step: on standard output, since notebooks show the other as
        an error."""
        printed, settled = "", False
        while not settled:
            settled = self.settled.wait(POLL_S)
            shown = self.view
            line = printable(shown["headline"])
            if line != printed:
                print(f"{shown['overall']:3.0f} %  {line}", flush=True)  # noqa: T201 - its purpose
                printed = line


def settle_shown_panels() -> None:
    """Wait until the cells of all ended songs hold their summaries, before what they are read from is closed."""
    for panel in list(_shown_panels):
        panel.settle()


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
    publish(bundle, display_id, update=output is not None)
    return display_id

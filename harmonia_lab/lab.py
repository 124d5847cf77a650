"""`Lab`: the public face. Servers and views, over the songs of `lab_core.py` and the tables of `lab_tables.py`.

Owns the server that `serve` started, and the panels. What a verb needs is loaded when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.engine_registry import AUDIO_GROUP, engine_names
from harmonia_lab.engines.spec import ModelEntry
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.verify import Verification, check_folder
from harmonia_lab.lab_tables import LabTables
from harmonia_lab.metadata_engines.stand_in import StandInEngine
from harmonia_lab.model_inventory import model_inventory
from harmonia_lab.protocol.models import ShareRole, Song, parse_share
from harmonia_lab.rerun import make_again
from harmonia_lab.watching import CANCEL_GRACE_S, show_link, show_song, wait_for
from harmonia_lab.widgets.frontend import check_installed

if TYPE_CHECKING:
    from harmonia_lab.backends.isolated_server import IsolatedServer
    from harmonia_lab.listening.files import ListeningTest
    from harmonia_lab.listening.home import ServedTest
    from harmonia_lab.listening.sources import Songs
    from harmonia_lab.server.server_thread import Server, ServerSettings
    from harmonia_lab.widgets.compose import ComposeForm
    from harmonia_lab.widgets.monitor import Monitor
    from harmonia_lab.widgets.panel import Panel
    from harmonia_lab.widgets.player import SongPlayer, SongSource
    from harmonia_lab.widgets.run_chart import RunChart

__all__ = ["CANCEL_GRACE_S", "Lab"]

Song.shown_by = show_song

BATCH_END_S = 5.0
"""Seconds that `close` waits for the last report of a batch or a study, once its songs have ended."""


class Lab(LabTables):
    """Makes songs from stories, one at a time, and logs every attempt.

    >>> with Lab() as lab:
    ...     song = lab.compose("A lighthouse keeper's last night.", seconds=20, seed=7)
    """

    server: Server | IsolatedServer | None = None
    """The server that `serve` started last."""

    def share(self, generation_id: str, user: str, role: ShareRole = "viewer") -> None:
        """Let clients of `user` join, hear and download a song of this lab; as "controller", cancel and retry it too.

        Raises Refused (NOT_FOUND) for an unknown id, InvalidRequest for a name or a role that there isn't.
        """
        if self.journal.state(generation_id) is None:
            raise Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
        share = parse_share(user, role)
        if self._elsewhere is not None:
            self._elsewhere.share(generation_id, share.user_id, share.role)
        self.journal.shares.add(generation_id, share.user_id, share.role)
        self._refresh_panel(generation_id)

    def unshare(self, generation_id: str, user: str) -> None:
        """Take a song back from `user`, whose connections leave it, and whose links end, within a second."""
        if self._elsewhere is not None:
            self._elsewhere.unshare(generation_id, user)
        self.journal.shares.remove(generation_id, user)
        self._refresh_panel(generation_id)

    def _refresh_panel(self, generation_id: str) -> None:
        panel = self._panels.get(generation_id)
        if panel is not None:
            panel.refresh()

    def _like_this(self, parameters: Mapping[str, Any], log: BenchmarkLog | None, events: Fanout | None = None) -> Lab:
        """Return a lab of other engines with the same home. events: gets its songs' events."""
        own: dict[str, Any] = {"songs": self.songs, "home": self.home, "limits": self.limits, "server": ""}
        if (address := self._address) is not None:
            own |= {"server": address.url, "token": address.token, "ca": address.ca}
        lab = Lab(**parameters, **own, log=log, retention=self.retention)
        if events is not None:
            lab.events.subscribe(events)
        return lab

    def serve(
        self, settings: ServerSettings | None = None, *, isolated: bool = False, link: bool = True, **options: Any
    ) -> Server | IsolatedServer:
        """Start the Socket.IO and HTTP server in the background, and return at once.

        isolated: in a process of its own, which makes the songs from then on, this lab's too; it answers clients
        while a cell holds the interpreter. Songs that began before are finished here.
        link: print the link of its page on a terminal or in a cell, with a token of twelve hours (`server.link()`).
        options: fields of `ServerSettings`: host ("127.0.0.1"), port (3333; 0 lets the system choose), …
        A cell that runs again gets the server that is running, if it asks for the same settings.

        Raises InvalidRequest if the port is taken, this lab serves with other settings already, or an isolated one
        would have to use an engine that is an object; MetadataError if stage 1's engine isn't available; RuntimeError
        once the lab is closed.
        """
        # Beside a busy cell, each file that an import reads waits 5 ms: so a client's first song imports no wishes.
        import harmonia_lab.metadata_engines.wishes  # noqa: F401, PLC0415
        from harmonia_lab.server.server_thread import Server, ServerSettings  # noqa: PLC0415 - socketio loads where it is used

        self.check_process()
        self._local.check_open()
        self._metadata.engine  # noqa: B018 - clients' songs will need it: an error now is better than one for each
        with self._lock:
            asked = settings or ServerSettings(**options)
            if self.server is not None and self.server.running:
                if self.server.settings == asked and isolated == (self._current is not self._local):
                    return self.server
                raise InvalidRequest(
                    f"This lab serves at {self.server.url} already, with other settings.",
                    hint="Stop that one first: `lab.server.stop()`.",
                )
            self.server = self._isolated(asked) if isolated else Server(self, asked, self.home)
        if link:
            show_link(self.server)
        return self.server

    def _isolated(self, settings: ServerSettings) -> IsolatedServer:
        if self._address is not None:
            raise InvalidRequest(
                f"This lab's songs are made by {self._address.url}: an isolated server could not ask it for them.",
                hint="Serve from the kernel (isolated=False), or send clients there.",
                details={"fields": ["isolated"]},
            )
        if self._redis is not None:
            raise InvalidRequest(
                "A lab that shares its journal by Redis serves from its own process.",
                hint="Leave isolated=True out, or run `harmonia serve --redis` beside the kernel.",
                details={"fields": ["isolated", "redis"]},
            )
        if self.cluster is not None:
            raise InvalidRequest(
                "This lab's songs are made by a cluster, which an isolated server would not use.",
                hint="Serve from the kernel (isolated=False), or start `harmonia serve --cluster`.",
                details={"fields": ["isolated"]},
            )
        from harmonia_lab.backends.process import ProcessBackend  # noqa: PLC0415 - as above
        from harmonia_lab.backends.serve_settings import LabSettings  # noqa: PLC0415 - as above

        arguments = self._arguments | {"songs": self.songs, "home": self.home}
        arguments |= {"limits": self.limits, "retention": self.retention}
        if arguments["metadata"] == "auto" and not isinstance(self.metadata_engine, StandInEngine):
            # The server uses the engine that this lab says it uses. (Where that one stands in for another, the server
            # looks again, and warns by itself.)
            arguments["metadata"] = self.metadata_engine.name
        backend = ProcessBackend(
            LabSettings.of(arguments),
            settings,
            journal=self.journal,
            run_log=self.log,
            publish=self.events,
            panel=self.panel,
            for_server=self._with_sound_ids,
        )
        self._backends.append(backend)
        if not self._local.busy:  # models load in the server's process from now on; a later song here loads them again
            self.unload()
        return backend.server

    def panel(self, generation_id: str, *, plain: bool = False) -> Panel:
        """Return a live view of a generation in the journal, for a notebook: one that runs, has ended, or is from
        before a restart of the kernel. plain: for a front end without anywidget.

        Raises Refused (NOT_FOUND) for an unknown id.
        """
        from harmonia_lab.widgets.event_sources import LabEvents  # noqa: PLC0415 - as above
        from harmonia_lab.widgets.panel import Panel  # noqa: PLC0415 - widgets load where they are shown

        panel = self._panels.get(generation_id)
        if panel is None or panel.closed or plain:
            panel = self._panels[generation_id] = Panel.from_source(LabEvents(self, generation_id), plain=plain)
        return panel

    def listen(self, *songs: SongSource) -> SongPlayer:
        """Return a player for a notebook: of one song with its stems, or of several at the same moment and equal
        loudness. songs: `Song`, job, folder or id. `lab.listen(song).save("listen.html")` writes it as a page.

        Raises HarmoniaError: NOT_FOUND for what is no finished song, RECORD_DAMAGED.
        """
        from harmonia_lab.widgets.player import SongPlayer, folder_of  # noqa: PLC0415 - as above

        if not songs:
            raise InvalidRequest("There is no song to listen to.", hint="Name one or more: lab.listen(song, other).")
        return SongPlayer([folder_of(song, self.journal) for song in songs])

    def listening_test(self, songs: Songs, out: Path | str | None = None, **options: Any) -> ListeningTest | ServedTest:
        """Make a blind listening test of songs: a page for listeners, `out`, with its key beside it; without `out`, one
        that this home's servers serve to those whom `test.invite(server, "ann")` invites. `test.result(…)` has the
        analysis.

        songs, options: as `harmonia_lab.listening.make_test` has them, which also says what is raised.
        """
        from harmonia_lab.listening.make import make_test, serve_test  # noqa: PLC0415 - the meter loads when it is used

        return serve_test(self.listening, songs, **options) if out is None else make_test(songs, out, **options)

    def chart(self, runs: Any, column: str | None = None, by: str | None = None) -> RunChart:
        """Return runs as points, for a notebook: hover for a run's values, click to hear its song.

        runs: a study's report, or rows of the run log. column: what is drawn; None: the study's primary column, or the
        first that has numbers. by: the column that makes the groups (default: configuration, or audio_engine).
        Raises InvalidRequest for an unknown column.
        """
        from harmonia_lab.analysis.run_points import run_points  # noqa: PLC0415 - pandas takes a third of a second
        from harmonia_lab.study import StudyReport  # noqa: PLC0415 - as above
        from harmonia_lab.widgets.run_chart import RunChart  # noqa: PLC0415 - as above

        if isinstance(runs, StudyReport):
            frame, column, folder = runs.frame_by_configuration(), column or runs.primary, runs.folder.path
            return RunChart(run_points(frame, column, by or "configuration", folder))
        return RunChart(run_points(runs, column, by or "audio_engine"))

    def monitor(self, user: str | None = "local") -> Monitor:
        """Return the latest jobs in one live table, for a notebook. user: their owner; None for all users.

        Raises HarmoniaError (NOT_FOUND) where anywidget isn't installed.
        """
        check_installed("The table of jobs", "anywidget", "`lab.log.frame()` has the songs, too.")
        from harmonia_lab.widgets.monitor import Monitor  # noqa: PLC0415 - as above

        return Monitor(self, user)

    def form(self) -> ComposeForm:
        """Return a form for a request, for a notebook.

        Raises HarmoniaError (NOT_FOUND) where ipywidgets isn't installed.
        """
        check_installed("The form", "ipywidgets", "`lab.submit(…)` takes the same.")
        from harmonia_lab.widgets.compose import ComposeForm  # noqa: PLC0415 - as above

        return ComposeForm(self, engine_names(AUDIO_GROUP))

    def models(self, *folders: Path | str) -> list[ModelEntry]:
        """Return the models that are here and those that could be, as `harmonia models` does. folders: to look in, by
        default the working folder and `models` in it."""
        return model_inventory([Path(folder) for folder in folders])

    def compose(self, narrative: str = "", *, progress: bool = True, **options: Any) -> Song:
        """Make a song and wait for it, with a progress bar. `options` are those of `submit`.

        An interrupt cancels the song and is raised again. Raises the HarmoniaError that ended the song.
        """
        return wait_for(self.submit(narrative, **options), self.panel, progress=progress)

    def verify(self, folder: Path | str, *, rerun: bool = False) -> Verification:
        """Compare a song's files with its record; with `rerun`, make the song again and compare that instead.

        Raises HarmoniaError: NOT_FOUND if the folder holds no song, RECORD_DAMAGED if its record can't be read.
        """
        report = check_folder(Path(folder))
        if not (rerun and report.ok):
            return report
        return make_again(
            report.folder,
            report.notes,
            metadata_engine=lambda: self.metadata_engine,
            audio_engines=self._audio_engines,
            submit=self.submit_request,
        )

    def close(self) -> None:
        """Cancel batches, studies and songs, stop the server, close the engines. Idempotent. In a fork, do nothing."""
        if self.in_fork:
            return
        self._settle_panels()  # the files of songs that have ended are still to be had
        batches = [batch for batch in self._batches if not batch.over]
        for batch in batches:
            batch.cancel()
        for backend in self._backends:
            if backend.running:
                backend.close(CANCEL_GRACE_S)
        for batch in batches:
            batch.wait(BATCH_END_S)
        self._settle_panels()  # and these songs were cancelled
        if self.server is not None:
            self.server.stop()
        super().close()

    def _settle_panels(self) -> None:
        """Wait until the cells of ended songs hold them. No panel was shown where the module isn't loaded."""
        if "harmonia_lab.widgets.panel" in sys.modules:
            from harmonia_lab.widgets.panel import settle_shown_panels  # noqa: PLC0415 - as above

            settle_shown_panels()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            stage_1 = f"{self.metadata_engine.name} [{self.metadata_reason}]"
        except HarmoniaError as error:
            stage_1 = f"none [{error.message}]"
        where = "" if self._address is None else f", server={self._address.url}"
        where += "" if self.cluster is None else f", cluster={self.cluster.address}"
        return f"Lab(metadata={stage_1}, audio={self.audio_engine.name}, songs={self.songs}{where})"

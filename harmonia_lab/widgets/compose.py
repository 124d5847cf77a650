"""`ComposeForm`: a form for a request, with a panel for the song below, and an editor for the song's metadata.

Owns the fields and their arrangement, in stock ipywidgets: they are labelled, and the keyboard reaches them. Values are
checked by `SongRequest` and `SongMetadata` in `protocol/models.py`; the form shows their error messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import ipywidgets
from pydantic import ValidationError

from harmonia_lab.audio_options import known_options, option_value
from harmonia_lab.client.store import State
from harmonia_lab.engines.base import MetadataEngine
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.models import Song, SongMetadata, SongRequest, explain, parse_request
from harmonia_lab.protocol.vocabulary import GENRES, INSTRUMENTS, TONICS
from harmonia_lab.widgets.comm_routing import use_requested_subshell
from harmonia_lab.widgets.event_sources import PanelLab
from harmonia_lab.widgets.frontend import has_live_frontend
from harmonia_lab.widgets.outputs import display_object
from harmonia_lab.widgets.panel import Panel

__all__ = ["SOUND_OPTIONS", "ComposeForm", "FormLab"]

MODELS_S = 1.0
"""Seconds that the form waits for the list of models."""

SOUND_OPTIONS = {"prompt": "Prompt", "negative_prompt": "Not", "cfg_coef": "Guidance", "temperature": "Temperature"}
"""Settings of the audio engine that the form has, folded away, and what it calls them."""

OPEN = ""
"""The value of a field that the user leaves open: stage 1 decides."""


class FormLab(PanelLab, Protocol):
    """What the form needs of `lab.Lab`."""

    @property
    def metadata_engine(self) -> MetadataEngine: ...

    def language_models(self, timeout_s: float) -> Sequence[str]: ...

    def submit_request(self, request: SongRequest, *, audio: Any = None) -> Any: ...

    def panel(self, generation_id: str) -> Panel: ...


class ComposeForm:
    """The form. Jupyter displays it when it is a cell's last value."""

    def __init__(self, lab: FormLab, audio_engines: Sequence[str]) -> None:
        """audio_engines: names to choose from."""
        self._lab = lab
        self._panel: Panel | None = None
        self.job: JobHandle | None = None
        """The song that was asked for last."""
        self._lyrics_only = ""
        wide, wraps = {"width": "auto"}, {"flex_flow": "row wrap"}
        self.narrative = ipywidgets.Textarea(description="Story", rows=4, layout=wide)
        self.model = ipywidgets.Dropdown(description="Words by", options=_models(lab))
        self.audio = ipywidgets.Dropdown(description="Music by", options=_choices("the lab's own", audio_engines))
        self.seconds = ipywidgets.BoundedFloatText(description="Seconds", value=20, min=1, max=600)
        self.bpm = ipywidgets.Text(description="Tempo", placeholder="40…220, or open")
        keys = [f"{tonic} {mode}" for tonic in TONICS for mode in ("major", "minor")]
        self.key = ipywidgets.Dropdown(description="Key", options=_choices("open", keys))
        self.genre = ipywidgets.Combobox(description="Genre", placeholder="open", options=list(GENRES))
        self.instruments = ipywidgets.SelectMultiple(description="Instruments", options=list(INSTRUMENTS), rows=12)
        self.language = ipywidgets.Combobox(
            description="Language", placeholder="the story's", options=["English", "Español", "Deutsch", "Français"]
        )
        self.seed = ipywidgets.Text(description="Seed", placeholder="drawn")
        self._make_options(wide)
        self.submit = ipywidgets.Button(description="Make the song", button_style="primary", layout=wide)
        self.write = ipywidgets.Button(description="Write the words only", layout=wide)
        self.problem = ipywidgets.Label()
        self.place = ipywidgets.VBox()
        self._make_editor(wide)
        self.submit.on_click(lambda _: self._submit())
        self.write.on_click(lambda _: self._submit(words_only=True))
        self.again.on_click(lambda _: self._submit(edited=True))
        self.edit.on_click(lambda _: self._fill())
        choices = [self.model, self.audio, self.seconds, self.bpm, self.key, self.genre, self.language, self.seed]
        use_requested_subshell(self.narrative, *choices, self.instruments, *self._fields.values())
        use_requested_subshell(*self.options.values())
        use_requested_subshell(self.submit, self.write, self.edit, self.again)
        self.widget = ipywidgets.VBox(
            [
                self.narrative,
                ipywidgets.HBox([ipywidgets.VBox(choices), self.instruments], layout=wraps),
                self.sound,
                ipywidgets.HBox([self.submit, self.write, self.edit], layout=wraps),
                self.problem,
                self.editor,
                self.place,
            ]
        )

    @property
    def value(self) -> SongRequest:
        """The request that the fields make now. Raises InvalidRequest."""
        return self.request()

    @property
    def song(self) -> Song | None:
        """The song that the form made last; None while there is none. Waits for nothing. Raises the HarmoniaError that
        ended it."""
        return self.job.result() if self.job is not None and self.job.done else None

    def request(self, metadata: SongMetadata | None = None) -> SongRequest:
        """Return the request that the fields make. Raises InvalidRequest."""
        return parse_request(
            narrative=self.narrative.value,
            model=self.model.value or None,
            seconds=self.seconds.value,
            bpm=self.bpm.value.strip() or None,
            key=self.key.value or None,
            genre=self.genre.value.strip() or None,
            instruments=list(self.instruments.value) or None,
            language=self.language.value.strip() or None,
            seed=self.seed.value.strip() or None,
            metadata=metadata,
            audio_options={
                name: option_value(name, field.value) for name, field in self.options.items() if field.value.strip()
            },
        )

    def metadata(self) -> SongMetadata:
        """Return the metadata as edited. Raises pydantic's ValidationError."""
        fields = {name: field.value for name, field in self._fields.items()}
        mood = [word.strip() for word in fields["mood"].split(",") if word.strip()]
        names = [name.strip() for name in fields["instruments"].split(",") if name.strip()]
        written = {instrument.name: instrument for instrument in self._written.instruments} if self._written else {}
        instruments = [
            written.get(name) or {"name": name, "role": INSTRUMENTS[name].role if name in INSTRUMENTS else "lead"}
            for name in names
        ]
        kept = {"narrative_digest", "wishes", "warnings"}
        if self._written and fields["lyrics"] == self._written.lyrics:
            kept.add("language")  # of other words it is found anew
        others = self._written.model_dump(include=kept) if self._written else {}
        return SongMetadata.model_validate(others | fields | {"mood": mood, "instruments": instruments})

    def _ipython_display_(self) -> None:
        if has_live_frontend():
            display_object(self.widget)
        else:
            print(self.described)  # noqa: T201 - the form without a page

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        del include, exclude
        return {"text/plain": self.described}

    @property
    def described(self) -> str:
        """What the fields hold, for where nobody can fill them in."""
        try:
            asked = self.value.to_wire()
        except InvalidRequest as error:
            asked = {"open": error.message}
        return f"ComposeForm({asked}): nobody can fill it in here; `lab.submit(…)` takes the same."

    def _make_options(self, wide: dict[str, str]) -> None:
        known = known_options()
        self.options = {
            name: ipywidgets.Text(description=title, placeholder=known[name].help, layout=wide)
            for name, title in SOUND_OPTIONS.items()
            if name in known
        }
        self.sound = ipywidgets.Accordion([ipywidgets.VBox([*self.options.values()])], selected_index=None)
        self.sound.set_title(0, "The sound: for engines that take a prompt")

    def _make_editor(self, wide: dict[str, str]) -> None:
        self._written: SongMetadata | None = None
        self._fields: dict[str, Any] = {
            "title": ipywidgets.Text(description="Title", layout=wide),
            "lyrics": ipywidgets.Textarea(description="Lyrics", rows=12, layout=wide),
            "genre": ipywidgets.Text(description="Genre"),
            "mood": ipywidgets.Text(description="Mood"),
            "bpm": ipywidgets.BoundedIntText(description="Tempo", min=40, max=220),
            "key": ipywidgets.Text(description="Key"),
            "instruments": ipywidgets.Text(description="Instruments", layout=wide),
        }
        self.edit = ipywidgets.Button(description="Edit the words", disabled=True, layout=wide)
        self.again = ipywidgets.Button(description="Make the music of these words", button_style="primary", layout=wide)
        self.again.layout.align_self = "flex-start"
        self.editor = ipywidgets.VBox([*self._fields.values(), self.again], layout={"display": "none"})

    def _submit(self, *, words_only: bool = False, edited: bool = False) -> None:
        """Submit the request, with the edited metadata if asked to, or show why it can't be submitted."""
        try:
            request = self.request(self.metadata() if edited else None)
            job = self._lab.submit_request(request, audio=self.audio.value or None)
            panel = self._lab.panel(job.id)
        except (HarmoniaError, ValidationError) as error:
            self.problem.value = explain(error) if isinstance(error, ValidationError) else str(error)
            return
        self.problem.value = ""
        self._panel, self.job = panel, job
        self._lyrics_only = job.id if words_only else ""
        self.place.children = [panel.widget]
        self.edit.disabled = True
        panel.observe(self._changed)

    def _changed(self, state: State) -> None:
        """Called in the thread that brought the state. No job runs stage 1 alone, so the form cancels it afterwards."""
        panel = self._panel
        if panel is None or panel.metadata is None:
            return
        self.edit.disabled = False
        wanted = self._lyrics_only
        if wanted and wanted in state.active_generations:
            self._lyrics_only = ""
            self._lab.cancel(wanted)
            self._fill()

    def _fill(self) -> None:
        """Show the editor with the metadata that stage 1 wrote."""
        if self._panel is None or self._panel.metadata is None:
            return
        self._written = written = self._panel.metadata
        names = ", ".join(instrument.name for instrument in written.instruments)
        shown = written.model_dump() | {"mood": ", ".join(written.mood), "instruments": names}
        for name, field in self._fields.items():
            field.value = shown[name]
        self.editor.layout.display = ""


def _choices(left_open: str, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(left_open, OPEN), *((name, name) for name in names)]


def _models(lab: FormLab) -> list[tuple[str, str]]:
    """Return the models that stage 1 can use: the engine's own, then those that its server has, if it answers."""
    engine = lab.metadata_engine
    own = f"{engine.name}: {engine.model}" if engine.model else engine.name
    try:
        return _choices(own, lab.language_models(MODELS_S))
    except HarmoniaError:
        return _choices(own, [])

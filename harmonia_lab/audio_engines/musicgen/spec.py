"""MusicGen's description for the registry: options, installation, `harmonia doctor`'s check, the note after a song.

Owns that description. What the settings mean is in `settings.py`. Imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.audio_engines.musicgen.install import missing, pip_arguments
from harmonia_lab.audio_engines.musicgen.prompts import ARRANGEMENTS
from harmonia_lab.audio_engines.musicgen.settings import DECODERS, Settings
from harmonia_lab.engines.spec import AudioEngineSpec, Check, EngineOption, Installation
from harmonia_lab.errors import AudioError, ErrorCode, HarmoniaError

if TYPE_CHECKING:
    from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine
    from harmonia_lab.music.plan import Plan

__all__ = ["ENGINE"]


_YES = ("1", "on", "true", "yes")
"""Values of a variable of huggingface_hub that switch it on."""


def _make(model: str | None, settings: Mapping[str, Any]) -> MusicGenEngine:
    from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine  # noqa: PLC0415 - numpy loads with the engine

    return MusicGenEngine(model or "small", Settings.of(settings))


def _settings_to_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are given, and no defaults. Raises InvalidRequest."""
    plain = Settings.of(settings).to_json()
    return {name: plain[name] for name in settings}


def _note(record: Mapping[str, Any]) -> str:
    weights = ", with random weights: this is noise, not music" if record["weights"] == "random" else ""
    return f"MusicGen {record['model']}{weights}. Licence of the weights: {record['licence']}"


def _random_model(size: str, folder: str) -> Path:
    from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint  # noqa: PLC0415 - brings torch

    return make_checkpoint(folder, size)  # type: ignore[arg-type] # `make_checkpoint` checks the size


def _check() -> Check:
    """Render a second of audio with a model of debug size, through every part that a real model goes through."""
    absent = missing()
    if absent:
        return Check("MusicGen", "optional", f"not installed: {', '.join(absent)}", "harmonia setup musicgen")
    import tempfile  # noqa: PLC0415 - only for the check

    from harmonia_lab.engines.base import CancelToken  # noqa: PLC0415 - as above

    plan = _short_plan()
    try:
        with tempfile.TemporaryDirectory(prefix="harmonia-doctor-") as scratch:
            engine = _make(str(_random_model("tiny", f"{scratch}/tiny")), {})
            (stem,) = engine.render(plan.parts, plan, {"piano": 0}, lambda _: None, CancelToken(), {})
            record = engine.record()
            engine.close()
    except HarmoniaError as error:
        return Check("MusicGen", "optional", error.message, error.hint)
    seconds = stem.audio.shape[1] / stem.sample_rate
    found = f"audiocraft {record['audiocraft']}, torch {record['torch']} on {record['ranOn']}: {seconds:g} s generated"
    return Check("MusicGen", "ok", found)


def _check_asked(model: str | None, settings: Mapping[str, Any]) -> str:
    """Raises InvalidRequest for an unknown model or setting, AudioError where MusicGen or its weights can't be had."""
    checkpoint = _make(model, settings).checkpoint
    checkpoint.check()
    if checkpoint.folder is not None:
        return f"MusicGen with the weights in {checkpoint.folder}"
    if checkpoint.digest():
        return f"MusicGen {checkpoint.name}, whose weights are here"
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in _YES:
        raise AudioError(
            f"The weights of MusicGen {checkpoint.name} are not here, and HF_HUB_OFFLINE forbids to download them.",
            code=ErrorCode.MUSICGEN_UNAVAILABLE,
            hint="Unset HF_HUB_OFFLINE, or name a folder with the weights: --audio-model FOLDER",
        )
    return f"MusicGen {checkpoint.name}, if the first song can download its weights from the model hub"


def _short_plan() -> Plan:
    from harmonia_lab.music.composing import compose  # noqa: PLC0415 - as above
    from harmonia_lab.protocol.models import Instrument, SongMetadata  # noqa: PLC0415 - as above

    metadata = SongMetadata(
        title="A check-up",
        lyrics="",
        genre="ambient",
        mood=["calm"],
        bpm=60,
        key="C major",
        instruments=[Instrument(name="piano", role="chords")],
    )
    return replace(compose(metadata, 1.0, seed=0), metadata=metadata)


ENGINE = AudioEngineSpec(
    name="musicgen",
    help="MusicGen, through audiocraft",
    make=_make,
    models="MusicGen's: small, medium, large, melody, stereo, or a folder",
    options=(
        EngineOption("arrangement", "MusicGen's: the mix at once (default), or each instrument", choices=ARRANGEMENTS),
        EngineOption("device", "MusicGen's: auto (default), cpu, cuda or cuda:N"),
        EngineOption("decoder", "MusicGen's decode loop (default auto)", choices=DECODERS),
    ),
    claims_auto=lambda model, settings: model is not None or not settings.keys().isdisjoint(Settings.names()),
    settings_to_json=_settings_to_json,
    note=_note,
    invitation="For MusicGen: `harmonia setup musicgen`, then --audio musicgen.",
    check=_check,
    check_asked=_check_asked,
    installation=Installation(
        title="MusicGen (audiocraft)",
        help="audiocraft and its needs",
        code=ErrorCode.MUSICGEN_UNAVAILABLE,
        is_installed=lambda: not missing(),
        pip_arguments=pip_arguments,
        random_model=_random_model,
    ),
)

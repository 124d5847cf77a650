"""MusicGen's description for the registry: options, installation, `harmonia doctor`'s check, the note after a song.

Owns that description. What the settings mean is in `settings.py`. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.audio_engines.musicgen.hub import is_offline
from harmonia_lab.audio_engines.musicgen.install import missing, pip_arguments
from harmonia_lab.audio_engines.musicgen.prompts import ARRANGEMENTS
from harmonia_lab.audio_engines.musicgen.settings import DECODERS, Settings
from harmonia_lab.engines.song_options import song_options
from harmonia_lab.engines.spec import AudioEngineSpec, Check, EngineOption, Installation, ModelEntry
from harmonia_lab.errors import AudioError, ErrorCode, HarmoniaError

if TYPE_CHECKING:
    from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine
    from harmonia_lab.music.plan import Plan

__all__ = ["ENGINE"]


def _make(model: str | None, settings: Mapping[str, Any]) -> MusicGenEngine:
    from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine  # noqa: PLC0415 - numpy loads with the engine

    return MusicGenEngine(model or "small", Settings.of(settings))


def _settings_to_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are given, and no defaults. Raises InvalidRequest."""
    plain = Settings.of(settings).to_json()
    return {name: plain.get(name, value) for name, value in settings.items()}


def _note(record: Mapping[str, Any]) -> str:
    weights = ", with random weights: this is noise, not music" if record["weights"] == "random" else ""
    said = [f"MusicGen {record['model']}{weights}", *(text.rstrip(".") for text in record.get("warnings", []))]
    return f"{'. '.join(said)}. Licence of the weights: {record['licence']}"


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
    return Check("MusicGen", "ok", found + _found_of_device(record.get("deviceCheck")))


def _found_of_device(check: Mapping[str, Any] | None) -> str:
    """Return what the comparison of a GPU with the CPU found (`device_check.py`); "" where there was none."""
    if check is None:
        return ""
    if "fault" in check:
        return f"; on the CPU, since {check['fault']}"
    distances = ", ".join(f"{distance:.1g} in {dtype}" for dtype, distance in check["distances"].items())
    return f"; on {check['device']}, whose numbers are the CPU's up to {distances}"


def _compared(model: str | None, settings: Mapping[str, Any]) -> str:
    """Load the model, if it is to run on a GPU, and return what the comparison found. Raises what loading raises."""
    from harmonia_lab.audio_engines.musicgen.models import MODELS, Choice, resolve_device  # noqa: PLC0415 - torch

    engine = _make(model, settings)
    if resolve_device(engine.settings.device).type == "cpu":
        return ""
    from harmonia_lab.engines.base import CancelToken  # noqa: PLC0415 - only here

    chosen = engine.settings
    choice = Choice(engine.checkpoint, chosen.device, chosen.dtype, chosen.decoder)
    with MODELS.lease(choice, CancelToken(), lambda _: None) as loaded:
        found = _found_of_device(loaded.device_check)
    MODELS.unload()
    return found


def _check_asked(model: str | None, settings: Mapping[str, Any]) -> str:
    """Raises InvalidRequest for an unknown model or setting, AudioError where MusicGen or its weights can't be had."""
    checkpoint = _make(model, settings).checkpoint
    where = f" with the weights in {checkpoint.folder}" if checkpoint.folder else f" {checkpoint.name}"
    try:
        checkpoint.check()
    except AudioError as error:
        if "missing" not in error.details:
            raise
        if is_offline():
            raise AudioError(
                f"{error.message.rstrip('.')}, and HF_HUB_OFFLINE forbids to download it.",
                code=ErrorCode.MUSICGEN_UNAVAILABLE,
                hint=f"Unset HF_HUB_OFFLINE, or, where there is a network: {error.hint.partition(': ')[2]}",
            ) from error
        return f"MusicGen{where}, if the first song can download {error.details['missing']} from the model hub"
    found = f"MusicGen{where}" if checkpoint.folder else f"MusicGen{where}, whose weights are here"
    return found + (_compared(model, settings) if model is not None else "")


def _inventory(folders: Sequence[Path]) -> Sequence[ModelEntry]:
    from harmonia_lab.audio_engines.musicgen.inventory import inventory  # noqa: PLC0415 - only for the list

    return inventory(folders)


def _fetch(name: str, report: Callable[[str], None]) -> str:
    """Raises InvalidRequest for an unknown name, AudioError where a part can't be had."""
    from harmonia_lab.audio_engines.musicgen.loading import open_model  # noqa: PLC0415 - torch loads with it

    checkpoint = _make(name, {}).checkpoint
    return str(open_model(checkpoint.source, report, name=checkpoint.name).paths[0].parent)


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
        EngineOption("device", "MusicGen's: auto (default), cpu, mps, cuda or cuda:N"),
        EngineOption("decoder", "MusicGen's decode loop (default auto)", choices=DECODERS),
        *song_options(Settings),
    ),
    claims_auto=lambda model, settings: model is not None or not settings.keys().isdisjoint(Settings.names()),
    settings_to_json=_settings_to_json,
    note=_note,
    inventory=_inventory,
    fetch=_fetch,
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

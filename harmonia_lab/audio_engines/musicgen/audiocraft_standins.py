"""Imports audiocraft 1.3.0 beside a current torch.

Owns the stand-ins for what audiocraft's inference imports and never calls, and the few places where what it does call
is answered by us. They are in `sys.modules` only while audiocraft is being imported: transformers, for one, takes a
torchaudio it sees there for a real one. Owns no model and no decoding.

audiocraft pins torch 2.1, which no current Python has; installed with `--no-deps` (`install.py`), its
text-to-music runs unchanged on today's torch, numpy and transformers. Its training, its metrics and its other models
are not for this process once it was loaded here.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["TEXT_ENCODER_FOLDER", "load_audiocraft", "no_progress_bars", "text_encoder_from"]

TEXT_ENCODER_FOLDER = "t5"
"""Inside a checkpoint folder: a text encoder and its tokenizer, used instead of the one a model hub has."""

INSTALL_HINT = "run: harmonia setup musicgen"

_PREPARED = "prepared_by_harmonia_lab"

_lock = threading.Lock()


def load_audiocraft() -> types.ModuleType:
    """The `audiocraft` package, ready for `audiocraft.models.MusicGen.get_pretrained(name or folder)`.

    Takes some 4 s the first time, nothing later. Works before and after transformers, librosa or torchaudio were
    imported, and leaves `sys.modules` as it found it, audiocraft added. Raises AudioError (MUSICGEN_UNAVAILABLE) where
    audiocraft or one of its real needs is not installed.
    """
    with _lock:
        loaded = sys.modules.get("audiocraft")
        if loaded is not None and hasattr(loaded, _PREPARED):
            return loaded
        try:
            import torch  # noqa: F401, PLC0415 - says that torch is missing before anything stands in for it
            import transformers  # noqa: F401, PLC0415 - looks round for torchaudio itself, so it comes first

            with _installed(_standins()):
                audiocraft = importlib.import_module("audiocraft")
        except (ImportError, OSError) as error:
            for name in [name for name in sys.modules if name.partition(".")[0] == "audiocraft"]:
                del sys.modules[name]  # a half-imported package would look whole to the next import
            raise AudioError(
                f"MusicGen cannot be loaded: {error}.", code=ErrorCode.MUSICGEN_UNAVAILABLE, hint=INSTALL_HINT
            ) from error
        _answer_for_xformers()
        _answer_for_demucs()
        _improve_loading()
        _quieten()
        setattr(audiocraft, _PREPARED, True)
        return audiocraft


class _StandIn(types.ModuleType):
    """A module that has what it is given. Anything else that is asked of it is an error that names it."""

    def __init__(self, name: str, **attributes: Any) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        self.__path__: list[str] = []
        self.__dict__.update(attributes)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise AudioError(
            f"This model asks audiocraft for {self.__name__}.{attribute}, which Harmonia Lab does without.",
            code=ErrorCode.MUSICGEN_UNAVAILABLE,
            hint="Choose one of the released MusicGen models.",
        )


@contextmanager
def _installed(modules: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """Puts `modules` into `sys.modules`, in place of what has their names or lies below them, and puts that back."""

    def take_out() -> dict[str, types.ModuleType]:
        names = [name for name in sys.modules if any(f"{name}.".startswith(f"{module}.") for module in modules)]
        return {name: sys.modules.pop(name) for name in names}

    hidden = take_out()
    sys.modules.update(modules)
    try:
        yield
    finally:
        take_out()
        sys.modules.update(hidden)


def _standins() -> dict[str, types.ModuleType]:
    import torch  # noqa: PLC0415

    from harmonia_lab.audio_engines.musicgen.chroma import Spectrogram, chroma_filters  # noqa: PLC0415

    xformers_ops = _StandIn("xformers.ops", unbind=torch.unbind)
    transforms = _StandIn("torchaudio.transforms", Spectrogram=Spectrogram)
    filters = _StandIn("librosa.filters", chroma=chroma_filters)
    state = _StandIn("flashy.state", StateDictSource=object, StateDict=dict)
    distrib = _StandIn("flashy.distrib")
    compression = _StandIn("audiocraft.solvers.compression", CompressionSolver=object)
    modules = [
        xformers_ops,
        _StandIn("xformers", ops=xformers_ops),
        transforms,
        _StandIn("torchaudio", transforms=transforms),
        filters,
        _StandIn("librosa", filters=filters),
        state,
        distrib,
        _StandIn("flashy", state=state, distrib=distrib),
        compression,
        _StandIn("audiocraft.solvers", compression=compression),  # the training side: hydra, losses, metrics
        _StandIn("av"),  # reads audio files; ours are read by soundfile
        _StandIn("num2words", num2words=None),  # these two spell out words for conditioners that no released model has
        _StandIn("spacy"),
    ]
    return {module.__name__: module for module in modules}


def _answer_for_xformers() -> None:
    """Where audiocraft asks xformers for a name at run time, though its attention is torch's own, it asks no more."""
    transformer = importlib.import_module("audiocraft.modules.transformer")
    attention: Any = transformer.StreamingMultiheadAttention
    asked = attention._get_mask  # noqa: SLF001

    @functools.wraps(asked)
    def get_mask(self: Any, current_steps: int, device: Any, dtype: Any) -> Any:
        if not self.memory_efficient:
            return asked(self, current_steps, device, dtype)
        if current_steps == 1:
            return None
        if "past_keys" in self._streaming_state:
            raise RuntimeError("audiocraft takes several steps at once only at the start.")
        return "causal"  # the torch backend asks only whether there is a mask

    attention._get_mask = get_mask  # noqa: SLF001
    transformer.__dict__["_verify_xformers_memory_efficient_compat"] = lambda: None
    transformer.__dict__["_is_profiled"] = lambda: False


def _answer_for_demucs() -> None:
    """Melody models separate a recording's voices before they take its chroma; here the chroma is of the whole.

    The constructor asks for a separator (a download), which it gets as an empty name. A chroma that is known already,
    from a plan, needs neither.
    """
    conditioners = importlib.import_module("audiocraft.modules.conditioners")
    audio_utils = importlib.import_module("audiocraft.data.audio_utils")
    conditioner: Any = conditioners.ChromaStemConditioner
    construct = conditioner.__init__

    class NoSeparator:
        sources = ("drums", "bass", "other", "vocals")

        def to(self, device: Any) -> NoSeparator:
            del device
            return self

    def get_model(name: str) -> NoSeparator:
        del name
        return NoSeparator()

    pretrained = _StandIn("demucs.pretrained", get_model=get_model)
    demucs = {"demucs": _StandIn("demucs", pretrained=pretrained), "demucs.pretrained": pretrained}

    @functools.wraps(construct)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        with _installed(demucs):
            construct(self, *args, **kwargs)

    def whole(self: Any, wav: Any, sample_rate: int) -> Any:
        return audio_utils.convert_audio(wav, sample_rate, self.sample_rate, 1)

    conditioner.__init__ = init
    conditioner._get_stemmed_wav = whole  # noqa: SLF001


@contextmanager
def text_encoder_from(folder: str | Path) -> Iterator[None]:
    """Inside, audiocraft's T5 conditioner takes its model and tokenizer from `folder`, not from a model hub."""
    conditioners = importlib.import_module("audiocraft.modules.conditioners")
    names = {name: conditioners.__dict__[name] for name in ("T5Tokenizer", "T5EncoderModel")}
    for name, wanted in names.items():
        conditioners.__dict__[name] = _From(wanted, Path(folder))
    try:
        yield
    finally:
        conditioners.__dict__.update(names)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Inside, transformers draws no bars for what it reads and writes."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _improve_loading() -> None:
    """Loads what audiocraft loads, with three differences.

    The text encoder comes from the checkpoint's own folder where it has one (audiocraft knows only the hub). Weights
    that the checkpoint replaces are not drawn at random first (which took most of the time). No progress bars.
    """
    from torch import Tensor  # noqa: PLC0415
    from torch.overrides import TorchFunctionMode  # noqa: PLC0415

    class Undrawn(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__module__", None) == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return args[0] if func in {Tensor.uniform_, Tensor.normal_} else func(*args, **kwargs)

    musicgen = importlib.import_module("audiocraft.models.musicgen")
    builders = importlib.import_module("audiocraft.models.builders")
    load: Callable[..., Any] = musicgen.load_lm_model
    model: Any = builders.LMModel

    class UndrawnModel(model):  # type: ignore[misc]
        def _init_weights(self, *_: Any) -> None:
            pass

    def undrawn_model(**kwargs: Any) -> Any:
        with Undrawn():
            built = UndrawnModel(**kwargs)
        built.__class__ = model
        return built

    @functools.wraps(load)
    def load_lm_model(source: str | Path, *args: Any, **kwargs: Any) -> Any:
        folder = Path(source) / TEXT_ENCODER_FOLDER
        with no_progress_bars(), text_encoder_from(folder) if folder.is_dir() else nullcontext():
            builders.__dict__["LMModel"] = undrawn_model
            try:
                return load(source, *args, **kwargs)
            finally:
                builders.__dict__["LMModel"] = model

    musicgen.__dict__["load_lm_model"] = load_lm_model


def _quieten() -> None:
    """EnCodec's layers are built by a function that torch has deprecated, and saved in its format: kept, silently."""
    conv = importlib.import_module("audiocraft.modules.conv")
    deprecated: Callable[..., Any] = conv.weight_norm

    def weight_norm(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return deprecated(*args, **kwargs)

    conv.__dict__["weight_norm"] = weight_norm


class _From:
    """A transformers class whose `from_pretrained` reads a folder, whatever name it is given."""

    def __init__(self, wanted: Any, folder: Path) -> None:
        self._wanted, self._folder = wanted, folder

    def from_pretrained(self, name: str, **kwargs: Any) -> Any:
        del name
        return self._wanted.from_pretrained(str(self._folder), local_files_only=True, **kwargs)

"""Imports audiocraft 1.3.0 beside a current torch.

Owns the stubs for the packages that audiocraft's inference imports and never calls, and the patches where it does call
one of them. The stubs are in `sys.modules` only while audiocraft is being imported, because other packages look there:
transformers would take a stub for a real torchaudio. Owns no model and no decoding.

audiocraft pins torch 2.1, which doesn't run on a current Python. Installed with `--no-deps` (`install.py`), its
text-to-music runs unchanged on a current torch, numpy and transformers. Its training, its metrics and its other models
don't work in a process that loaded it here.
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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = [
    "TEXT_ENCODER_FOLDER",
    "load_audiocraft",
    "loading_audiocraft",
    "no_progress_bars",
    "replaced",
    "stand_ins_are_installed",
    "text_encoder_from",
    "without_initialisation",
]

TEXT_ENCODER_FOLDER = "t5"
"""Inside a checkpoint folder: a text encoder and its tokenizer, which are used instead of the model hub's."""

_lock = threading.Lock()


def load_audiocraft() -> types.ModuleType:
    """Return the `audiocraft` package, ready for `audiocraft.models.MusicGen.get_pretrained(name or folder)`.

    Takes about 4 s the first time. Works whether or not transformers, librosa or torchaudio were imported before, and
    adds nothing but audiocraft to `sys.modules`. Raise AudioError (MUSICGEN_UNAVAILABLE) if audiocraft or a package
    that it calls is not installed.
    """
    with _lock:
        return _import_and_patch()


@functools.cache  # an exception is not cached
def _import_and_patch() -> types.ModuleType:
    try:
        import torch  # noqa: F401, PLC0415 - before the stubs, so that the error names torch if it is missing
        import transformers  # noqa: F401, PLC0415 - before the stubs, since it looks for torchaudio

        with _installed(_stubs()):
            audiocraft = importlib.import_module("audiocraft")
    except (ImportError, OSError) as error:
        for name in [name for name in sys.modules if name.partition(".")[0] == "audiocraft"]:
            del sys.modules[name]  # the next import would take a half-imported package for a complete one
        raise AudioError(
            f"MusicGen cannot be loaded: {error}.",
            code=ErrorCode.MUSICGEN_UNAVAILABLE,
            hint="run: harmonia setup musicgen",
        ) from error
    _patch_attention()
    _patch_chroma_conditioner()
    _patch_loading()
    _patch_weight_norm()
    return audiocraft


@contextmanager
def loading_audiocraft() -> Iterator[None]:
    """Stand in for the packages while somebody else's import runs audiocraft's code, and patch it afterwards."""
    import torch  # noqa: F401, PLC0415 - both before the stubs, as above
    import transformers  # noqa: F401, PLC0415

    with _installed(_stubs()):
        yield
    _import_and_patch()  # finds it imported


def stand_ins_are_installed() -> bool:
    """Return whether audiocraft is being imported with the stubs right now."""
    return isinstance(sys.modules.get("flashy"), _Stub)


class _Stub(types.ModuleType):
    """A module with the given attributes. Access to any other raises an AudioError that names it."""

    def __init__(self, name: str, attributes: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        self.__path__: list[str] = []
        self.__dict__.update(attributes)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise AudioError(
            f"This model needs {self.__name__}.{attribute}, which Harmonia Lab doesn't provide.",
            code=ErrorCode.MUSICGEN_UNAVAILABLE,
            hint="Choose one of the released MusicGen models.",
        )


def _make_stubs(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, types.ModuleType]:
    """Return a stub for each module name, as an attribute of its parent if that is a stub too."""
    stubs: dict[str, types.ModuleType] = {name: _Stub(name, given) for name, given in attributes.items()}
    for name, stub in stubs.items():
        parent, _, child = name.rpartition(".")
        if parent in stubs:
            setattr(stubs[parent], child, stub)
    return stubs


@contextmanager
def _installed(modules: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """Put `modules` into `sys.modules` in place of those modules and their submodules. Restore these afterwards."""

    def remove() -> dict[str, types.ModuleType]:
        names = [name for name in sys.modules if any(f"{name}.".startswith(f"{module}.") for module in modules)]
        return {name: sys.modules.pop(name) for name in names}

    hidden = remove()
    sys.modules.update(modules)
    try:
        yield
    finally:
        remove()
        sys.modules.update(hidden)


def _stubs() -> dict[str, types.ModuleType]:
    import torch  # noqa: PLC0415

    from harmonia_lab.audio_engines.musicgen.chroma import Spectrogram, chroma_filters  # noqa: PLC0415

    return _make_stubs({
        "xformers": {},
        "xformers.ops": {"unbind": torch.unbind},
        "torchaudio": {},
        "torchaudio.transforms": {"Spectrogram": Spectrogram},
        "librosa": {},
        "librosa.filters": {"chroma": chroma_filters},
        "flashy": {},
        "flashy.state": {"StateDictSource": object, "StateDict": dict},
        "flashy.distrib": {},
        "audiocraft.solvers": {},  # training: hydra, losses, metrics
        "audiocraft.solvers.compression": {"CompressionSolver": object},
        "av": {},  # reads audio files; we read them with soundfile
        "num2words": {"num2words": None},  # this and spacy serve text conditioners that no released model has
        "spacy": {},
    })  # fmt: skip


def _patch_attention() -> None:
    """Keep audiocraft's attention, which is torch's, from asking xformers for a mask type and a profiler."""
    transformer = importlib.import_module("audiocraft.modules.transformer")
    attention: Any = transformer.StreamingMultiheadAttention
    original = attention._get_mask  # noqa: SLF001

    @functools.wraps(original)
    def get_mask(self: Any, current_steps: int, device: Any, dtype: Any) -> Any:
        if not self.memory_efficient:
            return original(self, current_steps, device, dtype)
        if current_steps == 1:
            return None
        if "past_keys" in self._streaming_state:
            raise RuntimeError("audiocraft can process several steps at once only at the start of a sequence.")
        return "causal"  # with torch's backend, audiocraft tests only whether there is a mask

    attention._get_mask = get_mask  # noqa: SLF001
    transformer.__dict__["_verify_xformers_memory_efficient_compat"] = lambda: None
    transformer.__dict__["_is_profiled"] = lambda: False


def _patch_chroma_conditioner() -> None:
    """Compute a recording's chroma from the whole mix, without Demucs.

    The melody models' conditioner downloads Demucs to separate the voices first. Its constructor gets a stub of the
    separator, which is never called. A chroma that is known already, from a plan, needs no separation.
    """
    conditioners = importlib.import_module("audiocraft.modules.conditioners")
    audio_utils = importlib.import_module("audiocraft.data.audio_utils")
    conditioner: Any = conditioners.ChromaStemConditioner
    construct = conditioner.__init__
    separator: Any = types.SimpleNamespace(sources=("drums", "bass", "other", "vocals"), to=lambda _: separator)
    demucs = _make_stubs({"demucs": {}, "demucs.pretrained": {"get_model": lambda _: separator}})

    @functools.wraps(construct)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        with _installed(demucs):
            construct(self, *args, **kwargs)

    def whole_mix(self: Any, wav: Any, sample_rate: int) -> Any:
        return audio_utils.convert_audio(wav, sample_rate, self.sample_rate, 1)

    conditioner.__init__ = init
    conditioner._get_stemmed_wav = whole_mix  # noqa: SLF001


@contextmanager
def replaced(target: Any, **attributes: Any) -> Iterator[None]:
    """Set attributes of `target`, and restore them afterwards."""
    before = {name: getattr(target, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)


def text_encoder_from(folder: str | Path) -> AbstractContextManager[None]:
    """Make audiocraft's T5 conditioner load its model and tokenizer from `folder` instead of a model hub."""
    conditioners: Any = importlib.import_module("audiocraft.modules.conditioners")

    def local(original: Any) -> Any:
        load = functools.partial(original.from_pretrained, str(folder), local_files_only=True)
        return types.SimpleNamespace(from_pretrained=lambda _, **kwargs: load(**kwargs))

    tokenizer, model = local(conditioners.T5Tokenizer), local(conditioners.T5EncoderModel)
    return replaced(conditioners, T5Tokenizer=tokenizer, T5EncoderModel=model)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars for the files that it reads and writes."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


@contextmanager
def without_initialisation() -> Iterator[None]:
    """Let audiocraft build language models whose weights are not drawn first, which took most of the time."""
    from torch import Tensor  # noqa: PLC0415
    from torch.overrides import TorchFunctionMode  # noqa: PLC0415

    class SkipInit(TorchFunctionMode):
        """Turns torch's initialisations of tensors into no-ops."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__module__", None) == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return args[0] if func in {Tensor.uniform_, Tensor.normal_} else func(*args, **kwargs)

    builders: Any = importlib.import_module("audiocraft.models.builders")
    model: Any = builders.LMModel

    def uninitialised(**kwargs: Any) -> Any:
        with SkipInit(), replaced(model, _init_weights=lambda *_: None):
            return model(**kwargs)

    with replaced(builders, LMModel=uninitialised):
        yield


def _patch_loading() -> None:
    """Change four things about how audiocraft's own `get_pretrained` loads a model.

    The text encoder comes from the checkpoint's own folder if it has one (audiocraft knows only the hub). Weights that
    the checkpoint replaces are not initialised first. There are no progress bars. Files are read as ours are, without
    running what they may hold, whatever TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD says.
    """
    from harmonia_lab.audio_engines.musicgen.weight_files import read_pickle  # noqa: PLC0415

    loaders: Any = importlib.import_module("audiocraft.models.loaders")
    read: Callable[..., Any] = loaders._get_state_dict  # noqa: SLF001

    @functools.wraps(read)
    def get_state_dict(source: str | Path, filename: str | None = None, *_args: Any, **kwargs: Any) -> Any:
        path = Path(source)
        if not path.exists():
            cache = kwargs.get("cache_dir") or loaders.get_audiocraft_cache_dir()
            path = Path(loaders.hf_hub_download(repo_id=str(source), filename=filename, cache_dir=cache))
        return read_pickle(path / (filename or "") if path.is_dir() else path)

    loaders._get_state_dict = get_state_dict  # noqa: SLF001
    musicgen = importlib.import_module("audiocraft.models.musicgen")
    load: Callable[..., Any] = musicgen.load_lm_model

    @functools.wraps(load)
    def load_lm_model(source: str | Path, *args: Any, **kwargs: Any) -> Any:
        folder = Path(source) / TEXT_ENCODER_FOLDER
        encoder = text_encoder_from(folder) if folder.is_dir() else nullcontext()
        with no_progress_bars(), encoder, without_initialisation():
            return load(source, *args, **kwargs)

    musicgen.__dict__["load_lm_model"] = load_lm_model


def _patch_weight_norm() -> None:
    """Silence the deprecation warning of the weight norm that EnCodec's layers and checkpoints are made with."""
    conv = importlib.import_module("audiocraft.modules.conv")
    deprecated: Callable[..., Any] = conv.weight_norm

    def weight_norm(*args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return deprecated(*args, **kwargs)

    conv.__dict__["weight_norm"] = weight_norm

"""EnCodec's decoder in streaming form: a few frames at a time, with the same sound as decoding all frames at once.

Owns the state between pieces. Convolutions keep the inputs that their next output needs, transposed convolutions their
last inputs, the LSTM its state; the ends of the whole are padded as EnCodec pads them. So no frame is computed twice,
and pieces of any length add up to the whole, up to the rounding of float32 sums (measured: below 1e-6). The output lags
the input by the decoder's look-ahead, a little over 3 frames.

Two implementations of the network are supported: audiocraft's, and transformers' (which the released checkpoints name).

Letters in shapes: B songs or stems, K codebooks, T frames, C channels of a layer, S samples.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor, nn

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["CodecStream"]


class _Forkable:
    """What has its state in its attributes, each of which is replaced as a whole, and never written to."""

    def fork(self) -> Self:
        """Return one that goes on from here with other frames. This one stays as it is."""
        forked = copy.copy(self)
        vars(forked).update({name: _forked(value) for name, value in vars(self).items()})
        return forked


def _forked(value: Any) -> Any:
    if isinstance(value, list):
        return [_forked(each) for each in value]
    return value.fork() if isinstance(value, _Forkable) else value


class CodecStream(_Forkable):
    """One decoding, from the first frame on. `push` all frames in order, the last ones with `last=True`.

    codec: audiocraft's compression model, with or without its wrapper for stereo. The weights are the codec's tensors,
    except weight-normalised ones: the codec computes them on every call, this class once.

    Raise AudioError (MUSICGEN_UNAVAILABLE) if the codec is no EnCodec.
    """

    def __init__(self, codec: Any) -> None:
        self._codec = codec.model if hasattr(codec, "get_left_right_codes") else codec
        self._split_stereo = codec.get_left_right_codes if self._codec is not codec else None
        network = getattr(getattr(self._codec, "model", self._codec), "decoder", None)
        layers = getattr(network, "model", None) or getattr(network, "layers", None)
        if layers is None or getattr(codec, "per_timestep", False) or getattr(self._codec, "renormalize", False):
            raise _unknown(type(self._codec).__name__)
        self._layers = _Chain(layers)
        self.sample_rate = int(codec.sample_rate)
        self.channels = int(codec.channels)

    @torch.inference_mode()
    def push(self, codes: Tensor, *, last: bool = False) -> Tensor:
        """Return the next samples, float32 [B, channels, S], for the next frames, codes [B, K, T]. S may be 0."""
        if self._split_stereo is not None:
            codes = torch.cat(self._split_stereo(codes))  # [2 B, K / 2, T]: left channels, then right channels
        sound = self._layers.push(self._codec.decode_latent(codes), last=last)
        return torch.cat(sound.chunk(2), 1) if self._split_stereo is not None else sound


class _Layer(Protocol):
    def push(self, x: Tensor, *, last: bool) -> Tensor:
        """Return the output that is complete after x [B, C, T], the continuation of the input pushed so far."""
        ...


class _Chain(_Forkable):
    """Layers one after the other."""

    def __init__(self, layers: Sequence[nn.Module] | nn.Sequential | nn.ModuleList) -> None:
        self._layers = [_streaming(layer) for layer in layers]

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        for layer in self._layers:
            x = layer.push(x, last=last)
        return x


class _Pointwise(_Forkable):
    """A layer without parameters, such as an activation. It has no state."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        del last
        y: Tensor = self._layer(x)
        return y


class _Convolution(_Forkable):
    """A convolution of stride 1. Keeps the inputs that later outputs need."""

    def __init__(self, layer: Any, conv: nn.Conv1d) -> None:
        self._weight, self._bias, self._dilation = _weight(conv), conv.bias, conv.dilation[0]
        self._reach = (conv.kernel_size[0] - 1) * self._dilation
        after = 0 if layer.causal else self._reach // 2
        self._before, self._after = self._reach - after, after
        self._mode = "reflect" if layer.pad_mode == "reflect" else "constant"
        self._held: Tensor | None = None

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        x = x if self._held is None else torch.cat((self._held, x), -1)
        # Starts with more inputs than its reach, so that reflection at either end finds enough of them.
        if not last and x.shape[-1] <= self._reach:
            self._held = x
            return x.new_empty(x.shape[0], self._weight.shape[0], 0)
        x = self._padded(x, self._before, self._after if last else 0)
        self._before = 0  # only the start of the whole is padded
        self._held = x[..., x.shape[-1] - self._reach :]
        if x.shape[-1] <= self._reach:
            return x.new_empty(x.shape[0], self._weight.shape[0], 0)
        return F.conv1d(x, self._weight, self._bias, dilation=self._dilation)

    def _padded(self, x: Tensor, before: int, after: int) -> Tensor:
        short = max(before, after) - x.shape[-1] + 1
        if self._mode != "reflect" or short <= 0:
            return F.pad(x, (before, after), self._mode)
        # As EnCodec does if the input is too short to reflect: add zeros on the right, and cut them off afterwards.
        return F.pad(F.pad(x, (0, short)), (before, after), self._mode)[..., :-short]


class _Upsampling(_Forkable):
    """A transposed convolution. An output sums over several inputs, so it keeps the last ones for outputs to come."""

    def __init__(self, layer: Any, conv: nn.ConvTranspose1d) -> None:
        self._weight, self._bias, self._stride = _weight(conv), conv.bias, conv.stride[0]
        surplus = conv.kernel_size[0] - self._stride
        after = math.ceil(surplus * layer.trim_right_ratio) if layer.causal else surplus // 2
        self._skip = surplus - after
        """Outputs that EnCodec trims at the start."""
        self._context = -(-surplus // self._stride)
        self._held: Tensor | None = None

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        # After n inputs, the outputs before n · stride are complete; at the end EnCodec trims `surplus - skip`.
        known = 0 if self._held is None else self._held.shape[-1]
        x = x if self._held is None else torch.cat((self._held, x), -1)
        if x.shape[-1] == known and not last:
            return x.new_empty(x.shape[0], self._weight.shape[1], 0)
        y = F.conv_transpose1d(x, self._weight, self._bias, self._stride)
        start = known * self._stride if self._held is not None else self._skip
        end = x.shape[-1] * self._stride + (self._skip if last else 0)
        self._held = x[..., max(0, x.shape[-1] - self._context) :]
        return y[..., start:end]


class _Recurrence(_Forkable):
    """An LSTM over the frames, with its input added to its output."""

    def __init__(self, lstm: nn.LSTM, *, skip: bool) -> None:
        self._lstm, self._skip = lstm, skip
        self._state: tuple[Tensor, Tensor] | None = None

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        del last
        if x.shape[-1] == 0:
            return x
        x = x.permute(2, 0, 1)
        y: Tensor
        y, self._state = self._lstm(x, self._state)
        return (y + x if self._skip else y).permute(1, 2, 0)


class _Residual(_Forkable):
    """A residual block. Keeps the shortcut's output until the block, which looks ahead, has the matching output."""

    def __init__(self, block: nn.Sequential | nn.ModuleList, shortcut: nn.Module) -> None:
        self._block, self._shortcut = _Chain(block), _streaming(shortcut)
        self._waiting: Tensor | None = None

    def push(self, x: Tensor, *, last: bool) -> Tensor:
        ahead = self._shortcut.push(x, last=last)
        ahead = ahead if self._waiting is None else torch.cat((self._waiting, ahead), -1)
        y = self._block.push(x, last=last)
        self._waiting = ahead[..., y.shape[-1] :]
        return ahead[..., : y.shape[-1]] + y


def _streaming(layer: Any) -> _Layer:
    """Return the streaming form of a layer, recognised by its attributes, since two packages have such classes."""
    if hasattr(layer, "block") and hasattr(layer, "shortcut"):
        return _Residual(layer.block, layer.shortcut)
    if isinstance(getattr(layer, "lstm", None), nn.LSTM):
        return _Recurrence(layer.lstm, skip=getattr(layer, "skip", True))
    conv = getattr(layer, "convtr", getattr(layer, "conv", None))
    conv = getattr(conv, "convtr", getattr(conv, "conv", conv))  # audiocraft wraps twice
    normalised = getattr(layer, "norm_type", "none") == "time_group_norm"  # needs the whole song at once
    if isinstance(conv, nn.ConvTranspose1d) and not normalised:
        return _Upsampling(layer, conv)
    if isinstance(conv, nn.Conv1d) and conv.stride[0] == 1 and not normalised:
        return _Convolution(layer, conv)
    if not list(layer.parameters()) and not list(layer.children()):
        return _Pointwise(layer)
    raise _unknown(type(layer).__name__)


def _weight(conv: Any) -> Tensor:
    """Return the effective weight. torch's older weight norm computes it on every call of the module."""
    if hasattr(conv, "weight_g"):
        norm: Tensor = torch._weight_norm(conv.weight_v.detach(), conv.weight_g.detach(), 0)  # noqa: SLF001 - as the module does
        return norm
    weight: Tensor = conv.weight.detach()
    return weight


def _unknown(name: str) -> AudioError:
    return AudioError(
        f"This model's codec contains {name}, which can't be decoded piece by piece.",
        code=ErrorCode.MUSICGEN_UNAVAILABLE,
        hint="Choose one of the released MusicGen models.",
    )

"""Decoding piece by piece gives the whole, whatever the pieces and whoever built the network."""

import pytest
import torch

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft
from harmonia_lab.audio_engines.musicgen.encodec_stream import CodecStream
from harmonia_lab.errors import ErrorCode, HarmoniaError

load_audiocraft()

CARD = 64
FRAMES = 50


def remember_for_long(network):
    """A forget gate that is nearly always open: what a chunk without the LSTM's state would get wrong."""
    for module in network.modules():
        if isinstance(module, torch.nn.LSTM):
            for name, parameter in module.named_parameters():
                if name.startswith("bias_ih"):
                    parameter.data[module.hidden_size : 2 * module.hidden_size] += 4.0


def audiocraft_codec(causal=False, pad_mode="constant", true_skip=True):
    from audiocraft.models import builders
    from omegaconf import OmegaConf

    from harmonia_lab.audio_engines.musicgen.random_checkpoint import _codec, _Shape

    config = _codec(_Shape(64, 2, 2, card=CARD, filters=4, latent=16))
    config["seanet"] |= {"causal": causal, "pad_mode": pad_mode, "true_skip": true_skip}
    config["encodec"] |= {"causal": causal}
    config["device"] = "cpu"
    codec = builders.get_compression_model(OmegaConf.create(config))
    for name, buffer in codec.named_buffers():
        if name.endswith("embed"):
            buffer.normal_()
    remember_for_long(codec)
    return codec.eval()


def transformers_codec():
    from audiocraft.models.encodec import HFEncodecCompressionModel
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(
        sampling_rate=32000,
        audio_channels=1,
        normalize=False,
        target_bandwidths=[1.2],
        num_filters=4,
        hidden_size=16,
        codebook_dim=16,
        codebook_size=CARD,
        upsampling_ratios=[8, 5, 4, 4],
        use_causal_conv=False,
        use_conv_shortcut=False,
    )
    model = EncodecModel(config).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("embed"):
            buffer.normal_()
    remember_for_long(model)
    return HFEncodecCompressionModel(model).eval()


def stereo_codec():
    from audiocraft.models.encodec import InterleaveStereoCompressionModel

    return InterleaveStereoCompressionModel(audiocraft_codec()).eval()


CODECS = {
    "audiocraft's": audiocraft_codec,
    "with reflected ends": lambda: audiocraft_codec(pad_mode="reflect"),
    "causal": lambda: audiocraft_codec(causal=True),
    "with a convolution beside": lambda: audiocraft_codec(true_skip=False),
    "transformers'": transformers_codec,
    "stereo": stereo_codec,
}


@pytest.fixture(params=CODECS, scope="module")
def codec(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CODECS[request.param]()


def in_pieces(codec, codes, size):
    stream = CodecStream(codec)
    starts = range(0, codes.shape[-1], size)
    return torch.cat([stream.push(codes[..., a : a + size], last=a + size >= codes.shape[-1]) for a in starts], -1)


def relative_error(sound, whole):
    return float((sound - whole).square().mean().sqrt() / whole.square().mean().sqrt())


@pytest.mark.parametrize("size", [1, 7, 25, 50, 80])
def test_pieces_add_up_to_the_whole(codec, size):
    codes = torch.randint(0, CARD, (2, codec.num_codebooks, FRAMES), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = codec.decode(codes)
    sound = in_pieces(codec, codes, size)
    assert sound.shape == whole.shape
    assert relative_error(sound, whole) <= 1e-6
    assert float((sound - whole).abs().max() / whole.abs().max()) <= 1e-5


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_song_shorter_than_a_kernel_is_decoded_too(codec, frames):
    codes = torch.randint(0, CARD, (1, codec.num_codebooks, frames), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        whole = codec.decode(codes)
    for size in (1, frames):
        assert relative_error(in_pieces(codec, codes, size), whole) <= 1e-6


def test_a_chunk_without_what_came_before_would_not_do():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = audiocraft_codec()
    codes = torch.randint(0, CARD, (1, 4, FRAMES), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole, half = codec.decode(codes), codec.decode(codes[..., FRAMES // 2 :])
    assert relative_error(half, whole[..., -half.shape[-1] :]) > 1e-3


def test_what_is_heard_lags_by_less_than_five_frames(codec):
    codes = torch.zeros(1, codec.num_codebooks, 25, dtype=torch.long)
    heard = CodecStream(codec).push(codes).shape[-1]
    assert heard >= (25 - 7) * 640


def test_another_codec_is_named_and_refused():
    class Codec(torch.nn.Module):
        sample_rate, channels = 32000, 1

    with pytest.raises(HarmoniaError, match="Codec") as raised:
        CodecStream(Codec())
    assert raised.value.code == ErrorCode.MUSICGEN_UNAVAILABLE

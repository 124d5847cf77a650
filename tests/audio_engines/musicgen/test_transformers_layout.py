"""transformers' models, loaded from their own folders: the same tokens and the same sound as transformers makes."""

import json
import shutil

import pytest
import torch

from harmonia_lab.audio_engines.musicgen import transformers_layout
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.loading import build, open_model
from harmonia_lab.audio_engines.musicgen.models import MODELS
from tests.audio_engines.musicgen.songs import engine, plan, render

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "a calm piano melody over rain"
FRAMES = 40


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


def theirs(folder):
    """transformers' model and tokenizer."""
    from transformers import AutoConfig, AutoTokenizer, MusicgenForConditionalGeneration
    from transformers import MusicgenMelodyForConditionalGeneration as Melody

    melody = AutoConfig.from_pretrained(folder).model_type == "musicgen_melody"
    return (Melody if melody else MusicgenForConditionalGeneration).from_pretrained(
        folder
    ).eval(), AutoTokenizer.from_pretrained(folder)


def their_tokens_and_sound(folder):
    model, tokenizer = theirs(folder)
    got, decode = [], model.audio_encoder.decode

    def kept(codes, *args, **options):
        got.append(codes[0])
        return decode(codes, *args, **options)

    model.audio_encoder.decode = kept
    asked = tokenizer([TEXT], return_tensors="pt")
    sound = model.generate(**asked, do_sample=False, guidance_scale=3.0, max_new_tokens=FRAMES + 3)
    if isinstance(got[0], torch.Tensor) and len(got) == 2:  # left and right, which audiocraft interleaves
        return torch.stack(got, 2).flatten(1, 2), sound
    return got[0], sound


def our_tokens_and_sound(folder, generate):
    musicgen = build(open_model(str(folder), lambda _: None), "tiny", "cpu")
    attributes, _ = musicgen._prepare_tokens_and_attributes([TEXT], None)
    codes = generate(musicgen.lm)(None, attributes, max_gen_len=FRAMES, use_sampling=False, cfg_coef=3.0)
    with torch.no_grad():
        return codes, musicgen.compression_model.decode(codes)


def audiocrafts_own(lm):
    return lm.generate


def our_loop(lm):
    return Decoder(lm).generate


@pytest.mark.parametrize(
    "shape", [{}, {"channels": 2}, {"melody": True}, {"text_width": 64}], ids=["mono", "stereo", "melody", "T5 as wide"]
)
def test_a_folder_of_transformers_gives_transformers_own_tokens_and_sound(folders, shape):
    folder = folders.transformers(**shape)
    tokens, sound = their_tokens_and_sound(folder)
    for generate in (audiocrafts_own, our_loop):
        ours, our_sound = our_tokens_and_sound(folder, generate)
        assert torch.equal(tokens, ours)
        assert (sound - our_sound).abs().max() < 1e-6


def test_shards_and_pickles_hold_the_same_weights(folders):
    one = open_model(str(folders.transformers()), lambda _: None)
    for folder in (folders.shards(), folders.pickled()):
        other = open_model(str(folder), lambda _: None)
        assert one.weights.keys() == other.weights.keys()
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_a_song_is_rendered_from_the_folder_and_its_record_names_the_files(folders):
    mine = engine(folders.transformers())
    assert render(mine, plan(1.0))[0].audio.shape == (1, 32000)
    assert mine.record()["digest"].keys() == {"model.safetensors", "config.json"}
    assert mine.record()["decoderRunning"] == "fast"


def test_every_weight_of_transformers_has_its_place(folders):
    model, _ = theirs(folders.transformers(melody=True))
    state = model.state_dict()
    placed = {name for name in state if transformers_layout.audiocraft_name(name)}
    others = {name.split(".")[0] for name in state.keys() - placed}
    assert others == {"text_encoder", "audio_encoder"}
    assert len(transformers_layout.audiocraft_state(state)) == len(placed) - 2 * 2  # q, k and v of two layers are one


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scale_embedding": True}, "its embeddings are scaled"),
        ({"activation_function": "silu"}, "activated by silu"),
    ],
)
def test_a_decoder_that_audiocraft_does_not_have_is_named(folders, tmp_path, change, said):
    folder = shutil.copytree(folders.transformers(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["decoder"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(Exception, match=said):
        open_model(str(folder), lambda _: None)

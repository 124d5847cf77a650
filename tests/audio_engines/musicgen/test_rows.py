"""A row of a batch is its own: what else is in the batch changes none of its tokens."""

import pytest
import torch

from harmonia_lab.audio_engines.musicgen.conditions import align
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.models import MODELS
from harmonia_lab.audio_engines.musicgen.packed_weights import pack, supported
from tests.audio_engines.musicgen.songs import engine, plan, render

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["solo violin lament in d minor", "drums", None, "a calm piano melody over rain, 70 bpm, slow and wide"]


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


def tokens(model, decoder, rows, **parameters):
    """The tokens of some of the prompts at once, by the prompts' numbers, each from a stream of its own."""
    attributes = model._prepare_tokens_and_attributes([TEXTS[row] for row in rows], None)[0]
    generators = [torch.Generator().manual_seed(row) for row in rows]
    made = decoder.generate(None, attributes, max_gen_len=14, generators=generators, **parameters)
    return dict(zip(rows, made, strict=True))


@pytest.mark.parametrize(
    ("size", "mode", "parameters"),
    [
        ("tiny", "fast", {}),
        ("tiny", "int8", {"two_step_cfg": True}),
        ("tiny-melody", "fast", {"two_step_cfg": True}),
        ("tiny-melody", "int8", {}),
    ],
    ids=str,
)
def test_a_row_has_the_tokens_of_its_prompt_alone_whatever_is_beside_it(musicgen, size, mode, parameters):
    model = musicgen(size)
    decoder = Decoder(model.lm, mode)
    together = tokens(model, decoder, [0, 1, 2, 3], **parameters)
    for rows in ([0], [1], [2], [3, 1]):
        for row, alone in tokens(model, decoder, rows, **parameters).items():
            assert torch.equal(alone, together[row]), (rows, row)


def test_audiocrafts_batches_can_be_had_too_padding_and_all(musicgen):
    model = musicgen("tiny")
    attributes = model._prepare_tokens_and_attributes(TEXTS, None)[0]
    theirs = model.lm.generate(None, attributes, max_gen_len=14, use_sampling=False)
    as_theirs = Decoder(model.lm, attend_padding=True).generate(None, attributes, max_gen_len=14, use_sampling=False)
    own = Decoder(model.lm).generate(None, attributes, max_gen_len=14, use_sampling=False)
    assert torch.equal(as_theirs, theirs)
    assert not torch.equal(own[1], theirs[1])  # the shortest prompt, diluted by the padding
    assert torch.equal(own[3], theirs[3])


def test_rows_of_different_lengths_end_together():
    values, begins = align([torch.ones(3, 2), torch.full((1, 2), 5.0)])
    assert begins == (0, 2)
    assert values[1].tolist() == [[0, 0], [0, 0], [5, 5]]


@pytest.mark.skipif(not supported("int8"), reason="this torch has no product in 8 bits")
def test_a_row_in_8_bits_keeps_its_bits_and_its_precision_beside_any_other():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 160, generator=generator)
    product = pack(weight, "int8")
    row = torch.randn(1, 160, generator=generator)
    alone = product(row)
    exact = row @ weight.T
    assert (alone - exact).std() / exact.std() < 0.03
    for other in (1e4 * row, 0 * row, -row, torch.full_like(row, 1e-8)):
        together = product(torch.cat((other, row)))
        assert torch.equal(together[1:], alone)
        assert together.isfinite().all()
    assert product(torch.cat((torch.full_like(row, torch.nan), row)))[0].isnan().all()


@pytest.mark.parametrize("decoder", ["fast", "int8", "reference"])
def test_another_instrument_leaves_the_other_stems_as_they_were(checkpoint, decoder):
    band = engine(checkpoint("tiny"), arrangement="stems", decoder=decoder)
    before = {stem.name: stem.audio for stem in render(band, plan(0.3, ["flute", "drums"]))}
    after = {stem.name: stem.audio for stem in render(band, plan(0.3, ["acoustic guitar", "drums", "flute"]))}
    for name, audio in before.items():
        # The same tokens: another one would be heard. The sums behind the sound may round differently.
        torch.testing.assert_close(torch.from_numpy(after[name]), torch.from_numpy(audio), atol=1e-5, rtol=0)

"""The compiled products are the float32 products, a row is its own to the bit, and machines without them do without."""

import copy
import os
import stat
import threading

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from harmonia_lab.audio_engines.musicgen import compiled_products, packed_weights
from harmonia_lab.audio_engines.musicgen.compiled_products import own_threads, rows_product
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.kv_cache import KVCache, attend_to_cache
from harmonia_lab.audio_engines.musicgen.packed_weights import exact_packing, supported

needs_program = pytest.mark.skipif(not supported("half_rows"), reason="no C compiler, or no AVX2")


@pytest.fixture
def threads():
    """torch's number of threads, which the products take."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def fresh(monkeypatch):
    """No program, no trial and no support is known from before, nor from here afterwards."""
    known = compiled_products._program, packed_weights.supported, packed_weights._wins
    for each in known:
        each.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    for each in known:
        each.cache_clear()


def matrices(outputs, inputs, rows):
    drawn = torch.Generator().manual_seed(outputs)
    weight = torch.randn(outputs, inputs, generator=drawn).half().float()
    return weight, torch.randn(rows, inputs, generator=drawn)


def check_all_shapes(threads):
    for outputs, inputs in ((96, 160), (517, 1024), (1027, 333), (64, 4096)):
        for dtype in (torch.float16, torch.float32):
            weight, x = matrices(outputs, inputs, 17)
            product = rows_product(weight, dtype)
            right = (x.double() @ weight.double().T).float()
            for number in (1, 2, 5):
                threads(number)
                for rows in (1, 2, 3, 4, 5, 6, 7, 8, 9, 17):
                    torch.testing.assert_close(product(x[:rows]), right[:rows], atol=3e-6 * inputs**0.5, rtol=1e-5)


@needs_program
def test_products_are_float32_products_for_any_number_of_rows_outputs_inputs_and_threads(threads):
    check_all_shapes(threads)


@needs_program
def test_the_program_for_processors_without_avx_512_is_right_too(threads, fresh):
    if not torch.cpu._is_avx2_supported():
        pytest.skip("no AVX2")
    fresh.setattr(compiled_products, "FLAGS", (*compiled_products.FLAGS, "-mno-avx512f"))
    check_all_shapes(threads)


@needs_program
def test_a_row_is_the_same_to_the_bit_alone_and_in_a_batch_and_by_any_number_of_threads(threads):
    weight, x = matrices(515, 1024, 11)
    for dtype in (torch.float16, torch.float32):
        product = rows_product(weight, dtype)
        threads(3)
        together = product(x)
        threads(1)
        for row in range(11):
            assert torch.equal(product(x[row : row + 1])[0], together[row])


@needs_program
def test_rows_that_are_too_short_are_refused_and_others_than_contiguous_float32_taken():
    weight, x = matrices(64, 96, 4)
    product = rows_product(weight, torch.float16)
    with pytest.raises(ValueError, match="takes 96"):
        product(x[:, :64])
    torch.testing.assert_close(product(x.double()), product(x))
    torch.testing.assert_close(product(x.T.contiguous().T), product(x))


@needs_program
def test_attention_is_torchs_for_any_number_of_rows_heads_positions_and_threads(threads):
    for rows, heads, positions, width in ((1, 2, 1, 32), (2, 16, 51, 64), (3, 4, 700, 64), (8, 2, 129, 24)):
        cache = KVCache(rows, heads, positions + 3, width, torch.zeros(1), positions_last=True)
        cache.both.normal_()
        query = torch.randn(rows, heads, 1, width)
        made = []
        for number in (1, 2, 5):
            threads(number)
            keys, values = cache.read(positions)
            with own_threads():
                made.append(attend_to_cache(query, keys, values))
                own = attend_to_cache(query[1::2], keys[1::2], values[1::2]) if rows > 1 else made[-1][1:]
            torch.testing.assert_close(made[-1], scaled_dot_product_attention(query, keys, values))
            assert torch.equal(made[-1], made[0])
            assert torch.equal(own, made[0][1::2])


@needs_program
def test_torch_gets_its_threads_back_after_a_step_and_other_threads_keep_theirs(threads):
    threads(3)
    seen = []

    def step():
        with own_threads(), own_threads():
            seen.append(torch.get_num_threads())
            other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            other.start()
            other.join()
            raise RuntimeError("in a step")

    with pytest.raises(RuntimeError, match="in a step"):
        step()
    assert torch.get_num_threads() == 3
    assert seen == [1, 3]


@needs_program
def test_a_forked_child_has_threads_of_its_own(threads):
    threads(2)
    weight, x = matrices(1024, 1024, 2)
    product = rows_product(weight, torch.float16)
    right = product(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if all(torch.equal(product(x), right) for _ in range(50)) else 1)
    ended = threading.Timer(60, os.kill, (child, 9))
    ended.start()
    try:
        assert os.waitpid(child, 0)[1] == 0
    finally:
        ended.cancel()
    assert torch.equal(product(x), right)


@pytest.mark.usefixtures("one_thread")
@needs_program
@pytest.mark.parametrize("packing", ["half_rows", "float_rows"])
@pytest.mark.parametrize("size", ["tiny", "tiny-melody"])
def test_tokens_are_audiocrafts(musicgen, size, packing):
    model = musicgen(size)
    attributes = model._prepare_tokens_and_attributes(["drums"], None)[0]
    lm = copy.deepcopy(model.lm)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.copy_(parameter.half())
    decoder = Decoder(lm, packing=packing)
    assert set(decoder.packings) == {packing}
    for how in ({"use_sampling": False}, {"top_k": 20}, {"two_step_cfg": True}):
        made = []
        for generate in (lm.generate, decoder.generate):
            torch.manual_seed(5)
            made.append(generate(None, attributes, max_gen_len=30, **how))
        assert torch.equal(*made), how


def test_without_a_compiler_or_when_left_out_torchs_packings_are_taken(fresh):
    fresh.setattr(packed_weights, "LARGE", 0)
    exact = torch.randn(32, 64).half().float()
    for change in (
        lambda: fresh.setenv("HARMONIA_COMPILED_PRODUCTS", "off"),
        lambda: fresh.setattr(compiled_products.shutil, "which", lambda _: None),
    ):
        with fresh.context():
            change()
            assert not supported("half_rows")
            assert exact_packing(exact) == ("half" if supported("half") else "onednn")


@pytest.mark.parametrize(
    "script", ["exit 1", "exit 0", 'echo nothing > "$7"'], ids=["fails", "writes nothing", "writes noise"]
)
def test_a_compiler_that_is_broken_is_as_good_as_none(fresh, tmp_path, script):
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    compiler.chmod(stat.S_IRWXU)
    fresh.setattr(compiled_products.shutil, "which", lambda name: str(compiler) if name == "cc" else None)
    assert not supported("half_rows")
    assert not supported("float_rows")


@needs_program
@pytest.mark.parametrize("slower", ["half_rows", "half"])
def test_a_trial_decides_between_the_compiled_program_and_torch(fresh, slower):
    exact = torch.randn(32, 64).half().float()
    fresh.setattr(packed_weights, "TRIAL", (2, 64))

    def delayed(weight):
        product = packed_weights._dense(weight)

        def multiply(rows):
            threading.Event().wait(0.05)
            return product(rows)

        return multiply

    fresh.setitem(packed_weights._PACK, slower, delayed)
    other = "half" if slower == "half_rows" else "half_rows"
    assert exact_packing(exact) == "half"  # small matrices aren't tried
    fresh.setattr(packed_weights, "LARGE", 0)
    assert exact_packing(exact) == other

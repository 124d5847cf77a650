"""A cache holds the same keys and values, and gives the same attention, in either layout."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it

from harmonia_lab.audio_engines.musicgen.forward_pass import attend
from harmonia_lab.audio_engines.musicgen.kv_cache import KVCache

ROWS, HEADS, POSITIONS, WIDTH = 4, 3, 40, 8


def filled(*, positions_last):
    generator = torch.Generator().manual_seed(1)
    cache = KVCache(ROWS, HEADS, POSITIONS, WIDTH, torch.empty(0), positions_last=positions_last)
    cache.write(0, torch.randn(ROWS, 2, HEADS, 20, WIDTH, generator=generator))
    cache.write(20, torch.randn(2, 2, HEADS, 10, WIDTH, generator=generator), slice(0, None, 2))
    cache.write(20, torch.randn(2, 2, HEADS, 10, WIDTH, generator=generator), slice(1, None, 2))
    cache.write(30, torch.randn(ROWS, 2, HEADS, 1, WIDTH, generator=generator))
    return cache


@pytest.mark.parametrize("positions", [1, 7, 31])
@pytest.mark.parametrize("begins", [[(slice(None), 0)], [(slice(0, None, 2), 0), (slice(1, None, 2), 5)]], ids=str)
def test_both_layouts_give_torchs_attention(positions, begins):
    query = torch.randn(ROWS, HEADS, 1, WIDTH, generator=torch.Generator().manual_seed(2))
    first, last = (filled(positions_last=each) for each in (False, True))
    assert torch.equal(first.both, last.both)
    assert last.read(positions)[0].stride(2) == 1
    begins = [(rows, min(begin, positions - 1)) for rows, begin in begins]
    expected = torch.empty_like(query)
    for rows, begin in begins:
        keys, values = (each[rows, :, begin:].contiguous() for each in first.read(positions))
        expected[rows] = F.scaled_dot_product_attention(query[rows], keys, values)
    for cache in (first, last):
        torch.testing.assert_close(attend(query, *cache.read(positions), begins), expected, rtol=1e-5, atol=1e-6)


def test_reading_copies_nothing():
    cache = filled(positions_last=True)
    keys, values = cache.read(31)
    cache.both[:, 0, :, 3] = 7
    cache.both[:, 1, :, 4] = 8
    assert (keys[:, :, 3] == 7).all()
    assert (values[:, :, 4] == 8).all()
    assert not cache.both[:, :, :, 31:].any()

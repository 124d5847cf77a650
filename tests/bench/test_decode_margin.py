"""The margin of a choice: what has to change for another token, by the rule that audiocraft draws with."""

import pytest
import torch

from harmonia_lab.audio_engines.musicgen.sampling import Sampling, sample_tokens
from harmonia_lab.bench.decode_margin import flip_margin

CARD = 40
WAYS = {
    "greedy": Sampling(use_sampling=False),
    "all": Sampling(top_k=0),
    "top-k": Sampling(top_k=12, temp=0.8),
    "top-p": Sampling(top_p=0.8),
}


def chosen(logits, noise, sampling):
    return int(sample_tokens(logits[None, None], noise[None, None], sampling))


def some(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(CARD, generator=generator), torch.empty(CARD).exponential_(generator=generator)


def margin(probabilities, noise, sampling, token):
    drawn = torch.tensor(noise) if noise is not None else None
    return flip_margin(torch.tensor(probabilities).log(), drawn, sampling, token)


def test_the_likeliest_of_two_equals_is_chance():
    assert margin([0.4, 0.4, 0.2], None, WAYS["greedy"], 1) == 0
    assert margin([0.5, 0.25, 0.25], None, WAYS["greedy"], 2) == pytest.approx(torch.log(torch.tensor(2.0)))


def test_a_race_is_won_by_overtaking():
    near = margin([0.5, 0.25, 0.25], [1.0, 0.499, 1.0], Sampling(top_k=0), 1)
    assert near == pytest.approx(0, abs=1e-9)
    assert margin([0.5, 0.25, 0.25], [1.0, 0.501, 1.0], Sampling(top_k=0), 1) == pytest.approx(0.002, rel=0.01)


def test_the_last_of_the_likeliest_may_fall_out_and_another_come_in():
    probabilities = [0.5, 0.2, 0.19999, 0.1]
    noise = [9.0, 0.01, 0.02, 9.0]  # the second wins; without it the third
    assert chosen(torch.tensor(probabilities).log(), torch.tensor(noise), Sampling(top_k=2)) == 1
    assert margin(probabilities, noise, Sampling(top_k=2), 2) == pytest.approx(1e-4, rel=0.1)
    assert margin(probabilities, noise, Sampling(top_k=3), 2) > 0.1


def test_neighbours_may_change_ranks_and_with_them_their_noise():
    probabilities = [0.5, 0.20001, 0.2, 0.09999]
    noise = [9.0, 0.01, 9.0, 9.0]  # of ranks
    assert chosen(torch.tensor(probabilities).log(), torch.tensor(noise), Sampling(top_p=0.9)) == 1
    assert margin(probabilities, noise, Sampling(top_p=0.9), 2) == pytest.approx(5e-5, rel=0.1)
    assert margin(probabilities, noise, Sampling(top_k=0), 2) > 1


def test_the_threshold_may_let_one_more_rank_in():
    probabilities, noise = [0.5, 0.3, 0.2], [9.0, 9.0, 0.01]
    assert margin(probabilities, noise, Sampling(top_p=0.79999), 2) == pytest.approx(1e-5, rel=0.1)
    assert margin(probabilities, noise, Sampling(top_p=0.7), 2) == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("way", WAYS)
def test_what_the_rule_chooses_has_no_margin_and_nothing_else_has_none(way):
    for seed in range(20):
        logits, noise = some(seed)
        token = chosen(logits, noise, WAYS[way])
        margins = [flip_margin(logits, noise, WAYS[way], each) for each in range(CARD)]
        assert margins[token] == 0
        assert sorted(margins)[1] > 0


@pytest.mark.parametrize("way", WAYS)
def test_a_change_much_smaller_than_the_margin_never_brings_a_token_about(way):
    """A margin adds up to three differences of two numbers, all of which a change may move at once: hence the sixth."""
    seen = 0
    for seed in range(40):
        logits, noise = some(seed)
        margins = torch.tensor([flip_margin(logits, noise, WAYS[way], each) for each in range(CARD)])
        for size in (1e-3, 1e-2, 0.1, 0.5):
            shift = size * (2 * torch.rand(CARD, generator=torch.Generator().manual_seed(seed)) - 1)
            token = chosen(logits + shift, noise, WAYS[way])
            assert margins[token] <= 6 * size / WAYS[way].temp
            seen += bool(margins[token] > 0)
    assert seen  # some changes did flip the choice

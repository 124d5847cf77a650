"""What is compared is found, trials are drawn evenly, and no name that a listener gets says what a sound is."""

import json
from collections import Counter
from itertools import product

import pytest

from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.listening.design import ListeningDesign, design_test, listener_order
from harmonia_lab.listening.sources import candidates_in
from tests.listening.songs import make_batch, make_song, make_study


def test_a_studys_configurations_are_compared_block_by_block(tmp_path):
    design = design_test(candidates_in(make_study(tmp_path)))
    assert design.conditions == ("fast", "int8")
    compared = [trial for trial in design.trials if trial.role == "compare"]
    assert len(compared) == 4
    for trial in compared:
        stimuli = [design.stimulus(each) for each in trial.stimuli]
        assert {each.condition for each in stimuli} == {"fast", "int8"}
        assert {each.block for each in stimuli} == {trial.block}


def test_a_batchs_conditions_are_what_its_songs_differ_in(tmp_path):
    engines = make_batch(tmp_path / "engines")
    assert {each.condition for each in candidates_in(engines)} == {"sketch", "musicgen"}
    for cfg, seed in product((1.5, 3), (1, 2)):
        make_song(tmp_path / "settings" / f"{cfg}-{seed}", seed=seed, options={"cfg_coef": cfg})
    found = candidates_in(tmp_path / "settings")
    assert {each.condition for each in found} == {"cfg_coef 1.5", "cfg_coef 3"}
    assert len({each.block for each in found}) == 2


def test_seeds_are_compared_where_they_are_named(tmp_path):
    make_batch(tmp_path, engines=("sketch",))
    with pytest.raises(InvalidRequest, match="nothing to compare"):
        candidates_in(tmp_path)
    found = candidates_in(tmp_path, by="seed")
    assert {each.condition for each in found} == {"seed 1", "seed 2", "seed 3"}
    assert len({each.block for each in found}) == 1
    with pytest.raises(InvalidRequest, match="has a field 'tempo'"):
        candidates_in(tmp_path, by="tempo")


def test_folders_may_be_named(tmp_path):
    songs = {name: make_song(tmp_path / name, pitch=pitch) for name, pitch in (("before", 300), ("after", 400))}
    assert design_test(candidates_in(songs)).conditions == ("before", "after")


@pytest.mark.parametrize("kind", ["pairs", "scales"])
def test_songs_without_a_common_story_and_seed_are_not_compared(tmp_path, kind):
    make_song(tmp_path / "a", engine="a", seed=1)
    make_song(tmp_path / "b", engine="b", seed=2)
    with pytest.raises(InvalidRequest, match="nothing to compare"):
        design_test(candidates_in(tmp_path), kind)


def test_what_holds_no_songs_is_said(tmp_path):
    with pytest.raises(InvalidRequest, match="holds no songs"):
        candidates_in(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(HarmoniaError, match=r"study\.json can't be read"):
        candidates_in(tmp_path)


def test_drawn_trials_have_each_two_conditions_equally_often(tmp_path):
    make_study(tmp_path, ("a", "b", "c", "d"), blocks=6)
    design = design_test(candidates_in(tmp_path), trials=12, seed=5)
    twos = Counter(
        frozenset(design.stimulus(each).condition for each in trial.stimuli)
        for trial in design.trials
        if trial.role == "compare"
    )
    assert set(twos.values()) == {2}
    assert len(twos) == 6
    assert design.left_out == 24
    assert design == ListeningDesign(
        **{**vars(design_test(candidates_in(tmp_path), trials=12, seed=5)), "id": design.id}
    )


def test_numbers_reveal_no_condition(tmp_path):
    make_study(tmp_path, blocks=40)
    design = design_test(candidates_in(tmp_path), trials=40, checks=0, seed=3)
    by_number = sorted((each.id, each.condition) for each in design.stimuli)
    firsts = Counter(design.stimulus(trial.stimuli[0]).condition for trial in design.trials)
    assert 10 < firsts["fast"] < 30  # the lower number of a pair is either's
    half = Counter(condition for _, condition in by_number[: len(by_number) // 2])
    assert 10 < half["fast"] < 30


def test_checks_are_trials_like_others_to_the_page_and_named_in_the_key(tmp_path):
    design = design_test(candidates_in(make_study(tmp_path)), checks=3)
    design = design.with_sounds({each.id: {"seconds": 1.0, "gain_db": 0.0, "lufs": -14.0} for each in design.stimuli})
    told = json.dumps(design.for_listeners())
    assert not any(word in told for word in ("fast", "int8", "degraded", "check", "songs/", "better", str(tmp_path)))
    checks = [trial for trial in design.trials if trial.role == "check"]
    assert len(checks) == 3
    for trial in checks:
        assert (design.stimulus(trial.better).treatment, design.stimulus(trial.worse).treatment) == ("", "degraded")
    assert {len(trial["stimuli"]) for trial in design.for_listeners()["trials"]} == {2}
    assert ListeningDesign.from_key(json.loads(json.dumps(design.key()))) == design


def test_scales_with_a_reference_have_it_hidden_and_an_anchor(tmp_path):
    make_study(tmp_path, ("a", "b", "c"))
    design = design_test(candidates_in(tmp_path), "scales", reference="b")
    for trial in design.trials:
        treatments = [design.stimulus(each).treatment for each in trial.stimuli]
        if trial.role == "compare":
            assert sorted(treatments) == ["", "", "", "anchor"]
            assert design.stimulus(trial.reference).condition == "b"
            assert trial.reference not in trial.stimuli
    with pytest.raises(InvalidRequest, match="can't be the reference"):
        design_test(candidates_in(tmp_path), "scales", reference="z")
    with pytest.raises(InvalidRequest, match="pairs have none"):
        design_test(candidates_in(tmp_path), "pairs", reference="b")


@pytest.mark.parametrize(
    "wrong", [{"kind": "triples"}, {"trials": 0}, {"trials": 501}, {"checks": -1}, {"listen_s": float("nan")}]
)
def test_a_value_that_cannot_be_is_refused_by_its_name(tmp_path, wrong):
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        design_test(candidates_in(make_study(tmp_path)), **wrong)


def test_orders_are_drawn_evenly_and_differ_between_listeners():
    trials = [(f"t{n}", ["a", "b"]) for n in range(6)]
    orders = [listener_order(trials, seed) for seed in range(600)]
    first = Counter(order[0][0] for order in orders)
    sides = Counter(sounds[0] for order in orders for _, sounds in order)
    assert all(60 < count < 145 for count in first.values())
    assert 1680 < sides["a"] < 1920
    assert trials[0] == ("t0", ["a", "b"])  # what was given stays as it was

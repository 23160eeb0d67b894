"""Settings chosen on held-out classes: the rule by which grids grow, and whose classes they are."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, strategies as st

from diml_nb.datasets.registry import get_dataset
from diml_nb.learning import trainer
from diml_nb.learning.choice import Scale, choose_on, held_out_protocol
from diml_nb.learning.config import CACHED_MAPS_CONFIG, TrainConfig
from diml_nb.learning.linear_probe import take_classes

SCALES = dict(p=Scale([1, 2, 3, 4, 6, 8], natural=[1]), rule=Scale(["flat", "steep", "steeper"]))


def peak_at(p, rule):
    "A score with one peak."

    def score(**own):
        far = abs(SCALES["p"].values.index(own["p"]) - SCALES["p"].values.index(p))
        steps = SCALES["rule"].values.index
        return -float(far + abs(steps(own["rule"]) - steps(rule)))

    return score


@pytest.mark.parametrize("p, rule", list(product(*(scale.values for scale in SCALES.values()))))
@pytest.mark.parametrize("begin", [dict(p=[3], rule=["steep"]), dict(p=[1, 2], rule=["flat"])])
def test_a_single_peak_is_found_or_its_open_end_is_told(p, rule, begin):
    found = choose_on(SCALES, begin, peak_at(p, rule))
    assert found.best == dict(p=p, rule=rule)
    assert ("p" in found.open_ends) == (p == 8)
    assert ("rule" in found.open_ends) == (rule in ("flat", "steeper"))


@given(
    table=st.lists(st.floats(-1, 1), min_size=12, max_size=12),
    begin=st.lists(st.integers(0, 5), min_size=1, unique=True),
)
def test_the_best_of_all_that_was_tried_and_its_neighbours_were(table, begin):
    scales = dict(i=Scale(range(6)), j=Scale([0, 1], natural=[0, 1]))
    found = choose_on(scales, dict(i=begin, j=[0]), lambda i, j: table[2 * i + j])
    scores = {(i, j): table[2 * i + j] for i, j in product(found.tried["i"], found.tried["j"])}
    assert len(found.scores) == len(scores)
    assert table[2 * found.best["i"] + found.best["j"]] == max(scores.values())
    low, high = min(found.tried["i"]), max(found.tried["i"])
    assert low == 0 or found.best["i"] > low
    assert high == 5 or found.best["i"] < high
    assert found.open_ends == (["i"] if found.best["i"] in (low, high) else [])


def test_of_equal_scores_the_first_counts():
    assert choose_on(SCALES, dict(p=[3, 2, 4], rule=["steep"]), lambda **own: 0.5).best["p"] == 3


def test_a_number_that_the_scale_lacks_takes_its_place():
    found = choose_on(SCALES, dict(p=[5], rule=["steep"]), lambda p, rule: -abs(p - 6))
    assert found.tried["p"] == [5, 6, 4, 8]
    assert SCALES["p"].values == [1, 2, 3, 4, 6, 8]


def test_without_extension_nothing_is_added():
    found = choose_on(SCALES, dict(p=[2, 3], rule=["flat"]), peak_at(8, "steeper"), extend=False)
    assert found.tried == dict(p=[2, 3], rule=["flat"])
    assert found.open_ends == ["p", "rule"]


@pytest.mark.parametrize(
    "begin, score, named",
    [
        (dict(q=[1]), lambda q: 0, "begin"),
        (dict(p=[]), lambda p: 0, "begin: p"),
        (dict(rule=["flatter"]), lambda rule: 0, "'flatter'"),
        (dict(p=[1]), lambda p: math.nan, "p=1"),
    ],
)
def test_what_is_wrong_is_named(begin, score, named):
    with pytest.raises(ValueError, match=named):
        choose_on(SCALES, begin, score)


def test_the_held_out_images_are_those_that_training_looks_at(tmp_path, monkeypatch):
    looked_at = []
    check = trainer._check_validation

    def spy(protocol):
        looked_at.append(protocol)
        return check(protocol)

    monkeypatch.setattr(trainer, "_check_validation", spy)
    images = take_classes("emoji", "train", 8)
    small = dict(epochs=1, batch_size=4, embedding_dim=4, validation=0.25, seed=3)
    config = TrainConfig("emoji", **CACHED_MAPS_CONFIG | small)
    trainer.train(config, tmp_path / "run", images=images)
    ours = held_out_protocol(images, config.validation, config.seed)
    assert ours.images.paths == looked_at[0].images.paths
    assert torch.equal(ours.index_q, looked_at[0].index_q)


def test_too_few_held_out_classes_are_refused():
    with pytest.raises(ValueError, match="expected at least 2"):
        held_out_protocol(get_dataset("emoji").subset("train"), 0.01, seed=0)

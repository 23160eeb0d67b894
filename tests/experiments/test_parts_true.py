"""17_parts: a smoke run, and what must hold whatever pairs are drawn and networks learn."""

import pytest

from diml_nb.experiments.pooling import PooledRecords


@pytest.fixture(scope="module")
def smoke(smoke_of):
    return smoke_of("17_parts")


@pytest.fixture(scope="module")
def pooled(smoke):
    return PooledRecords([smoke[1]])


def ways(pooled):
    return [row for row in pooled.rows if "method" in row]


def test_every_way_is_measured_at_every_count(pooled):
    rows = ways(pooled)
    names = {row["method"] for row in rows}
    assert {"parts", "k-means", "positions"} <= names
    assert len(rows) == len(names) * len(pooled.records[0].config["counts"])


def test_shares_are_shares_and_gains_are_less(pooled):
    for row in ways(pooled):
        share_c, gain_c = (pooled.values(row, metric)[0] for metric in ("share", "gain"))
        assert (share_c <= 1.0001).all()
        assert (gain_c < share_c).all()
        assert (10 * pooled.values(row, "effective")[0] <= row["k"] + 0.001).all()


def test_parts_keep_more_than_places_do(pooled):
    "They are cut by what flows, and positions cannot know that the thing moved."
    parts, positions = (dict(split="test", method=x, k=4) for x in ("parts", "positions"))
    assert (pooled.difference(parts, "gain", positions) > 0).all()


def test_more_points_are_right_within_a_wider_circle(pooled):
    for row in [row for row in pooled.rows if "place" in row]:
        near, wider, widest = (pooled.values(row, f"pck_{a:g}") for a in (0.05, 0.1, 0.15))
        assert (near <= wider).all()
        assert (wider <= widest).all()


def test_noise_has_no_structure_and_pairs_of_a_class_have(smoke):
    gains = smoke[1].find(dict(split="train", measure="gain"))["result"]
    assert gains["noise"][2] < 0.1 < gains["same class"][0]


def test_figures_are_those_of_the_run(smoke):
    names = {path.name for path in smoke[0].glob("figures/*")}
    assert names == {"17_parts-emoji_scenes.png", "17_parts-pairs-emoji_scenes.png"}

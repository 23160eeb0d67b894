"""20_displacement: two seeds of a smoke run, its laws, and its functions on places of our own."""

import ast
from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from PIL import Image

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.moved import MOVED_SCALE, place_drawing, random_place
from diml_nb.experiments.grid import GRIDS
from diml_nb.experiments.notebook import measuring_cells
from diml_nb.experiments.pooling import PooledRecords

PLANS = ("aligned", "transport", "best_cell", "product")
MASSES = ("uniform", "cross_correlation")
LEVELS = ("as it is", "place 0", "place 1", "size 0", "size 0.25", "moved")


@pytest.fixture(scope="module")
def smoke(two_seeds):
    return two_seeds("20_displacement")


def notebook(*names, **given):
    "Functions and classes of the notebook by name, with the names that they need."
    scope = dict(torch=torch, Image=Image, NamedTuple=NamedTuple)
    scope |= dict(random_place=random_place, place_drawing=place_drawing, seed=0) | given
    for cell in measuring_cells("20_displacement"):
        for node in ast.parse(cell).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names:
                exec(compile(ast.Module([node], []), "notebook", "exec"), scope)
    return [scope[name] for name in names]


def spread(record, level):
    return record.find(dict(level=level, pairs="of a class"))["result"]


def test_every_level_has_every_plan_and_its_gain_is_over_the_cosine_there(smoke):
    pooled = PooledRecords(smoke.records)
    for level in LEVELS:
        for network in ("untrained", "head"):
            cosine = dict(level=level, network=network, method="cosine")
            assert cosine in pooled.rows
            for plan in PLANS:
                for masses in MASSES:
                    row = dict(level=level, network=network, method=plan)
                    row |= dict(marginals=masses, grid=4)
                    assert pooled.baseline_of(row) == cosine


def test_only_the_head_is_chosen(smoke):
    for record in smoke.records:
        for row in record.rows:
            is_head = row["config"].get("network") == "head"
            assert row["kind"] == ("chosen" if is_head else "computed")


def test_place_and_size_are_varied_one_without_the_other(smoke):
    for record in smoke.records:
        assert spread(record, "as it is") == spread(record, "place 0")
        assert spread(record, "place 0") == dict(distance=0.0, ratio=1.0)
        assert spread(record, "place 1")["ratio"] == 1.0
        assert 0.1 < spread(record, "place 1")["distance"] < 0.3
        assert spread(record, "size 0") == dict(distance=0.0, ratio=1.0)
        assert spread(record, "size 0.25")["distance"] < 0.01  # half a pixel of rounding
        assert 1.1 < spread(record, "size 0.25")["ratio"] < 1.5
        assert spread(record, "moved")["ratio"] == spread(record, "size 0.25")["ratio"]


def test_another_seed_is_another_lot_of_places(smoke):
    "What does not move stays, without a head."
    pooled = PooledRecords(smoke.records)
    for level in LEVELS:
        row = dict(level=level, network="untrained", method="cosine")
        first, second = pooled.values(row, "mean_average_precision_at_r")
        assert torch.equal(first, second) == (level in ("as it is", "place 0", "size 0"))


def test_pages_of_the_moved_level_are_those_of_the_moved_set():
    level_type, place_of, page_of = notebook("Level", "place_of", "page_of")
    path = data_dir() / "emoji" / "owl" / "noto.png"
    moved = level_type("moved", MOVED_SCALE, 1.0)
    assert place_of(path, moved) == random_place("owl/noto.png")
    page = place_drawing(Image.open(path), random_place("owl/noto.png"))
    assert page_of(path, moved).tobytes() == page.tobytes()


def test_pairs_are_those_of_one_class():
    images = SimpleNamespace(label_n=torch.tensor([3, 5, 3, 5, 5]))
    (class_pairs,) = notebook("class_pairs", test=SimpleNamespace(images=images))
    assert set(zip(*class_pairs().tolist())) == {(0, 2), (1, 3), (1, 4), (3, 4)}


def test_more_freedom_is_more_distance_at_the_same_size():
    level_type, place_of = notebook("Level", "place_of")
    path = data_dir() / "emoji" / "owl" / "noto.png"
    levels = [level_type("", (0.6, 0.6), d) for d in (0, 0.25, 0.5, 0.75, 1)]
    places = [place_of(path, level) for level in levels]
    offsets = [torch.tensor(place.centre).sub(112).norm() for place in places]
    assert offsets[0] == 0
    assert all(near < far for near, far in pairwise(offsets))
    assert len({place.side for place in places}) == 1


def test_figures_are_those_of_the_run(smoke):
    for folder in smoke.folders:
        names = {path.name for path in folder.glob("figures/*")}
        assert names == {"20_displacement-emoji.png", "20_displacement-emoji-head.png"}


def test_the_grid_asks_drawings_that_can_be_moved_and_photographs():
    assert GRIDS["full"]["20_displacement"]["dataset"] == ("emoji_vendors", "grocery")
    assert "20_displacement" not in GRIDS["quick"]

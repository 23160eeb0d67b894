"""The page's solver and the library agree: both answer the same requests about the same pairs."""

import base64
import itertools
import re

import numpy as np
import pytest
import torch
from scripts import answer_of, needs_node

from diml_nb._internal.paths import data_dir
from diml_nb.ot.marginals import MARGINAL_RULES
from diml_nb.viz.widgets.live import pack_maps
from diml_nb.viz.widgets.pair import (
    DEFAULT_VIEW,
    PLAN_LABELS,
    GridFeatureCache,
    answer_pair,
)

pytestmark = needs_node
PLANS = [plan for plan in PLAN_LABELS.values() if plan != "exact"]


def request(**changes):
    "A request like the state of an explorer, with some changes."
    default = dict(
        grid=4, marginals="cross_correlation", plan="transport", eps=0.05, max_iter=200, top=12
    )
    dropped = {name: changes.pop(name, []) for name in ("dropped_a", "dropped_b")}
    return default | changes | dict(view=DEFAULT_VIEW | dropped)


def page_answers(cases, folder):
    "What the page's solver answers to cases (map of A, map of B, requests)."
    asked = [dict(maps=pack_maps(a[None], b[None]), requests=asked) for a, b, asked in cases]
    return answer_of("answers.js", asked, folder)


def python_answers(cases):
    caches = [(GridFeatureCache(a[None]), GridFeatureCache(b[None])) for a, b, _ in cases]
    return [
        [answer_pair(one, maps) for one in asked]
        for maps, (_, _, asked) in zip(caches, cases, strict=True)
    ]


def numbers(value):
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), "<f4")
    return np.asarray(value)


def words(text):
    "A text without the last digit of its numbers, which rounding may change."
    return re.sub(r"\d(?!\d)", "#", text)


def differences(ours, theirs):
    "The largest difference of each number of a payload; texts must be equal."
    ours, theirs = ours.data, theirs["data"]
    assert set(ours) == set(theirs)
    for name in ("text", "notes"):
        assert words(str(ours[name])) == words(str(theirs[name]))
    for name in ("grid_a", "grid_b", "top", "live"):
        assert ours[name] == theirs[name]
    assert [x["name"] for x in ours["beside"]] == [x["name"] for x in theirs["beside"]]
    compared = {
        name: (numbers(ours[name]), numbers(theirs[name]))
        for name in ("plan", "local", "mass_a", "mass_b", "similarity", "cosine", "error_k")
    }
    compared["beside"] = tuple(
        np.array([score["value"] for score in x["beside"]]) for x in (ours, theirs)
    )
    return {name: float(np.abs(x - y).max(initial=0)) for name, (x, y) in compared.items()}


def part_differences(ours, theirs):
    "The same for the parts. Labels must be equal but for cells that move nothing."
    masses = {side: numbers(theirs["data"][f"mass_{side}"]) for side in "ab"}
    ours, theirs = ours.data["parts"], theirs["data"]["parts"]
    assert set(ours) == set(theirs)
    for side in "ab":
        labels = zip(ours["label"][side], theirs["label"][side], masses[side], strict=True)
        assert all(x == y for x, y, mass in labels if mass > 1e-12)
    for name in ("text", "summary", "note"):
        assert words(ours[name]) == words(theirs[name])
    assert [x["color"] for x in ours["list"]] == [x["color"] for x in theirs["list"]]
    pairs = [(ours["rest"], theirs["rest"])]
    for x, y in zip(ours["list"], theirs["list"], strict=True):
        pairs += [(x[name], y[name]) for name in ("contribution", "mass", "cosine")]
        pairs += [(x["cell_mass"][side], y["cell_mass"][side]) for side in "ab"]
        pairs += [edges for side in "ab" for edges in zip(x["face"][side], y["face"][side])]
    for side in "ab":
        x, y = (numbers(found["opacity"][side]) for found in (ours, theirs))
        pairs.append((float(np.abs(x - y).max()), 0.0))
    return max(abs(x - y) for x, y in pairs)


def random_map(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.3


def golden_cases():
    "Pairs of the official code's figures, under each rule and plan."
    golden = np.load(data_dir() / "golden" / "official_diml.npz")
    map_nchw = torch.from_numpy(golden["maps_nchw"]).float()
    asked = [
        request(grid=grid, marginals=marginals, plan=plan)
        for grid in (4, 7)
        for marginals, plan in itertools.product(MARGINAL_RULES, PLANS)
        if grid == 4 or marginals == "cross_correlation"
    ]
    return [(map_nchw[i], map_nchw[j], asked) for i, j in ((0, 1), (17, 60), (44, 44))]


def random_cases():
    "Rectangular grids, few channels, small and large eps, dropped cells, a short run."
    asked = [
        request(grid=grid, eps=eps, marginals=marginals)
        for grid in (1, 2, 3, 5)
        for eps in (0.5, 0.05, 0.01)
        for marginals in ("uniform", "cross_correlation_norm2")
    ]
    asked += [
        request(plan=plan, dropped_a=[0, 3, 5], dropped_b=[1])
        for plan in ("transport", "best_cell", "product")
    ]
    asked += [request(max_iter=k, eps=0.01) for k in (1, 3)]
    shapes = [((8, 7, 7), (8, 7, 7)), ((8, 6, 9), (8, 7, 7)), ((3, 5, 4), (3, 4, 8))]
    return [
        (random_map(*a, seed=k), random_map(*b, seed=10 + k), asked)
        for k, (a, b) in enumerate(shapes)
    ]


def zero_mass_cases():
    "Cells and whole images without mass."
    a, b = random_map(4, 4, 4, seed=5), random_map(4, 4, 4, seed=6).abs()
    half = a.clone()
    half[:, :, :2] = 0
    asked = [request(grid=grid, plan=plan) for grid in (2, 4) for plan in PLANS]
    asked += [request(dropped_a=[0, 1, 2]), request(plan="aligned", dropped_a=[0], dropped_b=[5])]
    return [(half, b, asked), (-b, b, asked), (torch.zeros_like(a), b, asked)]


@pytest.mark.parametrize("cases", [golden_cases, random_cases, zero_mass_cases])
def test_both_answer_the_same_numbers(cases, tmp_path):
    cases = cases()
    answers = zip(python_answers(cases), page_answers(cases, tmp_path), strict=True)
    compared = 0
    for (_, _, asked), (ours, theirs) in zip(cases, answers, strict=True):
        for one, x, y in zip(asked, ours, theirs, strict=True):
            assert not x.obstacle, one
            for name, difference in differences(x, y).items():
                assert difference < 1e-5, (name, difference, one)
            # flows of few cells fall into separate pieces, whose singular vectors are not unique
            if one["plan"] in ("transport", "product") and one["eps"] >= 0.05:
                assert part_differences(x, y) < 1e-5, one
            compared += 1
    assert compared >= 30

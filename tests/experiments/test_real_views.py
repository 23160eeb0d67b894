"""19_real_views: a smoke run on composed scenes, its laws, and its functions on made-up cells."""

import ast

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from diml_nb.datasets.correspondences import Correspondences
from diml_nb.experiments.grid import GRIDS
from diml_nb.experiments.notebook import measuring_cells
from diml_nb.explain.truth import pck
from diml_nb.features.grid import grid_features
from diml_nb.ot.exact import exact_match
from diml_nb.ot.matching import match
from diml_nb.ot.sinkhorn import sinkhorn

ALPHAS = {"2/28": 2 / 28, ".1": 0.1}
HELPERS = ("nearest_cell", "mutual_cells", "all_pcks", "shared_masses")


@pytest.fixture(scope="module")
def smoke(smoke_of):
    return smoke_of("19_real_views")


@pytest.fixture(scope="module")
def ways(smoke):
    "Way -> its numbers."
    return {r["config"]["way"]: r["result"] for r in smoke[1].rows if "way" in r["config"]}


@pytest.fixture(scope="module")
def groups(smoke):
    "Groups -> their numbers."
    return {r["config"]["groups"]: r["result"] for r in smoke[1].rows if "groups" in r["config"]}


def functions(*names):
    "Functions of the notebook, by name, with what they call."
    scope = dict(torch=torch, match=match, pck=pck, ALPHAS=ALPHAS)
    scope |= dict(linear_sum_assignment=linear_sum_assignment, sinkhorn=sinkhorn)
    for cell in measuring_cells("19_real_views"):
        for node in ast.parse(cell).body:
            if isinstance(node, ast.FunctionDef) and node.name in (*names, *HELPERS):
                exec(compile(ast.Module([node], []), "notebook", "exec"), scope)
    return [scope[name] for name in names]


def at_home(side):
    "The truth of an image and itself."
    n = torch.arange(side**2)
    xy_n2 = torch.stack([n % side, n // side], 1) + 0.5
    shown_n = torch.ones(side**2)
    return Correspondences(torch.eye(side**2), xy_n2, shown_n, shown_n.bool())


def test_every_row_has_a_number_for_each_pair(smoke, ways, groups):
    facts = next(r for r in smoke[1].rows if "pairs" in r["config"])
    pairs = len(facts["config"]["pairs"])
    assert pairs == smoke[1].config["classes"] * smoke[1].config["pairs"]
    for result in (*ways.values(), *groups.values()):
        assert {len(values) for values in result.values()} == {pairs}


def test_all_ways_are_asked_and_plans_converge(ways, groups):
    assert {"same place", "nearest cell", "cheapest plan, paper's masses"} <= set(ways)
    plans = [result for result in ways.values() if "converged" in result]
    assert len(plans) == 3
    assert all(set(result["converged"]) == {1.0} for result in plans)
    assert {"parts, by the rule", "no matching, k = 4", "quarters"} <= set(groups)


def test_more_cells_are_right_within_a_wider_circle(ways):
    for result in ways.values():
        for field in ("pck", "mutual pck"):
            near_wide = zip(result[f"{field} 2/28"], result[f"{field} .1"])
            assert all(0 <= near <= wide <= 1 for near, wide in near_wide)


def test_cells_that_are_left_and_right_are_right_without_the_filter(ways):
    for result in ways.values():
        fields = (result[name] for name in ("mutual", "mutual pck 2/28", "pck 2/28"))
        assert all(left * right <= all_right + 2e-4 for left, right, all_right in zip(*fields))


def test_an_assignment_leaves_each_cell_its_partner(ways):
    for way in ("same place", "cheapest plan, uniform masses"):
        assert set(ways[way]["mutual"]) == {1.0}


def test_the_assignment_is_the_cheapest_plan_of_equal_masses():
    (assignment,) = functions("assignment")
    x = grid_features(torch.randn(2, 16, 4, 4), grid=4)
    plan_nm = assignment(x[0], x[1])
    exact = exact_match(match(x[0], x[1], marginals="uniform"))
    assert torch.allclose(plan_nm, exact.plan_bnm[0], atol=1e-6)


def test_who_knows_the_shared_cells_names_no_other():
    nearest_shared, transport_shared = functions("nearest_shared", "transport_shared")
    x = grid_features(torch.randn(2, 16, 4, 4), grid=4)
    truth = at_home(4)
    left_n = torch.arange(16) % 4 < 2
    truth = truth._replace(visible_n=left_n, flow_nm=truth.flow_nm * left_n)
    assert left_n[nearest_shared(x[0], x[1], truth).argmax(1)].all()
    plan_nm = transport_shared(x[0], x[1], truth)
    assert plan_nm[left_n][:, left_n].sum() == pytest.approx(1, abs=1e-3)
    # all cells are shared: the same as without knowing
    plan_nm = transport_shared(x[0], x[1], at_home(4))
    assert torch.allclose(plan_nm, match(x[0], x[1], marginals="uniform").plan_bnm[0], atol=1e-6)


def test_partners_of_an_image_and_itself_are_mutual_and_right():
    (of_score,) = functions("of_score")
    found = of_score(torch.eye(36), at_home(6))
    assert set(found.values()) == {1.0}


def test_two_cells_that_choose_the_same_partner_are_not_both_mutual():
    mutual_cells, of_score = functions("mutual_cells", "of_score")
    score_nm = torch.eye(4)
    score_nm[1, 0] = 2.0  # cell 1 wants the partner of cell 0, and is wanted more
    assert mutual_cells(score_nm).tolist() == [False, True, True, True]
    found = of_score(score_nm, at_home(2))
    assert found["mutual"] == found["pck 2/28"] == 0.75
    assert found["mutual pck 2/28"] == pytest.approx(2 / 3)


def test_where_no_partner_is_mutual_none_is_right():
    (of_score,) = functions("of_score")
    truth = at_home(2)
    only_first = truth._replace(visible_n=torch.tensor([True, False, False, False]))
    score_nm = torch.eye(4)
    score_nm[1, 0] = 2.0
    assert of_score(score_nm, only_first)["mutual pck .1"] == 0
    assert of_score(score_nm, only_first)["mutual"] == 0


def test_groups_are_no_more_than_they_can_be(groups):
    most = {"parts, by the rule": 5, "parts, by the rule, eps .1": 5}
    for name, result in groups.items():
        assert all(1 <= number <= most.get(name, 4) + 1e-4 for number in result["effective"])
        assert all(0 <= share <= 1 for share in result["right_part"])


def test_figures_are_those_of_the_run(smoke):
    names = {path.name for path in smoke[0].glob("figures/*")}
    assert names == {"19_real_views-emoji_scenes.png"}


def test_the_grid_asks_photographs_and_smoke_asks_what_is_embedded(smoke):
    assert GRIDS["full"]["19_real_views"] == dict(dataset=("real_views",))
    assert smoke[1].config["dataset"] == "emoji_scenes"

"""18_parts_hold: two seeds of a smoke run, its laws, and its estimators on made-up scores."""

import ast

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from diml_nb.experiments.grid import GRIDS
from diml_nb.experiments.notebook import measuring_cells
from diml_nb.experiments.pooling import PooledRecords
from diml_nb.records.record import decode_fixed_point

PARTS, RULE, K_MEANS = "parts, k = 4", "parts, by the rule", "k-means, k = 4"


@pytest.fixture(scope="module")
def smoke(two_seeds):
    return two_seeds("18_parts_hold")


def functions(*names):
    "Functions of the notebook, by name, with the few names that they need."
    scope = dict(torch=torch, np=np, linear_sum_assignment=linear_sum_assignment, GRID=14, CELLS=4)
    for cell in measuring_cells("18_parts_hold"):
        for node in ast.parse(cell).body:
            if isinstance(node, ast.FunctionDef) and node.name in names:
                exec(compile(ast.Module([node], []), "notebook", "exec"), scope)
    return [scope[name] for name in names]


def result(record, **config):
    return record.find(config)["result"]


def hidden(record, groups, fill, masses, place):
    facts = dict(groups=groups, fill=fill, masses=masses, place=place)
    return result(record, measure="hiding", **facts)


def test_an_additive_score_has_no_interactions_and_a_bilinear_one_its_weights():
    "The factor 4 is that of a second difference between shown and hidden."
    interactions, masks_of = functions("interactions", "masks_of")
    lot = torch.Generator().manual_seed(0)
    shown_un, shown_vm = masks_of(50, lot), masks_of(60, lot)
    u_un, v_vm = shown_un.double(), shown_vm.double()
    weight_nm = torch.randn(16, 16, generator=lot).double()
    additive_uv = (u_un @ weight_nm[0])[:, None] + v_vm @ weight_nm[1] + 3
    assert interactions(additive_uv, shown_un, shown_vm).abs().max() < 1e-9
    found_nm = interactions(additive_uv + u_un @ weight_nm @ v_vm.T, shown_un, shown_vm)
    assert (found_nm - weight_nm).abs().max() < 1e-9


def test_after_coupling_the_score_says_nothing():
    "Before it, it tells nearly all; and the other numbers keep what they say beside it."
    couples, auroc = functions("couples", "auroc")
    lot = torch.Generator().manual_seed(0)
    right_p = 0.6 + 0.1 * torch.randn(300, generator=lot)
    wrong_p = 0.45 + 0.1 * torch.randn(900, generator=lot)
    i, j = couples(right_p, wrong_p, 0.005)
    assert len(i) > 50 and len(set(i.tolist())) == len(i) and len(set(j.tolist())) == len(j)
    assert ((right_p[i] - wrong_p[j]).abs() < 0.005).all()

    def told(right_p, wrong_p):
        is_right_p = np.arange(len(right_p) + len(wrong_p)) < len(right_p)
        value_p = torch.cat([right_p, wrong_p]).numpy()
        return auroc(value_p, is_right_p)(np.ones((1, len(value_p))))[0]

    assert told(right_p, wrong_p) > 0.8
    assert abs(told(right_p[i], wrong_p[j]) - 0.5) < 0.02
    assert told(right_p[i] + 1, wrong_p[j]) == 1


def test_intervals_draw_whole_classes():
    "A class of many equal pairs counts as one: pairs drawn alone would give a narrow interval."
    (over_classes,) = functions("over_classes")
    label_p = torch.arange(4).repeat_interleave(100)
    value_p = label_p.numpy() % 2

    def mean(weight_rp):
        return weight_rp @ value_p / weight_rp.sum(1)

    assert over_classes(mean, label_p) == [0.5, 0.0, 1.0]


def test_slopes_within_pairs_do_not_see_what_differs_between_pairs():
    moments, line, within = functions("moments", "line", "within")
    rng = np.random.default_rng(0)
    pair_i = np.repeat(np.arange(20), 4)
    x_i = rng.normal(size=80)
    y_i = 0.5 * x_i + rng.normal(size=20)[pair_i] * 10
    inner = moments(within(x_i, pair_i), within(y_i, pair_i), pair_i)
    assert np.allclose(line(inner, np.ones((1, 20))), [[0.5], [1.0]])
    twice = np.ones((1, 20))
    twice[0, 3] = 2
    pooled, again_i = moments(x_i, y_i, pair_i), np.concatenate([np.arange(80), np.arange(12, 16)])
    assert np.isclose(line(pooled, twice)[0][0], np.polyfit(x_i[again_i], y_i[again_i], 1)[0])


def test_a_part_that_is_turned_is_moved_as_one_and_a_torn_one_is_not():
    left_over, moved_as_one = functions("left_over", "moved_as_one")
    row_n, column_n = (x.flatten().double() for x in torch.ones(14, 14).nonzero().T)
    left_over.__globals__["XY_N"] = torch.complex(column_n, row_n)
    image_hw = torch.arange(196).view(14, 14)
    one_n = torch.zeros(196, dtype=torch.long)
    turned = torch.eye(196).double()[image_hw.rot90().flatten()]
    assert moved_as_one(turned, one_n, one_n) == pytest.approx(1)
    # the two halves change places: each is moved as one, and both together are not
    changed = torch.eye(196).double()[image_hw.roll(7, 1).flatten()]
    half_n = (torch.arange(14) < 7).long().repeat(14)
    assert moved_as_one(changed, half_n, 1 - half_n) == pytest.approx(1)
    assert moved_as_one(changed, one_n, one_n) < 0.9


def test_what_knows_no_entropy_does_not_change_with_it(smoke):
    pooled = PooledRecords(smoke.records)
    for name in ("eps x 2", "eps / 2"):
        row = dict(measure="stability", change=name)
        for metric in ("all", "heavy"):
            assert (pooled.values(row | dict(method=K_MEANS), metric) == 1).all()
            assert (pooled.values(row | dict(method=PARTS), metric) < 1).any()


def test_every_change_changes_something_and_no_agreement_is_above_one(smoke):
    for record in smoke.records:
        rows = [r for r in record.rows if "change" in r["config"]]
        assert len(rows) == 8 * 3 - 1
        texts = [r["result"]["by_class"]["all"] for r in rows if r["config"]["method"] == PARTS]
        assert len(set(texts)) == len(texts)
        for row in rows:
            for text in row["result"]["by_class"].values():
                assert (decode_fixed_point(text) <= 1).all()


def test_in_the_map_and_with_kept_masses_the_fall_is_the_contribution(smoke):
    "This is arithmetic: what remains to the plan is to send hidden masses elsewhere."
    for record in smoke.records:
        for place in ("A", "B"):
            found = hidden(record, "parts", "in the map", "kept", place)
            assert found["r_all flows"][0] > 0.98
            assert 0.9 < found["slope"][0] < 1.3
        # masses of their own: S is a mean again, and falls less
        renewed = hidden(record, "parts", "in the map", "own", "A")
        assert renewed["fall"][0] < found["fall"][0] / 2


def test_points_are_the_same_groups_whatever_hides_them(smoke):
    for record in smoke.records:
        names = [("blur", "own"), ("mean", "own"), ("in the map", "own"), ("blur", "kept")]
        means = [hidden(record, "parts", *name, "A")["contribution"] for name in names]
        assert all(mean == means[0] for mean in means)
        random, parts = (
            hidden(record, name, "blur", "own", "pairs") for name in ("random", "parts")
        )
        gain = parts["r_contribution"][0] - random["r_contribution"][0]
        assert random["gain_of_parts"][0] == pytest.approx(gain, abs=2e-4)


def test_all_is_told_by_eleven_numbers_and_three_regressions(smoke):
    for record in smoke.records:
        found = {
            row["config"]["by"]: row["result"]["auroc"]
            for row in record.rows
            if row["config"]["measure"] == "equal S" and "over" not in row["config"]
        }
        assert len(found) == 14
        assert all(0 <= low <= value <= high <= 1 for value, low, high in found.values())
        gain = result(record, measure="equal S", by="all", over="all without parts")["gain"]
        assert gain[0] == pytest.approx(found["all"][0] - found["all without parts"][0], abs=2e-4)


def test_figures_are_those_of_the_run(smoke):
    for folder in smoke.folders:
        names = {path.name for path in folder.glob("figures/*")}
        assert names == {"18_parts_hold-emoji_scenes-smoke.png"}


def test_the_grid_asks_only_sets_with_known_objects():
    assert set(GRIDS["full"]["18_parts_hold"]["dataset"]) == {"emoji_scenes", "stamp_scenes"}

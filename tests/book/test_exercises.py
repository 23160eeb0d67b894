"""The exercises: each placeholder runs and fails by a law, each solution passes, and a second
plausible mistake does not."""

import ast
import io
import json
from contextlib import redirect_stdout
from typing import NamedTuple

import pytest

from diml_nb._internal.paths import REPO_ROOT

CELLS = [
    c
    for c in json.loads((REPO_ROOT / "nbs" / "90_exercises.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ]
    if c["cell_type"] == "code"
]
SOLUTIONS = {
    path.stem.split("_", 1)[1]: path
    for path in sorted((REPO_ROOT / "nbs" / "solutions").glob("*.py"))
}


def name_of(source):
    "Name of the only definition of an exercise."
    (definition,) = ast.parse(source).body
    return definition.name


SOURCES = ["".join(c["source"]) for c in CELLS]
EXERCISES = {
    name_of(source): (source, SOURCES[i + 1])
    for i, source in enumerate(SOURCES)
    if "exercise" in CELLS[i]["metadata"].get("tags", [])
}


class Done(NamedTuple):
    names: dict  # the namespace of the notebook afterwards
    said: dict  # what the check of each exercise printed


def exercise_of(source):
    "The name of the exercise that this cell is, None for other cells."
    return next((name for name, (text, _) in EXERCISES.items() if text == source), None)


@pytest.fixture(scope="module")
def run_exercises():
    "Runs the notebook, once as it stands and once with the solutions."
    runs = {}

    def get(solved):
        if solved not in runs:
            names, said, last = {"__name__": "exercises"}, {}, None
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MPLBACKEND", "agg")
                for source in SOURCES:
                    with redirect_stdout(io.StringIO()) as out:
                        exercise = exercise_of(source)
                        if exercise and solved:
                            source = SOLUTIONS[exercise].read_text(encoding="utf-8")
                        exec(source, names)
                    if last:
                        said[last] = out.getvalue().strip()
                    last = exercise
            runs[solved] = Done(names, said)
        return runs[solved]

    return get


def test_every_exercise_has_a_solution_and_the_reverse():
    assert len(EXERCISES) >= 14
    assert list(SOLUTIONS) == list(EXERCISES)
    assert [path.name.split("_")[0] for path in SOLUTIONS.values()] == [
        f"{n:02}" for n in range(1, len(EXERCISES) + 1)
    ]
    for name, path in SOLUTIONS.items():
        source = path.read_text(encoding="utf-8")
        assert name_of(source) == name, name
        assert source.strip() != EXERCISES[name][0], name


def test_placeholders_run_and_fail_by_a_law(run_exercises):
    outcome, said = run_exercises(False).names["OUTCOME"], run_exercises(False).said
    assert list(outcome) == list(EXERCISES), [name for name, right in outcome.items() if right]
    assert not any(outcome.values()), [name for name, right in outcome.items() if right]
    for name in EXERCISES:
        print(f"{name}: {said[name]}")
        assert said[name].startswith("not yet: "), said[name]
        assert "expected" in said[name], said[name]
        assert "it stops with" not in said[name], said[name]


def test_solutions_are_right(run_exercises):
    outcome, said = run_exercises(True).names["OUTCOME"], run_exercises(True).said
    assert list(outcome) == list(EXERCISES), {
        name: said[name] for name, right in outcome.items() if not right
    }
    assert all(outcome.values()), {name: said[name] for name, right in outcome.items() if not right}


def test_what_stops_is_not_right_and_stops_nothing(run_exercises):
    names = dict(run_exercises(True).names)
    exec("def cell_cost(a_bcn, b_bcm): return 1 - a_bcn @ b_bcm", names)
    with redirect_stdout(io.StringIO()) as out:
        exec(EXERCISES["cell_cost"][1], names)
    assert "it stops with RuntimeError" in out.getvalue()
    assert names["OUTCOME"].pop("cell_cost") is False


# (exercise, a piece of its solution, what somebody might have written instead)
VARIANTS = [
    (
        "unit_cells",
        "F.adaptive_avg_pool2d(map_bchw, grid)",
        "F.adaptive_avg_pool2d(F.normalize(map_bchw, dim=1), grid)",
    ),
    ("cell_cost", "bnm", "bmn"),
    ("cell_cost", "1 - ", "1 - .5 * "),
    (
        "cross_masses",
        '"bcm,bc->bm", b.local_bcn, a.global_bc',
        '"bcm,bc->bm", b.local_bcn, b.global_bc',
    ),
    ("cross_masses", ".relu()", ".exp()"),
    (
        "cross_masses",
        "weight_bn / weight_bn.sum(1, keepdim=True), weight_bm / weight_bm",
        "weight_bm / weight_bm.sum(1, keepdim=True), weight_bn / weight_bn",
    ),
    ("masses_of", "weight_bn.sum(1, keepdim=True) > 0", "weight_bn.sum() > 0"),
    ("masses_of", "weight_bn / weight_bn.sum(1, keepdim=True)", "weight_bn.softmax(1)"),
    (
        "masses_of",
        "torch.where(weight_bn.sum(1, keepdim=True) > 0, weight_bn, 1.0)",
        "weight_bn + 1e-12",
    ),
    ("transport_plan", "u_n[:, None] * k_nm * v_m", "a_n[:, None] * b_m"),
    ("transport_plan", "-cost_nm / eps", "-cost_nm / .05"),
    ("transport_plan", "range(iterations)", "range(1)"),
    (
        "column_step",
        "torch.logsumexp(f_n[:, None] + score_nm, 0)",
        "(f_n[:, None] + score_nm).exp().sum(0).clamp_min(1e-300).log()",
    ),
    (
        "column_step",
        "torch.logsumexp(f_n[:, None] + score_nm, 0)",
        "(z := f_n[:, None] + score_nm).max() + (z - z.max()).exp().sum(0).log()",
    ),
    ("column_step", "f_n[:, None] + score_nm", "score_nm"),
    ("finished", "abs().sum(1)", "abs().mean(1)"),
    ("finished", "abs().sum(1) < tol", "abs().sum(1).mean().expand(len(b_bm)) < tol"),
    ("finished", "abs().sum(1)", "sum(1).abs()"),
    ("unmatched_similarity", "compute_marginals(a, b)", "compute_marginals(b, a)"),
    (
        "unmatched_similarity",
        "(mean_bc * partner_bc).sum(1)",
        "F.cosine_similarity(mean_bc, partner_bc)",
    ),
    (
        "best_cell_similarity",
        "(mass_b_bm * cosine_bnm.amax(1)).sum(1)",
        "cosine_bnm.amax(1).mean(1)",
    ),
    ("best_cell_similarity", "/ 2", "/ 1"),
    ("cell_contributions", ".sum(2)", ".sum(1)"),
    (
        "cell_contributions",
        "(pairs.plan_bnm * pairs.cosine_bnm).sum(2)",
        "pairs.mass_a_bn * pairs.cosine_bnm.amax(2)",
    ),
    (
        "training_images",
        "torch.isin(label_n, classes[: len(classes) // 2])",
        "label_n < label_n.max() // 2",
    ),
    ("training_images", "classes[: len", "classes[-len"),
    (
        "list_metrics",
        "(right_k * precision_k).sum() / r",
        "(right_k * precision_k).sum() / right_k.sum().clamp_min(1)",
    ),
    ("list_metrics", "index_k[:r]", "index_k"),
    (
        "gain_interval",
        "sum_i[draw_ri].sum(1) / count_i[draw_ri].sum(1)",
        "(sum_i / count_i)[draw_ri].mean(1)",
    ),
    (
        "gain_interval",
        "gain_q, rng = new_q - base_q",
        "gain_q, rng = new_q - base_q[torch.randperm(len(base_q))]",
    ),
    ("reranked", "cosine_k[:top] + similarity_k", "similarity_k"),
    ("reranked", "descending=True", "descending=False"),
    (
        "similarity_for_training",
        "(plan_bnm * cosine_bnm)",
        "(plan_bnm * cosine_bnm.detach() + 0 * cosine_bnm)",
    ),
    (
        "positive_loss",
        "(distance_p1[:, 0] - beta_p + margin).relu().mean()",
        "(z := distance_p1[:, 0] - beta_p + margin)[z > 0].mean()",
    ),
    ("positive_loss", "distance_p1[:, 0] - beta_p", "distance_p1[:, 0] - beta_p.mean()"),
    ("choose_eps", 'score(best, "test")', 'score(best, "held_out")'),
    (
        "choose_eps",
        '"held_out"))\n    return best, score(best, "test")',
        '"held_out"))\n    return best, max(score(eps, "test") for eps in candidates)',
    ),
    ("why_above", "gap_nm.sum(1)", "pairs.plan_bnm[first].sum(1) - pairs.plan_bnm[second].sum(1)"),
    (
        "why_above",
        "pairs.contribution_bnm[first] - pairs.contribution_bnm[second]",
        "pairs.contribution_bnm[first]",
    ),
    ("deletion_curve", "descending=True", "descending=False"),
    ("deletion_curve", "position_n >= k", "position_n < k + 1"),
    ("right_partners", "plan_nm.argmax(1)", "plan_nm.argmax(0)"),
    ("right_partners", "off_n[truth.visible_n]", "off_n"),
    ("right_partners", "amax(1)", "sum(1)"),
]


@pytest.mark.parametrize("name, piece, instead", VARIANTS)
def test_plausible_mistakes_are_seen(run_exercises, name, piece, instead):
    names, solution = dict(run_exercises(True).names), SOLUTIONS[name].read_text(encoding="utf-8")
    assert piece in solution, f"{SOLUTIONS[name].name} does not hold {piece!r}"
    exec(solution.replace(piece, instead), names)
    with redirect_stdout(io.StringIO()) as out:
        exec(EXERCISES[name][1], names)
    assert out.getvalue().startswith("not yet: "), out.getvalue()
    assert "it stops with" not in out.getvalue(), out.getvalue()

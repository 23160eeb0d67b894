"Explanations: laws over many pairs, float64, the command, and explorers where nothing is live."

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch

from diml_nb._internal.paths import REPO_ROOT, data_dir
from diml_nb.datasets.correspondences import Correspondences
from diml_nb.explain.counterfactual import match_reweighted
from diml_nb.explain.decomposition import (
    DECOMPOSITION_KINDS,
    cosine_decomposition,
    decompose,
    flow_table,
    score_difference,
)
from diml_nb.explain.faithfulness import (
    deletion_curves,
    effective_receptive_field,
    faithfulness,
    occlude,
)
from diml_nb.explain.truth import flow_accuracy
from diml_nb.features.backbones import get_backbone
from diml_nb.features.grid import Features, grid_features
from diml_nb.ot.exact import exact_match
from diml_nb.ot.marginals import MARGINAL_RULES
from diml_nb.ot.matching import PLAN_KINDS, match


def features(count: int, grid: int = 4, dtype=torch.float32) -> Features:
    return grid_features(torch.rand(count, 8, 2 * grid, 2 * grid, dtype=dtype), grid=grid)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("plan", PLAN_KINDS)
def test_every_decomposition_adds_up(plan, dtype):
    # cells in place need the same grid in both images
    grid = 4 if plan == "aligned" else 3
    a, b = features(5, dtype=dtype), features(5, grid=grid, dtype=dtype)
    found = match(a, b, plan=plan)
    for index in range(5):
        for by in DECOMPOSITION_KINDS:
            parts = decompose(found, by, index=index)
            assert abs(parts.residual) < (1e-6 if dtype == torch.float32 else 1e-12)
            assert len(parts.names) == len(parts.value_k)
        assert flow_table(found, index=index).contribution.sum() == pytest.approx(
            found.similarity_b[index].item(), abs=1e-6
        )


@pytest.mark.parametrize("rule", MARGINAL_RULES)
def test_what_if_nothing_changes(rule):
    a, b = features(1), features(6)
    for plan in PLAN_KINDS:
        torch.testing.assert_close(
            match_reweighted(a, b, plan=plan, marginals=rule).similarity_b,
            match(a, b, plan=plan, marginals=rule).similarity_b,
        )
        torch.testing.assert_close(
            match_reweighted(
                a, b, plan=plan, marginals=rule, weight_n=torch.full((16,), 3.0)
            ).plan_bnm,
            match(a, b, plan=plan, marginals=rule).plan_bnm,
        )


@pytest.mark.parametrize("plan", [plan for plan in PLAN_KINDS if plan != "aligned"])
def test_dropped_cells_are_as_if_they_had_never_been(plan):
    "In A, in B, and under every plan: the same as matching images without these cells."
    a, b = features(1, dtype=torch.float64), features(4, dtype=torch.float64)
    kept_n, kept_m = torch.rand(16) > 0.4, torch.rand(16) > 0.4
    found = match_reweighted(
        a,
        b,
        weight_n=kept_n.double(),
        weight_m=kept_m.double(),
        plan=plan,
        tol=1e-10,
        max_iter=5000,
    )
    less = match(
        Features(
            a.local_bcn[..., kept_n], a.norm_bn[:, kept_n], a.global_bc, (1, int(kept_n.sum()))
        ),
        Features(
            b.local_bcn[..., kept_m], b.norm_bn[:, kept_m], b.global_bc, (1, int(kept_m.sum()))
        ),
        plan=plan,
        tol=1e-10,
        max_iter=5000,
    )
    torch.testing.assert_close(
        found.plan_bnm[:, kept_n][:, :, kept_m], less.plan_bnm, atol=1e-8, rtol=0
    )
    assert found.plan_bnm[:, ~kept_n].abs().sum() < 1e-12
    assert found.plan_bnm[:, :, ~kept_m].abs().sum() < 1e-12


def test_a_dropped_cell_takes_its_partner_in_place_along():
    "Cells in place: what is left is the sum over the places that both images kept."
    a, b = features(1, dtype=torch.float64), features(3, dtype=torch.float64)
    kept_n, kept_m = torch.rand(16) > 0.4, torch.rand(16) > 0.4
    weights = dict(weight_n=kept_n.double(), weight_m=kept_m.double())
    found = match_reweighted(a, b, plan="aligned", **weights)
    whole = match(a, b, plan="aligned", marginals="uniform")
    both_n = kept_n & kept_m
    in_place_bn = found.plan_bnm.diagonal(dim1=1, dim2=2)
    assert not in_place_bn[:, ~both_n].any() and in_place_bn[:, both_n].any()
    assert torch.equal(found.cosine_bnm, whole.cosine_bnm)
    torch.testing.assert_close(found.plan_bnm.sum((1, 2)), torch.ones(3, dtype=torch.float64))
    nothing = match_reweighted(a, b, plan="aligned", weight_n=(~both_n).double(), weight_m=both_n)
    assert not nothing.plan_bnm.any() and not nothing.similarity_b.any()
    assert nothing.used_uniform_b.all() and not found.used_uniform_b.any()


def test_a_pair_alone_is_a_pair_in_a_batch():
    a, b = features(1), features(3)
    whole = exact_match(match(a, b), index=2), exact_match(match(a, b[2]))
    torch.testing.assert_close(whole[0].plan_bnm, whole[1].plan_bnm)
    assert abs(score_difference(match(a, b), 0, 2).residual) < 1e-6
    torch.testing.assert_close(
        cosine_decomposition(a, b).plan_bnm[1], cosine_decomposition(a, b[1]).plan_bnm[0]
    )


@pytest.mark.parametrize(
    "wrong",
    (
        dict(weight_n=torch.ones(5)),
        dict(weight_n=-torch.ones(16)),
        dict(weight_m=torch.zeros(16)),
        dict(weight_m=torch.full((16,), torch.nan)),
        dict(plan="exact"),
        dict(eps=0),
    ),
)
def test_what_if_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        match_reweighted(features(1), features(1), **wrong)


def test_hiding_touches_only_what_it_should():
    image = torch.rand(3, 50, 70)  # not square, and no multiple of the grid
    for fill in ("blur", "mean"):
        hidden = occlude(image, torch.eye(16, dtype=torch.bool), fill)
        changed = (hidden != image).any(1)
        assert changed.any((1, 2)).all()
        assert (changed.sum(0) <= 1).all()  # each pixel belongs to one cell
        assert changed.sum() > 0.99 * 50 * 70
    with pytest.raises(ValueError, match="noise"):
        occlude(image, torch.eye(16, dtype=torch.bool), "noise")


def test_hidden_shares_are_those_of_whole_cells():
    curves = faithfulness(
        lambda images: images.mean((1, 2, 3)) + 1, torch.rand(3, 49, 49), torch.rand(49), steps=8
    )
    assert (curves.hidden_k * 49).tolist() == [0, 6, 12, 18, 24, 31, 37, 43, 49]


def test_the_insertion_curve_is_the_other_one_read_backwards():
    "Showing the most important k of N cells first hides the least important N - k first."
    image, order = torch.rand(3, 32, 32), torch.randperm(16)
    weights = torch.rand(3, 32, 32)

    def score(images):
        return (images * weights).mean((1, 2, 3))

    least_first = deletion_curves(score, image, order.flip(0)[None], steps=4)[0]
    shown = [torch.isin(torch.arange(16), order[:k]) for k in (0, 4, 8, 12, 16)]
    insertion = score(occlude(image, ~torch.stack(shown))).double() / score(image[None]).double()
    torch.testing.assert_close(insertion, least_first.flip(0))


def test_flow_accuracy_counts_only_what_leaves_visible_cells():
    place = torch.stack([torch.arange(9) % 3 + 0.5, torch.arange(9) // 3 + 0.5], 1)
    visible = torch.tensor([True] + [False] * 8)
    truth = Correspondences(torch.eye(9), place, torch.tensor([1.0] + [0.0] * 8), visible)
    flow = torch.zeros(9, 9)
    flow[0, 0] = 1
    flow[0, 8] = 3
    flow[5, 0] = 4
    got = flow_accuracy(flow, truth, torch.tensor([1.0] + [0.0] * 8))
    assert got == (0.25, 0.0, 0.125)
    assert flow_accuracy(flow, truth, torch.ones(9), tolerance=2).right_mass == 1
    for wrong, words in ((torch.zeros(9, 9), "nothing moves"), (torch.ones(4, 9), "expected")):
        with pytest.raises(ValueError, match=words):
            flow_accuracy(wrong, truth, torch.ones(9))
    with pytest.raises(ValueError, match="no cell"):
        flow_accuracy(
            flow, truth._replace(visible_n=torch.zeros(9, dtype=torch.bool)), torch.ones(9)
        )


def test_a_field_follows_its_cell():
    backbone, images = get_backbone(), torch.rand(2, 3, 224, 224)
    top, bottom = (effective_receptive_field(backbone, images, cell) for cell in (3, 45))
    assert top[:112].sum() > 0.5 > bottom[:112].sum()
    with pytest.raises(ValueError, match="49"):
        effective_receptive_field(backbone, images, 49)


TWO = [str(data_dir() / "emoji" / "pineapple" / f"{design}.png") for design in ("emojione", "noto")]


def test_a_file_name_may_hold_anything(tmp_path, diml):
    """Dollars are no formula, brackets no markup; and what is printed is what is drawn. First by a
    shell, then in this process."""

    def shell(*words):
        return subprocess.run(
            [Path(sys.executable).with_name("diml"), *words], capture_output=True, text=True
        )

    strange = tmp_path / "a $x^$ <b>.png"
    strange.write_bytes(Path(TWO[0]).read_bytes())
    options = ("--top", "100", "--grid", "8")
    for run, out, by in ((shell, "flows.png", ("--by", "flows")), (diml, "flows.html", ())):
        done = run("explain", strange, TWO[1], "-o", tmp_path / out, *options, *by)
        assert done.returncode == 0, done.stderr
        said = (tmp_path / out).read_text() if out.endswith(".html") else done.stdout
        assert "100 of 4,096 flows" in said, done.stderr


@pytest.mark.parametrize(
    "name,start",
    (
        ("a.svg", b"<?xml"),
        ("a.pdf", b"%PDF"),
        ("a.png", b"\x89PNG"),
        ("a.html", b"<!doctype html>"),
    ),
)
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_the_command_draws(tmp_path, name, start, diml):
    done = diml("explain", *TWO, "-o", tmp_path / name)
    assert done.returncode == 0, done.stderr
    assert "= similarity" in done.stdout, done.stderr
    assert not done.stderr, done.stderr
    assert (tmp_path / name).read_bytes().lower().startswith(start.lower())
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_explorers_leave_pictures_where_nothing_is_live(tmp_path):
    """Papermill runs the page; each of its four explorers leaves a picture with a text alternative
    beside the widget."""
    import papermill

    papermill.execute_notebook(
        str(REPO_ROOT / "nbs" / "explore" / "explorers.ipynb"),
        str(tmp_path / "out.ipynb"),
        kernel_name="python3",
        progress_bar=False,
    )
    outputs = [
        o
        for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells
        if cell.cell_type == "code"
        for o in cell.outputs
    ]
    pictures = [o.data["text/html"] for o in outputs if "text/html" in o.get("data", {})]
    widgets = [
        o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})
    ]
    assert len(pictures) == len(widgets) == 4
    for words, html in zip(
        ("Matching parts of", "After 1 iteration at", "Step 1 of 9", "Query "), pictures
    ):
        assert f'alt="{words}' in html
        assert "data:image/png;base64," in html

"Bad input gets an error that names the argument; the faults of the official code stay away."

from dataclasses import replace

import pytest
import torch

from diml_nb._internal.parallel import parallel_for
from diml_nb.features.grid import Features, grid_features
from diml_nb.ot.marginals import MARGINAL_RULES, compute_marginals
from diml_nb.ot.matching import PLAN_KINDS, match, similarity_matrix
from diml_nb.ot.sinkhorn import sinkhorn
from diml_nb.retrieval.metrics import class_bootstrap_ci, retrieval_metrics
from diml_nb.retrieval.rerank import rerank, score_shortlist
from diml_nb.retrieval.search import search


@pytest.fixture
def x() -> Features:
    return grid_features(torch.rand(12, 8, 7, 7))


NAN = float("nan")


@pytest.mark.parametrize(
    "make,error,message",
    [
        (
            lambda: grid_features(torch.rand(8, 7, 7)),
            ValueError,
            r"map_bchw.*\(b, c, h, w\).*\(8, 7, 7\)",
        ),
        (
            lambda: grid_features(torch.rand(0, 8, 7, 7)),
            ValueError,
            r"map_bchw.*none of them empty.*\(0, 8, 7, 7\)",
        ),
        (
            lambda: grid_features(torch.ones(2, 8, 7, 7, dtype=torch.long)),
            TypeError,
            "map_bchw.*floating.*int64",
        ),
        (
            lambda: grid_features(torch.full((2, 8, 7, 7), NAN)),
            ValueError,
            "map_bchw: 784 of 784 values are NaN",
        ),
        (lambda: grid_features([[1.0]]), TypeError, "map_bchw.*list"),
        (lambda: grid_features(torch.rand(2, 8, 7, 7), grid=0), ValueError, "grid.*at least 1"),
        (lambda: grid_features(torch.rand(2, 8, 7, 7), grid=2.0), ValueError, "grid.*whole"),
        (
            lambda: grid_features(torch.rand(2, 8, 7, 7), global_power=-1),
            ValueError,
            "global_power",
        ),
    ],
)
def test_grid_features(make, error, message):
    with pytest.raises(error, match=message):
        make()


def plan_arguments():
    mass = torch.full((2, 4), 0.25)
    return dict(cost_bnm=torch.rand(2, 4, 4), a_bn=mass, b_bm=mass.clone())


@pytest.mark.parametrize(
    "wrong,error,message",
    [
        (dict(cost_bnm=torch.rand(4, 4)), ValueError, r"cost_bnm.*\(4, 4\)"),
        (dict(a_bn=torch.rand(2, 5)), ValueError, r"a_bn.*n = 4.*\(2, 5\)"),
        (dict(b_bm=torch.rand(3, 4)), ValueError, r"b_bm.*b = 2.*\(3, 4\)"),
        (dict(a_bn=torch.full((2, 4), -0.25)), ValueError, "a_bn: masses must not be negative"),
        (
            dict(b_bm=torch.zeros(2, 4)),
            ValueError,
            "b_bm: masses must not be negative and must not all be zero",
        ),
        (dict(b_bm=torch.full((2, 4), 0.2)), ValueError, "same total, they differ by 0.2"),
        (
            dict(cost_bnm=torch.full((2, 4, 4), NAN)),
            ValueError,
            "cost_bnm: 32 of 32 values are NaN",
        ),
        (
            dict(cost_bnm=torch.rand(2, 4, 4).double()),
            TypeError,
            "a_bn: expected float32 or float64, the same",
        ),
        (
            dict(cost_bnm=torch.rand(2, 4, 4).half()),
            TypeError,
            "cost_bnm: expected float32 or float64",
        ),
        (dict(eps=0), ValueError, "eps > 0"),
        (dict(max_iter=0), ValueError, "max_iter >= 1"),
    ],
)
def test_sinkhorn(wrong, error, message):
    with pytest.raises(error, match=message):
        sinkhorn(**plan_arguments() | wrong)


def test_match(x):
    for b, message in (
        (x[:5], "b: expected 3 images as in a, or one, got 5"),
        (replace(x[:3], local_bcn=x.local_bcn[:3, :5]), r"b.global_bc.*c = 5, got shape \(3, 8\)"),
        (replace(x[:3], global_bc=x.global_bc[:3] * NAN), "b.global_bc: 24 of 24 values are NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            match(x[:3], b)
    with pytest.raises(TypeError, match="b: expected Features"):
        match(x, x.local_bcn)
    with pytest.raises(ValueError, match="marginals: expected one of uniform, cross_correlation"):
        match(x, x, marginals="attention")
    with pytest.raises(ValueError, match="plan: expected one of transport"):
        match(x, x, plan="emd")
    for wrong in (dict(eps=0), dict(eps=-1), dict(max_iter=0), dict(tol=-1)):
        for call in (match, similarity_matrix):
            with pytest.raises(ValueError, match="expected eps > 0, tol >= 0 and max_iter >= 1"):
                call(x, x, **wrong)
    for other in (x.to(torch.float16), x.to(torch.float64)):
        with pytest.raises(TypeError, match="a, b: expected float32 or float64, all on one device"):
            match(x, other)
    with pytest.raises(ValueError, match="b: expected 2 images as in a, or one, got 3"):
        compute_marginals(x[:2], x[:3])
    with pytest.raises(ValueError, match="same number of channels"):
        similarity_matrix(x, grid_features(torch.rand(2, 5, 7, 7)))


def test_retrieval(x):
    ranking = search(x, x, exclude_self=True)
    for call, message in (
        (lambda: search(x[:3], x, exclude_self=True), "exclude_self: expected g to be q"),
        (lambda: search(x, x, top_k=0), "top_k: expected at least 1"),
        (lambda: rerank(ranking, x, x[:4]), "ranking: expected lists of 12 queries over 4 images"),
        (lambda: rerank(ranking, x, x, top_k=0), "top_k: expected at least 1"),
        (lambda: rerank(ranking, x, x, eps=0), "expected eps > 0"),
        (lambda: search(x[0], x[0], exclude_self=True), "g: a gallery of one image"),
        (
            lambda: retrieval_metrics(ranking, torch.zeros(11).long(), torch.zeros(12).long()),
            "ranking.index_qk.*11 queries",
        ),
        (
            lambda: retrieval_metrics(ranking, torch.zeros(12), torch.zeros(12)),
            "labels_q.*whole number",
        ),
        (
            lambda: retrieval_metrics(ranking, torch.zeros(12).long(), torch.zeros(5).long()),
            "positions in a gallery of 5",
        ),
        (lambda: class_bootstrap_ci(torch.rand(5), torch.zeros(5).long()), "at least two classes"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# what the official code does wrong


@pytest.mark.parametrize("rule", MARGINAL_RULES)
@pytest.mark.parametrize("plan", PLAN_KINDS)
@pytest.mark.parametrize("stopping", ("per_pair", "batch_mean"))
def test_no_mass_is_uniform_and_said_so(x, rule, plan, stopping):
    "An image that has nothing in common with the other one was NaN and came first."
    nothing = replace(x[:2], local_bcn=-x.local_bcn[:2])
    found = match(nothing, x[2:4], marginals=rule, plan=plan, stopping=stopping)
    assert torch.isfinite(found.similarity_b).all()
    assert torch.isfinite(found.plan_bnm).all()
    assert found.used_uniform_b.all() == (rule != "uniform")


def test_an_image_of_nothing_is_ranked_last(x):
    blank = grid_features(torch.cat([torch.rand(11, 8, 7, 7), torch.zeros(1, 8, 7, 7)]))
    ranking = rerank(search(blank, blank, exclude_self=True), blank, blank, top_k=11)
    assert torch.isfinite(ranking.score_qk).all()
    assert (ranking.index_qk[:11, -1] == 11).all()


def test_a_pair_does_not_depend_on_its_company(x):
    """The official loop stops all pairs of a call at once. On pairs that need very different
    numbers of iterations."""
    y = Features(
        torch.cat([x.local_bcn, x.local_bcn.roll(3, 2)]),
        x.norm_bn.repeat(2, 1),
        x.global_bc.repeat(2, 1),
        x.grid,
    )
    together = match(x[0], y)
    for i in range(len(y)):
        assert torch.allclose(match(x[0], y[i]).similarity_b, together.similarity_b[i], atol=2e-6)


def test_unequal_masses_stay_finite():
    """The official denominators make the totals differ; with the official switch the
    factors still stay finite here."""
    arguments = plan_arguments()
    arguments["b_bm"] = arguments["b_bm"] * (1 - 1e-5)
    assert torch.isfinite(sinkhorn(**arguments, stopping="batch_mean").plan_bnm).all()


def test_each_top_k_starts_from_the_search(x):
    """K = 3 must not be cut from the list that was re-ranked at K = 10, and nobody may be
    lost or doubled."""
    ranking = search(x, x, exclude_self=True)
    for k in (1, 3, 10, 11, 99):
        found = rerank(ranking, x, x, top_k=k)
        assert torch.equal(found.index_qk[:, k:], ranking.index_qk[:, k:])
        assert torch.equal(found.index_qk.sort(1).values, ranking.index_qk.sort(1).values)


def test_frozen_pairs_and_compaction_change_nothing():
    """Pairs that are finished early, late and never: the plan of each is that of the pair alone,
    with its own error."""
    torch.manual_seed(1)
    cost = torch.rand(9, 16, 16) * torch.linspace(0.1, 2, 9)[:, None, None]
    mass = torch.full((9, 16), 1 / 16)
    together = sinkhorn(cost, mass, mass, tol=1e-4, max_iter=60)
    assert (together.marginal_error_b > 1e-4).any()
    assert (together.marginal_error_b <= 1e-4).sum() > 4
    for i in range(9):
        alone = sinkhorn(cost[i : i + 1], mass[:1], mass[:1], tol=1e-4, max_iter=60)
        assert torch.allclose(alone.plan_bnm[0], together.plan_bnm[i], atol=1e-6)
        columns = (together.plan_bnm[i].sum(0) - mass[i]).abs().sum()
        assert abs(columns - together.marginal_error_b[i]) < 1e-5


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("eps", (1.0, 0.05, 0.01, 0.002))
def test_any_eps_is_finite(dtype, eps):
    cost = torch.rand(3, 49, 49, dtype=dtype) * 2
    mass = torch.rand(3, 49, dtype=dtype).square()
    mass[:, :7] = 0
    mass = mass / mass.sum(1, keepdim=True)
    plan = sinkhorn(cost, mass, mass.flip(1), eps=eps)
    assert torch.isfinite(plan.plan_bnm).all()
    assert torch.allclose(plan.plan_bnm.sum(2), mass, atol=1e-5)
    assert plan.plan_bnm[:, :7].sum() < 1e-20


@pytest.mark.parametrize("eps", (0.05, 0.01))
@pytest.mark.parametrize("low", (-3.0, 1.0, 5.0))
def test_a_constant_cost_changes_nothing(eps, low):
    "Costs far from zero but close together underflow in a kernel that looks at their span alone."
    cost, mass = low + 0.3 * torch.rand(4, 16, 16), torch.full((4, 16), 1 / 16)
    plan = sinkhorn(cost, mass, mass, eps=eps)
    assert torch.isfinite(plan.plan_bnm).all()
    assert (plan.marginal_error_b < 1e-2).all()
    assert torch.allclose(
        plan.plan_bnm, sinkhorn(cost - low, mass, mass, eps=eps).plan_bnm, atol=1e-4
    )


def test_the_error_is_a_number_where_cells_have_no_mass():
    torch.manual_seed(0)
    for _ in range(50):
        cost, mass = 2 * torch.rand(8, 16, 16), torch.rand(8, 16) * (torch.rand(8, 16) > 0.8)
        mass[mass.sum(1) == 0] = 1e-3
        mass /= mass.sum(1, keepdim=True)
        plan = sinkhorn(cost, mass, mass.flip(1))
        assert torch.isfinite(plan.marginal_error_b).all()
        assert torch.isfinite(plan.plan_bnm).all()
        assert (
            (plan.plan_bnm.sum(1) - mass.flip(1)).abs().sum(1) - plan.marginal_error_b
        ).abs().max() < 1e-4


def test_the_official_stop_is_refused_where_it_means_nothing():
    with pytest.raises(ValueError, match="stopping.*overflow at eps=0.01"):
        sinkhorn(
            **plan_arguments() | dict(cost_bnm=2 * torch.eye(4).repeat(2, 1, 1)),
            eps=0.01,
            stopping="batch_mean",
        )


def test_opposite_cells_are_within_the_safe_span():
    """Cosines of -1 and 1 in one pair, at the paper's eps: the official rule applies, rounding
    included."""
    x = grid_features(torch.randn(40, 8, 7, 7))
    both = replace(x, local_bcn=torch.cat([x.local_bcn[:, :, :8], -x.local_bcn[:, :, :8]], 2))
    assert torch.isfinite(match(both, both, stopping="batch_mean").similarity_b).all()


def test_threads_are_given_back(x):
    "Also when a worker fails."
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        parallel_for(lambda part: None, [1, 2, 3], torch.device("cuda"))
        with pytest.raises(ZeroDivisionError):
            parallel_for(lambda part: 1 / 0, [1, 2, 3], torch.device("cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(kept)


def test_gradient_through_the_iterations():
    """grad="autodiff" against finite differences, also for pairs that end at different
    iterations and for cells without mass."""
    torch.manual_seed(0)
    cost = (
        torch.rand(3, 5, 5, dtype=torch.float64) * torch.tensor([0.1, 0.5, 2.0])[:, None, None]
    ).requires_grad_()
    mass = torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.4]] * 3, dtype=torch.float64)

    def solve(c):
        return sinkhorn(
            c, mass, mass.flip(1), eps=0.2, tol=1e-10, max_iter=2000, grad="autodiff"
        ).plan_bnm

    assert torch.autograd.gradcheck(solve, cost, eps=1e-6, atol=1e-5)


def test_options_of_rerank_reach_match(x):
    ranking = search(x, x, exclude_self=True, top_k=4)
    options = dict(marginals="cross_correlation_norm", plan="best_cell")
    found = score_shortlist(ranking, x, x, top_k=4, **options)
    for i in (0, 7):
        assert torch.allclose(
            found.similarity_qk[i],
            match(x[i], x[ranking.index_qk[i]], **options).similarity_b,
            atol=1e-6,
        )

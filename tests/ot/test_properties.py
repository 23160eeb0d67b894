"Laws at sizes that hypothesis chooses: the same few dozen examples at each run."

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from diml_nb.features.grid import Features, grid_features
from diml_nb.ot.marginals import MARGINAL_RULES
from diml_nb.ot.matching import PLAN_KINDS, match, similarity_matrix
from diml_nb.ot.pairs import score_pairs
from diml_nb.ot.sinkhorn import sinkhorn
from diml_nb.retrieval.metrics import Ranking, retrieval_metrics
from diml_nb.retrieval.rerank import rerank, rerank_by
from diml_nb.retrieval.search import search
from diml_nb.retrieval.topk import streaming_topk

# no example of an earlier run, no clock: a test that fails here fails everywhere
some = settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SEEDS = st.integers(0, 2**20)
CELLS = st.integers(1, 12)
EPS = st.sampled_from([0.01, 0.05, 0.2, 1.0])
EXACT = dict(tol=1e-11, max_iter=20_000)


def problem(seed: int, n: int, m: int, pairs: int = 1, dtype=torch.float64, empty: float = 0.0):
    "Costs in [0, 1] and masses that sum to 1, a share `empty` of them 0."
    draw = torch.Generator().manual_seed(seed)
    cost_bnm = torch.rand(pairs, n, m, generator=draw, dtype=dtype)
    masses = []
    for cells in (n, m):
        mass = torch.rand(pairs, cells, generator=draw, dtype=dtype) + 0.05
        keep = torch.rand(pairs, cells, generator=draw) >= empty
        keep[:, 0] = True
        masses.append(mass * keep / (mass * keep).sum(1, keepdim=True))
    return cost_bnm, *masses


def some_features(seed: int, images: int, grid: int, channels: int = 6) -> Features:
    return grid_features(
        torch.rand(images, channels, grid, grid, generator=torch.Generator().manual_seed(seed)),
        grid=grid,
    )


@some
@given(SEEDS, CELLS, CELLS, EPS)
def test_a_plan_is_a_plan(seed, n, m, eps):
    cost, a, b = problem(seed, n, m, 3, empty=0.3)
    found = sinkhorn(cost, a, b, eps=max(eps, 0.05), **EXACT)
    assert (found.plan_bnm >= 0).all()
    assert torch.allclose(found.plan_bnm.sum(2), a, atol=1e-12)
    assert torch.allclose(found.plan_bnm.sum(1), b, atol=1e-10)


@some
@given(SEEDS, CELLS, CELLS)
def test_swapping_the_sides_transposes_the_plan(seed, n, m):
    cost, a, b = problem(seed, n, m)
    there, back = sinkhorn(cost, a, b, **EXACT), sinkhorn(cost.mT, b, a, **EXACT)
    assert torch.allclose(there.plan_bnm, back.plan_bnm.mT, atol=1e-9)


@some
@given(SEEDS, CELLS, CELLS)
def test_permuted_cells_permute_the_plan(seed, n, m):
    cost, a, b = problem(seed, n, m)
    order = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(n, generator=order), torch.randperm(m, generator=order)
    found = sinkhorn(cost[:, rows][:, :, columns], a[:, rows], b[:, columns], **EXACT).plan_bnm
    assert torch.allclose(
        found, sinkhorn(cost, a, b, **EXACT).plan_bnm[:, rows][:, :, columns], atol=1e-9
    )


@some
@given(SEEDS, CELLS, CELLS, EPS, st.floats(0.01, 100))
def test_the_unit_of_the_cost_does_not_matter(seed, n, m, eps, factor):
    "Cost and eps in another unit: the same plan. Masses in another unit: that many times the plan."
    cost, a, b = problem(seed, n, m)
    right = sinkhorn(cost, a, b, eps=max(eps, 0.05), **EXACT).plan_bnm
    found = sinkhorn(factor * cost, a, b, eps=factor * max(eps, 0.05), **EXACT).plan_bnm
    assert torch.allclose(found, right, atol=1e-9)
    heavy = sinkhorn(
        cost, factor * a, factor * b, eps=max(eps, 0.05), tol=1e-11 * factor, max_iter=20_000
    ).plan_bnm
    assert torch.allclose(heavy, factor * right, atol=1e-9 * factor)


@some
@given(SEEDS, CELLS, CELLS)
def test_a_cost_of_leaving_and_of_arriving_changes_no_plan(seed, n, m):
    "Linear in the cost: what each unit of mass pays for itself is paid by every plan."
    cost, a, b = problem(seed, n, m)
    draw = torch.Generator().manual_seed(seed + 1)
    leave_n, arrive_m = (torch.rand(cells, generator=draw, dtype=torch.float64) for cells in (n, m))
    more = cost + leave_n[:, None] + arrive_m
    right, found = (sinkhorn(c, a, b, **EXACT).plan_bnm for c in (cost, more))
    assert torch.allclose(found, right, atol=1e-9)
    assert torch.allclose(
        (found * more).sum(),
        (right * cost).sum() + (a * leave_n).sum() + (b * arrive_m).sum(),
        atol=1e-8,
    )


@some
@given(SEEDS, CELLS, CELLS, EPS)
def test_a_single_heavy_cell_has_a_closed_form(seed, n, m, eps):
    "All mass of A in one cell: it goes where B wants it, at any eps."
    cost, a, b = problem(seed, n, m)
    one = torch.zeros_like(a)
    one[0, seed % n] = 1
    found = sinkhorn(cost, one, b, eps=eps, **EXACT)
    assert torch.allclose(found.plan_bnm, one[:, :, None] * b[:, None], atol=1e-12)
    assert torch.allclose((found.plan_bnm * cost).sum(), (b[0] * cost[0, seed % n]).sum())
    assert found.marginal_error_b < 1e-10


@some
@given(
    SEEDS,
    CELLS,
    CELLS,
    EPS,
    st.integers(1, 300),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([1.0, 20.0]),
)
def test_marginal_error_never_lies(seed, n, m, eps, max_iter, empty, factor):
    """In float32, converged or not, in both domains, with empty cells: the columns with mass are as
    wrong as it says, the rows exact, up to the rounding of cost / eps, an exponent."""
    cost, a, b = problem(seed, n, m, 4, torch.float32, empty)
    found = sinkhorn(factor * cost, a, b, eps=eps, max_iter=max_iter)
    rounding = 2 * factor * cost.max() / eps * 2**-24
    assert torch.isfinite(found.plan_bnm).all()
    assert torch.isfinite(found.marginal_error_b).all()
    error_b = (found.plan_bnm.sum(1) - b).abs().sum(1)
    assert (error_b - found.marginal_error_b).abs().max() < 1e-5 + rounding
    assert (found.plan_bnm.sum(2) - a).abs().max() < 1e-6 + rounding


@some
@given(SEEDS, st.integers(2, 10), st.integers(2, 10))
def test_cells_without_mass_are_as_if_they_were_not_there(seed, n, m):
    cost, a, b = problem(seed, n, m, empty=0.5)
    whole = sinkhorn(cost, a, b, **EXACT).plan_bnm
    rows, columns = a[0] > 0, b[0] > 0
    part = sinkhorn(cost[:, rows][:, :, columns], a[:, rows], b[:, columns], **EXACT).plan_bnm
    assert torch.allclose(whole[:, rows][:, :, columns], part, atol=1e-9)
    assert whole[:, ~rows].sum() + whole[:, :, ~columns].sum() < 1e-20


@some
@given(SEEDS, CELLS, CELLS, st.integers(2, 6))
def test_a_pair_does_not_depend_on_its_company(seed, n, m, pairs):
    "Neighbours that need one step and others that need hundreds."
    cost, a, b = problem(seed, n, m, pairs)
    cost = cost * torch.logspace(-3, 0.3, pairs, dtype=torch.float64)[:, None, None]
    options = dict(tol=1e-6, max_iter=500)
    together = sinkhorn(cost, a, b, **options)
    for i in range(pairs):
        alone = sinkhorn(cost[i : i + 1], a[i : i + 1], b[i : i + 1], **options)
        assert torch.allclose(together.plan_bnm[i], alone.plan_bnm[0], atol=1e-12)
        assert torch.allclose(together.marginal_error_b[i], alone.marginal_error_b[0], atol=1e-12)


@some
@given(SEEDS, st.integers(2, 5), st.integers(2, 5))
def test_the_gradient_by_the_masses_is_that_of_differences(seed, n, m):
    "Mass moved from one cell of A to another: finite differences in float64."
    cost, a, b = problem(seed, n, m)
    a, b = a.requires_grad_(), b.requires_grad_()

    def value(a, b):
        return (
            cost.square() * sinkhorn(cost, a, b, eps=0.2, grad="autodiff", **EXACT).plan_bnm
        ).sum()

    for x, grad in zip((a, b), torch.autograd.grad(value(a, b), (a, b))):
        move = torch.zeros_like(x)
        move[0, 0], move[0, -1] = 1e-5, -1e-5
        plus, minus = (
            value(*(y + sign * move if y is x else y for y in (a, b))) for sign in (1, -1)
        )
        assert torch.allclose((plus - minus) / 2, (grad * move).sum(), atol=1e-9)


@some
@given(
    SEEDS,
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(PLAN_KINDS),
    st.sampled_from(list(MARGINAL_RULES)),
)
def test_contributions_sum_to_the_similarity(seed, grid_a, grid_b, plan, rule):
    grid_b = grid_a if plan == "aligned" else grid_b
    a, b = some_features(seed, 3, grid_a), some_features(seed + 1, 3, grid_b)
    found = match(a, b, plan=plan, marginals=rule)
    assert torch.allclose(found.contribution_bnm.sum((1, 2)), found.similarity_b, atol=1e-6)
    assert torch.allclose(found.plan_bnm.sum((1, 2)), torch.ones(3), atol=1e-5)
    best = (found.mass_a_bn * found.cosine_bnm.amax(2)).sum(1)
    if plan == "transport":
        assert (found.similarity_b <= best + 1e-5).all()


@some
@given(SEEDS, st.integers(1, 3), st.sampled_from(list(MARGINAL_RULES)), st.integers(1, 40))
def test_pairs_in_any_order_are_those_of_match(seed, grid, rule, pairs):
    x = some_features(seed, 5, grid)
    i, j = torch.randint(5, (2, pairs), generator=torch.Generator().manual_seed(seed))
    found = score_pairs(x, x, i, j, marginals=rule)
    right = match(x[i], x[j], marginals=rule)
    assert torch.allclose(found.similarity_p, right.similarity_b, atol=1e-4)
    assert (found.marginal_error_p < 1e-3 + 1e-5).all()


@some
@given(SEEDS, st.integers(1, 6), st.integers(1, 400), st.data())
def test_tiles_of_any_size_are_one_sort(seed, queries, images, data):
    scores = (
        torch.randint(
            max(2, images // 3), (queries, images), generator=torch.Generator().manual_seed(seed)
        )
        / 7.0
    )
    width, places = data.draw(st.integers(1, images)), data.draw(st.integers(1, images))
    right = scores.sort(dim=1, descending=True, stable=True)
    index, score = streaming_topk(scores.split(width, 1), places)
    assert torch.equal(index, right.indices[:, :places])
    assert torch.equal(score, right.values[:, :places])


@some
@given(SEEDS, st.integers(2, 30), st.data())
def test_reranking_permutes_the_head_and_twice_is_once(seed, images, data):
    x = some_features(seed, images, 1)
    ranking = search(x, x, exclude_self=True)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(2):
        top_k = data.draw(st.integers(1, images - 1))
        similarity = torch.rand(images, images, generator=draw)
        head = similarity.gather(1, ranking.index_qk[:, :top_k])
        found = rerank_by(ranking, head)
        assert torch.equal(
            found.index_qk[:, :top_k].sort(1).values, ranking.index_qk[:, :top_k].sort(1).values
        )
        assert torch.equal(found.index_qk[:, top_k:], ranking.index_qk[:, top_k:])
        again = rerank_by(found, similarity.gather(1, found.index_qk[:, :top_k]))
        assert torch.equal(again.index_qk, found.index_qk)
        assert torch.equal(again.score_qk, found.score_qk)
        ranking = found


@some
@given(SEEDS, st.integers(3, 12), st.integers(1, 3))
def test_the_whole_gallery_re_ranked_is_the_matrix_sorted(seed, images, grid):
    "By cosine + S, of all pairs at once."
    x = some_features(seed, images, grid)
    total = (x.global_bc @ x.global_bc.T + similarity_matrix(x, x)).fill_diagonal_(-torch.inf)
    found = rerank(search(x, x, exclude_self=True), x, x, top_k=images)
    assert torch.allclose(found.score_qk, total.sort(1, descending=True).values[:, :-1], atol=1e-4)


@some
@given(SEEDS, st.integers(2, 25), st.integers(1, 6), st.booleans())
def test_metrics_do_not_depend_on_names_or_on_what_is_behind_r(
    seed, images, classes, count_query_in_r
):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=draw)
    x = some_features(seed, images, 1)
    ranking = search(x, x, exclude_self=True)
    found = retrieval_metrics(
        ranking, labels, labels, recall_at=(1,), count_query_in_r=count_query_in_r
    )
    other = torch.randperm(classes, generator=draw)[labels] * 1000 - 7
    assert all(
        torch.equal(y.nan_to_num(-1), found.per_query[name].nan_to_num(-1))
        for name, y in retrieval_metrics(
            ranking, other, other, recall_at=(1,), count_query_in_r=count_query_in_r
        ).per_query.items()
    )
    assert found.n_without_positives == int((labels.bincount()[labels] == 1).sum())
    asked = ~found.per_query["r_precision"].isnan()
    assert (
        found.per_query["mean_average_precision_at_r"] <= found.per_query["r_precision"] + 1e-12
    )[asked].all()


@some
@given(SEEDS, st.integers(3, 12), st.data())
def test_queries_inside_and_outside_the_gallery(seed, images, data):
    """Some queries stand in the gallery and are left out of their own lists; the others are
    searched by themselves."""
    x = some_features(seed, images + 3, 1)
    gallery, inside = x[:images], torch.randperm(images)[: data.draw(st.integers(1, images))]
    found = search(x[inside], gallery, query_positions=inside)
    whole = search(x[inside], gallery)
    for row, own, full in zip(found.index_qk, inside, whole.index_qk):
        assert torch.equal(row, full[full != own])
    outside = search(x[images:], gallery)
    assert outside.index_qk.shape == (3, images)
    assert found.index_qk.shape == (
        len(inside),
        images - 1,
    )


def test_queries_are_images_of_the_gallery():
    with pytest.raises(ValueError):
        search(some_features(0, 3, 1), some_features(0, 3, 1), query_positions=[3, 0, 1])
    assert Ranking._fields == ("index_qk", "score_qk", "exclude_self", "cosine_qk")

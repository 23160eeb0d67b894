"""Controls of matching against slow twins that are written from the papers' formulas."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from diml_nb.features.compress import pack_features
from diml_nb.features.grid import Features, grid_features
from diml_nb.features.store import open_store, write_store
from diml_nb.retrieval import controls
from diml_nb.retrieval.controls import (
    expand,
    gem_pool,
    maxsim_shortlist,
    search_expanded,
    search_k_reciprocal,
)
from diml_nb.retrieval.rerank import score_shortlist
from diml_nb.retrieval.search import search


def clustered(n: int = 40, classes: int = 6) -> Features:
    "Images of a few classes, whose neighbourhoods overlap."
    rng = torch.Generator().manual_seed(0)
    centre = torch.rand(classes, 12, 3, 3, generator=rng)
    of_class = torch.arange(n) % classes
    return grid_features(centre[of_class] + 0.7 * torch.rand(n, 12, 3, 3, generator=rng), grid=3)


X = clustered()


def cosine_of(x: torch.Tensor) -> list[list[float]]:
    return (x.double() @ x.double().T).tolist()


def nearest_of(cosine, i: int, k: int, members) -> list[int]:
    "N(i, k): i and its k nearest others among the members."
    others = sorted((j for j in members if j != i), key=lambda j: -cosine[i][j])
    return [i, *others[:k]]


def k_reciprocal_codes(cosine, members, k1: int, k2: int) -> dict[int, dict[int, float]]:
    "Eq. 2, 3, 5 and 11 of Zhong et al. (2017), with d = 1 - cosine."

    def reciprocal(i, k):
        near = nearest_of(cosine, i, k, members)
        return {j for j in near if i in nearest_of(cosine, j, k, members)}

    code = {}
    for i in members:
        near = reciprocal(i, k1)
        extended = set(near)
        for j in near:
            half = reciprocal(j, round(k1 / 2))
            if len(near & half) >= 2 / 3 * len(half):
                extended |= half
        weight = {j: math.exp(cosine[i][j] - 1) for j in extended}
        code[i] = {j: w / sum(weight.values()) for j, w in weight.items()}
    averaged = {}
    for i in members:
        near = nearest_of(cosine, i, k2 - 1, members)
        places = {j for n in near for j in code[n]}
        averaged[i] = {j: sum(code[n].get(j, 0) for n in near) / len(near) for j in places}
    return averaged


def slow_scores(x: Features, n_gallery: int, queries, k1: int, k2: int, share: float):
    "Score of each query with each image of the gallery; both are positions in x."
    cosine = cosine_of(x.global_bc)
    code = k_reciprocal_codes(cosine, range(len(x)), k1, k2)

    def score(i, j):
        places = set(code[i]) | set(code[j])
        least = sum(min(code[i].get(n, 0), code[j].get(n, 0)) for n in places)
        most = sum(max(code[i].get(n, 0), code[j].get(n, 0)) for n in places)
        return (1 - share) * least / most + share * cosine[i][j]

    return torch.tensor([[score(i, j) for j in range(n_gallery)] for i in queries])


@pytest.mark.parametrize("k1, k2, share", [(1, 1, 0.3), (5, 1, 0.0), (6, 3, 0.3), (39, 40, 0.5)])
def test_k_reciprocal_is_the_paper_s_formula_among_themselves(k1, k2, share):
    found = search_k_reciprocal(X, X, k1=k1, k2=k2, cosine_share=share, exclude_self=True)
    score_qg = slow_scores(X, len(X), range(len(X)), k1, k2, share)
    expected = score_qg.gather(1, found.index_qk)
    torch.testing.assert_close(found.score_qk, expected, atol=2e-6, rtol=0)
    assert (found.score_qk.diff(dim=1) <= 0).all()
    assert (found.index_qk.sort(1).values.diff(dim=1) > 0).all()


@pytest.mark.parametrize("k1, k2, share", [(4, 1, 0.0), (6, 3, 0.3)])
def test_queries_outside_the_gallery_join_it_for_the_codes(k1, k2, share):
    found = search_k_reciprocal(X[30:], X[:30], k1=k1, k2=k2, cosine_share=share)
    score_qg = slow_scores(X, 30, range(30, 40), k1, k2, share)
    torch.testing.assert_close(
        found.score_qk, score_qg.gather(1, found.index_qk), atol=2e-6, rtol=0
    )
    assert not found.exclude_self
    assert found.index_qk.shape == (10, 30)


def test_some_queries_of_the_gallery_get_the_lists_of_all():
    options = dict(k1=6, k2=3, top_k=9)
    everyone = search_k_reciprocal(X, X, exclude_self=True, **options)
    asking = torch.tensor([31, 2, 17])
    few = search_k_reciprocal(X[asking], X, query_positions=asking, **options)
    assert torch.equal(few.index_qk, everyone.index_qk[asking])
    assert few.exclude_self


@pytest.mark.parametrize("limit, blocks", [(1, 40), (3000, None)])
@pytest.mark.parametrize("inside", [True, False])
def test_blocks_of_queries_change_nothing(monkeypatch, limit, blocks, inside):
    q, g = (X, X) if inside else (X, replace_first(X))
    options = dict(k1=9, k2=4, exclude_self=inside)
    whole = search_k_reciprocal(q, g, **options)
    met = []
    jaccard = controls._jaccard

    def spy(code_q, code_g):
        met.append((code_q.shape[0], met_entries(code_q, code_g) + code_q.shape[0] * len(g)))
        return jaccard(code_q, code_g)

    monkeypatch.setattr(controls, "_jaccard", spy)
    monkeypatch.setattr(controls, "_MOST_NUMBERS", limit)
    parts = search_k_reciprocal(q, g, **options)
    assert sum(rows for rows, _ in met) == len(q)
    assert all(rows == 1 or entries <= limit for rows, entries in met)
    assert len(met) > 1
    assert blocks in (None, len(met))
    torch.testing.assert_close(parts.score_qk, whole.score_qk, atol=1e-6, rtol=0)
    assert torch.equal(parts.index_qk, whole.index_qk)


def replace_first(x: Features) -> Features:
    "The same images in another order."
    return x[torch.arange(len(x)).roll(1)]


def met_entries(code_q, code_g) -> int:
    "How many places of the gallery's codes the places of some queries meet, counted one by one."
    length = [code_g.indptr[j + 1] - code_g.indptr[j] for j in range(code_g.shape[1])]
    return sum(int(length[j]) for j in code_q.indices)


def test_the_whole_share_of_the_cosine_is_the_search():
    options = dict(k1=5, k2=2, cosine_share=1)
    found = search_k_reciprocal(X[:9], X[9:], **options)
    expected = search(X[:9], X[9:])
    assert torch.equal(found.index_qk, expected.index_qk)
    assert torch.equal(found.score_qk, expected.score_qk)


@pytest.mark.parametrize("both_sides", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_expansion_is_a_weighted_mean(both_sides, alpha):
    cosine = cosine_of(X.global_bc)
    vectors = X.global_bc.double()

    def expanded(i, members):
        near = nearest_of(cosine, i, 4, members)[1:]
        return vectors[i] + sum(cosine[i][j] ** alpha * vectors[j] for j in near)

    gallery = range(30)
    q = normalize(torch.stack([expanded(i, gallery) for i in range(30, 40)]), dim=1)
    g = vectors[:30]
    if both_sides:
        g = normalize(torch.stack([expanded(i, gallery) for i in gallery]), dim=1)
    found = search_expanded(X[30:], X[:30], n_neighbors=4, alpha=alpha, both_sides=both_sides)
    expected = (q @ g.T).float().gather(1, found.index_qk)
    torch.testing.assert_close(found.score_qk, expected, atol=1e-6, rtol=0)


def test_a_query_does_not_expand_with_itself():
    everyone = search_expanded(X, X, n_neighbors=3, exclude_self=True)
    for i in (0, 13):
        others = torch.tensor([j for j in range(len(X)) if j != i])
        alone = search_expanded(X[i], X[others], n_neighbors=3)
        torch.testing.assert_close(everyone.score_qk[i], alone.score_qk[0], atol=1e-6, rtol=0)
        assert torch.equal(everyone.index_qk[i], others[alone.index_qk[0]])


def test_a_negative_cosine_does_not_count():
    x = replace(X, global_bc=normalize(X.global_bc - X.global_bc.mean(0), dim=1))
    far = search(x, x, exclude_self=True)
    far = far._replace(index_qk=far.index_qk[:, -3:], score_qk=far.score_qk[:, -3:])
    assert (far.score_qk < 0).all()
    for alpha in (0, 1):
        same = expand(far, x, x, n_neighbors=3, alpha=alpha)
        torch.testing.assert_close(same.global_bc, x.global_bc)


@pytest.mark.parametrize("wrong", [dict(alpha=-1), dict(alpha=math.nan), dict(n_neighbors=2.5)])
def test_a_wrong_expansion_is_refused_before_any_search(monkeypatch, wrong):
    monkeypatch.setattr(controls, "search", None)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        search_expanded(X, X, exclude_self=True, **wrong)


def test_the_only_image_of_a_gallery_has_no_neighbour():
    both = search_expanded(X[:4], X[4:5], both_sides=True)
    assert torch.equal(both.score_qk, search_expanded(X[:4], X[4:5]).score_qk)


@pytest.mark.parametrize("name, value", [("k1", 2.5), ("k1", 0), ("k2", -1), ("k2", "6")])
def test_neighbours_are_whole_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a whole number"):
        search_k_reciprocal(X, X, exclude_self=True, **{name: value})


def test_queries_of_the_gallery_have_its_vectors():
    other = replace_first(X)
    found = search_k_reciprocal(other, X, k1=6, k2=3, exclude_self=True)
    assert torch.equal(found.score_qk, search_k_reciprocal(X, X, k1=6, k2=3, exclude_self=True)[1])


def test_a_packed_gallery_and_a_store_are_as_good(tmp_path):
    packed = pack_features(X)
    write_store(tmp_path / "store", lambda start, stop: X[start:stop], len(X), precision="float32")
    for gallery, plain in ((packed, packed[:]), (open_store(tmp_path / "store"), X)):
        lists = search(X[:5], gallery, top_k=6)
        assert torch.equal(
            maxsim_shortlist(lists, X[:5], gallery), maxsim_shortlist(lists, X[:5], plain)
        )
        options = dict(n_neighbors=2, both_sides=True)
        right = search_expanded(X[:5], plain, **options)
        assert torch.equal(search_expanded(X[:5], gallery, **options).index_qk, right.index_qk)
        right = search_k_reciprocal(X[:5], plain, k1=4, k2=2)
        found = search_k_reciprocal(X[:5], gallery, k1=4, k2=2)
        assert torch.equal(found.index_qk, right.index_qk)


def test_maxsim_is_one_direction_of_best_cells():
    lists = search(X, X, exclude_self=True, top_k=39)
    there_qk = maxsim_shortlist(lists, X, X)
    there_qg = torch.zeros(40, 40).scatter(1, lists.index_qk, there_qk)
    both_qk = score_shortlist(lists, X, X, plan="best_cell", marginals="uniform").similarity_qk
    expected = ((there_qg + there_qg.T) / 2).gather(1, lists.index_qk)
    torch.testing.assert_close(both_qk, expected, atol=1e-6, rtol=0)


def test_gem_is_the_formula():
    map_bchw = torch.rand(3, 5, 4, 6, dtype=torch.float64)
    for p in (0.5, 1, 2.5, 7):
        expected = (map_bchw**p).mean((2, 3)) ** (1 / p)
        torch.testing.assert_close(gem_pool(map_bchw, p), expected)
    assert gem_pool(1e6 * map_bchw.float(), 40).isfinite().all()
    assert gem_pool(torch.zeros(1, 2, 3, 3), 12).isfinite().all()
    half = gem_pool(map_bchw.half(), 3)
    assert half.dtype == torch.float32


@pytest.mark.parametrize("call", [search_expanded, search_k_reciprocal])
def test_half_of_the_queries_in_the_gallery_are_refused(call):
    with pytest.raises(ValueError, match="query_positions"):
        call(X[:3], X, query_positions=torch.tensor([0, -1, 2]))
    with pytest.raises(ValueError, match="exclude_self"):
        call(X[:3], X, exclude_self=True)

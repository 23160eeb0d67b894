"""Parts of a pair: their sums are S, whatever is cut, and nothing is cut that has no structure."""

import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from random_features import some_features

from diml_nb.explain.parts import MAX_PARTS, MIN_GAIN, Parts, parts, query_parts
from diml_nb.features.grid import Features, grid_features
from diml_nb.ot.matching import PLAN_KINDS, match


def blobs(seed: int, shifts: tuple[int, ...], channels: int = 16) -> Features:
    "Images of 8 x 8 cells with three kinds of cells, in columns that are shifted."
    draw = torch.Generator().manual_seed(seed)
    kind_kc = torch.nn.functional.normalize(torch.randn(3, channels, generator=draw), dim=1)
    column = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    map_bchw = torch.stack([kind_kc[column.roll(shift)].T.expand(8, -1, -1) for shift in shifts])
    map_bchw = map_bchw.transpose(1, 2)
    noise = 0.05 * torch.randn(map_bchw.shape, generator=draw)
    return grid_features(map_bchw + noise, grid=8)


def check_sums(found: Parts, similarity: float) -> None:
    assert abs(found.contribution_k.sum().item() + found.rest - similarity) < 1e-5
    assert abs(found.similarity - similarity) < 1e-5
    assert torch.allclose(found.cosine_k * found.mass_k, found.contribution_k, atol=1e-9)
    count = len(found.contribution_k)
    for label, grid in ((found.label_a_n, found.grid_a), (found.label_b_m, found.grid_b)):
        assert len(label) == grid[0] * grid[1]
        assert -1 <= int(label.min()) and int(label.max()) < count
    for strength in (found.strength_a_n, found.strength_b_m):
        assert abs(strength.sum() - found.contribution_k.sum()) < 1e-9
    assert (found.contribution_k[:-1] >= found.contribution_k[1:]).all()


@settings(max_examples=40, deadline=None)
@given(
    images=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    others=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    k=st.integers(1, 6) | st.none(),
    plan=st.sampled_from(PLAN_KINDS),
    marginals=st.sampled_from(["uniform", "cross_correlation", "cross_correlation2_norm2"]),
)
@example(images=(2, 4), others=(2, 4), k=2, plan="product", marginals="uniform")
def test_the_sums_of_any_pair(images, others, k, plan, marginals):
    "Any grids, any plan, contributions of either sign; k is at most the number of cells."
    others = images if plan == "aligned" else others
    a, b = some_features(2, images), some_features(3, others)
    pairs = match(a[1], b, plan=plan, marginals=marginals)
    fits = k is None or k <= min(a.norm_bn.shape[1], b.norm_bn.shape[1])
    if not fits:
        with pytest.raises(ValueError, match="k: expected 1 to"):
            parts(pairs, k)
        return
    for index in range(3):
        found = parts(pairs, k, index=index)
        check_sums(found, pairs.similarity_b[index].item())
        alone = parts(pairs.pair(index), k)
        assert torch.equal(alone.label_a_n, found.label_a_n)


@pytest.mark.parametrize("seed", range(4))
def test_parts_are_found_where_they_are(seed):
    "Three kinds of cells in other columns of B are three parts, in both pictures."
    x = blobs(seed, (0, 2))
    found = parts(match(x[0], x[1], marginals="uniform"))
    assert len(found.contribution_k) == 3
    assert found.gain > MIN_GAIN
    column_a = found.label_a_n.view(8, 8)
    column_b = found.label_b_m.view(8, 8)
    assert (column_a == column_a[0]).all() and (column_b == column_b[0]).all()
    assert torch.equal(column_a[0].roll(2), column_b[0])


def test_the_same_pair_has_the_same_parts():
    x = blobs(0, (0, 3))
    first, again = (parts(match(x[0], x[1])) for _ in range(2))
    assert torch.equal(first.label_a_n, again.label_a_n)
    assert torch.equal(first.contribution_k, again.contribution_k)


def test_never_more_than_five_by_default():
    draw = torch.Generator().manual_seed(0)
    kinds = torch.nn.functional.normalize(torch.randn(9, 32, generator=draw), dim=1)
    map_bchw = kinds.T.view(1, 32, 3, 3).repeat_interleave(3, 2).repeat_interleave(3, 3)
    x = grid_features(map_bchw, grid=9)
    pair = match(x, x, marginals="uniform")
    assert len(parts(pair).contribution_k) == MAX_PARTS
    assert len(parts(pair, k=9).contribution_k) == 9


def test_a_cell_without_mass_is_of_no_part():
    x = blobs(1, (0, 1))
    local_bcn, norm_bn = x.local_bcn.clone(), x.norm_bn.clone()
    local_bcn[:, :, 5], norm_bn[:, 5] = 0, 0
    empty = Features(local_bcn, norm_bn, x.global_bc, x.grid)
    found = parts(match(empty[0], empty[1], plan="best_cell", marginals="uniform"))
    assert found.label_a_n[5] == -1
    check_sums(found, found.similarity)


def test_no_structure_is_said():
    draw = torch.Generator().manual_seed(0)
    x = grid_features(torch.rand(2, 32, 8, 8, generator=draw), grid=8)
    found = parts(match(x[0], x[1]))
    assert len(found.contribution_k) == 1 and found.note.startswith("no structure")
    assert found.rest == pytest.approx(0, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), candidates=st.integers(1, 4), k=st.integers(1, 5) | st.none())
def test_the_parts_of_a_query_are_all_of_each_similarity(seed, candidates, k):
    x = blobs(seed, tuple(range(candidates + 1)))
    pairs = match(x[0], x[1:])
    by_part = query_parts(pairs, k)
    total_b = by_part.contribution_bk.sum(1) + by_part.rest_b
    assert torch.allclose(total_b.float(), pairs.similarity_b, atol=1e-5)
    score_b = pairs.global_cosine_b + pairs.similarity_b
    for other in range(candidates):
        table = by_part.compare(0, other)
        assert abs(table.difference.sum() - float(score_b[0] - score_b[other])) < 1e-5
        assert len(table) == 2 + by_part.contribution_bk.shape[1]


@pytest.mark.parametrize("seed", range(20))
def test_cells_of_no_part_are_a_row_of_the_table(seed):
    "Noisy copies, of which small groups are left to the rest."
    draw = torch.Generator().manual_seed(seed)
    map_1chw = torch.randn(1, 16, 6, 6, generator=draw)
    noise = 0.8 * torch.randn(4, 16, 6, 6, generator=draw)
    x = grid_features(map_1chw + noise, grid=6)
    pairs = match(x[0], x[1:])
    score_b = pairs.global_cosine_b + pairs.similarity_b
    table = query_parts(pairs).compare(0, 2)
    assert abs(table.difference.sum() - float(score_b[0] - score_b[2])) < 1e-5


def test_a_similarity_of_nothing_has_no_shares():
    maps = torch.zeros(2, 4, 2, 2)
    maps[0, 0], maps[1, 1] = 1, 1  # orthogonal
    x = grid_features(maps, grid=2)
    found = parts(match(x[0], x[1]))
    assert found.share != found.share and "%" not in str(found)
    check_sums(found, 0.0)


def test_the_parts_of_a_query_are_those_of_its_candidates():
    "A query of three kinds of cells has three parts, whichever candidates it has."
    x = blobs(3, (0, 1, 2, 3))
    by_part = query_parts(match(x[0], x[1:], marginals="uniform"))
    columns = by_part.label_n.view(8, 8)
    assert (columns == columns[0]).all() and columns.unique().numel() == 3
    for shift, label_m in enumerate(by_part.label_bm, 1):
        assert torch.equal(label_m.view(8, 8)[0], columns[0].roll(shift))

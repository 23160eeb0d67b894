"""Lists without some parts of a query: for any part, rule and grid, the sums of the flows that are
left."""

import pytest
import torch
from random_features import some_features

from diml_nb.explain.parts import query_parts
from diml_nb.ot.matching import match
from diml_nb.retrieval.metrics import Ranking
from diml_nb.viz.widgets.lists import QueryLists, compare_candidates, drop_parts, query_lists


def some_lists(grid=(3, 4), marginals="cross_correlation", k=3) -> QueryLists:
    "The first image with the nine others, in the order of the cosine, and its cells in k parts."
    x = some_features(10, grid)
    score_b, index_b = (x.global_bc[:1] @ x.global_bc[1:].T).sort(descending=True)
    before = Ranking(1 + index_b, score_b)
    result = match(x[0], x[before.index_qk[0]], marginals=marginals, eps=0.05)
    return query_lists(result, before)._replace(by_part=query_parts(result, k))


CASES = [(grid, rule) for grid in ((3, 3), (2, 5)) for rule in ("uniform", "cross_correlation")]


@pytest.mark.parametrize(("grid", "marginals"), CASES)
@pytest.mark.parametrize("dropped", [[0], [1, 2], [0, 1, 2]])
def test_the_flows_that_are_left(grid, marginals, dropped):
    found = some_lists(grid, marginals)
    less = drop_parts(found, dropped)
    left_n = ~torch.isin(found.by_part.label_n, torch.tensor(dropped))
    left_b = found.match.contribution_bnm[:, left_n].sum((1, 2))
    score_b = found.match.global_cosine_b + left_b
    order = score_b.argsort(descending=True)
    assert less.after.index_qk[0].tolist() == [found.candidates[i] for i in order]
    assert torch.allclose(less.after.score_qk[0], score_b[order], atol=1e-5)
    assert torch.allclose(less.match.contribution_bnm.sum((1, 2)), left_b, atol=1e-6)


def test_nothing_dropped_changes_nothing():
    found = some_lists()
    same = drop_parts(found, [])
    for before, now in zip(found.after[:2], same.after[:2]):
        assert torch.equal(before, now)
    assert torch.equal(found.match.plan_bnm, same.match.plan_bnm)
    assert torch.equal(found.by_part.label_bm, same.by_part.label_bm)


@pytest.mark.parametrize("dropped", [[], [1], [0, 1, 2]])
def test_the_rows_of_a_comparison_add_up_to_the_scores(dropped):
    less = drop_parts(some_lists(), dropped)
    places = less.after.index_qk[0].tolist()
    for first, second in ((places[0], places[1]), (places[8], places[2])):
        table = compare_candidates(less, first, second)
        scores = [less.after.score_qk[0, places.index(n)].item() for n in (first, second)]
        assert table["part"].iloc[[0, -2, -1]].tolist() == ["whole images", "rest", "sum"]
        assert table.iloc[-1][["first", "second"]].tolist() == pytest.approx(scores, abs=1e-5)
        assert table.difference[:-1].sum() == pytest.approx(scores[0] - scores[1], abs=1e-5)


def test_a_query_without_parts_has_one_row_for_its_cells():
    found = some_lists(k=1)
    assert not found.has_parts
    table = compare_candidates(found, *found.candidates[:2])
    assert table["part"].tolist() == ["whole images", "all cells", "sum"]


@pytest.mark.parametrize("wrong", [3, -1])
def test_a_part_that_the_query_does_not_have_is_refused(wrong):
    with pytest.raises(
        ValueError, match=f"dropped: expected numbers of parts from 0 to 2.*{wrong}"
    ):
        drop_parts(some_lists(), [0, wrong])

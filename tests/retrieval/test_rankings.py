"""Labels, rankings and options of retrieval: what they mean, and what is refused by name."""

import numpy as np
import pytest
import torch
from random_features import LABELS, masses, some_features, some_ranking, uniform

from diml_nb.features.grid import grid_features
from diml_nb.learning.evaluation import Queries, evaluate_retrieval
from diml_nb.learning.losses import make_loss
from diml_nb.ot.matching import match
from diml_nb.ot.sinkhorn import sinkhorn
from diml_nb.retrieval.metrics import Ranking, class_bootstrap_ci, retrieval_metrics
from diml_nb.retrieval.rerank import rerank, rerank_by, score_shortlist
from diml_nb.retrieval.search import search


def test_labels_of_numpy_and_lists():
    "As good as tensors: the same metrics, intervals and losses."
    x, ranking = some_features(), some_ranking()
    right = retrieval_metrics(ranking, LABELS, LABELS, recall_at=(1,)).means
    for labels in (LABELS.numpy(), LABELS.numpy().astype("uint8"), LABELS.tolist(), LABELS.int()):
        assert retrieval_metrics(ranking, labels, labels, recall_at=(1,)).means == right
        assert evaluate_retrieval(x, labels).means == evaluate_retrieval(x, LABELS).means
        assert (
            class_bootstrap_ci(uniform(6), labels)
            == class_bootstrap_ci(uniform(6), LABELS)
            == class_bootstrap_ci(uniform(6).numpy(), labels)
        )
        assert make_loss("triplet_semihard")(uniform(6, 8, 3, 3), labels) == make_loss(
            "triplet_semihard"
        )(uniform(6, 8, 3, 3), LABELS)
    for wrong in (["cat"] * 6, LABELS.numpy() / 2, None):
        with pytest.raises(
            ValueError, match="labels_q: expected one whole number for each image, .* got"
        ):
            retrieval_metrics(ranking, wrong, LABELS)
    with pytest.raises(ValueError, match="np.unique"):
        make_loss("triplet_semihard")(uniform(6, 8, 3, 3), ["cat"] * 6)


def test_a_query_of_an_unknown_class_is_left_out_and_counted():
    ranking = Ranking(torch.tensor([[1, 2], [0, 2], [0, 1]]), torch.zeros(3, 2), True)
    for count_query_in_r in (False, True):
        found = retrieval_metrics(
            ranking, [0, 0, 9], [0, 0, 1], recall_at=(1,), count_query_in_r=count_query_in_r
        )
        assert found.n_without_positives == 1
        assert found["precision_at_1"] == 1
        assert all(x.isnan().tolist() == [False, False, True] for x in found.per_query.values())
    assert retrieval_metrics(ranking, [0, 0, 9], [0, 0, 1], recall_at=(1,))["r_precision"] == 1


def test_recall_at_names_the_k():
    ranking = some_ranking()
    for wrong, said in (
        ((0,), "k = 0"),
        ((-1,), "k = -1"),
        ((1, 1.5), "k = 1.5"),
        ((True,), "k = True"),
        (3, "several"),
        ("12", "several"),
    ):
        with pytest.raises(ValueError, match=f"recall_at: .*{said}"):
            retrieval_metrics(ranking, LABELS, LABELS, recall_at=wrong)
    none = retrieval_metrics(ranking, LABELS, LABELS, recall_at=())
    assert set(none.per_query) == {"precision_at_1", "r_precision", "mean_average_precision_at_r"}
    some = retrieval_metrics(ranking, LABELS, LABELS, recall_at=np.array([1, 2]))
    assert "recall_at_2" in some.per_query
    assert some["precision_at_1"] == none["precision_at_1"]


def test_an_interval_without_values_says_why():
    with pytest.raises(
        ValueError,
        match="expected at least two classes with a value, got none: each of the 6 values is NaN",
    ):
        class_bootstrap_ci(torch.full((6,), torch.nan), LABELS)
    with pytest.raises(ValueError, match="expected at least two classes with a value, got 1"):
        class_bootstrap_ci(uniform(6), [0] * 6)
    with pytest.raises(ValueError, match="labels_q: expected 6, one for each value, got 5"):
        class_bootstrap_ci(uniform(6), LABELS[:5])


def test_an_evaluation_that_cannot_be_is_refused_before_the_search(monkeypatch):
    x = some_features()
    monkeypatch.setattr(
        "diml_nb.learning.evaluation.search", lambda *given, **options: pytest.fail("searched")
    )
    strangers = Queries(x, LABELS + 10, torch.full((6,), -1))
    for labels, options, said in (
        (LABELS, dict(queries=strangers), "queries: .* in the gallery of 6, got none of 6"),
        (torch.arange(6), {}, "in the gallery of 6, got none of 6; take a split"),
        (LABELS[:5], {}, "label_n: expected 6 class numbers"),
        (LABELS, dict(eps=0), "eps > 0"),
        (LABELS, dict(marginals="attention"), "marginals: expected one of"),
        (LABELS, dict(top_k=0), "top_k: expected at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            evaluate_retrieval(x, labels, **options)


def test_totals_are_compared_relatively():
    cost = uniform(2, 4, 4)
    a, b = masses(2, 4), masses(2, 4).flip(1)
    with pytest.raises(
        ValueError,
        match=r"a_bn, b_bm: .*same total, they differ by 8e-05 \(1e-05 and 9e-05 in pair 0\)",
    ):
        sinkhorn(cost, 1e-5 * a, 9e-5 * b, tol=1e-8)
    right = sinkhorn(cost, a, b)
    for factor in (100, 1e-5):  # tol is an amount of mass
        found = sinkhorn(cost, factor * a, factor * b * 1.00005, tol=1e-3 * factor)
        assert torch.allclose(
            found.plan_bnm, factor * right.plan_bnm, rtol=1e-2, atol=1e-4 * factor
        )


def test_tol_that_is_all_of_the_mass_is_refused():
    with pytest.raises(
        ValueError,
        match=(
            "tol: expected a part of the mass, got 0.001 where a pair has 0.0001 in all; normalise"
        ),
    ):
        sinkhorn(uniform(2, 4, 4), 1e-4 * masses(2, 4), 1e-4 * masses(2, 4))


def test_lists_of_distances_are_refused():
    x, ranking = some_features(), some_ranking()
    distances = ranking._replace(score_qk=(2 - 2 * ranking.score_qk).sqrt())
    for call in (lambda: rerank(distances, x, x), lambda: rerank_by(distances, torch.zeros(6, 5))):
        with pytest.raises(
            ValueError,
            match=(
                r"ranking.score_qk: expected similarities, .* got scores that rise \(distances\?\)"
            ),
        ):
            call()
    turned = ranking._replace(score_qk=-distances.score_qk)
    assert rerank(turned, x, x).index_qk.shape == ranking.index_qk.shape
    with pytest.raises(ValueError, match="scores are NaN"):
        rerank_by(ranking._replace(score_qk=ranking.score_qk * torch.nan), torch.zeros(6, 5))
    with pytest.raises(ValueError, match="similarity_qk: expected .* 6 lists"):
        rerank_by(ranking, torch.zeros(4, 5))


def test_a_list_in_another_order_than_its_scores_is_taken():
    "As an approximate index gives it: mostly, not always, falling."
    x, ranking = some_features(40), None
    ranking = search(x, x, exclude_self=True)
    order = torch.arange(39).view(13, 3).flip(1).flatten()
    mixed = Ranking(ranking.index_qk[:, order], ranking.score_qk[:, order], True)
    assert torch.equal(
        rerank(mixed, x, x, top_k=39).score_qk, rerank(ranking, x, x, top_k=39).score_qk
    )


def test_scores_behind_the_head_are_told_apart():
    "The head is cosine + S; its cosines are kept, so that one list can be sorted by one scale."
    x = some_features(40)
    ranking = search(x, x, exclude_self=True)
    found = rerank(ranking, x, x, top_k=10)
    similarity_qk = score_shortlist(found, x, x, top_k=10).similarity_qk
    assert torch.allclose(found.score_qk[:, :10], found.cosine_qk + similarity_qk, atol=1e-6)
    cosine_qk = torch.cat([found.cosine_qk, found.score_qk[:, 10:]], 1)
    assert torch.equal(cosine_qk.sort(1, descending=True).values, ranking.score_qk)
    assert ranking.cosine_qk is None
    assert found.exclude_self


def test_reranking_twice_is_reranking_once():
    x = some_features(40)
    once = rerank(search(x, x, exclude_self=True), x, x, top_k=10)
    twice = rerank(once, x, x, top_k=10)
    assert torch.equal(once.index_qk, twice.index_qk)
    assert torch.equal(once.score_qk, twice.score_qk)
    assert torch.equal(once.cosine_qk, twice.cosine_qk)


@pytest.mark.parametrize("first,then", [(20, 5), (5, 20), (10, 10)])
def test_a_cascade_orders_the_head_by_its_last_step(first, then):
    """3 x 3 cells, then one: each step adds its own S to the cosine, never to the sum of the step
    before."""
    maps = uniform(40, 8, 3, 3)
    coarse, fine = grid_features(maps, grid=1), grid_features(maps, grid=3)
    ranking = search(coarse, coarse, exclude_self=True)
    step = rerank(ranking, coarse, coarse, top_k=first)
    both = rerank(step, fine, fine, top_k=then)
    cosine_of = torch.full((40, 40), torch.nan).scatter(1, ranking.index_qk, ranking.score_qk)
    for q in (0, 17, 39):
        head = step.index_qk[q, :then]
        score = cosine_of[q, head] + match(fine[q], fine[head]).similarity_b
        assert torch.equal(
            both.index_qk[q, :then], head[score.argsort(descending=True, stable=True)]
        )
        assert torch.allclose(both.cosine_qk[q], cosine_of[q, both.index_qk[q, : max(first, then)]])
    assert torch.equal(
        both.index_qk[:, max(first, then) :], ranking.index_qk[:, max(first, then) :]
    )
    if then < first:
        assert torch.equal(both.score_qk[:, then:], step.score_qk[:, then:])


def test_a_query_outside_the_gallery_has_no_place_in_it():
    x = some_features()
    with pytest.raises(
        ValueError,
        match="query_positions: expected one of 6 for each of 2 queries, .* query_positions",
    ):
        search(x[:2], x, query_positions=torch.tensor([0, -1]))
    assert torch.equal(
        search(x[:2], x, query_positions=[0, 1]).index_qk, some_ranking().index_qk[:2]
    )


def test_a_search_logs_its_memory_and_prints_nothing(caplog, capsys):
    x = some_features()
    with caplog.at_level("INFO", logger="diml_nb.retrieval"):
        rerank(search(x, x, max_bytes=10**8), x, x, top_k=2, max_bytes=10**8)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "search",
        "re-ranking",
    ]
    assert all("queries at a time" in record.getMessage() for record in caplog.records)
    assert capsys.readouterr().out == ""

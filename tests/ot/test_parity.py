"""Held to the figures of the official code (data/golden, see its README) and to independent
libraries."""

import numpy as np
import ot
import pytest
import torch

from diml_nb._internal.paths import data_dir
from diml_nb.features.grid import grid_features
from diml_nb.learning.distances import StructuralEuclideanDistance, StructuralSimilarity
from diml_nb.learning.losses import make_loss
from diml_nb.ot.cost import cosine_cost
from diml_nb.ot.marginals import compute_marginals
from diml_nb.ot.matching import match, similarity_matrix
from diml_nb.ot.sinkhorn import sinkhorn
from diml_nb.retrieval.metrics import retrieval_metrics
from diml_nb.retrieval.rerank import rerank
from diml_nb.retrieval.search import search

GOLDEN = np.load(data_dir() / "golden" / "official_diml.npz")
MAPS = torch.tensor(GOLDEN["maps_nchw"]).float()
LABELS = torch.tensor(GOLDEN["labels_n"])
CASES = [(grid, rule) for grid in (4, 7) for rule in ("cross_correlation", "uniform")]


def test_resize():
    x = grid_features(MAPS)
    assert (
        x.local_bcn * x.norm_bn[:, None] - torch.tensor(GOLDEN["grid4_nchw"]).flatten(2)
    ).abs().max() < 1e-6


@pytest.mark.parametrize("grid,rule", CASES)
def test_similarity_with_the_official_stop(grid, rule):
    """Equal to 1e-5, but for the few queries at which the official stop is decided by rounding.

    With uniform masses some scaling factors reach 1e6, where float32 has steps of .06: as coarse as
    the rule's threshold of .1 on the average change. The iteration at which the rule fires then
    depends on the order of a summation, thus on the machine. Such a query must agree to 1e-5 with
    the plan one iteration earlier or later, and there must be at most six of 120.
    """
    x = grid_features(MAPS, grid=grid)
    official = torch.tensor(GOLDEN[f"similarity_grid{grid}_{rule}_qg"])
    ours = similarity_matrix(x, x, marginals=rule, stopping="batch_mean")
    off = ((ours - official).abs().amax(1) >= 1e-5).nonzero().flatten().tolist()
    assert len(off) <= (6 if rule == "uniform" else 0), off
    for q in off:
        local = x.local_bcn[q].T @ x.local_bcn
        masses = compute_marginals(x[q], x, rule, leak=1e-5)
        fired = sinkhorn(
            1 - local, masses.mass_a_bn, masses.mass_b_bm, stopping="batch_mean"
        ).iterations
        plans = [
            sinkhorn(
                1 - local, masses.mass_a_bn, masses.mass_b_bm, tol=0, max_iter=fired + step
            ).plan_bnm
            for step in (-1, 1)
        ]
        assert min(((p * local).sum((1, 2)) - official[q]).abs().max() for p in plans) < 1e-5, (
            f"query {q}"
        )


@pytest.mark.parametrize("grid", (4, 7))
@pytest.mark.parametrize("top_k", (0, 20))
def test_ranking(grid, top_k):
    "The official order, except between images whose scores are closer than 1e-6."
    x = grid_features(MAPS, grid=grid)
    ours = search(x, x, exclude_self=True)
    if top_k:
        ours = rerank(ours, x, x, top_k=top_k, stopping="batch_mean")
    theirs = torch.tensor(GOLDEN[f"ranking_grid{grid}_top{top_k}_qg"].astype("int64"))
    assert (theirs[:, -1] == torch.arange(120)).all()
    score_of = torch.empty(120, 120).scatter_(1, ours.index_qk, ours.score_qk)
    gap = (score_of.gather(1, theirs[:, :-1]) - ours.score_qk).abs()[
        ours.index_qk != theirs[:, :-1]
    ]
    assert gap.numel() == 0 or gap.max() < 1e-6


@pytest.mark.parametrize("grid", (4, 7))
@pytest.mark.parametrize("top_k", (0, 20))
def test_official_metrics(grid, top_k):
    x = grid_features(MAPS, grid=grid)
    ranking = search(x, x, exclude_self=True)
    if top_k:
        ranking = rerank(ranking, x, x, top_k=top_k, stopping="batch_mean")
    found = retrieval_metrics(ranking, LABELS, LABELS, count_query_in_r=True)
    ours = [
        100 * found[k] for k in ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    ]
    assert np.allclose(ours, GOLDEN[f"official_metrics_grid{grid}_top{top_k}"], atol=1e-4)


@pytest.mark.parametrize("grid,rule", CASES)
def test_our_stop_is_nearer_to_convergence(grid, rule):
    x = grid_features(MAPS, grid=grid)
    official = torch.tensor(GOLDEN[f"similarity_grid{grid}_{rule}_qg"])[:4]
    exact = similarity_matrix(x[:4], x, marginals=rule, tol=1e-6, max_iter=3000)
    ours = similarity_matrix(x[:4], x, marginals=rule)
    assert (ours - exact).abs().max() < min(3e-4, (official - exact).abs().max())


@pytest.mark.parametrize("eps", (0.05, 0.01))
@pytest.mark.parametrize("rule", ("cross_correlation", "cross_correlation2_norm2"))
def test_pot(eps, rule):
    "Plans in float64, in the kernel domain (.05) and in the log domain (.01)."
    x = grid_features(MAPS.double(), grid=7)
    a, b = x[:6], x[60:66]
    cost, masses = cosine_cost(a.local_bcn, b.local_bcn), compute_marginals(a, b, rule)
    plan = sinkhorn(cost, masses.mass_a_bn, masses.mass_b_bm, eps=eps, tol=1e-13, max_iter=50000)
    for i in range(6):
        arguments = (masses.mass_a_bn[i].numpy(), masses.mass_b_bm[i].numpy(), cost[i].numpy(), eps)
        theirs = ot.sinkhorn(*arguments, method="sinkhorn_log", stopThr=1e-13, numItermax=50000)
        assert abs(plan.plan_bnm[i].numpy() - theirs).max() < 1e-8


def test_exact_transport_is_the_limit():
    x = grid_features(MAPS.double())
    found = match(x[:3], x[3:6], marginals="uniform", eps=1e-3, tol=1e-8, max_iter=20000)
    for i in range(3):
        bill = ot.emd2(
            found.mass_a_bn[i].numpy(), found.mass_b_bm[i].numpy(), 1 - found.cosine_bnm[i].numpy()
        )
        assert 0 <= (1 - bill) - found.similarity_b[i].item() + 1e-9 < 1e-3 * np.log(256)


def test_accuracy_calculator():
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    x = grid_features(MAPS)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(
        include=names, k="max_bin_count", knn_func=CustomKNN(CosineSimilarity())
    )
    theirs = calculator.get_accuracy(x.global_bc, LABELS)
    ours = retrieval_metrics(search(x, x, exclude_self=True), LABELS, LABELS)
    for name in names:
        assert abs(ours[name] - theirs[name]) < 1e-6


def test_separate_gallery():
    """Queries and gallery of different images, classes of different sizes, one query without a
    positive."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    x, names = grid_features(MAPS), ("r_precision", "mean_average_precision_at_r")
    q, g = torch.arange(0, 60, 3), torch.arange(5, 120)
    ours = retrieval_metrics(search(x[q], x[g]), LABELS[q], LABELS[g])
    lonely = ~torch.isin(LABELS[q], LABELS[g])
    assert ours.n_without_positives == int(lonely.sum())
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.inference import CustomKNN

    calculator = AccuracyCalculator(
        include=names, k="max_bin_count", knn_func=CustomKNN(CosineSimilarity())
    )
    theirs = calculator.get_accuracy(x.global_bc[q], LABELS[q], x.global_bc[g], LABELS[g])
    for name in names:
        assert abs(ours[name] - theirs[name]) < 1e-6


# the training losses: the official order (rows first), stop rule and swapped marginals

BATCH = torch.tensor(GOLDEN["grid4_nchw"])[torch.tensor(GOLDEN["batch_b"])]
BATCH_LABELS = LABELS[torch.tensor(GOLDEN["batch_b"])]
TRIPLETS = tuple(torch.tensor(GOLDEN["triplets_t3"]).long().T)
RULES = ("cross_correlation", "uniform")
OFFICIAL = dict(swap_marginals=True, stopping="batch_max", max_iter=100)


class TheirTriplets(torch.nn.Module):
    "A miner that returns the triplets of the golden batch."

    distance = None

    def forward(self, vector_bc, label_b):
        return TRIPLETS


def loss_and_gradient(metric):
    maps = BATCH.clone().requires_grad_()
    loss = metric(maps, BATCH_LABELS)
    loss.backward()
    return loss, maps.grad


@pytest.mark.parametrize("rule", RULES)
def test_training_matrices(rule):
    """The similarities inside the official Multi-Similarity + DIML, the distances inside Margin +
    DIML."""
    s_bb = StructuralSimilarity(marginals=rule, **OFFICIAL)(BATCH)
    assert (
        s_bb - torch.tensor(GOLDEN[f"training_similarity_{rule}_swapped_bb"])
    ).abs().max() < 1e-5
    distance = StructuralEuclideanDistance(marginals=rule, **OFFICIAL)
    distance.requested = TRIPLETS
    d_bb, (a, p, n) = distance(BATCH), TRIPLETS
    assert (
        torch.stack([d_bb[a, p], d_bb[a, n]], 1)
        - torch.tensor(GOLDEN[f"training_distance_{rule}_swapped_t"])
    ).abs().max() < 1e-5


@pytest.mark.parametrize("rule", RULES)
def test_training_losses_and_gradients(rule):
    options = dict(marginals=rule, **OFFICIAL)
    loss, grad = loss_and_gradient(make_loss("multi_similarity", structural=True, distance=options))
    assert abs(loss.item() - GOLDEN[f"multisimilarity_diml_{rule}_loss"]) < 1e-5
    assert (
        grad - torch.tensor(GOLDEN[f"multisimilarity_diml_{rule}_grad_nchw"])
    ).abs().max() < 1e-5
    metric = make_loss(
        "margin", structural=True, num_classes=int(LABELS.max()) + 1, distance=options
    )
    metric.miner = TheirTriplets()
    loss, grad = loss_and_gradient(metric)
    assert abs(loss.item() - GOLDEN[f"margin_diml_{rule}_loss"]) < 1e-5
    assert (grad - torch.tensor(GOLDEN[f"margin_diml_{rule}_grad_nchw"])).abs().max() < 1e-5


def test_plain_losses_and_gradients():
    x = torch.tensor(GOLDEN["pooled_bc"])[:, :, None, None]
    for name, key in (("margin", "margin"), ("multi_similarity", "multisimilarity")):
        metric = make_loss(name, num_classes=int(LABELS.max()) + 1)
        maps = x.clone().requires_grad_()
        if name == "margin":
            metric.miner = TheirTriplets()
        loss = metric(maps, BATCH_LABELS)
        loss.backward()
        assert abs(loss.item() - GOLDEN[f"{key}_loss"]) < 1e-5
        unit = (
            x.squeeze()
        )  # the official gradient is by the unit vector; ours also goes through its normalisation
        official = torch.tensor(GOLDEN[f"{key}_grad_bc"])
        tangent = official - (official * unit).sum(1, keepdim=True) * unit
        assert (maps.grad.squeeze() - tangent).abs().max() < 1e-5, name


def test_the_corrected_marginals_are_the_default_and_differ():
    ours, swapped = (StructuralSimilarity(swap_marginals=swap)(BATCH) for swap in (False, True))
    assert torch.equal(ours, StructuralSimilarity()(BATCH))
    assert (ours - swapped).abs().max() > 0.1
    gap = (
        ours
        - (
            similarity_matrix(grid_features(BATCH), grid_features(BATCH))
            + grid_features(BATCH).global_bc @ grid_features(BATCH).global_bc.T
        )
        / 2
    )
    assert gap.abs().max() < 5e-4  # the similarity of the evaluation, to the solver's tolerance

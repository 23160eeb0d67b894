"""Held against pytorch-metric-learning and POT: what their own tests ask, on maps of 1 x 1 and at
small sizes."""

import inspect

import numpy as np
import ot
import pytest
import torch
from pytorch_metric_learning import distances, losses, miners
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from torch.nn.functional import normalize

from diml_nb._internal.device import seed_everything
from diml_nb.features.grid import Features
from diml_nb.learning.distances import StructuralEuclideanDistance, StructuralSimilarity
from diml_nb.learning.losses import (
    LOSSES,
    MapLoss,
    OneTripletPerAnchorMiner,
    QuadrupletLoss,
    make_loss,
)
from diml_nb.ot.sinkhorn import sinkhorn
from diml_nb.retrieval.metrics import METRIC_NAMES, retrieval_metrics
from diml_nb.retrieval.search import search

LABELS = torch.arange(6).repeat_interleave(3)
ON_MAPS = [name for name, recipe in LOSSES.items() if callable(recipe.structural)]


@pytest.fixture
def vectors() -> torch.Tensor:
    return normalize(torch.randn(18, 8) + 0.3, dim=1)


def maps(x: torch.Tensor) -> torch.Tensor:
    "Vectors as maps of one cell."
    return x[:, :, None, None]


def theirs(name: str) -> tuple[torch.nn.Module, torch.nn.Module | None]:
    """The loss and miner of a recipe with the distance of pytorch-metric-learning that its
    structural one stands for."""
    recipe = LOSSES[name]
    kind = recipe.structural(grid=1)
    plain = (
        distances.CosineSimilarity() if kind.is_inverted else distances.LpDistance(power=kind.power)
    )
    asked = inspect.signature(recipe.loss).parameters
    sizes = {
        key: value for key, value in (("num_classes", 6), ("embedding_size", 8)) if key in asked
    }
    settings = recipe.settings | sizes | dict(distance=plain)
    seed_everything(0)
    return recipe.loss(**settings), recipe.miner and recipe.miner(None)


def value_and_gradient(compute, x: torch.Tensor):
    x = x.clone().requires_grad_()
    seed_everything(1)
    value = compute(x)
    value.backward()
    return value.detach(), x.grad


@pytest.mark.parametrize("name", ON_MAPS)
def test_a_recipe_on_one_cell_is_the_loss_of_pytorch_metric_learning(name, vectors):
    """Value and gradient. Mined on the same vectors, with the same random numbers, from the same
    proxies."""
    loss, miner = theirs(name)
    seed_everything(0)
    ours = make_loss(name, structural=True, num_classes=6, embedding_dim=8, grid=1)
    own, right = dict(ours.loss.named_parameters()), dict(loss.named_parameters())
    assert own.keys() == right.keys()
    assert all(torch.equal(x, right[key]) for key, x in own.items())
    found = value_and_gradient(lambda x: ours(maps(x), LABELS), vectors)
    expected = value_and_gradient(lambda x: loss(x, LABELS, miner and miner(x, LABELS)), vectors)
    assert found[0] != 0
    assert abs(found[0] - expected[0]) < 1e-4 * max(1, abs(expected[0]))
    assert (found[1] - expected[1]).norm() < 2e-3 * expected[1].norm()


@pytest.mark.parametrize(
    "ours,right",
    [
        (StructuralSimilarity, distances.CosineSimilarity()),
        (StructuralEuclideanDistance, distances.LpDistance()),
    ],
)
def test_a_distance_of_single_cells_is_theirs(ours, right, vectors):
    x, y = vectors[:7], vectors[7:12]
    assert torch.allclose(ours(grid=1)(maps(x), maps(y)), right(x, y), atol=1e-5)
    assert torch.allclose(ours(grid=1)(maps(3 * x), maps(y / 2)), right(x, y), atol=1e-5)
    assert torch.allclose(
        ours(grid=1).pairwise_distance(maps(x[:5]), maps(y)),
        right.pairwise_distance(x[:5], y),
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", [StructuralSimilarity, StructuralEuclideanDistance])
def test_a_centre_is_no_unit_vector_and_refused(kind, vectors):
    "Brought to length 1, it would have a distance of .765 for .707."
    centre = (vectors[:4] + vectors[4:8]) / 2
    with pytest.raises(
        ValueError,
        match=(
            r"ref_emb: expected maps of unit vectors, got lengths .* call distance\(query,"
            r" reference\)"
        ),
    ):
        kind(grid=1).pairwise_distance(maps(vectors[:4]), maps(centre))
    with pytest.raises(ValueError, match=r"feature maps \(B, C, H, W\)"):
        kind(grid=1).pairwise_distance(vectors[:4], centre)


@pytest.mark.parametrize(
    "options,said",
    [
        (dict(p=1), "expected p=2, .* got p=1"),
        (dict(p=3), "expected p=2, .* got p=3"),
        (dict(normalize_embeddings=False), "normalize_embeddings=False has no effect"),
        (dict(grid=2.0), "grid: expected a whole number"),
        (dict(block=0), "block: expected"),
        (dict(marginals="attention"), "marginals: expected one of"),
    ],
)
@pytest.mark.parametrize("kind", [StructuralSimilarity, StructuralEuclideanDistance])
def test_options_without_effect_are_refused(kind, options, said):
    with pytest.raises(ValueError, match=said):
        kind(**options)


# wrappers, and miners with a distance of their own


def triplet(distance=None):
    return losses.TripletMarginLoss(0.2, distance=distance)


def several_cells(images: int = 18) -> torch.Tensor:
    return torch.rand(images, 8, 3, 3, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("structural_loss", [True, False])
def test_a_miner_may_have_its_own_structural_distance(structural_loss):
    x = several_cells()

    def distance():
        return StructuralEuclideanDistance(grid=3)

    metric = MapLoss(
        triplet(distance() if structural_loss else None),
        miners.TripletMarginMiner(0.2, distance=distance()),
    )
    found = metric(x, LABELS)
    indices = miners.TripletMarginMiner(0.2, distance=distance())(x, LABELS)
    right = (
        triplet(distance())(x, LABELS, indices)
        if structural_loss
        else triplet()(x.mean((2, 3)), LABELS, indices)
    )
    assert len(indices[0])
    assert torch.allclose(found, right, atol=1e-6)


def test_several_losses_are_their_weighted_sum():
    x = several_cells()
    first = triplet(StructuralEuclideanDistance(grid=3))
    second = losses.MultiSimilarityLoss(distance=StructuralSimilarity(grid=3))
    found = MapLoss(losses.MultipleLosses([first, second], weights=[1, 3]))(x, LABELS)
    assert torch.allclose(found, first(x, LABELS) + 3 * second(x, LABELS))
    mining = losses.MultipleLosses(
        [first],
        miners=[miners.TripletMarginMiner(0.2, distance=StructuralEuclideanDistance(grid=3))],
    )
    assert torch.isfinite(MapLoss(mining)(x, LABELS))


def test_a_memory_on_one_cell_is_that_of_vectors(vectors):
    def make(distance):
        return losses.CrossBatchMemory(
            losses.ContrastiveLoss(0, 1, distance=distance), 8, memory_size=10
        )

    ours, right = MapLoss(make(StructuralEuclideanDistance(grid=1))), make(distances.LpDistance())
    for part in torch.randperm(18).split(6):  # more than the memory holds
        found = value_and_gradient(lambda x: ours(maps(x), LABELS[part]), vectors[part])
        expected = value_and_gradient(lambda x: right(x, LABELS[part]), vectors[part])
        assert abs(found[0] - expected[0]) < 1e-4
        assert (found[1] - expected[1]).norm() < 1e-3 * expected[1].norm()


def test_a_memory_says_what_does_not_fit():
    metric = MapLoss(
        losses.CrossBatchMemory(triplet(StructuralEuclideanDistance(grid=3)), 5, memory_size=40)
    )
    with pytest.raises(
        ValueError,
        match="CrossBatchMemory: expected embedding_size=8, the channels of the maps, got 5",
    ):
        metric(several_cells(), LABELS)
    metric = MapLoss(
        losses.CrossBatchMemory(triplet(StructuralEuclideanDistance(grid=3)), 8, memory_size=40)
    )
    metric(several_cells(), LABELS)
    with pytest.raises(
        ValueError, match=r"it keeps maps \(8, 3, 3\), got \(8, 2, 2\); call its reset_queue"
    ):
        metric(several_cells()[:, :, :2, :2], LABELS)


def test_two_views_are_one_batch_of_pairs():
    "SelfSupervisedLoss on maps, without MapLoss, which has class numbers to give."
    x, y = several_cells(6), several_cells(12)[6:]
    loss = triplet(StructuralEuclideanDistance(grid=3))
    both, one = losses.SelfSupervisedLoss(loss), losses.SelfSupervisedLoss(loss, symmetric=False)
    numbers = torch.arange(6)
    assert torch.allclose(both(x, y), loss(torch.cat([x, y]), numbers.repeat(2)))
    assert torch.allclose(one(x, y), loss(x, numbers, None, y, numbers.clone()))
    with pytest.raises(
        ValueError, match="SelfSupervisedLoss takes two batches of maps and no class numbers"
    ):
        MapLoss(both)


def test_a_matrix_in_batches_is_the_matrix():
    "BatchedDistance hands rows of the matrix to a function; each block is another object."
    x, rows = several_cells(), []
    distance = StructuralSimilarity(grid=3, tol=1e-6, max_iter=2000)
    distances.BatchedDistance(distance, lambda mat, start, end: rows.append(mat), batch_size=5)(x)
    assert [len(y) for y in rows] == [5, 5, 5, 3]
    assert torch.allclose(torch.cat(rows), distance(x), atol=1e-5)


@pytest.mark.parametrize(
    "make,said",
    [
        (
            lambda d: MapLoss(losses.MultipleLosses([triplet(d), triplet()])),
            "TripletMarginLoss compares vectors by LpDistance beside parts of MultipleLosses",
        ),
        (
            lambda d: MapLoss(
                losses.CrossBatchMemory(triplet(d), 8, miner=miners.TripletMarginMiner())
            ),
            "TripletMarginMiner compares vectors",
        ),
        (
            lambda d: MapLoss(
                losses.MultipleLosses([triplet(d)], miners=[miners.TripletMarginMiner()])
            ),
            "TripletMarginMiner compares vectors",
        ),
        (
            lambda d: MapLoss(triplet(d), miners.AngularMiner(distance=d)),
            "AngularMiner measures angles",
        ),
        (
            lambda d: MapLoss(losses.SelfSupervisedLoss(triplet())),
            "SelfSupervisedLoss takes two batches",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name_when_it_is_made(make, said):
    with pytest.raises(ValueError, match=said):
        make(StructuralEuclideanDistance(grid=3))


def test_an_angular_miner_by_itself_is_refused(vectors):
    with pytest.raises(ValueError, match="expected maps of unit vectors"):
        miners.AngularMiner(distance=StructuralEuclideanDistance(grid=1))(maps(vectors), LABELS)


def test_a_silent_loss_inside_a_wrapper_is_noticed():
    "It has a structural distance and never asks it, so that matching would change nothing."
    wrapped = losses.MultipleLosses(
        [losses.ThresholdConsistentMarginLoss(distance=StructuralSimilarity(grid=3))]
    )
    with pytest.raises((TypeError, RuntimeError)):
        MapLoss(wrapped)(several_cells(), LABELS)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_our_own_loss_and_miner_in_half_precision(dtype, vectors):
    x = vectors.to(dtype)
    seed_everything(0)
    found = QuadrupletLoss()(x, LABELS, OneTripletPerAnchorMiner("random")(x, LABELS))
    seed_everything(0)
    right = QuadrupletLoss()(
        x.float(), LABELS, OneTripletPerAnchorMiner("random")(x.float(), LABELS)
    )
    assert found.dtype == torch.float32
    assert torch.equal(found, right)


# retrieval


@pytest.mark.parametrize("inside", (1.0, 0.5, 0.0))
def test_queries_partly_inside_the_gallery(inside, vectors):
    "Each kind by itself, together the means of AccuracyCalculator for both."
    vectors = normalize(torch.randn(40, 6), dim=1)
    labels = torch.randint(5, (40,))
    features = Features(vectors[:, :, None], torch.ones(40, 1), vectors, (1, 1))
    gallery = torch.arange(30)
    q = torch.cat([torch.arange(int(10 * inside)), torch.arange(30, 40 - int(10 * inside))])
    within = q < 30
    for own, some in ((True, q[within]), (False, q[~within])):
        if not len(some):
            continue
        ranking = search(features[some], features[gallery], query_positions=some if own else None)
        found = retrieval_metrics(ranking, labels[some], labels[gallery])
        for query, number in enumerate(some.tolist()):
            left = gallery[gallery != number]
            asked = AccuracyCalculator(
                include=tuple(METRIC_NAMES),
                k="max_bin_count",
                knn_func=CustomKNN(distances.CosineSimilarity()),
                device=torch.device("cpu"),
            )
            right = asked.get_accuracy(
                vectors[[number]], labels[[number]], vectors[left], labels[left]
            )
            for name in METRIC_NAMES:
                assert abs(found.per_query[name][query].item() - right[name]) < 1e-6, name


# POT


def problem(n: int = 5, m: int = 7):
    cost = torch.rand(n, m, dtype=torch.float64)
    return cost, *(
        (x / x.sum()) for x in (torch.rand(n).double() + 0.1, torch.rand(m).double() + 0.1)
    )


@pytest.mark.parametrize("eps", (0.1, 0.5))
def test_plans_and_costs_are_those_of_pot(eps):
    cost, a, b = problem()
    found = sinkhorn(cost[None], a[None], b[None], eps=eps, tol=1e-12, max_iter=10_000)
    right = ot.sinkhorn(
        a.numpy(), b.numpy(), cost.numpy(), reg=eps, stopThr=1e-13, numItermax=10_000
    )
    assert abs(found.plan_bnm[0].numpy() - right).max() < 1e-9


@pytest.mark.parametrize("eps", (0.1, 0.5))
def test_gradients_by_the_masses_are_those_of_pot(eps):
    "Of any linear function of the plan, through the iterations, along moves that keep the total."
    cost, a, b = problem()
    weight = torch.rand_like(cost)

    def gradients(solve):
        leaves = [x.clone().requires_grad_() for x in (cost, a, b)]
        (weight * solve(*leaves)).sum().backward()
        return [leaves[0].grad, *(x.grad - x.grad.mean() for x in leaves[1:])]

    options = dict(tol=1e-13, max_iter=10_000, grad="autodiff")
    found = gradients(
        lambda c, a, b: sinkhorn(c[None], a[None], b[None], eps=eps, **options).plan_bnm[0]
    )
    right = gradients(
        lambda c, a, b: ot.sinkhorn(a, b, c, reg=eps, stopThr=1e-14, numItermax=10_000)
    )
    for x, y in zip(found, right):
        assert y.abs().max() > 1e-3
        assert (x - y).abs().max() < 1e-8


def test_without_entropy_the_limit_is_pots_exact_plan():
    cost, a, b = problem()
    found = sinkhorn(cost[None], a[None], b[None], eps=1e-3, tol=1e-9, max_iter=200_000)
    best = ot.emd2(a.numpy(), b.numpy(), cost.numpy())
    assert -1e-6 < (found.plan_bnm[0] * cost).sum().item() - best < 1e-3 * np.log(35)


def test_diracs_of_pots_own_tests():
    "One cell against one: all of it moves, and the cost is the bill."
    cost = torch.rand(1, 1, 1).double()
    one = torch.ones(1, 1).double()
    assert sinkhorn(cost, one, one).plan_bnm.item() == pytest.approx(1, abs=1e-12)
    assert ot.sinkhorn2(one[0].numpy(), one[0].numpy(), cost[0].numpy(), reg=0.05) == pytest.approx(
        cost.item()
    )

"""Autocast and half precision around every public function that computes."""

import importlib
import inspect
from dataclasses import fields, is_dataclass

import pytest
import torch
from random_features import LABELS, masses, some_features, some_ranking, uniform, unit

from diml_nb._internal.checks import HALF_PRECISION
from diml_nb._internal.device import seed_everything
from diml_nb.explain.counterfactual import match_reweighted
from diml_nb.explain.decomposition import cosine_decomposition
from diml_nb.explain.faithfulness import effective_receptive_field, occlude
from diml_nb.features.backbones import Backbone
from diml_nb.features.compress import fit_projection, pack_features
from diml_nb.features.grid import grid_features
from diml_nb.learning import losses as our_losses
from diml_nb.learning.distances import StructuralEuclideanDistance, StructuralSimilarity
from diml_nb.learning.evaluation import evaluate_retrieval
from diml_nb.learning.linear_probe import grid_features_batched
from diml_nb.learning.losses import LOSSES, make_loss
from diml_nb.learning.network import EmbeddingNet
from diml_nb.ot.cost import cosine_cost, euclidean_cost, pairwise_cosine
from diml_nb.ot.exact import sinkhorn_trace
from diml_nb.ot.marginals import MARGINAL_RULES, compute_marginals
from diml_nb.ot.matching import PLAN_KINDS, match, similarity_matrix
from diml_nb.ot.pairs import plan_pairs, scatter_pair_gradients, score_pairs
from diml_nb.ot.sinkhorn import sinkhorn
from diml_nb.related import (
    attribution,
    cosegmentation as coseg,
    dgml,
    journey_network,
    label_autoencoder as keywords,
    learned_mechanism,
    pixel_decoder,
    two_sided,
)
from diml_nb.retrieval.controls import (
    expand,
    gem_pool,
    maxsim_shortlist,
    search_expanded,
    search_k_reciprocal,
)
from diml_nb.retrieval.metrics import class_bootstrap_ci, metric_cis, retrieval_metrics
from diml_nb.retrieval.rerank import rerank, rerank_by, score_shortlist
from diml_nb.retrieval.search import search
from diml_nb.retrieval.topk import inner_products, streaming_topk


def some_groups() -> dgml.GroupEmbeddings:
    return dgml.GroupEmbeddings(
        unit(4, 3, 5).transpose(1, 2).contiguous(),
        uniform(4, 5),
        uniform(4, 5, 9).softmax(2),
        uniform(4, 3, 9),
    )


PLACES = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])


PROFILES = two_sided.sample_profiles(5, 3, 3, rng=torch.Generator().manual_seed(0))


JOURNEYS, CONVERTED = attribution.simulate(attribution.ConversionModel(), 20)


MASKS = uniform(4, 6, 6) > 0.5


SCALES = uniform(6, 4 * coseg.FINE_CHANNELS + 8, 4, 4)


def autoencoder() -> keywords.LabelAutoencoder:
    seed_everything(0)
    return keywords.LabelAutoencoder(7, code=4, hidden=5)


def convolution() -> torch.nn.Module:
    seed_everything(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=4), torch.nn.ReLU())


def metric_loss(name: str, structural: bool, maps: torch.Tensor):
    "Value and gradient, the backward pass under the ambient precision too."
    loss = make_loss(name, structural=structural, num_classes=3, embedding_dim=8, grid=3)
    maps = maps.clone().requires_grad_()
    value = loss(maps, LABELS)
    value.backward()
    return value.detach(), maps.grad


def mined(kind: str, vectors: torch.Tensor):
    return our_losses.OneTripletPerAnchorMiner(kind)(vectors, LABELS)


def with_gradient(function):
    def both(x: torch.Tensor, *rest):
        x = x.clone().requires_grad_()
        value = function(x, *rest)
        value.sum().backward()
        return value.detach(), x.grad

    return both


# name in its module: what is called, and with what. Every floating tensor inside is cast in turn.
CASES = {
    "features.grid.grid_features": (grid_features, uniform(3, 8, 7, 7)),
    "features.compress.fit_projection": (lambda x: fit_projection(x, 5), some_features()),
    "features.compress.Projection": (
        lambda x: fit_projection(some_features(), 5)(x),
        some_features(),
    ),
    "features.compress.pack_features": (lambda x: pack_features(x)[:], some_features()),
    "learning.linear_probe.grid_features_batched": (grid_features_batched, uniform(3, 8, 7, 7)),
    "ot.cost.pairwise_cosine": (pairwise_cosine, unit(2, 8, 9), unit(2, 8, 6)),
    "ot.cost.cosine_cost": (cosine_cost, unit(2, 8, 9), unit(2, 8, 6)),
    "ot.cost.euclidean_cost": (euclidean_cost, unit(2, 8, 9), unit(2, 8, 6)),
    **{
        f"ot.marginals.compute_marginals {rule}": (
            compute_marginals,
            some_features(),
            some_features(),
            rule,
        )
        for rule in MARGINAL_RULES
    },
    **{
        f"ot.sinkhorn.sinkhorn {eps}": (
            lambda c, a, b, eps=eps: sinkhorn(c, a, b, eps=eps),
            uniform(4, 9, 9),
            masses(4, 9),
            masses(4, 9),
        )
        for eps in (0.05, 0.005)
    },
    "ot.sinkhorn.sinkhorn gradient": (
        with_gradient(lambda c, a, b: (c * sinkhorn(c, a, b, grad="autodiff").plan_bnm).sum()),
        uniform(4, 9, 9),
        masses(4, 9),
        masses(4, 9),
    ),
    **{
        f"ot.matching.match {plan}": (
            lambda a, b, plan=plan: match(a, b, plan=plan),
            some_features(),
            some_features(),
        )
        for plan in PLAN_KINDS
    },
    "ot.matching.match stopping": (
        lambda a, b: match(a, b, stopping="batch_mean"),
        some_features(),
        some_features(),
    ),
    "ot.matching.match gradient": (
        with_gradient(
            lambda maps: match(grid_features(maps), grid_features(maps.flip(0))).similarity_b
        ),
        uniform(4, 8, 4, 4),
    ),
    "ot.matching.similarity_matrix": (similarity_matrix, some_features(), some_features()),
    "ot.pairs.score_pairs": (score_pairs, some_features(), some_features(), *PLACES),
    "ot.pairs.plan_pairs": (plan_pairs, some_features(), some_features(), *PLACES),
    "ot.pairs.scatter_pair_gradients": (
        scatter_pair_gradients,
        unit(6, 8, 9),
        unit(6, 8, 9),
        *PLACES,
        uniform(3),
        uniform(3, 9, 9),
    ),
    "retrieval.topk.inner_products": (inner_products, unit(5, 8), unit(7, 8)),
    "retrieval.topk.streaming_topk": (
        lambda x: streaming_topk(x.split(300, 1), 4),
        uniform(5, 1000),
    ),
    "retrieval.search.search": (lambda x: search(x, x, exclude_self=True), some_features()),
    "retrieval.rerank.score_shortlist": (
        score_shortlist,
        some_ranking(),
        some_features(),
        some_features(),
    ),
    "retrieval.rerank.rerank": (rerank, some_ranking(), some_features(), some_features()),
    "retrieval.rerank.rerank_by": (rerank_by, some_ranking(), uniform(6, 3)),
    "retrieval.controls.gem_pool": (gem_pool, uniform(3, 8, 7, 7)),
    "retrieval.controls.maxsim_shortlist": (
        maxsim_shortlist,
        some_ranking(),
        some_features(),
        some_features(),
    ),
    "retrieval.controls.expand": (expand, some_ranking(), some_features(), some_features()),
    "retrieval.controls.search_expanded": (
        lambda x: search_expanded(x, x, exclude_self=True, both_sides=True),
        some_features(),
    ),
    "retrieval.controls.search_k_reciprocal": (
        lambda x: search_k_reciprocal(x, x, exclude_self=True, k1=3, k2=2),
        some_features(),
    ),
    "retrieval.metrics.retrieval_metrics": (
        lambda r: retrieval_metrics(r, LABELS, LABELS, recall_at=(1, 2)).per_query,
        some_ranking(),
    ),
    "retrieval.metrics.class_bootstrap_ci": (
        lambda x: torch.tensor(class_bootstrap_ci(x, LABELS)),
        uniform(6),
    ),
    "retrieval.metrics.metric_cis": (
        lambda x: torch.tensor(
            list(metric_cis(*[dict.fromkeys(our_metrics(), x)] * 2, LABELS).values())
        ),
        uniform(6),
    ),
    "learning.evaluation.evaluate_retrieval": (
        lambda x: evaluate_retrieval(x, LABELS).per_query,
        some_features(),
    ),
    **{
        f"learning.losses.make_loss {name} {structural}": (
            lambda maps, n=name, s=structural: metric_loss(n, s, maps),
            uniform(6, 8, 3, 3),
        )
        for name, recipe in LOSSES.items()
        for structural in (False, True)
        if not (structural and isinstance(recipe.structural, str))
    },
    "learning.distances.StructuralSimilarity": (
        lambda x: StructuralSimilarity(grid=3)(x),
        uniform(6, 8, 3, 3),
    ),
    "learning.distances.StructuralEuclideanDistance": (
        lambda x, y: StructuralEuclideanDistance(grid=3)(x, y),
        uniform(6, 8, 3, 3),
        uniform(4, 8, 3, 3),
    ),
    "learning.losses.QuadrupletLoss": (
        lambda x: our_losses.QuadrupletLoss()(x, LABELS),
        uniform(6, 8),
    ),
    **{
        f"learning.losses.OneTripletPerAnchorMiner {kind}": (mined, kind, uniform(6, 8))
        for kind in ("random", "softhard")
    },
    "explain.counterfactual.match_reweighted": (
        lambda a, b, w: match_reweighted(a, b, weight_n=w),
        some_features(),
        some_features(),
        uniform(9),
    ),
    "explain.decomposition.cosine_decomposition": (
        cosine_decomposition,
        some_features(),
        some_features(),
    ),
    "ot.exact.sinkhorn_trace": (
        sinkhorn_trace,
        match(some_features(), some_features()),
    ),
    "explain.faithfulness.occlude": (lambda x: occlude(x, uniform(3, 9) > 0.5), uniform(3, 32, 32)),
    "explain.faithfulness.effective_receptive_field": (
        lambda x: effective_receptive_field(Backbone(convolution(), image_size=32), x, 2, grid=4),
        uniform(2, 3, 32, 32),
    ),
    "related.dgml.AttentiveGrouping": (
        lambda x: vars(seeded(dgml.AttentiveGrouping, 8, 6, 3)(x)),
        uniform(3, 8, 5, 5),
    ),
    "related.dgml.embed_groups": (
        lambda x: vars(dgml.embed_groups(seeded(dgml.AttentiveGrouping, 8, 6, 3), x)),
        uniform(3, 8, 5, 5),
    ),
    "related.dgml.train_grouping": (
        lambda x: dgml.train_grouping(
            x,
            LABELS.repeat_interleave(2),
            embedding_dim=4,
            groups=2,
            epochs=1,
            batch_size=2,
            validation=0.7,
        )[0].query_kc.detach(),
        uniform(12, 8, 3, 3),
    ),
    "related.dgml.as_features": (dgml.as_features, some_groups()),
    "related.dgml.attention_overlap": (dgml.attention_overlap, uniform(4, 3, 9)),
    "related.dgml.diversity_loss": (dgml.diversity_loss, unit(4, 3, 5)),
    "related.dgml.group_matching": (dgml.group_matching, some_groups(), some_groups()),
    "related.dgml.cell_matching": (dgml.cell_matching, some_groups(), some_groups()),
    "related.cosegmentation.split_scales": (coseg.split_scales, SCALES),
    "related.cosegmentation.mean_contribution": (
        coseg.mean_contribution,
        some_features(),
        torch.stack(PLACES),
    ),
    "related.cosegmentation.mask_metrics": (coseg.mask_metrics, uniform(4, 3, 3) - 0.5, MASKS),
    "related.pixel_decoder.PixelDecoder": (
        lambda x: seeded(pixel_decoder.PixelDecoder, 4 * coseg.FINE_CHANNELS + 8)(x),
        SCALES,
    ),
    "related.pixel_decoder.decode_batched": (
        lambda x: pixel_decoder.decode_batched(
            seeded(pixel_decoder.PixelDecoder, 4 * coseg.FINE_CHANNELS + 8), x
        ),
        SCALES,
    ),
    **{
        f"related.pixel_decoder.{f.__name__}": (f, 4 * uniform(4, 6, 6) - 2, MASKS)
        for f in (pixel_decoder.cross_entropy, pixel_decoder.jaccard_loss, pixel_decoder.dice_loss)
    },
    "related.pixel_decoder.is_triplet_loss": (
        pixel_decoder.is_triplet_loss,
        unit(4, 5, 6, 6),
        MASKS,
        torch.tensor([0, 0, 1, 1]),
    ),
    "related.pixel_decoder.train_decoder": (
        lambda x: pixel_decoder.train_decoder(
            x, uniform(6, 8, 8) > 0.5, LABELS, epochs=1, groups=2, per_group=2, triplet_weight=1.0
        ).logit.weight.detach(),
        SCALES,
    ),
    "related.pixel_decoder.append_channel": (
        pixel_decoder.append_channel,
        uniform(3, 8, 4, 4),
        uniform(3, 2, 2),
    ),
    "related.pixel_decoder.pca_colors": (pixel_decoder.pca_colors, unit(4, 5, 6, 6)),
    "related.two_sided.deferred_acceptance": (two_sided.deferred_acceptance, *PROFILES),
    "related.two_sided.random_side_deferred_acceptance": (
        two_sided.random_side_deferred_acceptance,
        *PROFILES,
    ),
    "related.two_sided.swap_sides": (
        two_sided.swap_sides(two_sided.deferred_acceptance),
        *PROFILES,
    ),
    "related.two_sided.top_trading_cycles": (two_sided.top_trading_cycles, *PROFILES),
    "related.two_sided.random_serial_dictatorship": (
        two_sided.random_serial_dictatorship,
        *PROFILES,
    ),
    "related.two_sided.stability_violation": (
        two_sided.stability_violation,
        uniform(5, 3, 3) / 3,
        *PROFILES,
    ),
    "related.two_sided.evaluate_deviations": (
        lambda p, q: two_sided.evaluate_deviations(two_sided.random_side_deferred_acceptance, p, q),
        *PROFILES,
    ),
    "related.two_sided.largest_gain": (
        lambda p: two_sided.largest_gain(answers().g_bnm, answers().worker_bnkm, p),
        PROFILES[0],
    ),
    "related.two_sided.manipulation_gains": (
        lambda p, q: two_sided.manipulation_gains(answers(), p, q),
        *PROFILES,
    ),
    "related.two_sided.strategyproofness_violation": (
        lambda p, q: two_sided.strategyproofness_violation(answers(), p, q),
        *PROFILES,
    ),
    "related.two_sided.convex_combination": (
        lambda: two_sided.convex_combination(answers(), answers(), 0.3),
    ),
    "related.two_sided.deferred_acceptance_on_random_trees": (
        lambda p, q: two_sided.deferred_acceptance_on_random_trees(
            p, q, allowed_tnm=two_sided.bipartite_paths(3)
        ),
        *PROFILES,
    ),
    "related.learned_mechanism.MatchingNetwork": (
        lambda p, q: seeded(learned_mechanism.MatchingNetwork)(p, q).detach(),
        *PROFILES,
    ),
    "related.learned_mechanism.train_mechanism": (
        lambda: learned_mechanism.train_mechanism(
            seeded(learned_mechanism.MatchingNetwork), 2, 2, steps=2, batch=4
        ).pair.weight.detach(),
    ),
    "related.two_sided.sinkhorn_matching": (two_sided.sinkhorn_matching, *PROFILES),
    "related.two_sided.birkhoff_decomposition": (
        two_sided.birkhoff_decomposition,
        masses(3, 3) / 3,
    ),
    "related.label_autoencoder.class_means": (
        lambda x: keywords.class_means(x, LABELS),
        uniform(6, 5),
    ),
    "related.label_autoencoder.propensity": (lambda x: keywords.propensity(x, 9), uniform(4)),
    "related.label_autoencoder.label_metrics": (
        lambda x: keywords.label_metrics(x, torch.ones(4, 6), torch.ones(6)),
        uniform(4, 6),
    ),
    "related.label_autoencoder.LabelAutoencoder": (
        lambda x: (autoencoder()(x).detach(), autoencoder().weight_lu.detach()),
        uniform(4, 7),
    ),
    "related.label_autoencoder.fit_autoencoder": (
        lambda: keywords.fit_autoencoder((uniform(9, 7) > 0.5).float(), epochs=2).weight_lu,
    ),
    "related.label_autoencoder.label_hierarchy": (
        lambda x: torch.tensor(
            [b.share for b in keywords.label_hierarchy(autoencoder(), x, list("abcdefg"))]
        ),
        uniform(5, 4),
    ),
    "related.label_autoencoder.label_similarity": (keywords.label_similarity, uniform(7, 4)),
    "related.attribution.ConversionModel": (lambda: attribution.ConversionModel()(JOURNEYS),),
    "related.attribution.shapley_values": (
        lambda w: attribution.shapley_values(lambda mask: mask.to(w) @ w, 4),
        uniform(4),
    ),
    "related.attribution.attribute": (
        lambda: attribution.attribute(
            attribution.ConversionModel(), JOURNEYS[int(JOURNEYS.length_b.argmax())]
        ),
    ),
    "related.attribution.time_decay_shares": (
        lambda: attribution.time_decay_shares(JOURNEYS, half_life=2.0),
    ),
    "related.attribution.MarkovAttribution": (
        lambda: (lambda m: (m(JOURNEYS), m.shares(JOURNEYS)))(
            attribution.MarkovAttribution(JOURNEYS, CONVERTED, channels=6)
        ),
    ),
    "related.journey_network.phased_gate": (
        lambda: journey_network.phased_gate(uniform(4), uniform(3), uniform(3), open_ratio=0.5),
    ),
    "related.journey_network.JourneyLSTM": (
        lambda: seeded(journey_network.JourneyLSTM, 6)(JOURNEYS).detach(),
    ),
    "related.journey_network.log_loss": (
        lambda: torch.tensor(
            journey_network.log_loss(attribution.ConversionModel(), JOURNEYS, CONVERTED)
        ),
    ),
    "related.journey_network.fit_network": (
        lambda: (
            journey_network.fit_network(
                (JOURNEYS, CONVERTED), (JOURNEYS, CONVERTED), channels=6, epochs=1
            ).head.weight
        ),
    ),
    "related.journey_network.calibration": (
        lambda p: journey_network.calibration(p, CONVERTED),
        uniform(20),
    ),
}


# of these modules: public names that are not in `CASES`, and why
OTHERS = {
    "ot.cost": {"cosine_unchecked"},  # as `pairwise_cosine`, which checks first
    "ot.marginals": {"MARGINAL_RULES", "Marginals", "check_marginal_rule", "check_batch_sizes"},
    "ot.sinkhorn": {
        "LOG_DOMAIN_RANGE",
        "MIN_MASS",
        "CHECK_EVERY",
        "Stopping",
        "Grad",
        "Domain",
        "SinkhornResult",
        "solve_unchecked",  # as `sinkhorn`, which checks first
        "check_solver_options",
    },
    "ot.matching": {
        "PLAN_KINDS",
        "Match",
        "MatchOptions",
        "match_unchecked",  # as `match`, which checks first
        "aligned_plan",  # a part of `match`
        "best_cell_plan",  # a part of `match`
        "check_features",
    },
    "ot.native": {
        "NATIVE_SOURCE",
        "native_library",
        "ImageTensors",
        "PairSolver",
        "PairProgram",
    },
    "ot.pairs": {
        "PairScores",
        "PairPlans",
        "score_pairs_unchecked",  # as `score_pairs`, which checks first
        "plan_pairs_unchecked",
        "scatter_gradients_unchecked",
        "TRITON_DEVICES",
    },
    "ot.triton_kernels": {  # in float32, whatever autocast says
        "PairConstants",
        "choose_tiles",
        "pair_constants",
        "launch_pairs",
        "GradientConstants",
        "launch_gradient",
    },
    "retrieval.metrics": {
        "METRIC_NAMES",
        "SMALLEST_EFFECT",
        "mean_by_class",
        "Ranking",
        "Metrics",
        "ConfidenceInterval",
    },
    "retrieval.topk": {"TOPK_SOURCE"},
    "retrieval.search": set(),
    "retrieval.controls": set(),
    "retrieval.rerank": {"ShortlistScores", "check_shortlist"},
    "learning.distances": {"StructuralDistance"},  # the base of the two
    "learning.losses": {
        "LOSSES_ON_MINED_PAIRS",
        "LOSSES",
        "LossSpec",
        "MapLoss",
    },  # MapLoss: all cases of make_loss
    "ot.exact": {"exact_match", "SinkhornTrace"},  # by SciPy, in float64
    "explain.decomposition": {  # in float64
        "DECOMPOSITION_KINDS",
        "cell_name",
        "square_grid",
        "flow_table",
        "match_warnings",
        "Decomposition",
        "decompose",
        "ScoreDifference",
        "score_difference",
    },
    "explain.counterfactual": set(),
    "explain.faithfulness": {  # what the caller's own `score` says
        "OCCLUSION_FILLS",
        "deletion_curves",
        "DeletionCurves",
        "faithfulness",
    },
    "explain.truth": {
        "FlowAccuracy",
        "PairAccuracy",
        "PartAccuracy",
        "flow_accuracy",
        "pair_accuracies",
        "part_accuracy",
        "pck",
    },
    "related.dgml": {"GroupEmbeddings", "plot_attention"},
    "related.cosegmentation": {
        "FINE_CHANNELS",
        "with_distractor",
        "save_distracted",
        "load_masks",
        "group_flow",
        "MultiScaleEncoder",
        "multiscale_backbone",
        "pairs_within",
        "pairs_across",
    },
    "related.pixel_decoder": {"LOSSES", "PixelOutput"},
    "related.two_sided": {
        "MAX_PARTNERS",
        "Mechanism",
        "preference_lists",
        "preference_probabilities",
        "sample_profiles",
        "DeviationOutcomes",
        "bipartite_paths",
    },
    "related.learned_mechanism": {"PairScores", "scores_to_lottery"},
    "related.label_autoencoder": {  # scikit-learn, in NumPy
        "KEYWORDS",
        "read_keywords",
        "keyword_matrix",
        "one_vs_rest",
        "fit_code_regressor",
        "TreeNode",
    },
    "related.attribution": {
        "CHANNELS",
        "Journeys",
        "Channel",
        "simulate",
        "Attribution",
    },
    "related.journey_network": {"fit_logistic", "Calibration"},  # scikit-learn, in NumPy
}


def our_metrics():
    from diml_nb.retrieval.metrics import METRIC_NAMES

    return METRIC_NAMES


def answers() -> two_sided.DeviationOutcomes:
    return two_sided.evaluate_deviations(two_sided.random_side_deferred_acceptance, *PROFILES)


def seeded(make, *args):
    seed_everything(0)
    return make(*args)


def cast(x, dtype: torch.dtype):
    "The same with every floating tensor inside in another precision."
    if isinstance(x, torch.Tensor):
        return x.to(dtype) if x.is_floating_point() else x
    if is_dataclass(x):
        return type(x)(*(cast(getattr(x, f.name), dtype) for f in fields(x)))
    if isinstance(x, tuple):
        return (
            type(x)(*(cast(y, dtype) for y in x))
            if hasattr(x, "_fields")
            else tuple(cast(y, dtype) for y in x)
        )
    return x


def tensors(x) -> list[torch.Tensor]:
    "Every tensor inside a result, in order."
    if isinstance(x, torch.Tensor):
        return [x]
    if is_dataclass(x):
        x = vars(x)
    if isinstance(x, dict):
        x = list(x.values())
    return [y for part in x for y in tensors(part)] if isinstance(x, (list, tuple)) else []


def run(
    name: str, dtype: torch.dtype = torch.float32, then: torch.dtype | None = None
) -> list[torch.Tensor]:
    function, *given = CASES[name]
    given = [cast(x, dtype) for x in given]
    if then:
        given = [cast(x, then) for x in given]
    seed_everything(0)
    found = tensors(function(*given))
    assert found, f"{name}: nothing to compare"
    return found


@pytest.mark.parametrize("dtype", HALF_PRECISION, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_autocast_changes_nothing(name, dtype):
    right = run(name)
    with torch.autocast("cpu", dtype=dtype):
        found = run(name)
    assert [x.dtype for x in found] == [x.dtype for x in right]
    for x, y in zip(found, right, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", HALF_PRECISION, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_half_precision_is_computed_in_float32_or_refused(name, dtype):
    "Refused by a sentence of ours, not by an error from inside torch."
    try:
        found = run(name, dtype)
    except (TypeError, ValueError) as error:
        assert "expected" in str(error), error
        return
    for x, y in zip(found, run(name, dtype, torch.float32), strict=True):
        close = (
            2 * torch.finfo(x.dtype).eps if x.dtype in HALF_PRECISION else 1e-5
        )  # a gradient has the precision of its input
        assert torch.allclose(x.to(y.dtype), y, rtol=close, atol=1e-6, equal_nan=True), (
            (x - y).abs().max()
        )


@pytest.mark.parametrize("module", OTHERS)
def test_every_public_name_is_looked_at(module):
    "A new function belongs into `CASES`, or beside those that do not compute."
    public = set(importlib.import_module(f"diml_nb.{module}").__all__)
    tested = {
        name.split()[0].removeprefix(f"{module}.")
        for name in CASES
        if name.startswith(f"{module}.")
    }
    assert public == tested | OTHERS[module]
    assert not tested & OTHERS[module]


@pytest.mark.parametrize("dtype", HALF_PRECISION, ids=str)
def test_evidence_of_a_plan_is_true_under_autocast(dtype):
    "It was NaN in float16; in bfloat16 the plan summed to 1.0008 and its error was given as 0."
    x = grid_features(torch.randn(12, 64, 7, 7) + 0.3, grid=7)
    with torch.autocast("cpu", dtype=dtype):
        found = match(x[:6], x[6:])
    assert found.plan_bnm.dtype == torch.float32
    assert torch.isfinite(found.plan_bnm).all()
    assert (found.plan_bnm.sum((1, 2)) - 1).abs().max() < 1e-5
    wrong_b = (found.plan_bnm.sum(1) - found.mass_b_bm).abs().sum(1)
    assert (wrong_b - found.marginal_error_b).abs().max() < 1e-5
    assert (found.marginal_error_b > 0).all()


def test_extract_features_pools_in_full_precision():
    "A network may run in mixed precision; what is made of its maps may not."
    from diml_nb.learning.network import extract_features

    class Pictures:
        def __getitems__(self, keys):
            return uniform(len(keys), 3, 8, 8)

    network = EmbeddingNet(None, 3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = extract_features(network, Pictures(), torch.arange(4), grid=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = network(uniform(4, 3, 8, 8)).detach()
    assert maps.dtype == torch.bfloat16
    assert torch.equal(found.local_bcn, grid_features(maps.float()).local_bcn)


def test_autocast_is_on_again_behind_a_call():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        match(some_features(), some_features())
        with pytest.raises(ValueError):
            match(some_features(), some_features(), eps=-1)
        assert torch.is_autocast_enabled("cpu")


def test_public_signatures_are_those_of_the_functions():
    "The decorator hides nothing from help and documentation."
    assert list(inspect.signature(match).parameters)[:3] == ["a", "b", "marginals"]
    assert "arXiv" in match.__doc__

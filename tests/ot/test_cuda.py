"The same numbers on a GPU, where there is one."

from itertools import product

import numpy as np
import pytest
import torch

from diml_nb._internal.paths import data_dir
from diml_nb.features.backbones import get_backbone
from diml_nb.features.cache import extract_feature_maps
from diml_nb.features.grid import grid_features
from diml_nb.ot.marginals import MARGINAL_RULES
from diml_nb.ot.matching import PLAN_KINDS, match, similarity_matrix
from diml_nb.ot.pairs import plan_pairs, scatter_pair_gradients, score_pairs
from diml_nb.retrieval.metrics import class_bootstrap_ci, retrieval_metrics
from diml_nb.retrieval.rerank import rerank
from diml_nb.retrieval.search import search

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device on this machine"
)

torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
    False  # products of ten bits are not the same numbers
)
GOLDEN = np.load(data_dir() / "golden" / "official_diml.npz")
MAPS, LABELS = torch.tensor(GOLDEN["maps_nchw"]).float(), torch.tensor(GOLDEN["labels_n"])


def test_match():
    for grid, plan, rule, eps in product((4, 7), PLAN_KINDS, MARGINAL_RULES, (0.05, 0.01)):
        here, there = grid_features(MAPS, grid=grid), grid_features(MAPS.cuda(), grid=grid)
        options = dict(plan=plan, marginals=rule, eps=eps)
        ours = match(here[:40], here[40:80], **options)
        theirs = match(there[:40], there[40:80], **options)
        assert (ours.similarity_b - theirs.similarity_b.cpu()).abs().max() < 1e-4, (grid, options)


def test_retrieval():
    here, there = grid_features(MAPS), grid_features(MAPS.cuda())
    assert (
        similarity_matrix(there, there).cpu() - similarity_matrix(here, here)
    ).abs().max() < 1e-4
    ours, theirs = (rerank(search(x, x, exclude_self=True), x, x, top_k=20) for x in (here, there))
    assert (ours.index_qk == theirs.index_qk.cpu()).float().mean() > 0.999
    metrics = [retrieval_metrics(r, y, y) for r, y in ((ours, LABELS), (theirs, LABELS.cuda()))]
    assert class_bootstrap_ci(metrics[1].per_query["r_precision"], LABELS.cuda()).mean > 0
    assert (
        abs(metrics[0]["mean_average_precision_at_r"] - metrics[1]["mean_average_precision_at_r"])
        < 1e-3
    )


def test_pairs_and_their_gradient():
    here, there = grid_features(MAPS[:30]), grid_features(MAPS[:30].cuda())
    i_p = torch.arange(30).repeat_interleave(10)
    j_p = torch.arange(300) % 30
    grad_p = torch.randn(300)
    found = [
        score_pairs(x, x, i, j) for x, i, j in ((here, i_p, j_p), (there, i_p.cuda(), j_p.cuda()))
    ]
    assert (found[0].similarity_p - found[1].similarity_p.cpu()).abs().max() < 1e-4
    flows = plan_pairs(here, here, i_p, j_p), plan_pairs(there, there, i_p.cuda(), j_p.cuda())
    assert (flows[0].plan_pnm - flows[1].plan_pnm.cpu()).abs().max() < 1e-4
    given = i_p, j_p, grad_p, flows[0].plan_pnm
    pulled = (
        scatter_pair_gradients(here.local_bcn, here.local_bcn, *given),
        scatter_pair_gradients(there.local_bcn, there.local_bcn, *(x.cuda() for x in given)),
    )
    for x, y in zip(*pulled):
        assert (x - y.cpu()).norm() < 1e-4 * x.norm()


def test_gradient_and_maps(tmp_path):
    grads = []
    for place in ("cpu", "cuda"):
        maps = MAPS[:8].to(place).requires_grad_()
        x = grid_features(maps)
        match(x[:4], x[4:8]).similarity_b.sum().backward()
        grads.append(maps.grad.cpu())
    assert (grads[0] - grads[1]).abs().max() < 1e-4 < grads[0].abs().max()
    paths = sorted((data_dir() / "emoji").glob("*/noto.png"))[:5]
    maps = extract_feature_maps(
        paths, get_backbone("timm/resnet10t", pretrained=False), cache=tmp_path
    )
    assert maps.shape[0] == 5
    assert maps.device.type == "cpu"

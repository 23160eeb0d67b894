"""A trained network explains what it evaluates."""

from pathlib import Path

import pytest
import torch
from commands import run_diml
from small_runs import PAIR, few_images

from diml_nb.datasets.dataset import ImageDataset
from diml_nb.learning.config import TrainConfig
from diml_nb.learning.network import EmbeddingInputs
from diml_nb.learning.trained import TrainedBackbone
from diml_nb.learning.trainer import load_trained, train
from diml_nb.viz.widgets.controls import prepare_image
from diml_nb.viz.widgets.pair import PairExplorer
from diml_nb.viz.widgets.ranking import RetrievalExplorer
from diml_nb.viz.widgets.sinkhorn import SinkhornExplorer
from diml_nb.viz.widgets.steps import StepByStep


def test_a_run_is_a_backbone(run):
    "Its maps are those that are evaluated, but for the float16 of the cache."
    own, trained = TrainedBackbone(run), load_trained(run)
    seen = prepare_image(PAIR[0], own)
    maps = EmbeddingInputs(
        ImageDataset("one", (Path(PAIR[0]),), torch.tensor([0]), ("a",), ("test",)),
        trained.backbone,
        True,
    ).maps.float()
    assert torch.allclose(seen.map_bchw, trained.network(maps), atol=0.02)
    assert "efficientnet_lite0, trained on emoji by multi_similarity + DIML" in own.name
    assert "run short-run" in own.name


def test_an_end_to_end_run_is_explained_as_it_is_evaluated(tmp_path):
    """The published test keeps the centre; so does the explanation, and training pictures are
    cropped once."""
    config = TrainConfig(
        backbone="efficientnet_lite0",
        pretrained=False,
        image_size=64,
        loss="multi_similarity",
        embedding_dim=8,
        epochs=1,
        batch_size=8,
        validation=0.0,
    )
    train(config, tmp_path, images=few_images(classes=4))
    own, trained = TrainedBackbone(tmp_path), load_trained(tmp_path)
    images = few_images(classes=1)
    inputs = EmbeddingInputs(images, trained.backbone, cached=False).__getitems__(
        [(None, 0), (7, 0)]
    )
    picture = prepare_image(images.paths[0], own)
    assert torch.equal(picture.ready_chw, inputs[0])
    assert torch.equal(picture.map_bchw, trained.network(inputs[:1]))
    torch.manual_seed(7)
    from diml_nb.features.images import load_image

    assert torch.equal(own.augment(load_image(images.paths[0])), inputs[1])


def test_explorers_take_a_run_and_say_so(run, tmp_path):
    for explorer in (
        PairExplorer(*PAIR, run=run),
        SinkhornExplorer(*PAIR, run=run),
        StepByStep(*PAIR, run=run),
    ):
        assert "run short-run" in explorer.network
        assert "run short-run" in explorer.save("picture.svg", tmp_path).read_text()
    gallery = RetrievalExplorer(few_images("test", 2), run=run, top_k=5)
    assert gallery.state["grid"] == 4
    assert gallery.ranked.maps.map_bchw.shape[1] == 16
    assert "run short-run" in gallery.pair.network
    with pytest.raises(ValueError, match="give no backbone beside it"):
        PairExplorer(*PAIR, run=run, backbone=TrainedBackbone(run))


def test_the_installed_network_is_named_too(tmp_path):
    page = PairExplorer(*PAIR).save("pair.html", tmp_path).read_text()
    assert "network: efficientnet_lite0" in page


def test_diml_explain_takes_a_run(run, tmp_path):
    from diml_nb.features.grid import grid_features
    from diml_nb.ot.matching import match

    status, said = run_diml("explain", *PAIR, "--run", run, "-o", tmp_path / "pair.Html")
    own = TrainedBackbone(run)
    found = match(*(grid_features(prepare_image(path, own).map_bchw, grid=4) for path in PAIR))
    assert status == 0
    assert f"network: {own.name}" in said
    assert f"{found.similarity_b.item():.4f}" in said
    assert "run short-run" in (tmp_path / "pair.Html").read_text()

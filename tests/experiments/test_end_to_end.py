"""The whole network by papermill: a smoke run, twice, and the published setting to its end on small
archives of CUB's layout."""

from dataclasses import replace

import nbformat
import pytest
from image_files import encoded_image, pack
from small_runs import few_images

from diml_nb._internal.paths import hash_file
from diml_nb.datasets.prepare import prepare_dataset
from diml_nb.datasets.registry import DATASETS
from diml_nb.experiments.grid import expand_grid
from diml_nb.experiments.pooling import PooledRecords
from diml_nb.experiments.report import pooled_table
from diml_nb.experiments.runner import find_record, run_experiment
from diml_nb.learning.config import TrainConfig, build_backbone
from diml_nb.learning.trainer import load_trained, train
from diml_nb.retrieval.metrics import METRIC_NAMES

NAME = "10_end_to_end"
TRAINED = [("(no head)", "no"), ("multi_similarity", "baseline"), ("multi_similarity", "DIML")]


def printed(path):
    return "".join(
        o.text for c in nbformat.read(path, 4).cells for o in c.get("outputs", []) if "text" in o
    )


def rows(record):
    return [tuple(r["config"].values()) for r in record.rows if "by_class" in r["result"]]


@pytest.fixture(scope="module")
def smoke(smoke_of):
    out, _ = smoke_of(NAME)
    return out, out / f"{NAME}.smoke.ipynb"


def test_smoke(smoke):
    "Three networks, two ways each to test them."
    out, executed = smoke
    record = find_record(NAME, "smoke", results=out / "results", dataset="emoji", seed=0)
    assert record.finished
    assert rows(record) == [(*x, method) for x in TRAINED for method in ("cosine", "DIML")]
    assert all(
        x in printed(executed)
        for x in ("memory of the device:", "memory of the machine:", "disk:", "time:", "2 networks")
    )
    for r in record.rows[1:]:
        assert set(r["result"]["by_class"]) == set(r["result"]["official"]) == set(METRIC_NAMES)
        assert all(0 <= x <= 1 for x in r["result"]["official"].values())
    assert [p.name for p in (out / "figures").iterdir()] == [f"{NAME}-smoke-emoji.png"]
    assert len(pooled_table(PooledRecords([record]))) == 6


def test_elsewhere_the_same_to_the_last_digit(smoke, tmp_path, shared_kernel):
    "Also when another process loads the images."
    run_experiment(NAME, "smoke", out=tmp_path, parameters=dict(workers=1), threads=1)
    record, again = (
        find_record(NAME, "smoke", results=out / "results") for out in (smoke[0], tmp_path)
    )
    assert again.hash == record.hash
    assert [(r["config"], r["result"]) for r in again.rows] == [
        (r["config"], r["result"]) for r in record.rows
    ]


def birds(folder, classes=16, each=3):
    "As `cub` in datasets/test_benchmarks.py, but with classes enough to hold some out."
    ids = [
        (i, i // each + 1, f"{i // each + 1:03}.Auk/Auk_{i:04}.jpg") for i in range(classes * each)
    ]
    top, lines = "CUB_200_2011/", lambda form: "".join(form(*x) + "\n" for x in ids)
    parts = "".join(f"{i} {p} 10.0 5.0 1\n" for i, _, _ in ids for p in range(1, 16))
    return pack(
        folder / "CUB_200_2011.tgz",
        {
            top + "images.txt": lines(lambda i, c, p: f"{i} {p}"),
            top + "image_class_labels.txt": lines(lambda i, c, p: f"{i} {c}"),
            top + "classes.txt": "".join(f"{c} {c:03}.Auk\n" for c in range(1, classes + 1)),
            top + "bounding_boxes.txt": lines(lambda i, c, p: f"{i} 2.0 2.0 30.0 25.0"),
            top + "parts/part_locs.txt": parts,
            **{f"{top}images/{p}": encoded_image(i) for i, _, p in ids},
        },
    )


@pytest.fixture
def small_cub(tmp_path, monkeypatch):
    "DIML_DATA with a small CUB, made by `fetch` from an archive of the published layout."
    (tmp_path / "data").mkdir()
    (tmp_path / "archives").mkdir()
    archive = birds(tmp_path / "archives")
    file = DATASETS["cub"].files[0]._replace(urls=(), checksum=f"sha256:{hash_file(archive)}")
    monkeypatch.setitem(
        DATASETS,
        "cub",
        replace(DATASETS["cub"], files=(file,), counts={"train": (24, 8), "test": (24, 8)}),
    )
    prepare_dataset("cub", root=tmp_path / "data", archives=tmp_path / "archives")
    monkeypatch.setenv("DIML_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DIML_CACHE", str(tmp_path / "cache"))


def test_the_published_setting_runs_to_its_end(small_cub, tmp_path, shared_kernel):
    """ResNet-50 and both losses of the paper on small archives; only size and duration are other,
    and random weights, as the published ones must be downloaded."""
    parameters = dict(dataset="cub", epochs=1, batch_size=12, image_size=64, pretrained=False)
    executed = run_experiment(NAME, "paper", out=tmp_path / "out", parameters=parameters, threads=1)
    record = find_record(
        NAME, "paper, changed", results=tmp_path / "out" / "results", dataset="cub", seed=0
    )
    losses = ("margin", "multi_similarity")
    assert rows(record) == [
        (*x, m)
        for x in [TRAINED[0], *((loss, kind) for loss in losses for kind in ("baseline", "DIML"))]
        for m in ("cosine", "DIML")
    ]
    text = printed(executed)
    assert "cub (CUB-200-2011" in text
    assert "is there" in text
    assert "diml data verify cub" in text
    assert "4 networks" in text
    assert "hours" in text
    for folder in (tmp_path / "out" / "results" / "runs" / NAME).glob("*/*/"):
        config = load_trained(folder).config
        assert config == TrainConfig(
            dataset="cub",
            backbone="torchvision/resnet50",
            pretrained=False,
            image_size=64,
            loss=config.loss,
            structural=config.structural,
            epochs=1,
            batch_size=12,
            evaluate_every=5,
        )


def test_what_is_missing_is_said_before_it_stops(tmp_path, monkeypatch, shared_kernel):
    """Without the images the bill is printed nevertheless, for the published numbers of images;
    then it stops and names the command."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DIML_DATA", str(tmp_path / "data"))
    with pytest.raises(RuntimeError, match=NAME):
        run_experiment(
            NAME,
            "paper",
            out=tmp_path / "out",
            parameters=dict(dataset="sop", backbone="efficientnet_lite0"),
            threads=1,
        )
    (executed,) = (tmp_path / "out").glob("*.ipynb")
    text = printed(executed)
    steps = 100 * ((59551 - round(0.2 * 59551)) // 112)
    assert "IS MISSING" in text
    assert f"time: {steps} steps" in text
    assert "5.00 GB of images at most" in text
    assert "diml data fetch sop" in executed.read_text()
    assert "FileNotFoundError" in executed.read_text()


def test_the_grid_of_the_paper():
    assert {p["dataset"] for _, p in expand_grid("paper")} == {"cub", "cars", "sop"}
    assert {n for n, _ in expand_grid("paper")} == {NAME}
    assert [p for n, p in expand_grid("full", [NAME])] == [
        dict(dataset="emoji_vendors", seed=s) for s in range(3)
    ]


def test_the_size_of_images_belongs_to_a_run(tmp_path):
    """Another size, or other first weights, is another run; random weights come back by the seed
    when a run goes on."""
    kind = dict(
        backbone="efficientnet_lite0",
        pretrained=False,
        image_size=64,
        loss="multi_similarity",
        embedding_dim=8,
        epochs=1,
        batch_size=4,
        validation=0.0,
    )
    images = few_images().select(range(8))
    model = train(TrainConfig(**kind), tmp_path, images=images)
    before = model.read_bytes()
    train(TrainConfig(**kind), tmp_path, images=images)
    trained = load_trained(tmp_path)
    assert model.read_bytes() == before
    assert trained.backbone.image_size == 64
    for change, message in (
        (dict(image_size=96), "image_size: 64 there, 96 now"),
        (dict(pretrained=True), "pretrained: False there, True now"),
    ):
        with pytest.raises(ValueError, match=message):
            train(TrainConfig(**kind | change), tmp_path, images=images)
    assert (
        build_backbone(TrainConfig(backbone="torchvision/resnet18"), pretrained=False).image_size
        == 224
    )

"""Options without effect and values that do not fit: one sentence, status 2, no file."""

import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import run_diml
from PIL import Image
from small_runs import PAIR, SMALL, few_images, load_weights, short_run, write_table

import diml_nb.learning.trainer as training
from diml_nb._internal.paths import check_writable
from diml_nb.explain.parts import parts
from diml_nb.features.backbones import get_backbone
from diml_nb.learning.config import CACHED_MAPS_CONFIG, TrainConfig
from diml_nb.learning.trainer import load_trained, train
from diml_nb.matcher.matcher import Matcher
from diml_nb.matcher.rule import Rule
from diml_nb.ot.matching import MatchOptions
from diml_nb.viz.widgets.pair import PairExplorer

trained = pytest.fixture(scope="module")(short_run)


@pytest.mark.parametrize(
    "words,message",
    [
        (
            ["train", "--set", "proxies=vector"],
            "proxies=vector: only a structural loss with proxies",
        ),
        (
            ["train", "--loss", "proxy_anchor", "--plain", "--set", "proxies=vector"],
            "not proxy_anchor with --plain",
        ),
        (["train", "--set", "loss_lr=1"], "multi_similarity has no betas or proxies"),
        (["train", "--workers", "2"], "--workers: a head on cached maps"),
        (["train", "--plain", "--set", "swap_marginals=true"], "swap_marginals"),
        (["train", "--epochs", "3", "--set", "epochs=4"], "epochs: it is given twice"),
        (["train", "--set", "grid=3", "--set", "grid=4"], "grid is given twice, as 3 and as 4"),
        (["verify", "--pinned", "--rows", "4"], "--rows: it draws rows"),
        (["verify", "--pin", "--dataset", "emoji"], "--dataset: it draws rows"),
        (["verify", "--pin", "--pinned"], "--pin and --pinned"),
        (["reproduce", "--on", "moon"], "--on: expected local, slurm or kubernetes, got moon"),
        (["reproduce", "--on", "kubernetes"], "--on kubernetes: add --print"),
        (["reproduce", "--memory", "4"], "--memory: this machine's processes share"),
        (["reproduce", "--time", "60"], "--time: this machine's processes share"),
        (["reproduce", "--wait"], "--wait: only Slurm goes on alone"),
        (["reproduce", "--print"], "--print: only --on kubernetes"),
        (["reproduce", "--on", "slurm", "--shard", "0/2"], "--shard: Slurm's array has"),
        (["reproduce", "--shard", "4/4"], "--shard: expected a part and a count as in 0/8"),
        (["reproduce", "--out", "/proc/runs"], "/proc/runs: nothing can be written in /proc"),
        (["results", "merge", "nowhere"], "nowhere: expected the folder of runs"),
        (
            ["explain", *PAIR, "--run", "x", "--backbone", "timm/resnet18"],
            "--backbone: the network is that of --run",
        ),
        (["explain", *PAIR, "-o", "x.HTML", "--dark"], "--dark: a page is light or dark"),
        (["explain", *PAIR, "-o", "x.html", "--by", "flows"], "--by: a page shows both"),
        (["explain", *PAIR, "--top", "20"], "--top: it counts flows; add --by flows"),
        (
            ["data", "fetch", "emoji_scenes", "--archives", "."],
            "--archives: emoji_scenes is made without",
        ),
        (["train", "--lr", "nan"], "--lr nan: expected a finite number"),
        (["train", "--lr", "inf"], "--lr inf: expected a finite number"),
        (["train", "--lr", "-1"], "--lr -1.0: expected at least 0"),
        (["train", "--epochs", "0"], "--epochs 0: expected at least 1"),
        (["train", "--loss", "hinge"], "--loss hinge: expected one of angular"),
        (["train", "--set", "grid=seven"], "--set grid=seven: expected int"),
        (["train", "--set", "backbone=timm/resnet1"], "timm has no network 'resnet1'"),
        (["train", "--set", "backbone=vgg"], "unknown backbone 'vgg'"),
        (["train", "--dataset", "birds"], "unknown data set 'birds'"),
        (["train", "--dataset", "2024"], "unknown data set '2024'"),
        (["train", "--out", "/dev/null/run"], "/dev/null is a file, expected a folder"),
        (["train", "--out", "/proc/run"], "/proc/run: nothing can be written in /proc"),
        (
            [
                "train",
                "--set",
                "backbone=timm/vit_tiny_patch16_224",
                "--set",
                "image_size=128",
                "--set",
                "pretrained=false",
            ],
            "timm/vit_tiny_patch16_224: the network does not take images of shape (1, 3, 128, 128)",
        ),
        (["evaluate", "nowhere"], "no trained network in nowhere"),
        (["explain", PAIR[0], "nowhere.png"], "cannot read the image nowhere.png"),
        (["explain", *PAIR, "--eps", "0"], "eps > 0"),
        (["explain", *PAIR, "--grid", "0"], "grid: expected"),
        (["explain", *PAIR, "--marginals", "none"], "marginals: expected one of"),
        (
            ["explain", *PAIR, "-o", "parts.jpg"],
            "expected a suffix .svg, .pdf, .png or .html, got 'parts.jpg'",
        ),
        (["explain", *PAIR, "-o", "/dev/null/x.png"], "/dev/null is a file"),
        (["explain", *PAIR, "-o", PAIR[0]], "is one of the two images"),
        (["explore", "--run", "nowhere"], "no trained network in nowhere"),
        (
            ["data", "show", "emoji", "--out", "sheet.gif"],
            "--out: expected a file .png or .jpg, got sheet.gif",
        ),
    ],
    ids=lambda x: " ".join(x[:4]) if isinstance(x, list) else "",
)
def test_one_sentence_status_two_and_no_file(tmp_path, monkeypatch, words, message):
    import diml_nb.viz.widgets.controls as controls

    for module, name in ((training, "EmbeddingInputs"), (controls, "compute_map")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("computed"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if words[0] == "train" and "--out" not in words:
        words = [*words, "--out", tmp_path / "run"]
    status, said = run_diml(*words)
    assert status == 2
    assert message in said
    assert said.count("\n") == 1
    assert not list((tmp_path / "here").iterdir())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ("pair.PNG", "pair.Svg", "pair.PDF", "pair.HTML"))
def test_the_case_of_a_suffix_does_not_matter(tmp_path, name):
    status, _ = run_diml("explain", *PAIR, "-o", tmp_path / name)
    explorer = PairExplorer(*PAIR).save(f"explorer-{name}", tmp_path)
    beginning = dict(png=b"\x89PNG", svg=b"<?xml", pdf=b"%PDF", html=b"<!doctype html>")[
        name.partition(".")[2].lower()
    ]
    assert status == 0
    assert all(path.read_bytes().startswith(beginning) for path in (tmp_path / name, explorer))


@pytest.mark.parametrize("by", ("parts", "flows"))
def test_a_figure_is_named_by_what_it_shows_and_the_sum_is_one(tmp_path, monkeypatch, by):
    monkeypatch.chdir(tmp_path)
    status, said = run_diml("explain", *PAIR, "--by", by)
    assert status == 0 and [path.name for path in tmp_path.iterdir()] == [f"{by}.svg"]
    network = get_backbone(image_size=448)
    rule = Rule(grid=14, options=MatchOptions("cross_correlation_norm2"))
    found = parts(Matcher(network, rule=rule).match(*PAIR))
    assert f"similarity {found.similarity:.4f}" in said
    assert (str(found) in said) == (by == "parts")
    note = "448 pixels, 14 x 14 cells, cross_correlation_norm2, eps 0.05"
    assert f"network: efficientnet_lite0\n{note}\n{by}.svg" in said
    assert note in (tmp_path / f"{by}.svg").read_text()


@pytest.mark.parametrize(
    "words,seen",
    [
        (["--image-size", 224], "224 pixels, 7 x 7 cells, cross_correlation_norm2, eps 0.05"),
        (["--image-size", 512], "512 pixels, 14 x 14 cells"),
        (["--grid", 4, "--marginals", "uniform"], "448 pixels, 4 x 4 cells, uniform, eps 0.05"),
        (["--run"], "224 pixels, 4 x 4 cells, cross_correlation, eps 0.05"),
        (["--run", "--image-size", 448], "448 pixels, 4 x 4 cells, cross_correlation,"),
        (["--run", "--grid", 7], "224 pixels, 7 x 7 cells, cross_correlation, eps 0.05"),
    ],
    ids=str,
)
def test_what_was_asked_for_is_done_and_said(trained, tmp_path, words, seen):
    "The defaults are fine cells, and those of its training for a trained network."
    if words[0] == "--run":
        words = ["--run", trained, *words[1:]]
    status, said = run_diml("explain", *PAIR, "-o", tmp_path / "pair.png", *words)
    assert status == 0
    assert seen in said


@pytest.mark.parametrize("where", ("~", "relative"))
def test_paths_arrive_whole(tmp_path, monkeypatch, where):
    """`~` behind a sign that the shell does not read, and a relative path that is found again from
    another folder."""
    own = write_table(tmp_path, ("test", few_images("test")))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    own.rename(tmp_path / "2024" / "images.csv")
    here = "~/" if where == "~" else ""
    assert (
        run_diml(
            "train",
            f"--dataset={here}2024",
            "--epochs=1",
            "--batch-size=8",
            "--set",
            "validation=0.34",
            f"--out={here}run",
        )[0]
        == 0
    )
    monkeypatch.chdir("/")
    assert load_trained(tmp_path / "run").config.dataset == str(tmp_path / "2024")
    assert not Path("/run/model.safetensors").exists()
    assert run_diml("evaluate", tmp_path / "run")[0] == 0


def test_a_full_disk_is_one_sentence_and_the_run_goes_on(tmp_path):
    """The checkpoint before stays, no half file is left, and with room the run ends as if nothing
    had been."""
    config, images = TrainConfig(**SMALL | dict(embedding_dim=128)), few_images()
    train(config, tmp_path / "whole", images=images)
    train(replace(config, epochs=1), tmp_path / "run", images=images)
    before = load_weights(tmp_path / "run", "checkpoint")
    size = (tmp_path / "run" / "checkpoint.safetensors").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, limits[1]))
    try:
        with pytest.raises(
            OSError,
            match=(
                "checkpoint.safetensors could not be written .*what was there before is untouched"
            ),
        ):
            train(config, tmp_path / "run", images=images, extend=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert all(
        torch.equal(x, before[k]) for k, x in load_weights(tmp_path / "run", "checkpoint").items()
    )
    assert not list((tmp_path / "run").glob(".*"))
    train(config, tmp_path / "run", images=images, extend=True)
    assert all(
        torch.equal(x, load_weights(tmp_path / "run", "checkpoint")[k])
        for k, x in load_weights(tmp_path / "whole", "checkpoint").items()
    )


def test_a_log_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    kept = training._step

    def full(state, *batch):
        resource.setrlimit(
            resource.RLIMIT_FSIZE, ((tmp_path / "log.jsonl").stat().st_size, limits[1])
        )
        return kept(state, *batch)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(training, "_step", full)
    try:
        with pytest.raises(
            OSError, match="log.jsonl could not be written .*the same command goes on"
        ):
            train(TrainConfig(**SMALL), tmp_path, images=few_images())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_place_that_is_not_there_yet_can_be_written(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words,message",
    (
        (["--device", "cuda"], "--device"),
        (["--out", "/dev/null/x"], "/dev/null is a file"),
        (["--only", "search"], "--only"),
        (["--folder", "/nowhere"], "--folder"),
        (["--threads", "0"], "--threads"),
        (["--folder", "/tmp", "--only", "training"], "--folder: the bank alone"),
    ),
    ids=str,
)
def test_the_benchmark_refuses_first(words, message, monkeypatch, capsys):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["bench", "--preset", "smoke", *words])
    from bench import suite

    monkeypatch.setattr(suite, "measure_all", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as stop:
        suite.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_images_are_read_after_their_labels_are_checked(tmp_path, monkeypatch):
    "A batch that cannot be formed is refused before a picture of one's own set is opened."
    photos = tmp_path / "photos"
    for label in "abcdef":
        for n in range(3):
            (photos / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (80 * n, 9, 9)).save(photos / label / f"{n}.png")
    (photos / "a" / "0.png").write_bytes(b"no picture")
    read = []
    monkeypatch.setattr(training, "check_images", lambda paths: read.extend(paths))
    with pytest.raises(ValueError, match="batch_size"):
        train(TrainConfig(**CACHED_MAPS_CONFIG | dict(dataset=str(photos))), tmp_path / "run")
    assert not read
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    possible = dict(dataset=str(photos), batch_size=4, validation=0.0)
    with pytest.raises(ValueError, match="0.png"):
        train(TrainConfig(**CACHED_MAPS_CONFIG | possible), tmp_path / "run")
    assert not (tmp_path / "run").exists()

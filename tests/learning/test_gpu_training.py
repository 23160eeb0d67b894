"""What a training does on a GPU, tested without one: reports that are read late, bfloat16, the
layout of images, blocks that are computed again; and what a step needs of memory."""

import gc
import json
import math
import weakref
from dataclasses import replace

import pytest
import torch
from commands import run_diml
from safetensors.torch import load_file
from small_runs import SMALL, few_images, load_weights, log_of, write_table
from torch import nn

import diml_nb.learning.trainer as training
from diml_nb._internal.device import full_precision
from diml_nb.features.backbones import get_backbone
from diml_nb.learning.config import SpeedOptions, TrainConfig
from diml_nb.learning.losses import MapLoss, make_loss
from diml_nb.learning.network import EmbeddingNet
from diml_nb.learning.step_memory import (
    _trace_step,
    estimate_step_bytes,
    live_bytes,
    measure_peak_bytes,
)
from diml_nb.learning.step_report import StepReports, count_waits
from diml_nb.learning.trainer import load_trained, train

# four images a step, the whole network
MOVING = SMALL | dict(cached=False, image_size=64, grid=2, epochs=1, batch_size=4, validation=0.0)


@pytest.fixture
def late(monkeypatch):
    "Reports are read one step late, as on a GPU."
    monkeypatch.setattr(training, "steps_behind", lambda device: 1)


def same_bits(one, two, name="checkpoint"):
    one, two = (load_weights(folder, name) for folder in (one, two))
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_late_reports_change_nothing(tmp_path, monkeypatch):
    "Weights, moments, log and the order of its lines."
    config = TrainConfig(**SMALL | dict(loss="margin"))
    train(config, tmp_path / "at_once", images=few_images())
    monkeypatch.setattr(training, "steps_behind", lambda device: 1)
    train(config, tmp_path / "late", images=few_images())
    assert same_bits(tmp_path / "at_once", tmp_path / "late")
    assert same_bits(tmp_path / "at_once", tmp_path / "late", "model")
    assert log_of(tmp_path / "late") == log_of(tmp_path / "at_once")


def break_a_step(monkeypatch, at, what):
    "Step `at` (from 1) gets a wrong image, or a wrong gradient."
    kept = training._step

    def broken(state, inputs, label_b, names, reports):
        if state.step + 1 == at and what == "map":
            inputs[1] = torch.nan
        hook = None
        if state.step + 1 == at and what == "gradient":
            hook = state.module.head.bias.register_hook(lambda grad: grad * torch.nan)
        kept(state, inputs, label_b, names, reports)
        if hook:
            hook.remove()

    monkeypatch.setattr(training, "_step", broken)


@pytest.mark.parametrize("behind", (0, 1))
@pytest.mark.parametrize("what", ("map", "gradient"))
@pytest.mark.parametrize("last_of_epoch", (False, True))
def test_a_step_that_is_not_finite(tmp_path, monkeypatch, behind, what, last_of_epoch):
    """The step is named, with its images and gradients, though its gradient was followed; the
    checkpoint of the epoch before stays, and the run goes on from it to the same bits."""
    config, images = TrainConfig(**SMALL | dict(epochs=3)), few_images()
    train(replace(config, epochs=1), tmp_path / "run", images=images)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")}
    assert len(before) == 2
    each = json.loads(log_lines(tmp_path / "run")[-1])["step"]
    at = 2 * each if last_of_epoch else each + 1
    monkeypatch.setattr(training, "steps_behind", lambda device: behind)
    break_a_step(monkeypatch, at, what)
    with pytest.raises(RuntimeError, match=f"^step {at} is not finite: ") as caught:
        train(config, tmp_path / "run", images=images, extend=True)
    facts = json.loads((tmp_path / "run" / "failure.json").read_text())
    assert facts["step"] == at
    assert len(facts["images"]) == config.batch_size
    assert facts["lr"] == [config.lr]
    if what == "map":
        assert facts["loss"] == "nan"
        assert facts["maps_not_finite"] == [facts["images"][1]]
        assert facts["gradient_norms"] == {}
        assert facts["images"][1] in str(caught.value)
    else:
        assert math.isfinite(float(facts["loss"]))
        assert facts["maps_not_finite"] == []
        assert facts["gradients_not_finite"] == ["head.bias"]
        assert math.isfinite(float(facts["gradient_norms"]["head.weight"]))
        assert all(math.isfinite(float(x)) for x in facts["cell_lengths"])
    # extending gave both files the longer run's name, and no other weights
    for name in ("checkpoint", "model"):
        path = tmp_path / "run" / f"{name}.safetensors"
        path.with_suffix(".old").write_bytes(before[path])
        now, then = load_file(path), load_file(path.with_suffix(".old"))
        assert all(torch.equal(now[key], then[key]) for key in then)
    monkeypatch.undo()
    train(config, tmp_path / "run", images=images)
    train(config, tmp_path / "whole", images=images)
    assert same_bits(tmp_path / "run", tmp_path / "whole")
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")


def log_lines(folder):
    return (folder / "log.jsonl").read_text().splitlines()


def test_the_cause_comes_before_its_consequence(tmp_path, monkeypatch, late):
    "A step spoils the weights; whatever the next one raises, the first is reported."
    kept = training._step
    break_a_step(monkeypatch, 2, "gradient")
    broken = training._step

    def raises(state, *batch):
        if state.step == 2:
            assert not state.module.head.bias.isfinite().all()
            raise ValueError("a consequence")
        broken(state, *batch)

    monkeypatch.setattr(training, "_step", raises)
    with pytest.raises(RuntimeError, match="^step 2 is not finite"):
        train(TrainConfig(**SMALL), tmp_path, images=few_images())
    assert not (tmp_path / "checkpoint.safetensors").exists()

    def stops(state, *batch):
        if state.step == 2:
            raise ValueError("its own fault")
        kept(state, *batch)

    monkeypatch.setattr(training, "_step", stops)
    with pytest.raises(ValueError, match="its own fault"):
        train(TrainConfig(**SMALL), tmp_path, images=few_images())


def test_a_step_waits_for_nothing_of_its_own(tmp_path):
    """With a loss that reads no number, a step reads none. (Adam reads its count of steps, which
    lies on the host.)"""
    config = TrainConfig(**SMALL | dict(structural=False))
    state = training._setup(config, few_images(), tmp_path)
    state.loss = MeanSquare()
    batch = next(training._batches(state, workers=0))
    reports = StepReports(tmp_path, lambda *_: None, behind=1)
    state.optimizer.step = lambda: None
    assert count_waits(lambda: training._step(state, *batch, reports)) == 0
    assert len(reports.waiting) == 1


class MeanSquare(nn.Module):
    def forward(self, map_bchw, label_b):
        return map_bchw.square().mean()


def test_the_moments_of_one_kernel_come_back(tmp_path, monkeypatch):
    "On a GPU Adam is fused; killed and resumed, its run has the same bits."
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda groups, fused: adam(groups, fused=True))
    config = TrainConfig(**SMALL)
    train(config, tmp_path / "whole", images=few_images())
    train(replace(config, epochs=1), tmp_path / "two", images=few_images())
    train(config, tmp_path / "two", images=few_images(), extend=True)
    assert same_bits(tmp_path / "whole", tmp_path / "two")
    monkeypatch.undo()
    train(config, tmp_path / "usual", images=few_images())
    one, two = (load_weights(tmp_path / name, "model") for name in ("whole", "usual"))
    assert all(torch.allclose(one[k], two[k], atol=1e-5) for k in one)


@pytest.mark.parametrize("options", (dict(channels_last=True), dict(grad_checkpointing=True)))
def test_speed_changes_rounding_alone(tmp_path, options):
    "Loss and gradient of the first steps, in both precisions; and either run goes on as the other."
    images = few_images(classes=4)
    for precision, tolerance in (("no", 1e-4), ("bf16", 0.05)):
        config = TrainConfig(**MOVING | dict(precision=precision))
        logs = []
        for name, speed in (("usual", {}), ("quick", options)):
            train(config, tmp_path / precision / name, images=images, **speed)
            logs.append([x for x in log_of(tmp_path / precision / name) if "loss" in x][:2])
        for one, two in zip(*logs):
            assert two["loss"] == pytest.approx(one["loss"], rel=tolerance)
            assert two["gradient"] == pytest.approx(one["gradient"], rel=tolerance)
    # no other run: the same folder goes on without the option
    train(replace(config, epochs=2), tmp_path / "bf16" / "quick", images=images, extend=True)


def test_channels_last_reaches_the_backbone():
    seen = []
    network = EmbeddingNet(get_backbone(image_size=64), 1280, 8, channels_last=True)
    last = network.backbone.network.conv_head
    last.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    map_bchw = network(torch.randn(2, 3, 64, 64))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()
    assert map_bchw.is_contiguous()


@pytest.mark.parametrize(
    "settings,options,message",
    (
        ({}, dict(channels_last=True), "channels_last: means something only end to end"),
        ({}, dict(grad_checkpointing=True), "grad_checkpointing: means something only end to end"),
        (
            dict(cached=False, backbone="torchvision/resnet18", pretrained=False),
            dict(grad_checkpointing=True),
            "torchvision/resnet18 cannot compute its blocks again",
        ),
    ),
)
def test_options_that_mean_nothing_are_refused(tmp_path, settings, options, message):
    with pytest.raises(ValueError, match=message):
        train(TrainConfig(**SMALL | settings), tmp_path / "run", images=few_images(), **options)
    assert not list(tmp_path.iterdir())


def test_speed_is_no_part_of_a_run():
    assert not set(SpeedOptions._fields) & set(TrainConfig.__dataclass_fields__)


def test_precision_from_the_command_line(tmp_path, monkeypatch):
    """`--precision bf16`: the network computes in bfloat16, the loss gets float32 without autocast;
    it learns, resumes exactly, and is tested."""
    table = write_table(tmp_path, ("test", few_images("test")))
    common = ["--dataset", table, "--batch-size", "8", "--lr", "1e-3", "--precision", "bf16"]
    common += ["--set", "validation=0", "--set", "embedding_dim=16"]
    heads, losses, forward, loss_forward = [], [], nn.Conv2d.forward, MapLoss.forward

    def conv(self, x):
        out = forward(self, x)
        heads.append(out.dtype)
        return out

    def loss(self, map_bchw, label_b):
        losses.append((map_bchw.dtype, torch.is_autocast_enabled("cpu")))
        return loss_forward(self, map_bchw, label_b)

    monkeypatch.setattr(MapLoss, "forward", loss)
    with monkeypatch.context() as watched:
        watched.setattr(nn.Conv2d, "forward", conv)
        assert run_diml("train", *common, "--epochs", "12", "--out", tmp_path / "whole")[0] == 0
    assert torch.bfloat16 in heads
    assert set(losses) == {(torch.float32, False)}
    values = [x["loss"] for x in log_of(tmp_path / "whole") if "loss" in x]
    assert sum(values[-6:]) < 0.7 * sum(values[:6])
    assert {x.dtype for x in load_weights(tmp_path / "whole", "model").values()} == {torch.float32}
    assert run_diml("train", *common, "--epochs", "6", "--out", tmp_path / "run")[0] == 0
    assert run_diml("train", "--resume", "--epochs", "12", "--out", tmp_path / "run")[0] == 0
    assert same_bits(tmp_path / "run", tmp_path / "whole")
    status, said = run_diml("evaluate", tmp_path / "whole", "--top-k", "5")
    assert status == 0
    assert "DIML" in said
    assert load_trained(tmp_path / "whole").config.precision == "bf16"


@pytest.mark.parametrize(
    "words,message",
    (
        (["--precision", "fp16"], "--precision fp16: fp16 needs a loss scaler"),
        (["--precision", "half"], "--precision half: expected one of no, bf16"),
        (["--channels-last"], "--channels-last: a head on cached maps"),
        (["--grad-checkpointing"], "--grad-checkpointing: a head on cached maps"),
    ),
)
def test_precisions_that_are_refused(tmp_path, words, message):
    status, said = run_diml("train", *words, "--out", tmp_path / "run")
    assert status == 2
    assert message in " ".join(said.split())
    assert not (tmp_path / "run").exists()


def test_switches_for_tf32_are_set_and_put_back(tmp_path, monkeypatch):
    "TF32 in convolutions, not in products, whatever the program had chosen before."
    matmul, kept, seen = torch.backends.cuda.matmul, training._step, []

    def look(state, *batch):
        seen.append(matmul.fp32_precision if hasattr(matmul, "fp32_precision") else None)
        kept(state, *batch)

    monkeypatch.setattr(training, "_step", look)
    torch.set_float32_matmul_precision("high")
    try:
        train(TrainConfig(**SMALL | dict(epochs=1)), tmp_path, images=few_images())
        assert matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) <= {"ieee", None}


def test_what_autocast_keeps_is_freed():
    "An operation that keeps its result, under autocast, without a backward pass."
    x = torch.ones(8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16), full_precision():
        kept = x.exp()
    gone = weakref.ref(kept.untyped_storage())
    del kept
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "name,channels", (("efficientnet_lite0", 1280), ("timm/vit_tiny_patch16_224", 192))
)
def test_a_step_is_counted_to_the_byte(name, channels):
    "Tensors without memory count like those with it."
    size = 64 if "lite" in name else 224
    network = EmbeddingNet(get_backbone(name, pretrained=False, image_size=size), channels, 8)
    real, _ = _trace_step(network, torch.randn(3, 3, size, size), "no", 0)
    step = estimate_step_bytes(network, size, 3)
    assert step.peak == step.fixed + step.of_batch == max(real)
    own = sum(x.nbytes for x in (*network.parameters(), *network.buffers()))
    assert real[-1] >= own  # and the moments


def test_the_loss_stands_on_top_of_the_maps():
    network = EmbeddingNet(get_backbone(pretrained=False, image_size=64), 1280, 8)
    step = estimate_step_bytes(network, 64, 32)
    room = estimate_step_bytes(network, 64, 32, loss_bytes=10**9)
    assert room.peak == step.trace[step.forward - 1] + 10**9
    assert estimate_step_bytes(network, 64, 32, precision="bf16").of_batch < 0.7 * step.of_batch


def test_bytes_that_are_alive():
    x = torch.zeros(1000)
    assert live_bytes(lambda: [x[:500] + 1, x * 2], [x]) == [4000, 6000, 10000]
    assert measure_peak_bytes(lambda: x.add_(1), [x]) == 4000
    map_bchw = torch.randn(8, 4, 4, 4, requires_grad=True)
    loss = make_loss("multi_similarity", structural=True)
    label_b = torch.arange(8) // 2
    few, more = (
        measure_peak_bytes(lambda n=n: loss(map_bchw[:n], label_b[:n]).backward(), [map_bchw])
        for n in (4, 8)
    )
    assert map_bchw.nbytes < few < more

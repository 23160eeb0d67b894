"""The kernels of a GPU give the numbers of `match`: run by Triton's interpreter where there is no
GPU, and compiled for GPUs that are not there."""

import os
import subprocess
import sys

import pytest
import torch

from diml_nb._internal.checks import trusted_values
from diml_nb._internal.device import seed_everything
from diml_nb.features.compress import PackedFeatures, pack_features
from diml_nb.features.grid import Features, grid_features
from diml_nb.learning.losses import make_loss
from diml_nb.learning.step_report import count_waits
from diml_nb.ot import pairs as pair_module
from diml_nb.ot.marginals import MARGINAL_RULES
from diml_nb.ot.matching import MatchOptions, match
from diml_nb.ot.pairs import plan_pairs, scatter_pair_gradients, score_pairs

pytest.importorskip("triton", reason="Triton is made for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SQUARE, LARGE, WIDE = (4, 4), (7, 7), (3, 5)


@pytest.fixture
def kernels(monkeypatch):
    "Pairs are matched by the kernels, on this machine's device."
    monkeypatch.setattr(pair_module, "TRITON_DEVICES", {DEVICE})
    forget = pair_module._triton_program.cache_clear, pair_module._has_gradient_kernel.cache_clear
    for clear in forget:
        clear()
    yield
    for clear in forget:
        clear()


def images(count: int, grid: tuple[int, int], channels: int = 24, seed: int = 0) -> Features:
    "Random images with a common part."
    generator = torch.Generator().manual_seed(seed)
    map_bchw = torch.randn(count, channels, *grid, generator=generator) + 0.3
    return grid_features(map_bchw.to(DEVICE), grid=grid)


def pairs(count_a: int, count_b: int) -> torch.Tensor:
    "Positions (2, P) of all pairs."
    return torch.cartesian_prod(torch.arange(count_a), torch.arange(count_b)).T.to(DEVICE)


def assert_equals_match(a: Features, b: Features, atol: float = 2e-6, **options) -> None:
    "Similarities, errors and flags of all pairs are those of `match`."
    i_p, j_p = pairs(len(a), len(b))
    assert pair_module._find_program(a, b, MatchOptions(**options)) is not None
    found = score_pairs(a, b, i_p, j_p, **options)
    expected = match(a[i_p], b[:][j_p], **options)
    torch.testing.assert_close(found.similarity_p, expected.similarity_b, atol=atol, rtol=0)
    torch.testing.assert_close(found.marginal_error_p, expected.marginal_error_b, atol=1e-5, rtol=0)
    assert torch.equal(found.used_uniform_p, expected.used_uniform_b)


@pytest.mark.parametrize("rule", MARGINAL_RULES)
def test_rules(kernels, rule):
    assert_equals_match(images(2, SQUARE), images(3, WIDE, seed=1), marginals=rule)


@pytest.mark.parametrize("grid_a", [SQUARE, LARGE, (2, 6)])
@pytest.mark.parametrize("bits", [32, 16, 8, 4])
def test_grids_and_codes(kernels, grid_a, bits):
    b = images(2, LARGE, seed=1)
    if bits == 16:
        b = PackedFeatures(b.local_bcn.half(), b.norm_bn, b.global_bc, b.grid)
    elif bits < 16:
        b = pack_features(b, f"int{bits}")
    assert_equals_match(images(1, grid_a), b)


@pytest.mark.parametrize(
    "grid_a, grid_b", [((14, 14), (2, 3)), ((2, 3), (14, 14)), ((14, 14),) * 2]
)
def test_many_cells(kernels, grid_a, grid_b):
    # rows in several tiles; several pairs for each of the two programs of the interpreter
    count = 3 if grid_a != grid_b else 1
    a, b = images(count, grid_a, channels=16), images(1, grid_b, channels=16, seed=1)
    assert_equals_match(a, b, max_iter=3)


@pytest.mark.parametrize("eps", [0.02, 0.002])
def test_small_eps(kernels, eps):
    assert_equals_match(images(2, SQUARE), images(1, WIDE, seed=1), eps=eps, max_iter=25, atol=1e-5)


def test_small_eps_with_several_tiles_of_rows(kernels):
    a, b = images(1, (10, 10), channels=16), images(1, (9, 9), channels=16, seed=1)
    assert_equals_match(a, b, eps=0.01, max_iter=3, atol=1e-5)


@pytest.mark.parametrize("eps", [0.05, 0.01])
def test_images_without_mass(kernels, eps):
    a, b = images(2, SQUARE), images(2, SQUARE, seed=1)
    a.local_bcn[0] = -b.global_bc[1][:, None]
    assert_equals_match(a, b, eps=eps, max_iter=20, atol=1e-5)
    assert score_pairs(a, b, *pairs(2, 2)).used_uniform_p.tolist()[1]


def test_every_pair_stops_by_itself(kernels):
    # alone or in company, a pair has the same number
    a, b = images(2, SQUARE), images(3, SQUARE, seed=1)
    i_p, j_p = pairs(2, 3)
    together = score_pairs(a, b, i_p, j_p).similarity_p
    alone = [score_pairs(a, b, i_p[[k]], j_p[[k]]).similarity_p for k in range(6)]
    assert torch.equal(together, torch.cat(alone))


def test_no_pairs(kernels):
    nothing = torch.empty(0, dtype=torch.int64, device=DEVICE)
    assert len(score_pairs(images(1, SQUARE), images(1, SQUARE), nothing, nothing)[0]) == 0


@pytest.mark.parametrize("grid_b, eps", [(LARGE, 0.05), (SQUARE, 0.01)])
def test_plans(kernels, grid_b, eps):
    a, b = images(2, WIDE), images(2, grid_b, seed=1)
    i_p, j_p = pairs(2, 2)
    found = plan_pairs(a, b, i_p, j_p, eps=eps, max_iter=20)
    expected = match(a[i_p], b[j_p], eps=eps, max_iter=20)
    torch.testing.assert_close(found.plan_pnm, expected.plan_bnm, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.cosine_pnm, expected.cosine_bnm, atol=1e-5, rtol=0)


def test_plans_with_several_tiles_of_rows(kernels):
    a, b = images(1, (10, 10), channels=16), images(2, (9, 9), channels=16, seed=1)
    found = plan_pairs(a, b, *pairs(1, 2), max_iter=2)
    expected = match(a, b, max_iter=2)
    torch.testing.assert_close(found.plan_pnm, expected.plan_bnm, atol=1e-6, rtol=0)


@pytest.mark.skipif(DEVICE != "cpu", reason="the compiled program runs on a processor")
def test_the_compiled_program_agrees(kernels, monkeypatch):
    a, b = images(2, SQUARE), images(3, LARGE, seed=1)
    by_kernel = score_pairs(a, b, *pairs(2, 3))
    monkeypatch.setattr(pair_module, "TRITON_DEVICES", set())
    by_program = score_pairs(a, b, *pairs(2, 3))
    torch.testing.assert_close(by_kernel.similarity_p, by_program.similarity_p, atol=1e-6, rtol=0)


@pytest.mark.parametrize("n, m, channels", [(16, 30, 24), (100, 9, 70)])
def test_gradients(kernels, n, m, channels):
    torch.manual_seed(0)
    a_bcn, b_bcm = torch.randn(3, channels, n), torch.randn(2, channels, m)
    # one has no pair; a miner's positions are strided
    i_p, j_p = torch.tensor([[0, 1], [2, 1], [2, 0], [0, 0]]).T
    inputs = [x.to(DEVICE) for x in (a_bcn, b_bcm, i_p, j_p, torch.randn(4), torch.randn(4, n, m))]
    assert pair_module._has_gradient_kernel(n, m, channels, torch.device(DEVICE))
    found = scatter_pair_gradients(*inputs)
    for ours, expected in zip(found, pair_module._scatter_torch(*inputs), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    # a sum in a fixed order: the same bits again
    assert all(map(torch.equal, found, scatter_pair_gradients(*inputs)))


@pytest.mark.parametrize("name", ["multi_similarity", "margin"])
def test_losses(kernels, monkeypatch, name):
    seed_everything(0)
    map_bchw, label_b = torch.randn(6, 16, 4, 4) + 0.3, torch.arange(6) // 2
    results = []
    for devices in ({DEVICE}, set()):
        monkeypatch.setattr(pair_module, "TRITON_DEVICES", devices)
        seed_everything(0)  # the miner draws
        loss = make_loss(name, structural=True, num_classes=3, embedding_dim=16, grid=4).to(DEVICE)
        leaf = map_bchw.to(DEVICE, copy=True).requires_grad_()
        value = loss(leaf, label_b.to(DEVICE))
        value.backward()
        results.append((value.detach(), leaf.grad))
    (value, grad), (expected, expected_grad) = results
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)
    assert (grad - expected_grad).norm() < 1e-4 * expected_grad.norm()


@pytest.mark.parametrize("name", ["multi_similarity", "proxy_anchor"])
def test_a_step_waits_no_more_often_than_a_plain_loss(kernels, name):
    torch.manual_seed(0)
    map_bchw, label_b = torch.randn(4, 16, 2, 2) + 0.3, torch.arange(4) // 2
    waits = {}
    for structural in (True, False):
        options = dict(num_classes=2, embedding_dim=16, **dict(grid=2) if structural else {})
        loss = make_loss(name, structural=structural, **options).to(DEVICE)
        leaf = map_bchw.to(DEVICE, copy=True).requires_grad_()

        def step(loss=loss, leaf=leaf):
            with trusted_values():
                loss(leaf, label_b.to(DEVICE)).backward()

        step()  # a kernel is compared with `match` at its first call
        waits[structural] = count_waits(step)
    assert waits[True] <= waits[False]


def test_what_the_kernel_does_not_have_runs_on_torch(kernels):
    a, b = images(1, SQUARE), images(2, SQUARE, seed=1)
    for options in (dict(plan="best_cell"), dict(stopping="batch_mean")):
        assert pair_module._find_program(a, b, MatchOptions(**options)) is None
    assert pair_module._find_program(a.to(torch.float64), b, MatchOptions()) is None
    assert pair_module._find_program(images(1, (17, 17)), b, MatchOptions()) is None


def test_without_triton(kernels, monkeypatch):
    monkeypatch.setitem(sys.modules, "diml_nb.ot.triton_kernels", None)
    monkeypatch.setattr("diml_nb._internal.paths._WARNED", {})
    a, b = images(1, SQUARE), images(2, SQUARE, seed=1)
    with pytest.warns(UserWarning, match="no Triton here"):
        found = score_pairs(a, b, *pairs(1, 2))
    torch.testing.assert_close(found.similarity_p, match(a, b).similarity_b)


@pytest.mark.parametrize("fault", ["raises", "is wrong"])
def test_a_kernel_that_fails_is_not_used(kernels, monkeypatch, fault):
    from diml_nb.ot import triton_kernels

    def launch(a, b, i_p, j_p, solver, results):
        if fault == "raises":
            raise RuntimeError("no such instruction")
        results[0].fill_(0.5)

    monkeypatch.setattr(triton_kernels, "launch_pairs", launch)
    monkeypatch.setattr("diml_nb._internal.paths._WARNED", {})
    a, b = images(1, SQUARE), images(2, SQUARE, seed=1)
    with pytest.warns(UserWarning, match="runs on plain torch|matching runs on plain torch"):
        found = score_pairs(a, b, *pairs(1, 2))
    torch.testing.assert_close(found.similarity_p, match(a, b).similarity_b)


COMPILE = """
import sys
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from diml_nb.ot import triton_kernels
from diml_nb.ot.native import PairSolver


class Driver:
    "Of a GPU that is not there."

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", int(sys.argv[1]), 32)


driver.set_active(Driver())
compiled = []


def compile_only(self, grid):
    def start(*args, **options):
        compiled.append(self.run(*args, grid=grid, warmup=True, **options))

    return start


JITFunction.__getitem__ = compile_only
triton_kernels._precision = lambda device: "tf32x3"


def images(cells, dtype, channels=128):
    rows = channels // 2 if dtype == torch.uint8 else channels
    vector = torch.int8 if dtype in (torch.int8, torch.uint8) else torch.float32
    return torch.zeros(2, rows, cells, dtype=dtype), torch.zeros(2, channels, dtype=vector), None


for cells, dtype, keep, eps in [
    (16, torch.float32, False, 0.05),
    (49, torch.float32, True, 0.05),
    (49, torch.uint8, False, 0.05),
    (49, torch.float16, False, 0.01),
    (196, torch.int8, False, 0.05),
]:
    i_p = torch.zeros(3, dtype=torch.int64)
    results = [torch.zeros(3), torch.zeros(3), torch.zeros(3, dtype=torch.bool)]
    results += [torch.zeros(3, cells, cells)] * (2 * keep)
    solver = PairSolver(power=1, max_iter=200, eps=eps, tol=1e-3)
    a, b = images(cells, torch.float32), images(cells, dtype)
    triton_kernels.launch_pairs(a, b, i_p, i_p, solver, results)
pair = dict(grad_p=torch.zeros(3), slope_pnm=torch.zeros(3, 49, 16))
triton_kernels.launch_gradient(i_p, i_p, images(16, torch.float32)[0], **pair, images=2, axis=1)
limit = 166_912 if sys.argv[1] == "80" else 232_448  # bytes of a program, by NVIDIA's tables
for kernel in compiled:
    assert kernel.metadata.shared < limit, kernel.metadata
    assert "mma" in kernel.asm["ptx"], "products do not use the tensor cores"
print(len(compiled), "kernels")
"""


@pytest.mark.parametrize("capability", ["80", "90"])
def test_compiles_for_a_gpu(capability, tmp_path):
    environment = dict(os.environ, TRITON_CACHE_DIR=str(tmp_path))
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, capability],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "6 kernels"

"""The fast paths give the numbers of `match`: with a compiler, without one, on several threads, and
with few looks at a device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import linear, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from diml_nb._internal.compiler import COMPILER_FLAGS
from diml_nb._internal.paths import REPO_ROOT
from diml_nb.features.compress import pack_features
from diml_nb.features.grid import Features, grid_features
from diml_nb.learning.losses import make_loss
from diml_nb.ot import native, sinkhorn
from diml_nb.ot.marginals import MARGINAL_RULES
from diml_nb.ot.matching import match, similarity_matrix
from diml_nb.ot.native import _pair_program
from diml_nb.ot.pairs import plan_pairs, scatter_pair_gradients, score_pairs
from diml_nb.retrieval.rerank import rerank
from diml_nb.retrieval.scan import SCAN_SOURCE
from diml_nb.retrieval.search import search
from diml_nb.retrieval.topk import TOPK_SOURCE, inner_products, streaming_topk


@pytest.fixture(params=["compiled", "plain"])
def compiled_or_plain(request, monkeypatch):
    "Both ways: the program, and what a machine without a compiler does."
    if request.param == "plain":
        monkeypatch.setattr(native, "_pair_program", lambda *shape: None)
        monkeypatch.setattr(
            "diml_nb.retrieval.topk.compiled_library", lambda *source, **constants: None
        )
    elif _pair_program(16, 16, 128) is None:
        pytest.skip("no C compiler on this machine")
    return request.param


def images(count, grid, channels, shift=0.2):
    return grid_features(torch.randn(count, channels, grid, grid) + shift, grid=grid)


@pytest.mark.parametrize(
    "n, m, c",
    [
        (1, 1, 3),
        (4, 4, 128),
        (4, 2, 5),
        (3, 4, 20),
        (7, 7, 64),
        (4, 7, 128),
        (7, 4, 64),
        (6, 5, 33),
        (12, 9, 17),
    ],
)
@pytest.mark.parametrize("rule", MARGINAL_RULES)
def test_every_shape_and_rule(compiled_or_plain, n, m, c, rule):
    "Shapes around the width of a register, all masses; similarities, errors, plans."
    a, b = images(7, n, c), images(9, m, c)
    i_p, j_p = torch.arange(7).repeat_interleave(9), torch.arange(9).repeat(7)
    for eps in (0.2, 0.05, 0.02):
        found = score_pairs(a, b, i_p, j_p, marginals=rule, eps=eps)
        right = match(a[i_p], b[j_p], marginals=rule, eps=eps)
        close = (found.similarity_p - right.similarity_b).abs() < 1e-6
        near_tol = (
            right.marginal_error_b - 1e-3
        ).abs() < 1e-5  # a pair that stops one iteration later for a rounding error
        assert (close | near_tol).all()
        assert torch.equal(found.used_uniform_p, right.used_uniform_b)
        flows = plan_pairs(a, b, i_p, j_p, marginals=rule, eps=eps)
        assert (flows.cosine_pnm - right.cosine_bnm).abs().max() < 1e-6
        assert (flows.plan_pnm - right.plan_bnm)[~near_tol].abs().max() < 1e-6


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("n, m, c", [(1, 1, 4), (4, 4, 64), (7, 4, 64), (4, 7, 6), (6, 5, 34)])
def test_codes_are_read_as_they_are(compiled_or_plain, n, m, c, precision):
    "Exactly the numbers of the unpacked gallery, also of the pairs that need logarithms."
    a, b = images(7, n, c), pack_features(images(9, m, c), precision)
    i_p, j_p = torch.arange(7).repeat_interleave(9), torch.arange(9).repeat(7)
    for rule in MARGINAL_RULES:
        for eps in (0.05, 0.01):
            options = dict(marginals=rule, eps=eps, max_iter=50)
            by_codes, by_floats = (score_pairs(a, x, i_p, j_p, **options) for x in (b, b[:]))
            assert all(torch.equal(x, y) for x, y in zip(by_codes, by_floats))
            by_codes, by_floats = (plan_pairs(a, x, i_p, j_p, **options) for x in (b, b[:]))
            assert all(torch.equal(x, y) for x, y in zip(by_codes, by_floats))


def test_codes_are_for_the_gallery_and_for_float32():
    x, p = images(3, 4, 8), torch.arange(3)
    packed = pack_features(x, "int8")
    for a in (packed, x.to(torch.float64)):
        with pytest.raises(TypeError, match="a, b: expected"):
            score_pairs(a, packed, p, p)


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
@pytest.mark.parametrize("grid_q, grid_g", [(7, 4), (4, 7), (5, 2)])
def test_queries_of_other_cells_than_the_gallery(compiled_or_plain, grid_q, grid_g, precision):
    "Search and re-ranking against the definition: every pair by `match`."
    q, g = images(5, grid_q, 32), images(60, grid_g, 32)
    if precision != "float32":
        g = pack_features(g, precision)
    floats = g[:]
    assert torch.equal(similarity_matrix(q, g), similarity_matrix(q, floats))
    slow_qg = torch.stack([match(q[i], floats).similarity_b for i in range(5)])
    score_qg = q.global_bc @ floats.global_bc.T + slow_qg
    expected = score_qg.sort(dim=1, descending=True, stable=True)
    found = rerank(search(q, g), q, g, top_k=60, tol=1e-3)
    assert (found.score_qk - expected.values).abs().max() < 1e-5
    assert (score_qg.gather(1, found.index_qk) - expected.values).abs().max() < 1e-5


def test_extreme_images(compiled_or_plain):
    "Opposite cells, equal cells, dead cells, no mass at all, and one very long list."
    cells = normalize(torch.randn(6, 32, 16), dim=1)
    cells[1], cells[2, :, :8], cells[3] = -cells[0], cells[2, :, :1], 0
    wholes = normalize(cells.mean(2) + 1e-4, dim=1)
    wholes[4] = -wholes[0]
    x = Features(cells, torch.rand(6, 16), wholes, (4, 4))
    i_p, j_p = torch.cartesian_prod(torch.arange(6), torch.arange(6)).T
    for rule in MARGINAL_RULES:
        found = score_pairs(x, x, i_p, j_p, marginals=rule)
        right = match(x[i_p], x[j_p], marginals=rule)
        assert torch.isfinite(found.similarity_p).all()
        assert (found.similarity_p - right.similarity_b).abs().max() < 2e-6
        assert torch.equal(found.used_uniform_p, right.used_uniform_b)
    assert score_pairs(x, x, i_p[:0], j_p[:0]).similarity_p.shape == (0,)


def test_threads_do_not_matter(compiled_or_plain):
    a = images(40, 4, 128)
    i_p, j_p = torch.arange(40).repeat_interleave(200), torch.randint(40, (8000,))
    kept, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(
            (
                score_pairs(a, a, i_p, j_p).similarity_p,
                search(a, a, exclude_self=True, top_k=5).index_qk,
            )
        )
    torch.set_num_threads(kept)
    assert all(
        torch.allclose(x[0], results[0][0], atol=1e-7) and torch.equal(x[1], results[0][1])
        for x in results[1:]
    )


def test_the_whole_way_is_the_same_without_a_compiler(monkeypatch):
    """Lists of a search and a re-ranking, with duplicates in the gallery. A small tolerance: an
    error that rounds to the other side of a large one costs an iteration."""
    x = images(300, 4, 64)
    x = Features(*(torch.cat([y, y[:40]]) for y in (x.local_bcn, x.norm_bn, x.global_bc)), x.grid)
    fast = search(x[:50], x, top_k=60)
    fast = fast, rerank(fast, x[:50], x, top_k=50, tol=1e-6)
    monkeypatch.setattr(native, "_pair_program", lambda *shape: None)
    monkeypatch.setattr(
        "diml_nb.retrieval.topk.compiled_library", lambda *source, **constants: None
    )
    slow = search(x[:50], x, top_k=60)
    slow = slow, rerank(slow, x[:50], x, top_k=50, tol=1e-6)
    assert torch.equal(fast[0].index_qk, slow[0].index_qk)
    assert torch.equal(fast[0].score_qk, slow[0].score_qk)
    assert (fast[1].score_qk - slow[1].score_qk).abs().max() < 1e-6
    assert (fast[1].index_qk == slow[1].index_qk).float().mean() > 0.99


@pytest.mark.parametrize("grid", [4, 7])
@pytest.mark.parametrize("name", ["multi_similarity", "margin", "proxy_anchor"])
def test_a_loss_and_its_gradient_are_those_of_the_plain_path(monkeypatch, name, grid):
    maps, labels = torch.randn(24, 32, grid, grid) + 0.3, torch.arange(24) // 2
    metric = make_loss(name, structural=True, num_classes=12, embedding_dim=32, grid=grid)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        x = maps.clone().requires_grad_()
        value = metric(x, labels)
        value.backward()
        found.append((value.item(), x.grad))
        monkeypatch.setattr(native, "_pair_program", lambda *shape: None)
    assert abs(found[0][0] - found[1][0]) < 1e-6
    assert (found[0][1] - found[1][1]).norm() < 1e-5 * found[1][1].norm()
    assert found[1][1].norm() > 0


@pytest.mark.parametrize("cells", [(16, 49), (49, 16)])
def test_scatter_pair_gradients_is_the_gradient(compiled_or_plain, cells):
    "Against autograd, in float32 by the program and in float64 by torch."
    n, m = cells
    i_p, j_p = torch.randint(5, (2, 300)).sort(0).values
    for kind, close in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        a, b = (torch.randn(5, 33, size, dtype=kind, requires_grad=True) for size in cells)
        slope = torch.randn(300, n, m, dtype=kind)
        grad = torch.randn(300, dtype=kind) * (torch.arange(300) % 2)
        ((a[i_p].transpose(1, 2) @ b[j_p] * slope).sum((1, 2)) * grad).sum().backward()
        for x, right in zip(
            scatter_pair_gradients(a.detach(), b.detach(), i_p, j_p, grad, slope), (a.grad, b.grad)
        ):
            assert (x - right).norm() < close * right.norm()


def test_best_places_against_a_stable_sort(compiled_or_plain):
    "Ties, infinities, tiles of any width, as many places as there are."
    for values in (
        torch.randn(9, 5000),
        torch.randint(7, (9, 5000)) / 7.0,
        -torch.rand(9, 5000).floor(),
        torch.linspace(-1, 1, 5000).expand(9, -1).contiguous(),
    ):
        values[:, 17] = -torch.inf
        right = values.sort(dim=1, descending=True, stable=True)
        for width in (5000, 4096, 401, 64):
            for places in (1, 5, 16, 100, 4999):
                index, score = streaming_topk(values.split(width, 1), places)
                assert torch.equal(index, right.indices[:, :places]), (width, places)
                assert torch.equal(score, right.values[:, :places]), (width, places)


def test_a_score_does_not_depend_on_its_neighbours():
    "Processes that share the queries must find the same lists."
    for channels in (3, 64, 100, 128, 1280):
        q, g = (normalize(torch.randn(n, channels), dim=1) for n in (70, 2100))
        whole = inner_products(q, g)
        for i, j in ((1, 1), (1, 2048), (2, 3), (17, 2047), (70, 52), (63, 1)):
            assert torch.equal(inner_products(q[:i], g[-j:]), whole[:i, -j:]), (channels, i, j)


@pytest.mark.parametrize("channels", [3, 128, 1280])
def test_the_product_of_plain_tensors_is_that_of_onednn(channels):
    "torch's public way to it copies both operands, and gives the same bits."
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch has no oneDNN here")
    q, g = (normalize(torch.randn(n, channels), dim=1) for n in (70, 2100))
    public = linear(q.to_mkldnn(), g.to_mkldnn()).to_dense()
    assert torch.equal(inner_products(q, g), public)


def test_without_a_compiler_it_says_so_once(tmp_path):
    "In a process of its own: one warning, the same numbers, no failure."
    script = """if True:
        import torch
        from diml_nb.features.grid import grid_features
        from diml_nb.ot.matching import match
        from diml_nb.retrieval.rerank import rerank
        from diml_nb.retrieval.search import search
        x = grid_features(torch.rand(30, 8, 4, 4))
        ranking = search(x, x, exclude_self=True)
        for _ in range(2): found = rerank(ranking, x, x, top_k=5)
        j = int(found.index_qk[0, 0])
        score = match(x[0], x[j]).similarity_b + x.global_bc[0] @ x.global_bc[j]
        print(abs((found.score_qk[0, 0] - score).item()) < 1e-6)"""
    environment = os.environ | {"CC": "no-such-compiler", "DIML_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        cwd=REPO_ROOT,
        check=True,
    )
    assert done.stdout.strip() == "True", done.stderr
    assert done.stderr.count("no C compiler 'no-such-compiler' was found") == 1, done.stderr


@pytest.fixture
def compiler():
    "The C compiler that the library uses."
    if _pair_program(4, 4, 6) is None:
        pytest.skip("no C compiler on this machine")
    yield os.environ.get("CC", "cc")
    _pair_program.cache_clear()


def test_a_program_that_is_wrong_is_not_used(compiler, monkeypatch, tmp_path):
    "As on a machine whose compiler breaks it: here, by a kernel that is twice as sharp."
    source = native.NATIVE_SOURCE.read_text()
    broken = source.replace("* (1 / eps))", "* (2 / eps))")
    assert broken != source
    (tmp_path / "pair.c").write_text(broken)
    monkeypatch.setattr(native, "NATIVE_SOURCE", tmp_path / "pair.c")
    with pytest.warns(UserWarning, match="misses the numbers of match"):
        assert _pair_program(4, 4, 5) is None


NO_MEMORY = """
#include <stdlib.h>
static void *no_memory(size_t alignment, size_t size) { return alignment && size ? NULL : NULL; }
#define aligned_alloc no_memory
#include "ot/pair.c"
"""


@pytest.fixture
def without_memory(compiler, monkeypatch, tmp_path):
    "pair.c, whose allocation fails."
    (tmp_path / "pair.c").write_text(NO_MEMORY)
    monkeypatch.setattr(native, "NATIVE_SOURCE", tmp_path / "pair.c")


def test_matching_without_memory_is_an_error(without_memory):
    x, p = images(3, 2, 7), torch.arange(3)
    with pytest.raises(MemoryError, match="pairs_forward: there is no memory"):
        score_pairs(x, x, p, p)


def test_gradients_without_memory_are_an_error(without_memory, monkeypatch):
    monkeypatch.setattr(native, "_self_test", lambda *_: True)  # else the error comes from there
    cells, p = torch.rand(3, 7, 4), torch.arange(3)
    with pytest.raises(MemoryError, match="pairs_backward: there is no memory"):
        scatter_pair_gradients(cells, cells, p, p, torch.ones(3), torch.ones(3, 4, 4))


LIBRARY = REPO_ROOT / "diml_nb"
NO_SHAPE = [(0, 0, 0, 32)]
SHAPES = {
    "pair.c": [
        (1, 1, 3, 32),
        (16, 16, 128, 32),
        (49, 49, 128, 32),
        (36, 25, 33, 32),
        (49, 16, 64, 8),
        (49, 16, 64, 4),
    ]
}
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]


def label(value):
    "The name of a file, or a shape."
    return str(getattr(value, "name", value))


@pytest.mark.parametrize(
    "source, shape",
    [
        (source, shape)
        for source in (native.NATIVE_SOURCE, TOPK_SOURCE, SCAN_SOURCE)
        for shape in SHAPES.get(source.name, NO_SHAPE)
    ],
    ids=label,
)
def test_c_compiles_without_a_warning(compiler, source, shape, tmp_path):
    *cells_and_channels, bits = shape
    sizes = dict(zip("NMC", cells_and_channels), MIN_MASS="1e-30f", LOG_DOMAIN_RANGE="42.0f")
    if bits < 32:
        sizes |= dict(B_BITS=bits, B_STEP="0.05f", B_GLOBAL_STEP="0.0078f")
    macros = [f"-D{name}={value}" for name, value in sizes.items()]
    command = [compiler, *COMPILER_FLAGS, *WARNINGS, *macros, f"-I{LIBRARY}"]
    done = subprocess.run(
        [*command, "-o", tmp_path / "x.so", source], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_pair_asks_for_its_sizes(compiler, tmp_path):
    command = [
        compiler,
        *COMPILER_FLAGS,
        f"-I{LIBRARY}",
        "-o",
        tmp_path / "x.so",
        native.NATIVE_SOURCE,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "give the shape" in done.stderr


def test_c_is_formatted():
    "By the clang-format of the development requirements, with .clang-format of the repository."
    tool = Path(sys.executable).with_name("clang-format")
    if not tool.exists():
        pytest.skip("clang-format is not installed here: pip install -r requirements.txt")
    files = sorted(LIBRARY.rglob("*.[ch]"))
    assert len(files) == 4
    done = subprocess.run([tool, "--dry-run", "--Werror", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Counting(TorchDispatchMode):
    "Counts how often a number is asked of the device: each time, a GPU would be waited for."

    asked = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.asked += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_a_device_is_seldom_asked(monkeypatch):
    """The code path of a GPU, run on the CPU: sixty iterations, and it is waited for at most at
    every sixteenth of them."""
    monkeypatch.setitem(sinkhorn.CHECK_EVERY, "cpu", 16)
    cost, a, b = torch.rand(20, 16, 16), *torch.full((2, 20, 16), 1 / 16)
    with Counting() as often:
        sinkhorn.solve_unchecked(
            cost, a, b, eps=0.05, tol=0, max_iter=60, grad="detach", stopping="per_pair"
        )
    assert 1 <= often.asked <= 2 + 2 * (60 // 16)

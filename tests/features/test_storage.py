"""No cache, no hard links, a full disk, several threads and processes at once."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from small_networks import PATHS, random_blocks, wrapped

from diml_nb._internal import compiler, download, paths
from diml_nb._internal.paths import REPO_ROOT
from diml_nb.features import cache, store
from diml_nb.features.backbones import (
    computation,
    same_computation,
)
from diml_nb.features.cache import extract_feature_maps, memmap_feature_maps
from diml_nb.ot import native

WORK = """
import sys, warnings, torch
from diml_nb.datasets.registry import get_dataset
from diml_nb.features.backbones import Backbone, get_backbone
from diml_nb.features.cache import extract_feature_maps, memmap_feature_maps
from diml_nb.features.grid import grid_features
from diml_nb.learning.losses import make_loss
from diml_nb.retrieval.rerank import rerank; from diml_nb.retrieval.search import search
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    paths = get_dataset().paths[:6]
    net = get_backbone(pretrained=False)
    maps = extract_feature_maps(paths, net)
    assert torch.equal(maps, memmap_feature_maps(paths, net))
    for grid in (4, 7):
        x = grid_features(maps.float(), grid=grid)
        found = rerank(search(x, x, exclude_self=True), x, x, top_k=3)
        leaf = maps[:, :8].float().requires_grad_()
        sizes = dict(num_classes=3, embedding_dim=8, grid=grid)
        loss = make_loss("multi_similarity", structural=True, **sizes)
        loss(leaf, torch.arange(6) // 2).backward()
    ours = [
        text
        for text, file in ((str(w.message), w.filename) for w in said)
        if "diml_nb" in file or "kept" in text or "plain torch" in text
    ]
print(len(ours), *ours, sep="\\n")
"""


def run_work(**environment):
    done = subprocess.run(
        [sys.executable, "-c", WORK],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        cwd=REPO_ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_all_works_where_no_cache_can_be(tmp_path):
    printed = run_work(DIML_CACHE="/dev/null/x")
    assert printed.startswith("1\n")
    assert "set DIML_CACHE" in printed
    assert "/dev/null/x" in printed


def test_all_works_without_a_compiler(tmp_path):
    printed = run_work(DIML_CACHE=str(tmp_path), CC="no-such-compiler")
    assert printed.startswith("1\n")
    assert "no C compiler" in printed


def test_all_works_on_a_cache_that_is_read_only(tmp_path, monkeypatch):
    "As root nothing is read-only, so the system's answer is put on here."
    monkeypatch.setenv("DIML_CACHE", str(tmp_path))
    monkeypatch.setattr(paths, "_WARNED", {})
    net, right = wrapped(), extract_feature_maps(PATHS, wrapped(), cache=tmp_path / "other")

    def read_only(*_):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", read_only)
    with pytest.warns(UserWarning, match="Read-only file system") as said:
        assert torch.equal(extract_feature_maps(PATHS, net), right)
        assert torch.equal(memmap_feature_maps(PATHS, net), right)
    assert len(said) == 1


def test_a_full_disk_is_no_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "_WARNED", {})

    def full(file, parts, images):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write_maps", full)
    with pytest.warns(UserWarning, match="No space left"):
        found = memmap_feature_maps(PATHS, wrapped(), cache=tmp_path)
    assert torch.equal(found, extract_feature_maps(PATHS, wrapped(), cache=tmp_path))
    assert not list(tmp_path.rglob("*.partial"))


def test_the_installation_may_be_read_only(tmp_path, monkeypatch):
    "data/cache of the repository cannot be written: one's own cache is used."
    monkeypatch.delenv("DIML_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(paths, "REPO_ROOT", tmp_path / "installed")
    (tmp_path / "installed" / "data" / "cache").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: "installed" not in str(path))
    assert paths.cache_dir() == tmp_path / ".cache" / "diml_nb"


def test_kernels_of_six_threads_that_start_at_once(tmp_path, monkeypatch):
    "A new shape: each compiles or finds the program, nobody falls back to plain torch."
    if native._pair_program(4, 4, 128) is None:
        pytest.skip("no C compiler on this machine")
    monkeypatch.setenv("DIML_CACHE", str(tmp_path))
    native.compiled_library.cache_clear()
    source = tmp_path / "two.c"
    source.write_text("int two(void) { return 2; }")
    start = threading.Barrier(6)

    def work(_):
        start.wait()
        return native.compiled_library(source, X="1")

    try:
        with ThreadPoolExecutor(6) as threads:
            libraries = list(threads.map(work, range(6)))
    finally:
        native.compiled_library.cache_clear()
    assert None not in libraries
    assert {library.two() for library in libraries} == {2}
    assert len(list((tmp_path / "kernels").iterdir())) == 1


def test_what_another_has_made_is_used(tmp_path, monkeypatch):
    "On some systems a file that is in use cannot be replaced; then it is there already."
    if native._pair_program(4, 4, 128) is None:
        pytest.skip("no C compiler on this machine")
    made, source = tmp_path / "made.so", tmp_path / "two.c"
    source.write_text("int two(void) { return 2; }")
    made.write_bytes(b"by another")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError("in use")))
    compiler._compile(["cc", "-shared", "-fPIC"], source, made)
    with pytest.raises(PermissionError):
        compiler._compile(["cc", "-shared", "-fPIC"], source, tmp_path / "not.so")


@pytest.mark.parametrize("make", [extract_feature_maps, memmap_feature_maps])
def test_maps_of_six_threads_that_start_at_once(tmp_path, make):
    net, start = wrapped(), threading.Barrier(6)
    right = extract_feature_maps(PATHS, net, cache=tmp_path / "alone")

    def work(_):
        start.wait()
        return torch.equal(make(PATHS, net, cache=tmp_path / "shared"), right)

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(work, range(6)))
    assert not list(tmp_path.rglob("*.partial"))


def test_two_processes_that_start_at_once(tmp_path):
    code = """
import torch
from diml_nb import extract_feature_maps, get_backbone, get_dataset, grid_features
from diml_nb.ot.pairs import score_pairs
torch.manual_seed(0)
maps_bchw = extract_feature_maps(get_dataset().paths[:4], get_backbone())
x, i = grid_features(maps_bchw.float(), grid=3), torch.arange(4)
print(score_pairs(x, x, i, i).similarity_p.sum().item())
"""
    environment = os.environ | {"DIML_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning:diml_nb", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=REPO_ROOT,
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0]
    assert not any("plain torch" in words for _, words in told)


@pytest.mark.parametrize("threads", [1, 6])
def test_a_bank_without_hard_links(tmp_path, monkeypatch, threads):
    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    start = threading.Barrier(threads)

    def work(rank):
        start.wait()
        store.write_store(tmp_path / "bank", random_blocks(0.2), 24, block=4, part=(rank, threads))

    with ThreadPoolExecutor(threads) as pool_of:
        list(pool_of.map(work, range(threads)))
    whole = store.open_store(tmp_path / "bank")
    assert torch.equal(whole.global_bc, random_blocks(0.2)(0, 24).global_bc)
    assert {p.name for p in (tmp_path / "bank").iterdir()} == {
        "manifest.json",
        "done.npy",
        *store.ARRAY_FILES.values(),
    }


def test_a_bank_of_six_threads_that_start_at_once(tmp_path):
    start = threading.Barrier(6)

    def work(rank):
        start.wait()
        store.write_store(tmp_path / "bank", random_blocks(0.2), 24, block=4, part=(rank, 6))

    with ThreadPoolExecutor(6) as pool_of:
        list(pool_of.map(work, range(6)))
    assert torch.equal(
        store.open_store(tmp_path / "bank").global_bc, random_blocks(0.2)(0, 24).global_bc
    )


def test_two_threads_write_under_names_of_their_own(tmp_path):
    barrier, names = threading.Barrier(2), set()

    def write(partial):
        names.add(partial.name)
        partial.write_text("whole")
        barrier.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: store._create_once(tmp_path / "x", write), range(2)))
    assert len(names) == 2
    assert (tmp_path / "x").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_claim_that_was_left_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(store.time, "sleep", lambda seconds: None)
    (tmp_path / ".x.claim").mkdir()
    (tmp_path / "partial").write_text("x")
    with pytest.raises(OSError, match=".x.claim: a process seems to have been killed"):
        store._claim(tmp_path / "partial", tmp_path / "x")


def test_files_that_cannot_be_locked(tmp_path, monkeypatch):
    "Nobody waits then, so each fetches under a name of its own, and leaves nothing but the file."
    import fcntl

    def no_locks(*_):
        raise OSError(37, "No locks available")

    source = tmp_path / "there.bin"
    source.write_bytes(b"content" * 1000)
    monkeypatch.setattr(fcntl, "flock", no_locks)
    place = source.as_uri()
    file = download.RemoteFile("there.bin", "sha256:" + paths.hash_file(source), (place,))
    start = threading.Barrier(4)

    def work(_):
        start.wait()
        return download.fetch_file(file, tmp_path / "archives")

    with ThreadPoolExecutor(4) as threads:
        assert {path.read_bytes() for path in threads.map(work, range(4))} == {b"content" * 1000}
    assert [p.name for p in (tmp_path / "archives").iterdir()] == ["there.bin"]
    with pytest.raises(OSError, match="place it at"):
        download.fetch_file(
            download.RemoteFile("wrong.bin", "sha256:" + "0" * 64, (place,)),
            tmp_path / "archives",
            pause=0,
        )
    assert [p.name for p in (tmp_path / "archives").iterdir()] == ["there.bin"]


def test_downloads_need_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIML_CACHE", "/dev/null/x")
    (tmp_path / "by hand.bin").write_bytes(b"x")
    assert download.fetch_file(download.RemoteFile("by hand.bin"), tmp_path) == Path(
        tmp_path / "by hand.bin"
    )
    with pytest.raises(OSError, match="no cache at /dev/null/x.*set DIML_CACHE"):
        download.fetch_file(download.RemoteFile("by hand.bin"))


def test_same_computation_is_about_relative_distance():
    sketches = computation(wrapped()).sketches
    moved = [[x * (1 + 1e-6) for x in sketch] for sketch in sketches]
    far = [sketches[0], [x * (1 + 1e-3) for x in sketches[1]]]
    assert same_computation(sketches, moved)
    assert not same_computation(sketches, far)
    assert not same_computation(sketches, [sketches[0], [float("nan")] * 16])

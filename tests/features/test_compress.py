"""Projected and packed features: any batches, killed, shared and old stores, bytes."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from diml_nb.features.compress import fit_projection, pack_features
from diml_nb.features.grid import Features, grid_features
from diml_nb.features.store import ARRAY_FILES, open_store, write_store
from diml_nb.ot.matching import match
from diml_nb.retrieval.rerank import rerank
from diml_nb.retrieval.search import search


@pytest.fixture
def x() -> Features:
    torch.manual_seed(0)
    return grid_features(torch.randn(50, 16, 4, 4) + 0.3, grid=4)


@pytest.fixture(params=["int8", "int4"])
def precision(request):
    return request.param


def same(a: Features, b: Features) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ARRAY_FILES)


def test_a_projection_does_not_depend_on_order_or_on_where_images_are(x, tmp_path):
    expected = fit_projection(x, 6).matrix_cd
    order = torch.randperm(50)
    assert torch.allclose(fit_projection(x[order], 6).matrix_cd, expected, atol=1e-5)
    assert torch.allclose(fit_projection(x.to(torch.float64), 6).matrix_cd, expected, atol=1e-5)
    folder = write_store(tmp_path, lambda i, j: x[i:j], 50, precision="float32")
    assert torch.equal(fit_projection(open_store(folder), 6).matrix_cd, expected)


def test_cells_of_a_plane_keep_their_similarities_in_its_channels():
    "Cells that lie in 5 directions of 16 lose nothing in 5 channels, and something in 4."
    torch.manual_seed(0)
    basis_dc = torch.linalg.qr(torch.randn(16, 5))[0].T
    local_bcn = normalize(torch.einsum("bdn,dc->bcn", torch.randn(30, 5, 9) + 0.2, basis_dc), dim=1)
    x = Features(local_bcn, torch.rand(30, 9), normalize(local_bcn.mean(2), dim=1), (3, 3))
    expected = match(x[0], x).similarity_b
    kept, lost = (fit_projection(x, channels)(x) for channels in (5, 4))
    assert (match(kept[0], kept).similarity_b - expected).abs().max() < 1e-5
    assert (match(lost[0], lost).similarity_b - expected).abs().max() > 1e-3


def test_codes_are_no_numbers_to_project_or_to_pack(x, precision):
    packed = pack_features(x, precision)
    projection = fit_projection(packed, 4)  # reads images, which are unpacked
    for call in (projection, pack_features):
        with pytest.raises(TypeError, match="local_bcn: expected a floating tensor"):
            call(packed)
    assert same(packed.to(torch.float64), packed[:].to(torch.float64))


def test_nothing_is_hidden_by_rounding(x, precision):
    x.local_bcn[3, 2, 1] = torch.nan
    with pytest.raises(ValueError, match="local_bcn: 1 of"):
        pack_features(x, precision)


def test_a_packed_store_that_was_killed_or_shared(x, tmp_path, precision):
    made = []

    def make(start, stop):
        made.append(start)
        if len(made) == 4:
            raise KeyboardInterrupt
        return x[start:stop]

    options = dict(precision=precision, block=16)
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "killed", make, 50, **options)
    store = open_store(write_store(tmp_path / "killed", make, 50, **options))
    assert made == [0, 0, 16, 32, 0, 32, 48]
    assert same(store, pack_features(x, precision))
    for rank in (1, 0):
        write_store(tmp_path / "shared", lambda i, j: x[i:j], 50, part=(rank, 2), **options)
    assert same(open_store(tmp_path / "shared"), store)
    with pytest.raises(ValueError, match="image 0 differs"):
        write_store(tmp_path / "shared", lambda i, j: x[i + 1 : j + 1], 50, **options)
    with pytest.raises(ValueError, match="another feature store was begun here"):
        write_store(tmp_path / "shared", make, 50, block=16)


def test_a_store_is_not_begun_with_features_that_cannot_be_packed(x, tmp_path):
    odd = Features(x.local_bcn[:, :5], x.norm_bn, x.global_bc[:, :5], x.grid)
    with pytest.raises(ValueError, match="even number of channels"):
        write_store(tmp_path, lambda i, j: odd[i:j], 50, precision="int4")
    assert not list(tmp_path.iterdir())


def test_a_store_of_the_first_format_opens_and_goes_on(x, tmp_path):
    "Written here by hand, as it was written before there were codes."
    manifest = dict(format="diml_nb bank 1", images=50, precision="float16", block=32, identity="")
    manifest |= dict(channels=16, cells=16, grid=4)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest, indent=1))
    np.save(tmp_path / "local.npy", x.local_bcn.half().numpy())
    np.save(tmp_path / "norm.npy", x.norm_bn.numpy())
    np.save(tmp_path / "global.npy", x.global_bc.numpy())
    np.save(tmp_path / "done.npy", np.array([1, 0], "uint8"))
    folder = write_store(tmp_path, lambda i, j: x[i:j], 50, block=32)
    store = open_store(folder)
    assert torch.equal(store[[7, 40]].local_bcn, x[[7, 40]].local_bcn.half().float())
    assert store.bits == 16
    assert same(store.take([7, 40]), store[[7, 40]])


def test_files_of_another_precision_are_named(x, tmp_path):
    folder = write_store(tmp_path, lambda i, j: x[i:j], 50, precision="int8")
    np.save(folder / "global.npy", x.global_bc.numpy())
    with pytest.raises(ValueError, match="do not fit its manifest"):
        open_store(folder)


def test_a_packed_gallery_is_searched_as_its_numbers_say(x, tmp_path, precision):
    "On disk, in memory, and unpacked; queries have finer cells."
    q = grid_features(torch.randn(3, 16, 7, 7) + 0.3, grid=7)
    store = open_store(write_store(tmp_path, lambda i, j: x[i:j], 50, precision=precision))
    packed = pack_features(x, precision)
    for rule in ("cross_correlation", "cross_correlation_norm2"):
        found = [
            rerank(search(q, g, top_k=20), q, g, top_k=10, marginals=rule)
            for g in (store, packed, packed[:])
        ]
        for other in found[1:]:
            assert torch.equal(found[0].index_qk, other.index_qk)
            assert torch.equal(found[0].score_qk, other.score_qk)


def test_a_million_images_in_little_more_than_a_gigabyte(tmp_path):
    "From the files of a thousand: 4 x 4 cells of 64 channels in 8 bits, and of 112 in 4 bits."
    for precision, channels in (("int8", 64), ("int4", 112)):

        def make(start, stop, channels=channels):
            return grid_features(torch.rand(stop - start, channels, 4, 4), grid=4)

        folder = write_store(tmp_path / precision, make, 1000, precision=precision)
        n_bytes = sum((folder / name).stat().st_size for name in ARRAY_FILES.values())
        assert 1.03e9 < 1000 * n_bytes < 1.125e9

"An index against the functions that it joins: the same lists, whatever was added and removed."

import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.nn.functional import normalize

from diml_nb.features.compress import pack_features
from diml_nb.features.grid import Features, as_grid, grid_features
from diml_nb.features.store import open_store, write_store
from diml_nb.matcher.index import Index
from diml_nb.ot.matching import MatchOptions, similarity_matrix
from diml_nb.retrieval import scan
from diml_nb.retrieval.rerank import rerank
from diml_nb.retrieval.scan import encode_vectors, scan_topk
from diml_nb.retrieval.search import search
from diml_nb.retrieval.topk import inner_products, streaming_topk

some = settings(max_examples=20, derandomize=True, deadline=None, database=None)
SEEDS = st.integers(0, 2**20)


def features_of(seed, images, channels=6, grid=2):
    draw = torch.Generator().manual_seed(seed)
    return grid_features(torch.rand(images, channels, *as_grid(grid), generator=draw), grid=grid)


def lists(index, q, top_k=1000, **options):
    "Ids and scores of each query."
    found = index.search(q, top_k, **options)
    return [([hit.id for hit in hits], hits.score_k) for hits in found]


def same(a, b):
    return all(x == y and torch.equal(s, t) for (x, s), (y, t) in zip(a, b, strict=True))


@some
@given(SEEDS, st.integers(1, 40), st.integers(1, 12))
def test_the_lists_of_search_and_rerank(seed, images, queries):
    g, q = features_of(seed, images), features_of(seed + 1, queries)
    expected = rerank(search(q, g), q, g, top_k=7, marginals="cross_correlation_norm2")
    options = MatchOptions(marginals="cross_correlation_norm2")
    found = Index.from_features(g, options=options).search(q, images, shortlist=7)
    for n, hits in enumerate(found):
        assert torch.equal(hits.position_k, expected.index_qk[n])
        assert torch.allclose(hits.score_k, expected.score_qk[n], atol=1e-6)


@some
@given(SEEDS, st.integers(2, 30), st.integers(1, 10))
def test_what_was_added_and_removed_in_any_order(seed, images, queries):
    g, q = features_of(seed, images), features_of(seed + 1, queries)
    draw = random.Random(seed)
    cuts = sorted({0, images, *(draw.randrange(images) for _ in range(3))})
    grown = Index()
    for i, j in zip(cuts, cuts[1:]):
        grown.add(g[i:j], ids=range(i, j))
    gone = draw.sample(range(images), draw.randrange(images))
    for id in gone:
        grown.remove(id)
    left = [n for n in range(images) if n not in gone]
    fresh = Index.from_features(g[left], ids=left)
    assert len(grown) == len(left)
    assert same(lists(grown, q, shortlist=5), lists(fresh, q, shortlist=5))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_store_is_searched_where_it_lies(tmp_path, precision):
    g, q = features_of(1, 60), features_of(2, 11)
    folder = write_store(tmp_path / "store", lambda i, j: g[i:j], 60, precision=precision)
    stored = Index.from_features(open_store(folder))
    tolerance = 1e-6 if precision == "float32" else 2e-3
    for queries in (q, q[:2]):
        for a, b in zip(stored.search(queries, 60), Index.from_features(g).search(queries, 60)):
            assert set(a.position_k.tolist()) == set(b.position_k.tolist())
            assert (a.score_k - b.score_k).abs().max() < tolerance


def test_saved_and_loaded_it_is_the_same(tmp_path):
    g, q = features_of(3, 50), features_of(4, 9)
    index = Index.from_features(g[:30], labels=range(30), ids=[f"image {n}" for n in range(30)])
    index.add(g[30:], ids=range(20))
    index.remove(["image 3", 7])
    index.save(tmp_path / "index")
    loaded = Index.load(tmp_path / "index")
    assert same(lists(index, q), lists(loaded, q))
    assert [hit.label for hit in index.search(q)[0]] == [hit.label for hit in loaded.search(q)[0]]
    loaded.remove("image 5")
    loaded.save(tmp_path / "index")
    again = Index.load(tmp_path / "index")
    assert same(lists(loaded, q), lists(again, q))
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_without_a_compiler_the_lists_are_the_same(monkeypatch):
    g, q = features_of(5, 40), features_of(6, 3)
    index = Index.from_features(g)
    expected = lists(index, q)
    monkeypatch.setattr(scan, "compiled_library", lambda source: None)
    assert scan_topk(q.global_bc[:1], g.global_bc, encode_vectors(g.global_bc), 5) is None
    assert same(lists(index, q), expected)


def test_in_double_precision():
    g, q = (x.to(torch.float64) for x in (features_of(7, 40), features_of(8, 3)))
    (hits, *_) = Index.from_features(g).search(q, 40)
    expected = search(q, g)
    assert hits.score_k.dtype == torch.float64
    assert set(hits.position_k.tolist()) == set(expected.index_qk[0].tolist())


# the scan


@pytest.fixture
def scan_library():
    return scan._scan_library() or pytest.skip("no C compiler on this machine")


@some
@given(SEEDS, st.integers(1, 300), st.sampled_from([1, 3, 16, 40]), st.sampled_from([0.0, 1.0, 30]))
def test_a_scan_is_exact(seed, images, channels, alike):
    "Also for vectors that are nearly or wholly the same, and for a gallery of zeros."
    draw = torch.Generator().manual_seed(seed)
    g_gc = normalize(torch.randn(images, channels, generator=draw) + alike, dim=1)
    g_gc[::7] = 0
    q_qc = normalize(torch.randn(1 + seed % 3, channels, generator=draw) + alike, dim=1)
    k = 1 + seed % images
    found = scan_topk(q_qc, g_gc, encode_vectors(g_gc), k)
    if found is None:
        pytest.skip("no C compiler on this machine")
    expected = streaming_topk([inner_products(q_qc, g_gc)], k)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("alike", [0.0, 1.0, 3000.0])
def test_a_scan_by_groups_is_exact(scan_library, alike):
    "In a large gallery the k-th is found among maxima of groups; two threads share the images."
    draw = torch.Generator().manual_seed(0)
    g_gc = normalize(alike + torch.randn(9000, 24, generator=draw), dim=1)
    g_gc[4500:] = g_gc[:4500]
    q_qc = normalize(alike + torch.randn(5, 24, generator=draw), dim=1)
    codes, expected = encode_vectors(g_gc), streaming_topk([inner_products(q_qc, g_gc)], 9)
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        found = scan_topk(q_qc, g_gc, codes, 9)
        assert all(map(torch.equal, found, expected)), count
    torch.set_num_threads(threads)


def test_codes_are_the_nearest_whole_steps():
    draw = torch.Generator().manual_seed(0)
    x_nc = torch.randn(500, 33, generator=draw) * torch.logspace(-3, 3, 500)[:, None]
    x_nc[:, 5] = 0.1  # a channel that says nothing
    codes = encode_vectors(x_nc)
    off_nc = (x_nc - codes.middle_c) / codes.step_c - codes.code_nc
    assert off_nc.abs().max() <= 0.5 + 1e-9
    assert (off_nc.norm(dim=1) <= codes.error * (1 + 1e-12)).all()
    assert codes.code_nc.int().abs().max() == 127
    assert not codes.code_nc[:, 5].any()
    assert codes.longest == pytest.approx(float(x_nc.norm(dim=1).max()), rel=1e-6)


@pytest.mark.parametrize("channels", [1, 33, 600, 5000])
@pytest.mark.parametrize("extreme", [False, True])
def test_no_sum_overflows_and_the_margin_holds(scan_library, channels, extreme):
    "The largest sums there can be: all codes and weights have the largest size."
    draw = torch.Generator().manual_seed(channels)
    g_gc, q_qc = (torch.randn(n, channels, generator=draw) for n in (70, 3))
    if extreme:
        g_gc, q_qc = g_gc.sign(), q_qc.sign()
        g_gc[:3] = q_qc
    gallery = encode_vectors(g_gc)
    code_qc, margin_q = scan._encode_queries(scan_library, q_qc, gallery)
    sum_qg = scan._scan(scan_library, code_qc, gallery.code_nc)
    assert torch.equal(sum_qg.long(), code_qc.long() @ gallery.code_nc.long().T)
    weight_qc = q_qc.double() * gallery.step_c
    unit_q1 = (weight_qc * code_qc).sum(1, keepdim=True) / code_qc.double().square().sum(1, True)
    score_qg = q_qc.double() @ (g_gc.double() - gallery.middle_c).T
    miss_q = (score_qg - sum_qg * unit_q1).abs().amax(1) / unit_q1[:, 0]
    assert (2 * miss_q < torch.tensor(margin_q)).all()


# what is refused


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda index, x: index.search(x, 0), "top_k: expected at least 1, got 0"),
        (lambda index, x: index.search(x, 3, shortlist=0), "shortlist: expected at least 1"),
        (lambda index, x: index.search(features_of(0, 2, channels=5)), "same number of channels"),
        (lambda index, x: index.add(features_of(0, 2, channels=5)), "same number of channels"),
        (lambda index, x: index.add(x, ids=[1, 2]), "expected one for each of 3 images, got 2"),
        (lambda index, x: index.add(x, ids=[9, 9, 8]), "given twice: 9"),
        (lambda index, x: index.add(x, ids=[0, 9, 8]), "has these already: 0"),
        (lambda index, x: index.add(x, labels="ab"), "labels: expected one for each of 3"),
        (lambda index, x: Index().search(x), "the index is empty"),
        (lambda index, x: Index().save("nowhere"), "the index is empty"),
    ],
)
def test_an_error_leaves_the_index_as_it_was(call, message):
    x = features_of(9, 3)
    index = Index.from_features(x)
    with pytest.raises(ValueError, match=message):
        call(index, x)
    assert len(index) == len(index.ids) == len(index.labels) == len(index.sources) == 3
    assert lists(index, x)[0][0][0] in range(3)


def test_values_that_are_no_numbers_are_refused():
    x = features_of(9, 3)
    x.local_bcn[1, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"images.local_bcn: 1 of 72 values are NaN"):
        Index.from_features(x)


def test_an_index_of_features_takes_no_pictures():
    with pytest.raises(TypeError, match="this index has no network"):
        Index.from_features(features_of(9, 3)).search("a.jpg")


def test_a_removed_id_is_named():
    index = Index.from_features(features_of(9, 3))
    index.remove(1)
    with pytest.raises(KeyError, match="does not have 1"):
        index.remove([0, 1])
    assert len(index) == 2


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"the only copy")
    with pytest.raises(FileExistsError, match=r"photo.jpg, which is no part of an index"):
        Index.from_features(features_of(9, 3)).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_loading_warns_of_nothing_where_nothing_changed(tmp_path):
    Index.from_features(features_of(9, 3)).save(tmp_path / "index")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Index.load(tmp_path / "index")) == 3


def test_images_that_come_one_by_one():
    g, q = features_of(10, 30), features_of(11, 5)
    index = Index()
    for n in range(30):
        index.add(g[n], ids=[f"image {n}"])
        if n % 7 == 6:
            index.remove(f"image {n - 3}")
    assert len(index._segments) == 1
    left = [n for n in range(30) if n % 7 != 3 or n > 27]
    fresh = Index.from_features(g[left], ids=[f"image {n}" for n in left])
    assert same(lists(index, q), lists(fresh, q))


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    x = features_of(12, 3)
    index = Index.from_features(x, labels=np.arange(3), ids=np.arange(3))
    index.add(x, ids=torch.arange(3, 6), labels=torch.arange(3))
    index.add(x)
    assert index.ids == list(range(9))
    index.remove(np.array([0, 4]))
    index.remove(np.int64(8))
    index.remove(x for x in (1, 2))
    assert sorted(index._position) == [3, 5, 6, 7]
    index.save(tmp_path / "index")
    assert len(Index.load(tmp_path / "index")) == 4


def test_features_of_two_types_are_refused():
    x = features_of(12, 3)
    mixed = Features(x.local_bcn, x.norm_bn.double(), x.global_bc, x.grid)
    with pytest.raises(TypeError, match="expected float32 or float64, all on one device"):
        Index.from_features(mixed)


@pytest.mark.parametrize("queries", [1, 80])
def test_images_of_several_grids(tmp_path, queries):
    "A query of any grid is matched with all images, in memory and from the disk."
    parts = [features_of(seed, 12, grid=grid) for seed, grid in enumerate([2, (2, 3), (3, 2)])]
    index = Index.from_features(parts[0], ids=range(12))
    for k, part in enumerate(parts[1:], 1):
        index.add(part, ids=range(12 * k, 12 * k + 12))
    index.remove([12, 35])
    q = features_of(9, queries, grid=(1, 4))
    score_qn = torch.empty(queries, 36)
    for k, part in enumerate(parts):
        block = slice(12 * k, 12 * k + 12)
        score_qn[:, block] = q.global_bc @ part.global_bc.T + similarity_matrix(q, part)
    score_qn[:, [12, 35]] = -torch.inf
    index.save(tmp_path / "index")
    for searched in (index, Index.load(tmp_path / "index")):
        assert searched.grids == {(2, 2), (2, 3), (3, 2)} and len(searched) == 34
        hits = searched.search(q, top_k=34, shortlist=34)
        found_qn = torch.tensor([[hit.id for hit in one] for one in hits])
        score_qk = torch.stack([one.score_k for one in hits])
        assert torch.allclose(score_qn.gather(1, found_qn), score_qk, atol=1e-5)
        assert torch.allclose(score_qn.sort(descending=True).values[:, :34], score_qk, atol=1e-5)
        plan_bnm = hits[0][0].match.plan_bnm
        assert plan_bnm.shape[1] == 4 and plan_bnm.shape[2] in (4, 6)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("queries", [1, 80])
def test_a_compressed_index_is_the_index_of_what_it_keeps(tmp_path, precision, queries):
    "In memory and from the disk, by the scan and without it; it grows, forgets and is kept."
    x, q = features_of(1, 40), features_of(2, queries)
    index = Index.from_features(x, labels=range(40))
    index.add(features_of(3, 9, grid=(2, 3)), ids=range(100, 109))
    index.remove([7, 103])
    small = index.compress(precision, channels=4)
    assert len(small) == 47 and 7 not in small and len(index) == 49 - 2
    kept = small.projection(x)
    packed = pack_features(kept, precision)
    cosine = small.projection(q).global_bc @ packed[:].global_bc.T
    expected = cosine + similarity_matrix(small.projection(q), packed)
    assert 0.3 < small._segments[0].features[:1].global_bc.norm() < 1.1
    small.add(features_of(4, 2), ids=["new", "newer"])
    small.remove("newer")
    small.save(tmp_path / "index")
    loaded = Index.load(tmp_path / "index")
    assert loaded._segments[0].features.bits == int(precision[3:])
    for searched in (small, loaded):
        hits = searched.search(q, top_k=48, shortlist=48)
        for n, one in enumerate(hits):
            assert len({hit.id for hit in one}) == 48 and "new" in {hit.id for hit in one}
            for hit in one:
                if isinstance(hit.id, int) and hit.id < 40:
                    assert abs(hit.score - expected[n, hit.id]) < 1e-4
            assert abs(one[0].match.similarity_b - one[0].similarity) < 1e-4
    again = lists(Index.load(tmp_path / "index"), q)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "compiled_library", lambda *a, **k: None)
        assert same(again, lists(loaded, q))
    with pytest.raises(ValueError, match="the index is compressed already"):
        small.compress()
    with pytest.raises(
        ValueError, match="expected 6 channels, for which the projection was fitted"
    ):
        small.search(features_of(5, 1, channels=5))


def test_a_compressed_index_of_what_is_left():
    "All images of one grid were removed, and images of the largest one."
    index = Index.from_features(features_of(1, 40))
    index.add(features_of(3, 9, grid=(2, 3)), ids=range(100, 109))
    index.remove([*range(100, 109), *range(30)])
    small = index.compress(channels=4)
    assert sorted(small._position) == list(range(30, 40))
    assert small.search(features_of(1, 40)[33])[0][0].id == 33


def test_packed_features_are_searched_however_they_lie(tmp_path):
    "Their numbers stand in columns; and packed queries are queries."
    x = features_of(5, 300, channels=16)
    columns = Features(x.local_bcn, x.norm_bn, x.global_bc.T.contiguous().T, x.grid)
    packed = pack_features(columns, "int8")
    assert packed.global_bc.stride() == (1, 300)
    index = Index.from_features(packed)
    assert [hits[0].id for hits in index.search(x[:3], top_k=5)] == [0, 1, 2]
    index.save(tmp_path / "index")
    assert [h[0].id for h in Index.load(tmp_path / "index").search(x[:3])] == [0, 1, 2]
    plain = Index.from_features(x)
    for queries in (packed, pack_features(x, "int4")):
        assert [hits[0].id for hits in plain.search(queries)[:3]] == [0, 1, 2]


def test_codes_are_kept_of_a_compressed_index_only(tmp_path):
    index = Index.from_features(features_of(1, 40))
    with pytest.raises(ValueError, match="precision: 'int4' does not fit .* call compress first"):
        index.save(tmp_path / "index", precision="int4")
    with pytest.raises(ValueError, match="precision: 'float16' does not fit .* is compressed"):
        index.compress(channels=4).save(tmp_path / "index", precision="float16")
    assert not (tmp_path / "index").exists()


def test_what_cannot_be_compressed():
    with pytest.raises(ValueError, match="the index is empty"):
        Index().compress()
    with pytest.raises(ValueError, match="precision: expected 'int8' or 'int4', got 'int2'"):
        Index.from_features(features_of(1, 30)).compress("int2", channels=4)
    with pytest.raises(ValueError, match="channels: expected at least 1, and an even number"):
        Index.from_features(features_of(1, 30)).compress("int4", channels=5)
    with pytest.raises(ValueError, match="too few for 6 channels; give more images, or keep fewer"):
        Index.from_features(features_of(1, 1)).compress("int4")


@pytest.mark.parametrize("options", [dict(swap_marginals=True), dict(stopping="batch_max")])
def test_a_score_depends_on_its_pair_alone(options):
    with pytest.raises(ValueError, match="a search matches each pair by itself"):
        Index(MatchOptions(**options))


@pytest.mark.parametrize("name", ["segment-1", "images-1.json", "index.json"])
def test_what_only_looks_like_an_index_is_not_touched(tmp_path, name):
    "A folder or a file of somebody else under the names of ours."
    path = tmp_path / name
    if name == "segment-1":
        path.mkdir()
        (path / "holiday.mp4").write_bytes(b"the only copy")
    else:
        path.write_text("{}")
    with pytest.raises(FileExistsError, match=f"holds {name}, which is no part of an index"):
        Index.from_features(features_of(9, 3)).save(tmp_path)
    assert [x.name for x in tmp_path.iterdir()] == [name]


def test_a_save_that_fails_leaves_the_old_index(tmp_path, monkeypatch):
    x = features_of(13, 5)
    Index.from_features(x[:3]).save(tmp_path / "index")
    other = Index.from_features(x)

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("diml_nb.matcher.storage.write_store", full)
    with pytest.raises(OSError, match="no space left"):
        other.save(tmp_path / "index")
    with pytest.raises(OSError, match="no space left"):
        other.save(tmp_path / "new")
    assert len(Index.load(tmp_path / "index")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_ranks_are_those_of_the_whole_list():
    x = features_of(14, 9)
    (hits,) = Index.from_features(x).search(x[:1], 9)
    assert [hit.rank for hit in hits[3:6]] == [4, 5, 6]
    assert [hit.rank for hit in hits[::-2]] == [9, 7, 5, 3, 1]
    assert hits[3:][0].id == hits[3].id


def test_a_copy_reads_the_same(tmp_path):
    x = features_of(15, 8)
    Index.from_features(x).save(tmp_path / "index")
    index = Index.load(tmp_path / "index")
    copied = pickle.loads(pickle.dumps(index))
    assert same(lists(copied, x), lists(index, x))
    del copied
    assert len(index.search(x[0])[0]) == 8

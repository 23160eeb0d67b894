"""A matcher on folders of photographs: what is read, what is kept, and what a kill leaves."""

import os
import shutil
import signal
import threading
import time
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from image_files import split_folder
from PIL import Image
from small_networks import wrapped
from small_runs import few_images

from diml_nb._internal.download import file_lock
from diml_nb.features.backbones import Backbone, get_backbone
from diml_nb.learning.config import CACHED_MAPS_CONFIG, TrainConfig
from diml_nb.learning.trainer import train
from diml_nb.matcher import matcher as module
from diml_nb.matcher.index import Index
from diml_nb.matcher.matcher import Matcher, open_index
from diml_nb.matcher.rule import Rule
from diml_nb.ot.matching import MatchOptions


def photograph(path, seed, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path)


@pytest.fixture
def photos(tmp_path):
    "Twelve photographs in two folders, and one beside them."
    for n in range(12):
        photograph(tmp_path / "photos" / ("sea", "wood")[n % 2] / f"{n}.png", n)
    photograph(tmp_path / "photos" / "lost.png", 99)
    return tmp_path / "photos"


@pytest.fixture
def small():
    return Matcher(wrapped(), rule=Rule(grid=2))


def ids(hits):
    return [hit.id for hit in hits]


def test_three_lines(photos, small, tmp_path):
    hits = small.index(photos).search(photos / "sea" / "4.png", top_k=5)
    assert (len(hits), hits[0].id, hits[0].label) == (5, "sea/4.png", "sea")
    assert hits[0].path == photos / "sea" / "4.png"
    assert hits[0].explain(tmp_path / "why.html").read_text().startswith("<!doctype html>")


def test_pictures_keep_their_sides(tmp_path):
    "In features, lists, figures and pages; upright and lying, by the note of a camera or in truth."
    m = Matcher(get_backbone())
    shapes = {"lying": (90, 60), "upright": (60, 90), "square": (70, 70), "ribbon": (300, 20)}
    for n, (name, size) in enumerate(shapes.items()):
        photograph(tmp_path / f"{name}.png", n, size)
    turned = Image.open(tmp_path / "lying.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    paths = sorted(tmp_path.glob("*.png"))
    grids = {paths[n].stem: x.grid for places, x in m.encode_groups(paths) for n in places}
    assert grids == dict(lying=(3, 5), upright=(5, 3), square=(4, 4), ribbon=(2, 7), turned=(5, 3))
    for out in (None, tmp_path / "index"):
        index = m.index(paths, out=out)
        hits = index.search(tmp_path / "lying.png", top_k=5)
        assert hits[0].path.stem == "lying" and hits[0].similarity > 0.9
        assert sorted(hit.path.stem for hit in hits) == sorted(grids)
        for hit in hits:
            assert hit.match.grid_a == (3, 5) and hit.match.grid_b == grids[hit.path.stem]
            assert [picture.size for picture in hit.pictures][0] == (288, 192)
            hit.explain(tmp_path / "why.html")
            for by in ("parts", "flows"):
                hit.explain(tmp_path / "why.png", by)
        assert hits.to_html().count("<li>") == 5
    similarity_ab = m.similarity(paths, paths)
    assert torch.allclose(similarity_ab, similarity_ab.T, atol=2e-3)
    assert abs(m.match(paths[0], paths[-1]).similarity_b[0] - similarity_ab[0, -1]) < 1e-5
    with pytest.raises(ValueError, match="images: expected pictures of one shape, got 1 of 3 x 5"):
        m.encode(paths)


def test_a_network_that_takes_squares_only_gets_squares(photos):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 32, stride=32), torch.nn.Flatten(), torch.nn.Linear(8 * 16, 4)
    )
    m = Matcher(Backbone(network, image_size=128))
    assert not m.rule.keep_sides and m.encode(photos / "lost.png").grid == (4, 4)
    with pytest.raises(ValueError, match="rule: own network takes squares only"):
        Matcher(m.backbone, rule=Rule(keep_sides=True))


def test_what_cannot_be_said_by_a_name_is_a_picture(small):
    "Pictures, grey arrays and files that are open: numbers are their ids, and hits draw them."
    grey = np.random.default_rng(0).integers(0, 255, (30, 50), np.uint8)
    pictures = [grey, np.stack([grey.T] * 3, axis=2), Image.fromarray(grey[::-1])]
    index = small.index(pictures, labels=["a", "b", "c"])
    hits = index.search(grey)
    assert (hits[0].id, hits[0].label) == (0, "a")
    assert hits[0].pictures[1].size == (32, 32)
    with pytest.raises(ValueError, match="0: this image is no file"):
        _ = hits[0].path


def test_several_queries_give_a_list_of_hits(photos, small):
    index = small.index(photos)
    files = [photos / "sea" / "4.png", photos / "wood" / "1.png"]
    several = index.search(files, 3)
    assert [hits[0].id for hits in several] == ["sea/4.png", "wood/1.png"]
    assert [ids(hits) for hits in several] == [ids(index.search(file, 3)) for file in files]


def test_a_query_is_read_once(photos, small, monkeypatch):
    index, opened = small.index(photos), []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda x, *a, **k: opened.append(x) or original(x, *a, **k))
    index.search(photos / "lost.png")
    assert len(opened) == 1


@pytest.mark.parametrize("change", ["new", "changed", "missing"])
def test_a_folder_that_changed(photos, small, tmp_path, change):
    "The index says so when it is loaded, and the same call brings it up to date."
    small.index(photos, out=tmp_path / "index")
    if change == "missing":
        (photos / "sea" / "4.png").unlink()
    else:
        photograph(photos / "sea" / ("4.png" if change == "changed" else "new.png"), 500)
    if change != "new":
        with pytest.warns(UserWarning, match=rf"1 files are not .*: sea/4.png \({change}\)"):
            small.load_index(tmp_path / "index")
    if change == "missing":
        with pytest.warns(UserWarning, match=r"1 images are not listed any more.*: sea/4\.png"):
            index = small.index(photos, out=tmp_path / "index")
    else:
        index = small.index(photos, out=tmp_path / "index")
    fresh = small.index(photos)
    assert sorted(index._position) == sorted(fresh._position)
    for query in (photos / "lost.png", photos / "wood" / "1.png"):
        assert ids(index.search(query, 5)) == ids(fresh.search(query, 5))


def test_an_image_that_cannot_be_read_leaves_nothing(photos, small, tmp_path):
    (photos / "sea" / "half.jpg").write_bytes(b"\xff\xd8\xff no picture")
    for out in (None, tmp_path / "index"):
        with pytest.raises(ValueError, match=r"half\.jpg"):
            small.index(photos, out=out)
    assert not (tmp_path / "index").exists()


def slow_index(photos, out):
    "Index with a pause for each batch, a few images a segment."
    torch.set_num_threads(1)
    module._CHUNK = 2
    encode = Matcher.encode

    def slowly(self, images):
        time.sleep(0.05)
        return encode(self, images)

    Matcher.encode = slowly
    Matcher(wrapped(), rule=Rule(grid=2)).index(photos, out=out)


def test_a_kill_costs_a_segment_at_most(photos, small, tmp_path, monkeypatch):
    "SIGKILL while it is built: what is there counts, and the next run goes on."
    out = tmp_path / "index"
    process = get_context("fork").Process(target=slow_index, args=(photos, out))
    process.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(out.glob("segment-*"))) < 3:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(FileNotFoundError, match="the index was not finished"):
        small.load_index(out)
    embedded = []
    encode = Matcher.encode
    monkeypatch.setattr(
        Matcher, "encode", lambda self, x: embedded.extend(map(str, x)) or encode(self, x)
    )
    index = small.index(photos, out=out)
    assert len(index) == 13
    assert len(set(embedded)) <= 9  # two segments of two were there
    assert ids(index.search(photos / "lost.png"))[0] == "lost.png"


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_a_compressed_index_grows_on_disk(photos, small, tmp_path, monkeypatch, precision):
    monkeypatch.setattr(module, "_CHUNK", 4)
    out = tmp_path / "index"
    options = dict(out=out, precision=precision, channels=6)
    index = small.index(photos, **options)
    projection = index.projection
    photograph(photos / "sea" / "new.png", 50)
    index = small.index(photos, **options)
    assert len(index) == 14 and torch.equal(index.projection.matrix_cd, projection.matrix_cd)
    assert ids(index.search(photos / "sea" / "new.png", 3))[0] == "sea/new.png"
    assert ids(small.load_index(out).search(photos / "lost.png", 3))[0] == "lost.png"
    with pytest.raises(ValueError, match="kept in fewer channels, in int., which precision='float"):
        small.index(photos, out=out)
    small.index(photos, out=tmp_path / "plain")
    with pytest.raises(ValueError, match="kept with all channels, which precision='int"):
        small.index(photos, out=tmp_path / "plain", precision=precision)
    other = dict(int4="int8", int8="int4")[precision]
    with pytest.raises(ValueError, match=f"in {precision}, which precision='{other}' is not"):
        small.index(photos, out=out, precision=other, channels=6)
    assert len(small.load_index(out)) == 14


def test_a_compressed_index_in_memory(photos, small):
    index = small.index(photos, precision="int8", channels=6)
    assert index.projection is not None and len(index) == 13
    assert ids(index.search(photos / "lost.png", 3))[0] == "lost.png"
    for wrong, text in ((dict(precision="int2"), "precision"), (dict(channels=0), "channels")):
        with pytest.raises(ValueError, match=f"{text}: expected"):
            small.index(photos, **(dict(precision="int4") | wrong))


def test_squares_and_whole_pictures_are_not_mixed(photos, tmp_path):
    squares = Matcher(wrapped(), rule=Rule(grid=2))
    squares.index(photos, out=tmp_path / "index")
    whole = Matcher(wrapped(), rule=Rule(grid=2, keep_sides=True))
    for call in (whole.load_index, lambda out: whole.index(photos, out=out)):
        with pytest.raises(ValueError, match="were cut to squares, .*keep_sides=False.*--square"):
            call(tmp_path / "index")


def test_pictures_of_many_shapes_are_few_segments(tmp_path):
    "A segment for each grid, however many shapes have it; a new picture begins no new index."
    whole = Matcher(get_backbone(), rule=Rule(grid=2, keep_sides=True))
    for n, width in enumerate(range(100, 310, 15)):
        photograph(tmp_path / "photos" / f"{n}.png", n, (width, 100))
    index = whole.index(tmp_path / "photos", out=tmp_path / "index")
    assert len(index.grids) == len(index._segments) > 1
    photograph(tmp_path / "photos" / "more.png", 50, (200, 100))
    grown = whole.index(tmp_path / "photos", out=tmp_path / "index")
    assert len(grown) == 15 and len(grown._segments) == len(index._segments) + 1


def test_a_finer_network_is_found_again(photos, tmp_path):
    fine = Matcher.from_pretrained(image_size=96, rule=Rule(grid=3, keep_sides=True))
    assert fine.encode(photos / "lost.png").grid == (2, 4)  # a photograph of 60 x 40 pixels
    fine.index(photos, out=tmp_path / "index")
    opened = open_index(tmp_path / "index")
    assert opened.encoder.backbone.image_size == 96 and opened.encoder.identity == fine.identity
    fine.save_pretrained(tmp_path / "matcher")
    assert Matcher.from_pretrained(tmp_path / "matcher").identity == fine.identity
    with pytest.raises(ValueError, match="image_size: the network in .* has its own"):
        Matcher.from_pretrained(tmp_path / "matcher", image_size=224)
    with pytest.raises(ValueError, match="image_size: expected at least 32 pixels, got 8"):
        Matcher.from_pretrained(image_size=8)


def test_a_second_writer_waits(photos, small, tmp_path):
    out = tmp_path / "index"
    second = threading.Thread(target=small.index, args=(photos,), kwargs=dict(out=out))
    with file_lock(out):
        second.start()
        second.join(0.3)
        assert second.is_alive() and not out.exists()
    second.join(60)
    assert len(small.load_index(out)) == 13


def test_photographs_that_cannot_be_read(photos, small, tmp_path):
    (photos / "sea" / "film.jpg").write_bytes(b"no picture")
    whole = (photos / "wood" / "1.png").read_bytes()
    (photos / "wood" / "cut.png").write_bytes(whole[: len(whole) // 2])
    for out in (None, tmp_path / "index"):
        with pytest.raises(ValueError, match="film.jpg"):
            small.index(photos, out=out)
        with pytest.warns(UserWarning, match="2 images are left out: .*film.jpg.*cut.png"):
            index = small.index(photos, out=out, on_error="skip")
        assert len(index) == 13 and "wood/cut.png" not in index
    with pytest.raises(ValueError, match="images: none can be read"), pytest.warns(UserWarning):
        small.index([photos / "sea" / "film.jpg"], on_error="skip")
    with pytest.raises(ValueError, match="on_error: expected 'raise' or 'skip', got 'ignore'"):
        small.index(photos, on_error="ignore")


def test_another_rule_is_another_matcher(small):
    with pytest.raises(AttributeError):
        small.rule = Rule(grid=4)


def test_many_segments_become_one(photos, small, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 1)
    index = small.index(photos, out=tmp_path / "index")
    assert len(index._segments) == 1
    assert len(list((tmp_path / "index").glob("segment-*"))) == 1
    fresh = small.index(photos)
    a, b = (x.search(photos / "lost.png", 13) for x in (index, fresh))
    assert (a.score_k - b.score_k).abs().max() < 2e-3


# matchers


def test_another_network_is_refused_by_name(photos, small, tmp_path):
    small.index(photos, out=tmp_path / "index")
    others = [
        Matcher(wrapped(stride=2), rule=Rule(grid=2)),
        Matcher(wrapped(), rule=Rule(grid=3)),
        Matcher(wrapped(mean=(0.5,) * 3), rule=Rule(grid=2)),
        Matcher(wrapped(), rule=Rule(grid=2, global_power=1.0)),
    ]
    for other in others:
        for call in (
            lambda other=other: other.load_index(tmp_path / "index"),
            lambda other=other: other.index(photos, out=tmp_path / "index"),
        ):
            with pytest.raises(ValueError, match=r"by own network \(\w{8}\), and this matcher"):
                call()
    matched_otherwise = Rule(grid=2, options=MatchOptions(eps=0.5))
    assert len(Matcher(wrapped(), rule=matched_otherwise).load_index(tmp_path / "index")) == 13


def test_saved_and_loaded(tmp_path, photos):
    rule = Rule(grid=3, global_power=1.0, options=MatchOptions(marginals="uniform", eps=0.1))
    m = Matcher(get_backbone(pretrained=False), rule=rule)
    m.source = "efficientnet_lite0"
    m.save_pretrained(tmp_path / "matcher")
    again = Matcher.from_pretrained(tmp_path / "matcher")
    assert (again.rule, again.identity) == (rule, m.identity)
    index = again.index(photos)
    index.save(tmp_path / "index")
    opened = open_index(tmp_path / "index")
    assert ids(opened.search(photos / "lost.png")) == ids(index.search(photos / "lost.png"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A head that was trained for a moment."
    folder = tmp_path_factory.mktemp("run") / "head"
    config = CACHED_MAPS_CONFIG | dict(
        embedding_dim=8, epochs=1, evaluate_every=1, batch_size=12, loss="margin", grid=2, eps=0.2
    )
    train(TrainConfig(**config), folder, images=few_images("train", 10))
    return folder


def test_a_trained_network_brings_its_rule(run, photos, tmp_path):
    m = Matcher.from_pretrained(run)
    assert (m.rule.grid, m.options.eps) == (2, 0.2)
    m.index(photos, out=tmp_path / "index")
    assert open_index(tmp_path / "index").encoder.identity == m.identity
    m.save_pretrained(tmp_path / "matcher")
    shutil.rmtree(tmp_path / "index")
    again = Matcher.from_pretrained(tmp_path / "matcher")
    assert again.identity == m.identity
    assert again.backbone.config == m.backbone.config


@pytest.mark.parametrize("what", ["cut", "other", "empty"])
def test_a_damaged_matcher_is_refused(tmp_path, what):
    m = Matcher(get_backbone(pretrained=False))
    folder = m.save_pretrained(tmp_path / "matcher")
    weights = folder / "model.safetensors"
    if what == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif what == "other":
        torch.manual_seed(5)
        other = Matcher(get_backbone(pretrained=False)).save_pretrained(tmp_path / "other")
        shutil.copy(other / weights.name, weights)
    else:
        (folder / "matcher.json").write_text("{}")
    with pytest.raises(ValueError, match=str(folder)):
        Matcher.from_pretrained(folder)


def test_a_network_without_a_name_is_not_saved(tmp_path, small):
    with pytest.raises(ValueError, match="own network: only networks that get_backbone makes"):
        small.save_pretrained(tmp_path / "matcher")
    assert not (tmp_path / "matcher").exists()


def test_candidates_of_another_index(photos, small):
    files = sorted(photos.rglob("*.png"))
    names = {name: file for name, file in zip("abcdefghijklm", files)}
    hits = small.rank(photos / "lost.png", list("dba"), loader=names.get)
    assert sorted(ids(hits)) == ["a", "b", "d"]
    assert [hit.path for hit in hits] == [names[hit.id] for hit in hits]
    assert len(small.rank(photos / "lost.png", files, 4)) == 4
    with pytest.raises(ValueError, match="17 is no image; give loader="):
        small.rank(photos / "lost.png", [17])
    for wrong in ([], [files[0]] * 2):
        with pytest.raises(ValueError, match="expected at least one, and none twice"):
            small.rank(photos / "lost.png", wrong)
    with pytest.raises(ValueError, match="top_k: expected at least 1, got 0"):
        small.rank(photos / "lost.png", files, 0)


def test_fitting_makes_another_matcher(tmp_path):
    images = split_folder(tmp_path, classes=4)
    m = Matcher(wrapped(), rule=Rule(grid=2))
    fitted = m.fit(images.subset("train"))
    assert fitted.rule.grid == m.rule.grid
    assert m.rule == Rule(grid=2)  # it stays
    with pytest.raises(ValueError, match="two classes of at least two images"):
        m.fit(images.subset("train").select([0, 1, 2]))


def test_similarities_are_those_of_the_hits(photos, small):
    files = sorted(photos.rglob("*.png"))[:5]
    hits = small.index(files).search(files[0], 5)
    s_1g = small.similarity(files[0], files)
    for hit in hits:
        assert abs(hit.similarity - s_1g[0, hit.position]) < 1e-5
        assert abs(hit.match.contribution_bnm.sum() - hit.similarity) < 1e-5


def test_too_much_for_the_memory_is_said_first(photos, small):
    with pytest.raises(ValueError, match=r"13 images needs 0.0 GB of memory.*give out=FOLDER"):
        small.index(photos, max_bytes=100)


def test_own_networks_are_found_by_the_users_own_hand(photos, small, tmp_path):
    small.index(photos, out=tmp_path / "index")
    with pytest.raises(ValueError, match="own network, is not found by name"):
        open_index(tmp_path / "index")
    assert len(small.load_index(tmp_path / "index")) == 13


@pytest.mark.parametrize("out", [None, "index"])
def test_names_and_labels_that_do_not_fit(photos, small, tmp_path, out):
    out = out and tmp_path / out
    with pytest.raises(ValueError, match="labels: expected one for each of 13 images, got 2"):
        small.index(photos, labels=["a", "b"], out=out)
    file = photos / "lost.png"
    with pytest.raises(ValueError, match=r"given twice: .*lost\.png"):
        small.index([file, file], out=out)
    assert not (tmp_path / "index").exists()


def test_loaded_without_its_matcher_it_still_knows_its_network(photos, small, tmp_path):
    small.index(photos, out=tmp_path / "index")
    index = Index.load(tmp_path / "index")
    index.remove("lost.png")
    index.save(tmp_path / "index")
    other = Matcher(wrapped(mean=(0.5,) * 3), rule=Rule(grid=2))
    with pytest.raises(ValueError, match="its features were made by own network"):
        other.index(photos, out=tmp_path / "index")
    assert len(small.load_index(tmp_path / "index")) == 12


def test_a_network_is_not_saved_over_other_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"the best weights")
    with pytest.raises(FileExistsError, match="holds other files"):
        Matcher(get_backbone(pretrained=False)).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"the best weights"


def test_paths_are_found_from_anywhere(photos, small, tmp_path, monkeypatch):
    monkeypatch.chdir(photos / "sea")
    index = small.index(["4.png", "6.png"])
    monkeypatch.chdir(tmp_path)
    hits = index.search(photos / "sea" / "4.png")
    assert (hits[0].id, hits[0].path) == ("4.png", photos / "sea" / "4.png")
    assert hits[0].pictures[1].size == (32, 32)


def test_an_index_is_matched_by_the_rule_of_its_matcher(photos, small, tmp_path):
    small.index(photos, out=tmp_path / "index")
    sharp = Matcher(small.backbone, rule=Rule(grid=2, options=MatchOptions(eps=0.5)))
    assert sharp.load_index(tmp_path / "index").options.eps == 0.5

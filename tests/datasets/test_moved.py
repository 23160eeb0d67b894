"Moved drawings: the same bytes each time, and a table that says where each drawing is."

import random
import shutil

import pandas as pd
import pytest
import torch
from PIL import Image

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.correspondences import true_correspondences
from diml_nb.datasets.moved import Place, place_drawing, random_place
from diml_nb.datasets.prepare import prepare_dataset
from diml_nb.datasets.registry import DATASETS, get_dataset, verify_dataset
from diml_nb.features.images import load_image


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    "A folder with the embedded set and the moved one; neither network nor archives are needed."
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(data_dir() / "emoji", root / "emoji")
    prepare_dataset("emoji_moved", root=root, archives=root / "none")
    return root


def ink_centre(image):
    "Mean (x, y) of the pixels of an image, each weighted by how dark it is."
    grey = torch.frombuffer(bytearray(image.convert("L").tobytes()), dtype=torch.uint8)
    ink_hw = 255 - grey.view(image.height, image.width).double()
    x, y = (torch.arange(n) + 0.5 for n in image.size)
    return torch.stack([(ink_hw.sum(0) * x).sum(), (ink_hw.sum(1) * y).sum()]) / ink_hw.sum()


def test_the_set_is_that_of_the_records(root):
    images = get_dataset("emoji_moved", root=root)
    assert images.hash == DATASETS["emoji_moved"].hash
    assert verify_dataset("emoji_moved", root=root) == 592
    assert all(Image.open(path).size == (224, 224) for path in images.paths[:9])
    assert sorted(path.name for path in root.iterdir()) == ["emoji", "emoji_moved"]


def test_a_second_making_gives_the_same_bytes(root):
    def contents():
        return {p: p.read_bytes() for p in (root / "emoji_moved").rglob("*") if p.is_file()}

    before = contents()
    prepare_dataset("emoji_moved", root=root, fresh=True)
    assert contents() == before
    assert len(before) == 593


def test_classes_splits_and_authors_are_those_of_the_parent(root):
    moved, parent = (get_dataset(name, root=root) for name in ("emoji_moved", "emoji"))
    assert moved.classes == parent.classes
    assert torch.equal(moved.label_n, parent.label_n)
    assert moved.split_n == parent.split_n
    for column in ("design", "author", "licence", "package"):
        assert moved.metadata[column] == parent.metadata[column]


def test_the_table_tells_where_the_ink_is(root):
    moved, parent = (get_dataset(name, root=root) for name in ("emoji_moved", "emoji"))
    for n in range(0, 592, 13):
        page, drawing = load_image(moved.paths[n]), load_image(parent.paths[n])
        centre = torch.cat([ink_centre(drawing) / drawing.width, torch.ones(1)])
        expected = moved.metadata["affine"][n].double() @ centre
        assert (ink_centre(page) - expected).abs().max() < 0.6
        side, _, left, _, height, top = map(int, moved.metadata["affine"][n].flatten())
        assert side == height
        assert 112 <= side <= 224
        page.paste("white", (left, top, left + side, top + side))
        assert page.getextrema() == ((255, 255),) * 3


def test_a_page_is_made_again_from_its_name(root):
    moved = get_dataset("emoji_moved", root=root)
    for path in random.Random(0).sample(moved.paths, 20):
        name = f"{path.parent.name}/{path.name}"
        page = place_drawing(Image.open(root / "emoji" / name), random_place(name))
        assert page.tobytes() == load_image(path).tobytes()


def test_at_full_size_nothing_has_moved(root):
    "Up to the filter: the network's own one is another."
    path = root / "emoji" / "owl" / "noto.png"
    assert random_place("owl/noto.png", scale=(1, 1)) == Place(0, 0, 224)
    page = place_drawing(Image.open(path), Place(0, 0, 224))
    scaled = load_image(path).resize((224, 224), Image.Resampling.BICUBIC)
    difference = torch.tensor(bytearray(page.tobytes())) - torch.tensor(
        bytearray(scaled.tobytes())
    ).to(torch.int16)
    assert difference.abs().float().mean() < 1.5


def test_places_are_uniform_and_scale_is_not_place():
    places = [random_place(f"x/{n}") for n in range(4000)]
    side = torch.tensor([place.side for place in places]).double()
    room = (224 - side).clamp_min(1)
    x, y = (torch.tensor([place[k] for place in places]) / room for k in (0, 1))
    for value in ((side - 112) / 112, x, y):
        assert abs(value.mean() - 0.5) < 0.02
        assert abs(value.var() - 1 / 12) < 0.005
    assert torch.corrcoef(torch.stack([side, x, y])).triu(1).abs().max() < 0.05


def test_freedom_stretches_the_same_places():
    for name in ("a/1", "b/2", "c/3"):
        steps = [random_place(name, 5, scale=(0.6, 0.6), freedom=d) for d in (0, 0.25, 0.5, 1)]
        offset = torch.tensor([step.centre for step in steps]) - 112
        assert torch.equal(offset[0], torch.zeros(2))
        for d, found in zip((0.25, 0.5), offset[1:3], strict=True):
            assert (found - d * offset[3]).abs().max() <= 1
        assert len({step.side for step in steps}) == 1


def test_pairs_of_two_designers_have_no_true_correspondences(root):
    moved = get_dataset("emoji_moved", root=root)
    with pytest.raises(ValueError, match="no correspondences are known"):
        true_correspondences(moved[0], moved[1])


@pytest.mark.parametrize("name", ["emoji_moved", "emoji_vendors_moved"])
def test_a_parent_that_is_missing_is_named(tmp_path, name):
    parent = name.removesuffix("_moved")
    with pytest.raises(FileNotFoundError, match=f"{parent}/images.csv is missing") as error:
        prepare_dataset(name, root=tmp_path)
    assert ("git checkout" if parent == "emoji" else f"`diml data fetch {parent}`") in str(
        error.value
    )
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_is_missing(diml, tmp_path):
    done = diml("data", "fetch", "emoji_vendors_moved", "--root", str(tmp_path))
    assert done.returncode == 2
    assert "`diml data fetch emoji_vendors` makes the set" in done.stderr
    assert "Traceback" not in done.stderr


def test_faults():
    drawing = Image.new("RGBA", (20, 20), "red")
    for scale in ((0, 1), (0.8, 0.5), (0.5, 1.1)):
        with pytest.raises(ValueError, match="scale: expected 0 < smallest <= largest <= 1, got"):
            random_place("x", scale=scale)
    for freedom in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="freedom: expected a number in 0..1, got"):
            random_place("x", freedom=freedom)
    for place in (Place(-1, 0, 9), Place(0, 220, 9), Place(0, 0, 225)):
        with pytest.raises(ValueError, match="place: expected a square on a page of 224 pixels"):
            place_drawing(drawing, place)
    with pytest.raises(ValueError, match="drawing: expected a square image, got .20, 9. pixels"):
        place_drawing(drawing.crop((0, 0, 20, 9)), Place(0, 0, 9))


@pytest.mark.skipif(
    not (data_dir() / "emoji_vendors_moved").exists(),
    reason="the set is not here; `diml data fetch emoji_vendors_moved` makes it",
)
def test_the_whole_set_that_was_made():
    images = get_dataset("emoji_vendors_moved")
    assert (len(images), images.hash) == (8011, DATASETS["emoji_vendors_moved"].hash)
    splits = pd.Series(images.split_n).value_counts()
    assert splits.to_dict() == {"train": 4225, "test": 3786}

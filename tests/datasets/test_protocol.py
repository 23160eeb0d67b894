"""Which images are searched for, and among which: splits, marks, and what is held out."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diml_nb.datasets.dataset import ImageDataset
from diml_nb.datasets.protocol import default_split, make_protocol, protocol_of_all
from diml_nb.features.grid import grid_features
from diml_nb.learning.linear_probe import cosine_search, take_test


def images_of(*splits, name="own", **metadata):
    "Images of one class each two, one for each split that is given."
    label_n = torch.arange(len(splits)) // 2
    paths = tuple(Path(f"{n}.png") for n in range(len(splits)))
    classes = tuple(f"class {n}" for n in range(len(splits)))
    return ImageDataset(name, paths, label_n, classes, splits, metadata)


@pytest.mark.parametrize(
    "splits, expected",
    [
        (("a", "a"), "a"),
        (("train", "test"), "test"),
        (("train", "query", "gallery"), "query:gallery"),
        (("train", "dev"), ""),
    ],
)
def test_the_usual_test_of_a_set(splits, expected):
    assert default_split(images_of(*splits)) == expected


def test_known_classes_are_searched_for_in_what_was_learned():
    images = images_of("train", "test", "train", "test", name="grocery_known")
    protocol = make_protocol(images)
    assert protocol.queries.split_n == ("test", "test")
    assert protocol.gallery.split_n == ("train", "train")


def test_marks_hold_in_two_splits_too():
    marks = dict(is_query=("1", "1", "0", "1"), is_gallery=("1", "0", "0", "1"))
    images = images_of("train", "test", "train", "test", name="grocery_known", **marks)
    protocol = make_protocol(images)
    assert [path.name for path in protocol.gallery.paths] == ["0.png"]
    assert len(protocol.images) == 3  # what is neither is not computed


def test_held_out_images_without_a_mark_are_searched_among_all():
    images = images_of("train", "train", is_query=("", ""), is_gallery=("", ""))
    assert protocol_of_all(images).among_themselves
    none = replace(images, metadata=dict(is_query=("0", "0"), is_gallery=("0", "1")))
    assert protocol_of_all(none).among_themselves


def test_features_of_both_sides_are_those_at_their_positions():
    images = images_of(*["x"] * 4, is_query=tuple("1001"), is_gallery=tuple("0111"))
    protocol = make_protocol(images)
    value_q, value_g = protocol.sides(torch.arange(4))
    assert value_q.tolist() == [0, 3] and value_g.tolist() == [1, 2, 3]
    assert protocol.query_position_q.tolist() == [-1, 2]


def test_a_part_of_the_classes_of_a_test_is_a_part_of_the_test():
    some, all_classes = take_test("emoji", 5), take_test("emoji")
    assert len(some.label_q.unique()) == 5
    assert some.images.paths == all_classes.images.paths[: len(some.images)]


def test_a_query_in_the_gallery_does_not_find_itself():
    images = images_of(*["x"] * 4, is_query=tuple("1010"), is_gallery=tuple("1111"))
    protocol = make_protocol(images)
    features = grid_features(torch.rand(4, 8, 4, 4), grid=4)
    ranking = cosine_search(features, protocol, top_k=2)
    assert not (ranking.index_qk == protocol.query_position_q[:, None]).any()


def test_queries_of_which_some_are_in_the_gallery_are_refused():
    images = images_of(*["x"] * 4, is_query=tuple("1111"), is_gallery=tuple("0011"))
    features = grid_features(torch.rand(4, 8, 4, 4), grid=4)
    with pytest.raises(ValueError, match="2 of 4 queries are in the gallery; expected all or none"):
        cosine_search(features, make_protocol(images))


def test_marks_of_one_split_say_nothing_of_another():
    marks = dict(is_query=("", "", "1", "0"), is_gallery=("", "", "0", "1"))
    protocol = protocol_of_all(images_of("train", "train", "test", "test", **marks))
    assert protocol.index_q.tolist() == [0, 1, 2] and protocol.index_g.tolist() == [0, 1, 3]

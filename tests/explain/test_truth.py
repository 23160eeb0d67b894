"""PCK: laws of the percentage of correct keypoints, and a network on the photographs of
`real_views`."""

import math

import pytest
import torch
from PIL import Image

from diml_nb._internal.paths import data_dir
from diml_nb.datasets.correspondences import Correspondences
from diml_nb.datasets.dataset import ImageDataset
from diml_nb.datasets.registry import get_dataset
from diml_nb.explain.truth import pair_accuracies, pck
from diml_nb.features.backbones import get_backbone
from diml_nb.ot.matching import match

GRID = 8
CELLS = GRID**2
PLACE = torch.stack([torch.arange(CELLS) % GRID + 0.5, torch.arange(CELLS) // GRID + 0.5], 1)


def truth_at(place: torch.Tensor, visible: torch.Tensor | None = None) -> Correspondences:
    ones = torch.ones(len(place))
    shown = ones.bool() if visible is None else visible
    return Correspondences(torch.eye(len(place)), place, ones, shown)


def slow_pck(score, truth, alpha):
    "Cell by cell."
    right = []
    for n in truth.visible_n.nonzero().flatten().tolist():
        m = max(range(CELLS), key=lambda m: score[n, m].item())
        x, y = m % GRID + 0.5, m // GRID + 0.5
        true_x, true_y = truth.target_xy_n2[n].tolist()
        right.append(math.hypot(x - true_x, y - true_y) <= alpha * GRID)
    return sum(right) / len(right)


def test_an_image_is_itself():
    assert pck(torch.eye(CELLS), truth_at(PLACE), alpha=0) == 1
    assert pck(torch.eye(CELLS) - 1, truth_at(PLACE), alpha=0) == 1  # scores may be negative


@pytest.mark.parametrize("alpha", [0, 0.05, 0.1, 0.3])
def test_cell_by_cell(alpha):
    rng = torch.Generator().manual_seed(0)
    place = PLACE + torch.rand(CELLS, 2, generator=rng)
    truth = truth_at(place, torch.rand(CELLS, generator=rng) < 0.7)
    score = torch.rand(CELLS, CELLS, generator=rng) - 0.5
    score = score + 2 * torch.eye(CELLS) * (torch.arange(CELLS) % 2)  # half of the cells are near
    assert pck(score, truth, alpha) == pytest.approx(slow_pck(score, truth, alpha))


def test_a_copy_moved_by_columns():
    moved = torch.eye(CELLS).view(CELLS, GRID, GRID).roll(3, dims=2).flatten(1)
    # three columns further, and the last three come back on the left
    assert pck(moved, truth_at(PLACE), 2.9 / GRID) == 0
    assert pck(moved, truth_at(PLACE), 3 / GRID) == 5 / 8
    assert pck(moved, truth_at(PLACE), 5 / GRID) == 1
    # the truth moves too
    truth = truth_at(PLACE + torch.tensor([3.0, 0.0]), (torch.arange(CELLS) % GRID < 5))
    assert pck(moved, truth, alpha=0) == 1


def test_random_scores_are_right_by_chance():
    rng = torch.Generator().manual_seed(0)
    near = torch.cdist(PLACE, PLACE) <= 0.2 * GRID + 1e-6
    found = [pck(torch.rand(CELLS, CELLS, generator=rng), truth_at(PLACE), 0.2) for _ in range(300)]
    assert sum(found) / 300 == pytest.approx(near.double().mean().item(), abs=0.005)


def test_more_is_right_with_a_larger_alpha():
    rng = torch.Generator().manual_seed(0)
    score = torch.rand(CELLS, CELLS, generator=rng)
    shares = [pck(score, truth_at(PLACE), alpha) for alpha in (0, 0.1, 0.2, 0.5, 1.5)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_only_cells_that_are_shown_count():
    visible = torch.arange(CELLS) < 2
    place = PLACE.where(visible[:, None], torch.nan)
    score = torch.eye(CELLS)
    score[1] = score[40]
    assert pck(score, truth_at(place, visible)) == 0.5


def test_a_row_of_zeros_predicts_nothing():
    score = torch.eye(CELLS)
    score[0] = 0  # its argmax would be the first cell, which is right
    assert pck(score, truth_at(PLACE)) == 1 - 1 / CELLS


def test_a_grid_that_is_no_square_is_refused():
    cells = torch.arange(15)
    place = torch.stack([cells % 5 + 0.5, cells // 5 + 0.5], 1)
    truth = truth_at(place)._replace(flow_nm=torch.eye(15))
    with pytest.raises(ValueError, match="square grid of cells, got 15"):
        pck(torch.eye(15), truth)


def test_half_precision_and_gradients():
    score = torch.eye(CELLS, dtype=torch.float16).requires_grad_()
    assert pck(score, truth_at(PLACE), alpha=0) == 1
    assert pck(torch.eye(CELLS, dtype=torch.bfloat16), truth_at(PLACE), alpha=0) == 1


def test_what_does_not_fit_is_refused():
    truth = truth_at(PLACE)
    for score, words in (
        (torch.rand(4, CELLS), "score_nm: expected .64, 64. cells as in truth, got .4, 64."),
        (torch.full((CELLS, CELLS), torch.nan), "finite"),
    ):
        with pytest.raises(ValueError, match=words):
            pck(score, truth)
    for alpha in (-0.1, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            pck(torch.eye(CELLS), truth, alpha)
    with pytest.raises(ValueError, match="no cell"):
        pck(torch.eye(CELLS), truth_at(PLACE, torch.zeros(CELLS, dtype=torch.bool)))


def parts_dataset(tmp_path, *parts) -> ImageDataset:
    "Pictures of one class whose parts are known."
    paths = []
    for k in range(len(parts)):
        Image.effect_noise((224, 224), 60 + k).convert("RGB").save(tmp_path / f"{k}.png")
        paths.append(tmp_path / f"{k}.png")
    metadata = {"parts": torch.tensor(parts).float()}
    labels = torch.zeros(len(parts), dtype=torch.int64)
    return ImageDataset("toy", tuple(paths), labels, ("bird",), ("test",) * len(parts), metadata)


def test_every_ordered_pair_of_a_class(tmp_path):
    hidden = [[0, 0, 0], [0, 0, 0]]
    images = parts_dataset(tmp_path, [[10, 10, 1], [200, 100, 1]], [[50, 10, 1], [0, 0, 0]], hidden)
    calls = []

    def matching(a, b):
        calls.append(1)
        return match(a, b)

    rows = pair_accuracies(images, get_backbone(pretrained=False), grid=7, matching=matching)
    top = tmp_path.name
    # the third picture shows no part of the others, and has none to look for
    assert [(row.a, row.b) for row in rows] == [
        (f"{top}/0.png", f"{top}/1.png"),
        (f"{top}/1.png", f"{top}/0.png"),
    ]
    assert [row.visible for row in rows] == [1, 1]
    assert len(calls) == 2


def test_pairs_of_which_nothing_is_known_are_refused_first(tmp_path):
    images = parts_dataset(tmp_path, [[10, 10, 1]], [[50, 10, 1]])
    unknown = ImageDataset("toy", images.paths, images.label_n, images.classes, images.split_n, {})
    with pytest.raises(ValueError, match="no correspondences are known"):
        pair_accuracies(unknown, None, grid=7)  # before a network is asked


@pytest.mark.skipif(
    not (data_dir() / "real_views").exists(),
    reason="the photographs are not here; `diml data fetch real_views` fetches them",
)
def test_the_installed_network_on_photographs():
    "Nearest cells within one of 14 x 14 cells from the truth, and better by transport."
    images = get_dataset("real_views")
    rows = pair_accuracies(images, get_backbone(image_size=448), grid=14, alpha=2 / 28)
    nearest = [row.nearest_pck for row in rows]
    assert nearest == pytest.approx([0.834, 0.862, 0.829, 0.849, 0.577, 0.444], abs=0.03)
    assert all(row.plan_pck > row.nearest_pck for row in rows)
    assert [row.visible for row in rows] == [181, 174, 175, 166, 194, 108]

"12_cosegmentation: two seeds of a smoke run, and what must hold whatever the networks learn."

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diml_nb.datasets.dataset import Sample
from diml_nb.experiments.pooling import PooledRecords
from diml_nb.features.backbones import get_backbone
from diml_nb.features.grid import grid_features
from diml_nb.ot.matching import match
from diml_nb.records.record import decode_fixed_point
from diml_nb.related.cosegmentation import (
    FINE_CHANNELS,
    mask_metrics,
    mean_contribution,
    multiscale_backbone,
    pairs_across,
    pairs_within,
    split_scales,
    with_distractor,
)
from diml_nb.related.pixel_decoder import (
    LOSSES,
    PixelDecoder,
    append_channel,
    decode_batched,
    is_triplet_loss,
    pca_colors,
    train_decoder,
)

UNTRAINED = ("everything", "where things lie", "flow within", "flow")


@pytest.fixture(scope="module")
def smoke(two_seeds):
    return two_seeds("12_cosegmentation")


def test_every_row_is_there(smoke):
    # classes; floors and flows; ceiling; choosing; epochs and gap; the picture alone; mean flow
    rows = 1 + 2 * len(UNTRAINED) + 1 + 3 * (2 + 1) + 3 * 2 * (2 + 1) + 1 + 1
    assert len(smoke.rows) == rows
    for result in smoke.rows.values():
        for name, text in result.get("by_class", {}).items():
            assert ((x := decode_fixed_point(text)) <= (2 if name == "gap" else 1)).all()
            assert (x >= (-2 if name == "gap" else 0)).all()


def test_what_needs_no_training_depends_on_no_seed(smoke):
    pooled = PooledRecords(smoke.records)
    for name in (*UNTRAINED, "28 x 28 at best"):
        first, other = pooled.values(dict(method=name), "jaccard")
        assert torch.equal(first, other)
    trained = pooled.values(dict(loss="Dice", triplet=False, epoch=2), "jaccard")
    assert not torch.equal(*trained)
    assert (trained < pooled.values(dict(method="28 x 28 at best"), "jaccard")).all()
    everything = pooled.values(dict(method="everything"), "jaccard")
    assert torch.equal(
        everything, pooled.values(dict(method="everything"), "precision")
    )  # who marks all is right where the thing is


def test_figures_are_of_the_first_seed(smoke):
    names = [{path.name for path in folder.glob("figures/*")} for folder in smoke.folders]
    assert names == [{"12_cosegmentation-emoji_scenes.png", "12_cosegmentation-pixels.png"}, set()]


def scene(folder, name, label, box, color):
    "A square of one color on a page of another, and its mask."
    image, mask = Image.new("RGB", (20, 20), "white"), Image.new("L", (20, 20))
    image.paste(color, box)
    mask.paste(255, box)
    image.save(folder / f"{name}.png")
    mask.save(folder / f"{name}-mask.png")
    return Sample(folder / f"{name}.png", label, dict(mask=folder / f"{name}-mask.png"))


def test_the_other_thing_lies_behind(tmp_path):
    a = scene(tmp_path, "a", 0, (2, 2, 10, 10), "red")
    b = scene(tmp_path, "b", 1, (6, 6, 18, 18), "blue")
    both = with_distractor(a, b)
    assert [both.getpixel(place) for place in ((8, 8), (12, 12), (0, 19))] == [
        (255, 0, 0),
        (0, 0, 255),
        (255, 255, 255),
    ]
    with pytest.raises(ValueError, match="show the same thing, 0"):
        with_distractor(a, a)
    with pytest.raises(ValueError, match="expected a scene, which knows its mask"):
        with_distractor(a, Sample(b.path, 1, {}))


def test_two_scales_are_those_of_the_network():
    backbone = get_backbone()
    image = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        fine, coarse = split_scales(multiscale_backbone(backbone)(image))
        x = backbone.network.blocks[:3](backbone.network.bn1(backbone.network.conv_stem(image)))
        assert torch.equal(fine, x)
        assert torch.equal(coarse, backbone.network.blocks[3:5](x))
        assert fine.shape[1] == FINE_CHANNELS
    with pytest.raises(ValueError, match="got 'own network'"):
        backbone.name = "own network"
        multiscale_backbone(backbone)


def test_a_flow_is_the_match_before_the_sum():
    features = grid_features(torch.rand(5, 8, 3, 3) + 0.1, grid=3)
    label_n = torch.tensor([0, 0, 0, 1, 1])
    pair_2p = pairs_within(label_n, partners=1)
    found = match(features[pair_2p[0]], features[pair_2p[1]], marginals="uniform")
    flow = mean_contribution(features, pair_2p)
    assert torch.allclose(flow.mean((1, 2))[pair_2p[0]], found.similarity_b, atol=1e-5)
    assert torch.allclose(flow, mean_contribution(features, pair_2p, block=2), atol=1e-5)
    assert torch.allclose(
        mean_contribution(features, torch.cat([pair_2p, pair_2p], 1)), flow, atol=1e-5
    )


def test_pairs_stay_within_or_go_across():
    label_n = torch.tensor([3, 1, 3, 1, 3, 2, 2])
    within, across = pairs_within(label_n), pairs_across(label_n, partners=3)
    assert (label_n[within[0]] == label_n[within[1]]).all()
    assert (within[0] != within[1]).all()
    assert within.unique(dim=1).shape == within.shape == (2, 6 + 2 + 2)
    assert (label_n[across[0]] != label_n[across[1]]).all()
    assert across.unique(dim=1).shape == across.shape == (2, 21)
    assert torch.equal(across, pairs_across(label_n, partners=3))
    assert not torch.equal(across, pairs_across(label_n, partners=3, seed=1))


def test_jaccard_and_dice_are_one_number_in_two_units():
    logit, mask = torch.randn(1, 6, 6, requires_grad=True), torch.rand(1, 6, 6) < 0.4
    J, D = 1 - LOSSES["Jaccard"](logit, mask), 1 - LOSSES["Dice"](logit, mask)
    assert torch.allclose(D, 2 * J / (1 + J))
    hard = 60 * (2.0 * mask - 1)
    for loss in LOSSES.values():
        assert loss(hard, mask) < 1e-6
        assert torch.autograd.grad(loss(logit, mask), logit)[0].isfinite().all()
    assert (
        abs(
            1
            - LOSSES["Jaccard"](hard.flip(2), mask)
            - mask_metrics(hard.flip(2), mask)["jaccard"].mean()
        )
        < 1e-6
    )


def triplets(e, mask, label, margin=0.5):
    "The loss by loops over images, with all pixels."
    means = []
    for inside in (True, False):
        found = []
        for i in range(len(e)):
            others = [j for j in range(len(e)) if label[j] == label[i] and (j == i) == inside]
            for n in mask[i].nonzero():
                a = e[i, :, n[0], n[1]]
                cosine = [torch.einsum("chw,c->hw", e[j], a) for j in others]
                negative = [c[~mask[j]] for c, j in zip(cosine, others)]
                if not sum(map(len, negative)):
                    continue
                for c, j in zip(cosine, others):
                    keep = mask[j].clone()
                    if j == i:
                        keep[n[0], n[1]] = False
                    found += (margin + torch.cat(negative).max() - c[keep]).relu().tolist()
        if found:
            means.append(sum(found) / len(found))
    return sum(means) / len(means)


def test_a_sample_of_all_pixels_is_the_loop():
    for seed in range(5):
        torch.manual_seed(seed)
        e = F.normalize(torch.randn(6, 5, 4, 4).double(), dim=1)
        mask = torch.rand(6, 4, 4) < 0.2
        label = torch.tensor([0, 1, 0, 1, 0, 2])
        mask[1] = True  # an image of nothing but the thing
        assert abs(is_triplet_loss(e, mask, label, pixels=16) - triplets(e, mask, label)) < 1e-9


def test_other_groups_and_grounds_of_others_do_not_count():
    torch.manual_seed(0)
    e = F.normalize(torch.randn(4, 5, 3, 3), dim=1)
    mask = torch.rand(4, 3, 3) < 0.4
    label = torch.tensor([0, 0, 1, 1])
    apart = [
        is_triplet_loss(e[some], mask[some], label[some], pixels=9)
        for some in (slice(0, 2), slice(2, 4))
    ]
    assert min(apart) - 1e-6 <= is_triplet_loss(e, mask, label, pixels=9) <= max(apart) + 1e-6
    assert is_triplet_loss(e, ~mask, label, pixels=9) != is_triplet_loss(e, mask, label, pixels=9)


def data():
    torch.manual_seed(0)
    mask = torch.rand(12, 4, 4) < 0.4
    fine = torch.randn(12, FINE_CHANNELS, 4, 4) + 2 * mask[:, None]
    return (
        torch.cat([F.pixel_unshuffle(fine, 2), torch.randn(12, 3, 2, 2)], 1),
        mask,
        torch.arange(12) // 4,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_training_learns_what_can_be_learned_and_repeats(loss):
    maps, mask, label = data()
    options = dict(loss=loss, triplet_weight=0.1, lr=3e-2, groups=3, per_group=4)
    seen = []
    one, same = (
        train_decoder(
            maps,
            mask,
            label,
            **options,
            epochs=30,
            on_epoch_end=lambda _, epoch: seen.append(epoch),
        )
        for _ in range(2)
    )
    assert seen == 2 * list(range(1, 31))
    assert torch.allclose(
        decode_batched(one, maps).logit_bhw,
        decode_batched(same, maps, block=5).logit_bhw,
        atol=1e-3,
    )
    assert mask_metrics(decode_batched(one, maps).logit_bhw, mask)["jaccard"].mean() > 0.9
    assert not torch.equal(
        train_decoder(maps, mask, label, **options, epochs=1, seed=1).embedding.weight,
        train_decoder(maps, mask, label, **options, epochs=1).embedding.weight,
    )


def test_what_cannot_be_used_is_refused():
    maps, mask, label = data()
    for wrong, message in (
        (dict(loss="IoU"), "expected one of cross entropy, Dice, Jaccard, got 'IoU'"),
        (dict(mask_nhw=mask[:, :2]), "expected the fine grid of 12 maps"),
    ):
        with pytest.raises(ValueError, match=message):
            train_decoder(**dict(map_nchw=maps, mask_nhw=mask, label_n=label) | wrong)
    with pytest.raises(ValueError, match="expected 163 channels, got 164"):
        PixelDecoder(163)(append_channel(maps, torch.rand(12, 7, 7)))
    with pytest.raises(ValueError, match="1 masks are empty"):
        mask_metrics(
            torch.rand(2, 3, 3),
            torch.eye(9).view(9, 3, 3)[[0, 0]].bool() & torch.tensor([True, False])[:, None, None],
        )
    with pytest.raises(ValueError, match="NaN or infinite"):
        pca_colors(torch.full((1, 4, 3, 3), torch.nan))
    with pytest.raises(ValueError, match="expected truth values"):
        is_triplet_loss(torch.rand(2, 4, 3, 3), torch.rand(2, 3, 3), label[:2])
    with pytest.raises(ValueError, match="an anchor and a positive, got 1"):
        is_triplet_loss(torch.rand(2, 4, 3, 3), torch.rand(2, 3, 3) < 0.5, label[:2], pixels=1)
    with pytest.raises(ValueError, match="more than the 160 of the fine map, got 9"):
        PixelDecoder(9)
    with pytest.raises(ValueError, match="group 0 has one picture"):
        pairs_within(torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="at least two groups, got 1"):
        pairs_across(torch.zeros(3))

"""14_labels: two seeds of a smoke run, what must hold whatever the networks learn, and files that
are not what they say."""

import io
import json
import tarfile

import pytest
import torch

from diml_nb._internal.download import fetch_file, verify_checksum
from diml_nb._internal.paths import data_dir
from diml_nb.datasets.registry import get_dataset
from diml_nb.experiments.pooling import PooledRecords
from diml_nb.records.record import decode_fixed_point
from diml_nb.related.label_autoencoder import (
    KEYWORDS,
    LabelAutoencoder,
    fit_autoencoder,
    fit_code_regressor,
    keyword_matrix,
    label_hierarchy,
    label_metrics,
    label_similarity,
    one_vs_rest,
    propensity,
    read_keywords,
)

CODED = ("free weights", "non-negative", "NMF")
EMBEDDED = data_dir() / "keywords" / "emoji.json"


@pytest.fixture(scope="module")
def archive(fetch_packages):
    "The package, fetched with npm."
    return fetch_packages((KEYWORDS,), "npm") / KEYWORDS.name


@pytest.fixture(scope="module")
def smoke(two_seeds, archive):
    return two_seeds("14_labels")


def test_every_row_is_there(smoke):
    assert len(smoke.rows) == 1 + 4 + 6 + 2 + 2 + 1 + 1 + 1
    for result in smoke.rows.values():
        for text in result.get("by_class", {}).values():
            assert ((x := decode_fixed_point(text)) >= 0).all()
            assert (x <= 1).all()


def test_laws_of_the_rows(smoke):
    pooled = PooledRecords(smoke.records)
    rows = [dict(method=name) for name in ("how common", "one against all")] + [
        dict(method=name, code=4) for name in CODED
    ]
    for metric in ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@3", "PSP@5"):
        for row in rows:
            assert (
                pooled.values(row, metric)
                <= pooled.values(dict(method="all that is known"), metric)
            ).all()  # nobody says what has no example
    assert (pooled.values(dict(read="non-negative"), "cancelled") == 0).all()
    assert (pooled.values(dict(read="free weights"), "cancelled") > 0).any()
    told = next(row["result"] for row in smoke.records[0].rows if "pairs" in row["config"])
    assert set(told) == {*CODED, "the labels themselves"}
    assert all(0 <= x <= 1 for x in told.values())


def test_figures_are_of_the_first_seed(smoke):
    names = [{path.name for path in folder.glob("figures/*")} for folder in smoke.folders]
    assert names == [
        {"14_labels-emoji.png", "14_labels-emoji-hierarchy.png"},
        {"14_labels-emoji.png"},
    ]


def test_the_package_has_keywords_for_every_emoji_of_ours(archive):
    keywords = read_keywords(archive)
    assert len(keywords) == 1914
    assert all(keywords[emoji] == some for emoji, some in read_keywords(EMBEDDED).items())
    label_nl, names = keyword_matrix(get_dataset("emoji"), keywords)
    assert label_nl.shape == (100, 1513)
    assert names == sorted(names)
    assert label_nl.any(1).all()


def test_a_damaged_archive_is_refused(archive, tmp_path):
    (tmp_path / KEYWORDS.name).write_bytes(archive.read_bytes()[:-100] + bytes(100))
    with pytest.raises(ValueError, match="delete it and call this again"):
        fetch_file(KEYWORDS, tmp_path)
    assert verify_checksum(archive, KEYWORDS.checksum) == archive


def packed(path, text, member="package/dist/emoji-en-US.json"):
    "A package like emojilib's with this text."
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(text.encode())
        tar.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"x": ["name"', "no JSON"),
        ('["x"]', "expected a list of words"),
        ("{}", "expected a list of words"),
        ('{"x": "name"}', "expected a list of words"),
        ('{"x": []}', "expected a list of words"),
        ('{"x": ["name", 3]}', "expected a list of words"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_keywords(packed(tmp_path / "x.tgz", text))


def test_a_package_that_was_cut_or_lacks_the_list_is_refused(tmp_path):
    whole = packed(tmp_path / "x.tgz", json.dumps({"☀️": ["sun", "warm", "warm", "sun"]}))
    assert read_keywords(whole) == {
        "☀": ("warm", "sun")
    }  # no variation selector, no name in front, no keyword twice
    whole.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(ValueError, match="damaged"):
        read_keywords(whole)
    with pytest.raises(ValueError, match="has no file package/dist"):
        read_keywords(packed(tmp_path / "y.tgz", "{}", "package/other.json"))


def labels(n=40, l=20):
    return (torch.rand(n, l, generator=torch.Generator().manual_seed(0)) < 0.2).float()


def test_the_constraint_holds_after_every_step():
    seen = []
    fit_autoencoder(
        labels(),
        code=6,
        hidden=12,
        epochs=5,
        batch_size=8,
        on_step_end=lambda x: seen.append(
            min(x.to_hidden.weight.min().item(), x.to_labels.weight.min().item())
        ),
    )
    assert len(seen) == 25
    assert min(seen) == 0
    free = fit_autoencoder(labels(), code=6, hidden=12, epochs=5, batch_size=8, nonnegative=False)
    assert free.to_labels.weight.min() < 0


def test_more_of_a_unit_never_makes_a_label_less_likely():
    network = fit_autoencoder(labels(), code=6, hidden=12, epochs=20, batch_size=8)
    code_nu = torch.rand(9, 6)
    for u in range(6):
        assert (network.decode(code_nu + torch.eye(6)[u]) >= network.decode(code_nu)).all()
    assert torch.allclose(
        network.decode(code_nu), network.to_labels.bias + code_nu @ network.weight_lu.T, atol=1e-5
    )
    tree = label_hierarchy(
        network,
        network.encode(labels()),
        [str(l) for l in range(20)],
        units=99,
        hidden=99,
        labels=99,
    )
    for parts in (
        tree,
        *(unit.children for unit in tree),
        *(twig.children for unit in tree for twig in unit.children),
    ):
        assert abs(sum(x.share for x in parts) - 1) < 1e-4
        assert all(0 < x.share <= 1.0001 for x in parts)
    assert label_similarity(network.weight_lu).min() >= 0


def test_the_same_seed_gives_the_same_network():
    one, same, other = (
        fit_autoencoder(labels(), code=4, hidden=8, epochs=3, batch_size=16, seed=seed).weight_lu
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_labels_without_an_example_are_never_said():
    label_nl, feature_nc = labels(), torch.randn(40, 7)
    label_nl[:, 3], label_nl[:, 5] = 0, 1
    score_nl = one_vs_rest(feature_nc, label_nl)(feature_nc)
    assert (score_nl[:, 3] == -torch.inf).all()
    assert (score_nl[:, 5] == torch.inf).all()
    assert score_nl[:, [l for l in range(20) if l not in (3, 5)]].isfinite().all()
    assert fit_code_regressor(feature_nc, torch.rand(40, 2))(100 * torch.randn(50, 7)).min() == 0


def test_propensities_lie_between_0_and_1_and_rise_with_the_examples():
    p_l = propensity(torch.tensor([0, 1, 10, 100]), 1000)
    assert (p_l.diff() > 0).all()
    assert 0 < p_l[0]
    assert p_l[-1] < 1
    assert (
        abs(p_l[1].item() - 1 / (1 + (6.907755 - 1) * 2.5**0.55 * 2.5**-0.55)) < 1e-6
    )  # by hand: N_l + B = B + 1
    with pytest.raises(ValueError, match="at least 3 examples, got 2"):
        propensity(torch.ones(2), 2)


def test_what_cannot_be_measured_or_built_is_refused():
    y_nl, p_l = torch.eye(4), torch.full((4,), 0.5)
    assert all(x.tolist() == [1, 1, 1, 1] for x in label_metrics(y_nl, y_nl, p_l, ks=(1,)).values())
    for wrong, message in (
        (dict(score_nl=y_nl[:3]), r"expected shape \(4, 4\)"),
        (dict(score_nl=y_nl * torch.nan), "16 values are NaN"),
        (dict(ks=(5,)), "at most the 4 labels, got 5"),
        (dict(label_nl=y_nl * 0), "4 rows have no label"),
    ):
        with pytest.raises(ValueError, match=message):
            label_metrics(**dict(score_nl=y_nl, label_nl=y_nl, propensity_l=p_l, ks=(1,)) | wrong)
    with pytest.raises(ValueError, match="at least 1 of each, got 4, 0, 128"):
        LabelAutoencoder(4, code=0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_autoencoder(y_nl * torch.nan)
    with pytest.raises(ValueError, match="expected zeros and ones, got 2"):
        fit_autoencoder(y_nl * 2)
    with pytest.raises(ValueError, match="only a non-negative decoder"):
        _ = LabelAutoencoder(4, nonnegative=False).weight_lu

"11_grouping: two seeds of a smoke run, and what must hold whatever the groups learn."

import shutil
from dataclasses import replace

import pytest
import torch

from diml_nb.experiments.pooling import PooledRecords
from diml_nb.experiments.runner import find_records, run_experiment
from diml_nb.records.record import decode_fixed_point, save_record
from diml_nb.related.dgml import AttentiveGrouping, GroupEmbeddings, cell_matching, group_matching

GROUPINGS = ("one group", "groups", "groups that differ")
NETWORKS = ("mean, DIML at test time", "DIML", *GROUPINGS)


@pytest.fixture(scope="module")
def smoke(two_seeds):
    return two_seeds("11_grouping")


def test_every_row_is_there(smoke):
    assert len(smoke.rows) == 1 + 5 + 6 + 1 + 2 + 1 + 2 * len(NETWORKS) + 1 + 2 * len(NETWORKS)
    for result in smoke.rows.values():
        for text in result.get("by_class", {}).values():
            assert decode_fixed_point(text).isfinite().all()


def test_laws_of_flows_and_groups(smoke):
    pooled = PooledRecords(smoke.records)
    for network in NETWORKS:
        for flow in ("plan", "contributions"):
            for metric in ("right_mass", "right_partner", "on_object"):
                value_sc = pooled.values(dict(network=network, flow=flow), metric)
                assert ((value_sc >= 0) & (value_sc <= 1)).all()
    for name in GROUPINGS[1:]:
        assert all(
            ((x := pooled.values(dict(distinct=name), metric)) >= -1).all() and (x <= 1).all()
            for metric in ("overlap", "cosine", "spread")
        )

    def cosine(name):
        return pooled.values(dict(distinct=name), "cosine").mean()

    assert cosine("groups that differ") < cosine("groups")  # that is what they are paid for
    one = pooled.values(dict(method="one group"), "mean_average_precision_at_r")
    assert not torch.equal(
        one, pooled.values(dict(method="mean of the cells"), "mean_average_precision_at_r")
    )


def test_a_network_is_read_again_and_not_trained_again(smoke, tmp_path, shared_kernel):
    folder, record = shutil.copytree(smoke.folders[0], tmp_path / "again"), smoke.records[0]
    files = sorted(
        (folder / "results" / "runs" / "11_grouping" / record.hash).glob("*.safetensors")
    )
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    save_record(
        replace(record, rows=[]),
        folder / "results" / "runs" / "11_grouping" / f"{record.hash}.json",
    )
    run_experiment("11_grouping", "smoke", out=folder, quiet=True, threads=1)
    assert len(files) == 3
    assert before == [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    assert {
        str(row["config"]): row["result"]
        for row in find_records("11_grouping", "smoke", results=folder / "results")[0].rows
    } == smoke.rows


def test_figures_are_of_the_first_seed(smoke):
    names = [{p.name for p in folder.glob("figures/*")} for folder in smoke.folders]
    assert names == [
        {f"11_grouping-{name}.png" for name in ("emoji_scenes", "attention", "flows")},
        {"11_grouping-emoji_scenes.png"},
    ]


def test_attention_that_is_too_small_for_a_float_stays_a_number():
    attention_bkn = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    value_bcn = torch.randn(1, 3, 2)
    sum_bkc = attention_bkn @ value_bcn.transpose(1, 2)
    groups = GroupEmbeddings(
        torch.nn.functional.normalize(sum_bkc, dim=2), sum_bkc.norm(dim=2), attention_bkn, value_bcn
    )
    found = cell_matching(groups, groups)
    assert found.contribution_bnm.isfinite().all()
    assert abs(found.similarity_b.item() - 1) < 1e-6
    assert found.plan_bnm[0, 1].sum() == 0


def test_images_that_cannot_be_paired_are_refused():
    def make(b, k):
        return GroupEmbeddings(
            torch.rand(b, k, 4),
            torch.rand(b, k),
            torch.rand(b, k, 9).softmax(2),
            torch.rand(b, 4, 9),
        )

    with pytest.raises(ValueError, match="expected 3 images as in a, or one, got 2"):
        cell_matching(make(3, 2), make(2, 2))
    with pytest.raises(ValueError, match=r"expected groups \(2, 4\) as in a, got \(3, 4\)"):
        cell_matching(make(1, 2), make(1, 3))
    assert (
        len(cell_matching(make(1, 2), make(5, 2)).similarity_b)
        == len(cell_matching(make(5, 2), make(1, 2)).similarity_b)
        == 5
    )


def test_both_sums_are_the_cosine_of_the_embeddings():
    grouping = AttentiveGrouping(16, embedding_dim=12, groups=3)
    with torch.no_grad():
        a, b = (grouping(torch.rand(n, 16, 4, 4)) for n in (1, 5))
    cosine_b = (a.embedding_bc @ b.embedding_bc.T)[0]
    for found in (group_matching(a, b), cell_matching(a, b)):
        assert torch.allclose(found.similarity_b, cosine_b, atol=1e-5)
        assert torch.allclose(found.contribution_bnm.sum((1, 2)), cosine_b, atol=1e-5)
        assert torch.allclose(found.plan_bnm.sum((1, 2)), torch.ones(5))
        assert (found.global_cosine_b == 0).all()

"09_cost at tiny sizes: what is a law of retrieval holds in every row."

import pytest
import torch

from diml_nb.datasets.registry import get_dataset
from diml_nb.experiments.grid import expand_grid
from diml_nb.experiments.pooling import PooledRecords
from diml_nb.experiments.report import pooled_table
from diml_nb.experiments.runner import find_record
from diml_nb.learning.evaluation import evaluate_retrieval
from diml_nb.learning.network import EmbeddingInputs, concatenate_features, extract_features
from diml_nb.learning.trainer import load_trained
from diml_nb.records.record import decode_fixed_point
from diml_nb.retrieval.metrics import METRIC_NAMES, mean_by_class

MAP = "mean_average_precision_at_r"


@pytest.fixture(scope="module")
def smoke(smoke_of):
    "The output folder of a run."
    return smoke_of("09_cost")[0]


def rows(out, kind):
    "Settings and results of one kind of row."
    record = find_record("09_cost", "smoke", results=out / "results")
    return [
        ({k: x for k, x in r["config"].items() if k != kind}, r["result"])
        for r in record.rows
        if kind in r["config"]
    ]


@pytest.fixture
def result_of(smoke):
    "The result of the usual setting with other values, for one kind of row."
    usual = next(r for r in [find_record("09_cost", "smoke", results=smoke / "results")]).config[
        "usual"
    ]

    def get(kind, **other):
        (found,) = [result for config, result in rows(smoke, kind) if config == usual | other]
        return found

    return get


@pytest.fixture
def embedded(smoke):
    "The test images by the head that the run trained."
    (folder,) = (smoke / "results" / "runs" / "09_cost").glob("*/16/0.001")
    network, backbone, *_ = load_trained(folder)
    test = get_dataset("emoji").subset("test")
    test = test.select(torch.isin(test.label_n, test.label_n.unique()[:8]))
    return lambda grid: (
        concatenate_features(
            extract_features(
                network, EmbeddingInputs(test, backbone, True), torch.arange(len(test)), grid=grid
            )
        ),
        test.label_n,
    )


def test_every_setting_is_measured_in_three_ways(smoke):
    "One thing is changed at a time, none twice, and beside each setting stands its cosine."
    record = find_record("09_cost", "smoke", results=smoke / "results")
    usual = record.config["usual"]
    places = [config for config, _ in rows(smoke, "accuracy")]
    assert places == [c for c, _ in rows(smoke, "time")] == [c for c, _ in rows(smoke, "memory")]
    assert all(places.count(p) == 1 and p | dict(K=0, grid=usual["grid"]) in places for p in places)
    assert all(sum(p[k] != usual[k] for k in usual if k != "K" or p["K"]) <= 1 for p in places)
    for axis, values in record.config["axes"].items():
        assert all(usual | {axis: value} in places for value in values)
    assert (smoke / "figures" / "09_cost-emoji.png").stat().st_size > 10_000


def test_rows_are_what_evaluate_finds(result_of, embedded):
    "No shortlist is the cosine, a shortlist is `evaluate` with it."
    x, label_n = embedded(4)
    for K in (0, 2, 10, 20):
        found = evaluate_retrieval(x, label_n, structural=K > 0, top_k=max(K, 1))
        assert result_of("accuracy", K=K)["by_class"] == mean_by_class(found.per_query, label_n)
    assert result_of("accuracy", K=20)["by_class"] != result_of("accuracy", K=0)["by_class"]


def test_one_cell_is_the_whole(result_of):
    """The plan of two single cells has no choice, and their cosine is that of the images: no place
    changes."""
    assert (
        result_of("accuracy", grid=1)["by_class"]
        == result_of("accuracy", K=0)["by_class"]
        != result_of("accuracy", grid=4)["by_class"]
    )


def test_no_class_is_harder_among_fewer(result_of):
    """Classes stay whole, so a smaller gallery only lacks wrong images; and every class is asked in
    it."""
    few, all_ = (
        decode_fixed_point(result_of("accuracy", K=0, parts=parts)["by_class"][MAP])
        for parts in (2, 1)
    )
    assert len(few) == len(all_) == 8
    assert (few >= all_).all()
    assert (few > all_).any()
    few, all_ = (result_of("memory", parts=parts)["images"] for parts in (2, 1))
    assert few < all_
    assert abs(2 * few - all_) <= 8


def test_bytes_are_those_of_the_features(result_of, embedded):
    for grid in (1, 2, 4):
        x, label_n = embedded(grid)
        found = result_of("memory", grid=grid)
        size = sum(t.nbytes for t in (x.local_bcn, x.norm_bn, x.global_bc))
        assert found["images"] == len(x) == len(label_n)
        assert found["gallery_bytes"] == size == len(x) * found["image_bytes"]
    assert result_of("memory", K=0)["gallery_bytes"] == x.global_bc.nbytes


def test_times_are_of_what_they_say(smoke):
    "In order, and nothing is re-ranked where there is no shortlist."
    for config, result in rows(smoke, "time"):
        for name in ("usual_ms", "search_ms", "rerank_ms", "times"):
            assert 0 <= result[name]["low"] <= result[name]["median"] <= result[name]["high"]
        assert result["usual_ms"]["low"] > 0
        assert result["search_ms"]["low"] > 0
        assert (
            result["rerank_ms"]["median"] > 1e-4
            if config["K"]
            else result["rerank_ms"]["high"] < 1e-3
        )


def test_pooled_reads_it(smoke):
    "Also the smaller galleries: all classes have a value in each."
    pooled = PooledRecords([find_record("09_cost", "smoke", results=smoke / "results")])
    measured = [config for config in pooled.rows if "accuracy" in config]
    assert len(measured) == len(rows(smoke, "accuracy"))
    assert (
        len(pooled.rows) == len(pooled_table(pooled)) == len(measured) + 1
    )  # and the untrained network
    for config in measured:
        base = config | dict(accuracy="cosine", K=0, grid=4)
        for name in METRIC_NAMES:
            mean, low, high = pooled.interval(config, name, minus=base)
            assert low <= mean <= high
            assert config != base or mean == low == high == 0


def test_the_sweep_runs_it_once_for_each_large_set():
    assert expand_grid("full", ["09_cost"]) == [
        ("09_cost", dict(dataset=name)) for name in ("emoji_vendors", "stamp_scenes", "grocery")
    ]

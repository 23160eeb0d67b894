"""16_compression: two seeds of a smoke run, and what must hold whatever the networks learn."""

import pytest

from diml_nb.experiments.pooling import PooledRecords

MAP = "mean_average_precision_at_r"
SMALL = dict(network="trained", method="DIML, chosen format")


@pytest.fixture(scope="module")
def smoke(two_seeds):
    return two_seeds("16_compression")


def config(network, channels, bits, query_cells=16):
    facts = dict(channels=channels, bits=bits, query_cells=query_cells)
    return dict(network=network, method="DIML") | facts


def test_bytes_are_those_of_the_format(smoke):
    "4 x 4 cells, their lengths, and the global vector."
    for record in smoke.records:
        for row in record.rows:
            channels, bits = (row["config"].get(name) for name in ("channels", "bits"))
            if bits == 32:
                assert row["result"]["bytes"] == 4 * (16 * channels + 16 + channels)
            elif bits:
                assert row["result"]["bytes"] == 16 * channels * bits // 8 + 2 * 16 + channels


def test_the_chosen_format_is_the_best_on_the_held_out_classes_and_small_enough(smoke):
    for record in smoke.records:
        tried = record.find(dict(choice="format"))["result"]
        row = record.find(SMALL)["result"]
        channels, bits = row["chosen"]
        assert tried[f"{channels} {bits}"] == max(tried.values())
        assert row["bytes"] <= record.config["limit"]
        same = record.find(config("trained", channels, bits))["result"]
        assert row["by_class"] == same["by_class"]
        # a file has a header, which many images share
        stored = record.find(dict(store="chosen format"))["result"]["bytes"]
        assert row["bytes"] < stored < row["bytes"] + 10


def test_eight_bits_are_nearly_float32_and_finer_queries_are_others(smoke):
    pooled = PooledRecords(smoke.records)
    for network in ("trained", "untrained"):
        for channels in (4, 8):
            coded, exact = (config(network, channels, bits) for bits in (8, 32))
            if exact in pooled.rows:
                assert (pooled.difference(coded, MAP, exact).abs() < 0.2).all()
    fine, coarse = (config("trained", 8, 32, cells) for cells in (49, 16))
    assert (pooled.difference(fine, MAP, coarse) != 0).any()


def test_figures_are_those_of_the_run(smoke):
    for folder in smoke.folders:
        assert {path.name for path in folder.glob("figures/*")} == {"16_compression-emoji.png"}

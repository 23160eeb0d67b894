"08_trained_explanations: two seeds of a smoke run, and what must hold whatever the networks learn."

from dataclasses import replace
from functools import partial

import pytest
import torch

from diml_nb.experiments.grid import GRIDS
from diml_nb.experiments.pooling import PooledRecords
from diml_nb.experiments.runner import find_records
from diml_nb.records.record import decode_fixed_point

NETWORKS = ("untrained", "random head", "baseline", "DIML")
ORDERS = ("DIML, paper's weights", "pooled cosine", "cell length")


@pytest.fixture(scope="module")
def smoke(two_seeds):
    "The folders of seed 0 and seed 1, and their two records."
    return two_seeds("08_trained_explanations")


def of(records, measure):
    "The rows of one kind, pooled over seeds, as the end of the notebook does it."
    return PooledRecords(
        [
            replace(r, rows=[row for row in r.rows if row["config"]["measure"] == measure])
            for r in records
        ]
    )


def test_every_row_is_there_and_every_class_has_its_pairs(smoke):
    flows, hiding = (of(smoke.records, measure) for measure in ("flows", "hiding"))
    assert len(flows.rows) == 4 * 9
    assert len(hiding.rows) == 4 * 3
    assert flows.size_c(flows.rows[0]).tolist() == [1] * 8
    assert hiding.size_c(hiding.rows[0]).tolist() == [1] * 3
    assert all(
        row["result"]["left_out"] == 0
        for r in smoke.records
        for row in r.rows
        if row["config"] == dict(measure="hiding")
    )
    assert [r.config["seed"] for r in smoke.records] == [0, 1]
    assert len({r.hash for r in smoke.records}) == 2


def test_the_seed_changes_the_networks_and_nothing_else(smoke):
    """Pairs, cells to hide and the untrained network are the same; a mixed-up axis of networks or
    orders would let a trained one into them."""
    for network, same in [(network, network == "untrained") for network in NETWORKS]:
        rows = [
            [
                (row["config"], row["result"])
                for row in r.rows
                if row["config"].get("network") == network
            ]
            for r in smoke.records
        ]
        for (config, one), (_, two) in zip(*rows):
            kept = "by_class" if config["measure"] != "network" else "cosine"
            if same:
                assert one[kept] == two[kept], config
        assert same or rows[0] != rows[1]


@pytest.mark.parametrize("network", NETWORKS)
def test_laws_of_flows(smoke, network):
    flows = of(smoke.records, "flows")

    def value(flow, metric):
        return flows.values(dict(measure="flows", network=network, flow=flow), metric)

    assert torch.equal(
        value("nearest cell", "right_mass"), value("nearest cell", "right_partner")
    )  # all mass goes to one partner
    assert (
        value("DIML, paper's weights, eps .01", "right_mass")
        - value("cheapest plan, paper's weights", "right_mass")
    ).abs().mean() < (
        value("DIML, paper's weights", "right_mass")
        - value("cheapest plan, paper's weights", "right_mass")
    ).abs().mean()  # less entropy is nearer to none
    for flow in {row["flow"] for row in flows.rows}:
        for metric in ("right_mass", "right_partner", "on_object"):
            assert ((value(flow, metric) >= 0) & (value(flow, metric) <= 1)).all()


@pytest.mark.parametrize("network", NETWORKS)
def test_laws_of_hiding(smoke, network):
    "A gap is what it is called, and what is left of a hidden image knows no order."
    hiding = of(smoke.records, "hiding")

    def value(order, metric):
        return hiding.values(dict(measure="hiding", network=network, order=order), metric)

    for order in ORDERS:
        assert (
            value(order, "insertion") - value(order, "deletion") - value(order, "gap")
        ).abs().max() < 2e-4
        assert torch.equal(value(order, "all_hidden"), value(ORDERS[0], "all_hidden"))
        assert (value(order, "all_hidden") != 1).all()
    assert not torch.equal(value(ORDERS[0], "gap"), value(ORDERS[2], "gap"))


def test_networks_are_compared_class_by_class(smoke):
    """A difference to itself is zero without an interval; the difference of the means is the mean
    of the differences."""
    for measure, kind, name, metric in (
        ("flows", "flow", "DIML, paper's weights", "right_partner"),
        ("hiding", "order", "cell length", "gap"),
    ):
        pooled = of(smoke.records, measure)
        row = partial(dict, {"measure": measure, kind: name})
        assert pooled.interval(row(network="DIML"), metric, row(network="DIML")) == [0, 0, 0]
        mean, low, high = pooled.interval(row(network="DIML"), metric, row(network="untrained"))
        assert low <= mean <= high
        assert (
            abs(
                mean
                - pooled.interval(row(network="DIML"), metric)[0]
                + pooled.interval(row(network="untrained"), metric)[0]
            )
            < 1e-9
        )


def test_both_heads_have_learnt(smoke):
    """Both start from the same weights and take different steps; a head whose best epoch is its
    first is the random head, any other is not."""
    for folder, r in zip(smoke.folders, smoke.records):
        chosen = {
            row["config"]["network"]: row["result"]["chosen"]
            for row in r.rows
            if row["config"]["measure"] == "network"
        }
        by_class = {
            n: [
                row["result"]["by_class"]
                for row in r.rows
                if row["config"].get("network") == n and "by_class" in row["result"]
            ]
            for n in NETWORKS
        }
        assert chosen["untrained"] == chosen["random head"] == {}
        assert by_class["untrained"] != by_class["random head"]
        for n in NETWORKS[2:]:
            assert (by_class[n] == by_class["random head"]) == (chosen[n]["step"] == 0)
        logs = [
            (
                folder
                / "results"
                / "runs"
                / "08_trained_explanations"
                / r.hash
                / n
                / "0.001"
                / "log.jsonl"
            ).read_text()
            for n in NETWORKS[2:]
        ]
        assert all('"step": 1' in log for log in logs)
        assert logs[0] != logs[1]


def test_pictures_of_a_pair_are_of_the_first_seed(smoke):
    names = [{p.name for p in folder.glob("figures/*")} for folder in smoke.folders]
    flows = {"08_trained_explanations-flows-emoji_scenes-smoke.png"}
    pairs = {f"08_trained_explanations-pair-{name}.png" for name in ("untrained", "DIML")}
    assert names == [flows | pairs, flows]


def test_the_grid_asks_scenes_and_photographs():
    "Photographs of groceries have no known correspondences: their score is asked, not their flows."
    assert set(GRIDS["full"]["08_trained_explanations"]["dataset"]) == {
        "emoji_scenes",
        "stamp_scenes",
        "grocery",
    }
    for record in find_records("08_trained_explanations", "full", dataset="grocery"):
        assert {row["config"]["measure"] for row in record.rows} == {"network", "hiding"}


def test_packed_numbers_come_back(smoke):
    "No NaN and nothing cut off: what the record holds are numbers of this experiment."
    for r in smoke.records:
        for row in r.rows:
            for text in row["result"].get("by_class", {}).values():
                assert decode_fixed_point(text).isfinite().all()
                assert decode_fixed_point(text).abs().max() < 3.2

"""15_journeys: two seeds of a smoke run, and the laws of gates, games and chains, whatever the
networks learn."""

import itertools
import math

import pytest
import torch

from diml_nb.experiments.pooling import PooledRecords
from diml_nb.records.record import decode_fixed_point
from diml_nb.related.attribution import (
    ConversionModel,
    Journeys,
    MarkovAttribution,
    attribute,
    shapley_values,
    simulate,
    time_decay_shares,
)
from diml_nb.related.journey_network import (
    JourneyLSTM,
    calibration,
    fit_logistic,
    fit_network,
    log_loss,
    phased_gate,
)

NETWORKS = ("LSTM", "LSTM, time as input", "phased LSTM", "phased LSTM, time as input")
MODELS = ("base rate", "Markov", "counts", "decayed counts", *NETWORKS, "the world itself")
RULES = ("Markov", "time decay", "linear", "last touch")


@pytest.fixture(scope="module")
def smoke(two_seeds):
    return two_seeds("15_journeys")


def test_every_row_is_there(smoke):
    assert (
        len(smoke.rows)
        == len(NETWORKS) + 1 + 1 + len(MODELS) + 1 + (len(MODELS) - 3) + len(RULES) + 2 + 3
    )
    for result in smoke.rows.values():
        for text in result.get("by_class", {}).values():
            assert (decode_fixed_point(text) >= 0).all()


def test_laws_of_the_rows(smoke):
    pooled = PooledRecords(smoke.records)
    assert (pooled.values(dict(model="the world itself"), "off") == 0).all()
    assert (pooled.values(dict(model="base rate"), "AUC") == 0.5).all()
    for name in (*[f"Shapley, {name}" for name in MODELS[2:-1]], *RULES):
        for kind in ("share", "top", "to display"):
            assert (pooled.values(dict(credit=name), kind) <= 1).all()
    for record in smoke.records:
        few, many = (row["result"] for row in record.rows if "orders" in row["config"])
        assert many["off"] < few["off"]
        assert many["sets"] > few["sets"]
        for row in record.rows:
            if "bins" in row["result"]:
                assert sum(row["result"]["bins"][2]) == 400


def test_figures_are_of_the_first_seed(smoke):
    names = [{path.name for path in folder.glob("figures/*")} for folder in smoke.folders]
    assert names == [
        {f"15_journeys-{name}.png" for name in ("credit", "calibration", "orders")},
        {"15_journeys-credit.png"},
    ]


def journey(*touch_points):
    "One journey of (channel, days before the end)."
    channel_n, day_n = zip(*touch_points)
    return Journeys(
        torch.tensor([channel_n]), torch.tensor([day_n]).float(), torch.ones(1, len(day_n)).bool()
    )


def test_exact_is_the_mean_over_all_orders_in_any_game():
    for n in (1, 2, 5):
        table = torch.rand(2**n).double()

        def value(mask_sn):
            return table[(mask_sn * 2 ** torch.arange(n)).sum(1)]

        def step(order):
            return torch.tensor(
                [
                    (
                        value(torch.tensor([[j in order[: order.index(i) + 1] for j in range(n)]]))
                        - value(torch.tensor([[j in order[: order.index(i)] for j in range(n)]]))
                    ).item()
                    for i in range(n)
                ]
            ).double()

        slow_n = torch.stack([step(order) for order in itertools.permutations(range(n))]).mean(0)
        found = shapley_values(value, n)
        assert torch.allclose(found.contribution_n, slow_n, atol=1e-12)
        assert (found.error_n == 0).all()
        assert abs(found.contribution_n.sum() - (found.value_full - found.value_empty)) < 1e-12


def test_the_standard_error_of_sampled_orders_is_honest():
    table = torch.rand(2**8).double()

    def value(mask_sn):
        return table[(mask_sn * 2 ** torch.arange(8)).sum(1)]

    exact = shapley_values(value, 8)
    found = [shapley_values(value, 8, n_permutations=60, seed=seed) for seed in range(80)]
    contribution_rn, error_rn = (
        torch.stack([getattr(x, key) for x in found]) for key in ("contribution_n", "error_n")
    )
    assert (
        0.85 < (contribution_rn.std(0) / error_rn.pow(2).mean(0).sqrt()).mean() < 1.15
    )  # what is reported is how they scatter
    assert (contribution_rn.mean(0) - exact.contribution_n).abs().max() < 5 * (
        error_rn.mean() / 80**0.5
    )  # and they scatter around the exact value
    assert torch.allclose(
        contribution_rn.sum(1),
        torch.tensor(exact.value_full - exact.value_empty).double().expand(80),
    )


def test_time_order_and_frequency_matter_in_the_world():
    world = ConversionModel()
    search, mail, video, display = range(4)

    def p(*touch_points):
        return world.logit(journey(*touch_points)).item() - world.intercept

    assert p((search, 1)) > p((search, 5)) > 0 == p((display, 0))
    assert p((mail, 3), (mail, 3)) < 2 * p((mail, 3))
    both = p((video, 4), (search, 2))
    assert both > p((video, 4)) + p((search, 2)) + 0.5  # a video, then a search
    assert (
        abs(p((search, 4), (video, 2)) - p((search, 4)) - p((video, 2))) < 1e-9
    )  # the other way round
    assert abs(p((video, 6), (search, 2)) - p((video, 6)) - p((search, 2))) < 1e-9  # too late
    last = attribute(world, journey((video, 4), (search, 2), (display, 0.1)))
    assert abs(last.contribution_n[2]) < 1e-12
    assert last.share_n[2] < 1e-9


def test_networks_do_not_see_padding_or_what_is_left_out():
    journeys, _ = simulate(ConversionModel(), 60, seed=5)
    for phased, timed in itertools.product((False, True), repeat=2):
        network = (
            JourneyLSTM(6, hidden=5, phased=phased, time_input=timed).eval().requires_grad_(False)
        )
        whole_b = network.logit(journeys)
        for b in range(60):
            n = int(journeys.length_b[b])
            keep_n = torch.arange(n) % 2 == 0
            short = (
                journey(*zip(journeys.channel_bn[b, :n].tolist(), journeys.day_bn[b, :n].tolist()))
                if n
                else journeys[b]
            )
            assert torch.allclose(network.logit(short), whole_b[b], atol=1e-5)
            if n > 1:
                assert torch.allclose(
                    network.logit(short.masked(keep_n[None])),
                    network.logit(Journeys(*(x[:, keep_n] for x in vars(short).values()))),
                    atol=1e-5,
                )


def test_the_gate_is_a_tent_that_returns():
    k = phased_gate(
        torch.tensor([0.0, 1, 2, 3, 4, 5, 8, 10, -7]),
        torch.tensor([8.0]),
        torch.zeros(1),
        open_ratio=0.5,
        leak=0.01,
    )[:, 0]
    assert torch.allclose(
        k, torch.tensor([0, 0.5, 1, 0.5, 0.005, 0.00625, 0, 1, 0.5])
    )  # also before the shift
    network = JourneyLSTM(6, hidden=40, open_ratio=0.05)
    day_b = torch.rand(50) * 60
    assert (
        (network.train().gate(day_b) > 0).float().mean()
        > 0.95
        > 0.2
        > (network.eval().gate(day_b) > 0).float().mean()
    )  # leaks while training alone


def test_the_same_seed_gives_the_same_network_and_the_best_epoch_is_kept():
    train, held_out = (
        simulate(ConversionModel(), count, seed=seed) for count, seed in ((300, 1), (200, 2))
    )
    one, same, other = (
        fit_network(train, held_out, channels=6, hidden=4, epochs=2, seed=seed).logit(held_out[0])
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    losses = [
        log_loss(
            fit_network(train, held_out, channels=6, hidden=4, epochs=epochs, lr=0.5), *held_out
        )
        for epochs in (1, 2, 6)
    ]
    assert losses == sorted(losses, reverse=True)  # at a rate that jumps


def test_a_chain_by_hand():
    rows = [[0, 1], [0, 1], [1, 0], [0, 0]]
    journeys = Journeys(
        torch.tensor(rows),
        torch.tensor([[2.0, 1]] * 4),
        torch.tensor([[True, True], [True, True], [True, False], [False, False]]),
    )
    markov = MarkovAttribution(journeys, torch.tensor([True, False, True, False]), channels=2)
    assert markov.step_ij.tolist() == [
        [0, 1, 0, 0, 0],
        [0, 0, 0, 2 / 3, 1 / 3],
        [0.5, 0.25, 0, 0, 0.25],
    ]
    assert abs(markov.start - 0.5) < 1e-12
    assert torch.allclose(markov.removal_c, torch.tensor([2 / 3, 1]).double())
    assert torch.allclose(markov(journeys), torch.tensor([2 / 3, 2 / 3, 2 / 3, 0]).double())
    assert torch.allclose(markov.shares(journeys)[0], torch.tensor([0.4, 0.6]).double())
    assert markov.shares(journeys)[3].sum() == 0


def test_calibration_of_what_is_right_on_average_only():
    p_b, happened_b = torch.tensor([0.0, 0.25, 0.25, 1]), torch.tensor([False, True, False, True])
    found = calibration(p_b, happened_b)
    assert found.size_i.tolist() == [1, 2, 1]
    assert abs(found.error - 0.125) < 1e-9
    assert found.share_i.tolist() == [0, 0.5, 1]
    train = simulate(ConversionModel(), 500, seed=1)
    model = fit_logistic(*train, channels=6, half_life=4)
    assert abs(model(train[0]).mean() - train[1].double().mean()) < 0.01


def test_what_makes_no_sense_is_refused():
    one = simulate(ConversionModel(), 1, min_len=3, seed=0)[0]
    two = simulate(ConversionModel(), 2, seed=0)[0]
    for call, message in (
        (lambda: shapley_values(lambda m: m.sum(1), 20), "1,048,576 sets; pass n_permutations=200"),
        (
            lambda: shapley_values(lambda m: m.sum(1), 3, n_permutations=3),
            "even number of orders, 4 or more, got 3",
        ),
        (lambda: shapley_values(lambda m: m.sum(), 2), "one number for each of 4 sets"),
        (lambda: shapley_values(lambda m: m.sum(1) / 0, 2), "NaN or infinite"),
        (lambda: shapley_values(lambda m: m.sum(1), 0), "at least one touch point, got 0"),
        (lambda: two.masked(torch.ones(1, 1).bool()), "expected one journey, got 2"),
        (lambda: Journeys(one.channel_bn, one.day_bn - 99, one.mask_bn), "0 or more, got -9"),
        (lambda: Journeys(one.channel_bn[:, :1], one.day_bn, one.mask_bn), "expected one shape"),
        (lambda: time_decay_shares(one, half_life=-1), "got -1"),
        (lambda: JourneyLSTM(6, open_ratio=0), "above 0 and up to 1, got 0"),
        (lambda: calibration(torch.tensor([1.5]), torch.tensor([True])), "between 0 and 1"),
        (lambda: simulate(ConversionModel(), 5, min_len=4, max_len=2), "got 4 and 2"),
        (lambda: time_decay_shares(one, half_life=math.nan), "got nan"),
        (
            lambda: fit_network(
                (one, torch.ones(1).bool()), (one, torch.ones(1).bool()), channels=6, epochs=0
            ),
            "expected 1 or more, got 0",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()

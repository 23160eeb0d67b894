"""13_two_sided: two seeds of a smoke run, slow twins of the rules and the measures, and what must
hold whatever a network has learnt."""

import itertools

import pytest
import torch

from diml_nb.experiments.pooling import PooledRecords
from diml_nb.records.record import decode_fixed_point
from diml_nb.related import learned_mechanism
from diml_nb.related.learned_mechanism import MatchingNetwork, train_mechanism
from diml_nb.related.two_sided import (
    bipartite_paths,
    birkhoff_decomposition,
    convex_combination,
    deferred_acceptance,
    deferred_acceptance_on_random_trees,
    evaluate_deviations,
    manipulation_gains,
    preference_lists,
    random_serial_dictatorship,
    random_side_deferred_acceptance,
    sample_profiles,
    sinkhorn_matching,
    stability_violation,
    strategyproofness_violation,
    swap_sides,
    top_trading_cycles,
)


@pytest.fixture(scope="module")
def smoke(two_seeds):
    return two_seeds("13_two_sided")


def results(record):
    return {str(row["config"]): row["result"] for row in record.rows}


def profiles(batch, n, m, **options):
    return [
        x.double()
        for x in sample_profiles(batch, n, m, rng=torch.Generator().manual_seed(3), **options)
    ]


def test_every_row_is_there_and_the_seed_decides(smoke):
    first, other = map(results, smoke.records)
    assert list(first) == list(other)
    assert first != other
    assert len(first) == 2 + 8 + 2 * 9 + 2 + 4 + 2 + 2 + 1 + 1
    for result in first.values():
        for text in result.get("by_class", {}).values():
            assert decode_fixed_point(text).isfinite().all()


def test_laws_of_the_rows(smoke):
    pooled = PooledRecords(smoke.records)

    def rule(name, metric):
        return pooled.values(dict(n=2, corr=0.25, rule=name), metric)

    for name in ("deferred acceptance", "deferred, firms ask"):
        assert (rule(name, "stability") == 0).all()
    assert (rule("dictators", "strategy") == 0).all()
    assert (rule("trees", "strategy") == 0).all()
    assert (rule("dictators", "stability") > 0).any()
    assert (rule("deferred acceptance", "strategy") > 0).any()
    assert torch.equal(
        rule("deferred acceptance", "stability")[0], rule("deferred acceptance", "stability")[1]
    )  # the test profiles are the same for all seeds
    for share in (0.1, 0.5, 0.9):
        mixed = dict(n=2, corr=0.25, other="dictators", mixture=share)
        assert (
            pooled.values(mixed, "gap").abs().max()
            == 0
            == pooled.values(mixed | dict(other="trees"), "gap_trees").abs().max()
        )
        assert (
            pooled.values(mixed, "strategy")
            <= share * rule("deferred acceptance", "strategy") + 1e-4
        ).all()
    for row in pooled.rows:
        assert all(
            ((x := pooled.values(row, metric)) >= 0).all() and (x <= 1.0001).all()
            for metric in ("stability", "strategy", "matched")
        )


def test_figures_are_of_the_first_seed(smoke):
    names = [{path.name for path in folder.glob("figures/*")} for folder in smoke.folders]
    assert names == [{"13_two_sided-frontier.png"}, set()]


def slow_deferred(p_nm, q_nm):
    "One worker asks at a time."
    n, m = p_nm.shape
    said_no = {(w, f) for w in range(n) for f in range(m) if min(p_nm[w, f], q_nm[w, f]) < 0}
    free = list(range(n))
    holds = {}
    while free:
        w = free.pop()
        left = [f for f in range(m) if (w, f) not in said_no]
        if not left:
            continue
        f = max(left, key=lambda f: p_nm[w, f])
        both = {w, holds.get(f, w)}
        holds[f] = max(both, key=lambda w: q_nm[w, f])
        for out in both - {holds[f]}:
            said_no.add((out, f))
            free.append(out)
    return torch.tensor([[float(holds.get(f) == w) for f in range(m)] for w in range(n)]).double()


def slow_dictators(p_nm, q_nm):
    "All orders of all agents, one after the other."
    n = len(p_nm)
    g_nm = torch.zeros_like(p_nm)
    turns = list(itertools.permutations(range(sum(p_nm.shape))))
    for turn in turns:
        left = set(turn)
        for i in turn:
            if i not in left:
                continue
            left.remove(i)
            value = p_nm if i < n else q_nm
            pairs = [(i, j - n) if i < n else (j, i - n) for j in left if (j < n) != (i < n)]
            pairs = [pair for pair in pairs if value[pair] > 0]
            if not pairs:
                continue
            w, f = max(pairs, key=lambda pair: value[pair])
            g_nm[w, f] += 1 / len(turns)
            left -= {w, n + f}
    return g_nm


def slow_cycles(p_nm, q_nm):
    "One cycle at a time, followed finger by finger."
    (n, m), g_nm = p_nm.shape, torch.zeros_like(p_nm)
    workers, firms = set(range(n)), set(range(m))
    while True:
        wants = {w: [f for f in firms if p_nm[w, f] > 0 and q_nm[w, f] > 0] for w in workers}
        workers = {w for w in workers if wants[w]}
        if not workers:
            return g_nm
        firm = {w: max(wants[w], key=lambda f: p_nm[w, f]) for w in workers}
        then = {w: max(workers, key=lambda x: q_nm[x, firm[w]]) for w in workers}
        path = [min(workers)]
        while then[path[-1]] not in path:
            path.append(then[path[-1]])
        cycle = path[path.index(then[path[-1]]) :]
        for w in cycle:
            g_nm[w, firm[w]] = 1
        workers, firms = workers - set(cycle), firms - {firm[w] for w in cycle}


def slow_gain(mechanism, p_nm, q_nm, w):
    "Lie by lie, partner by partner."
    most, truth_m = 0.0, mechanism(p_nm[None], q_nm[None])[0, w]
    for said_m in preference_lists(p_nm.shape[1]).to(p_nm):
        lie_nm = p_nm.clone()
        lie_nm[w] = said_m
        more_m = mechanism(lie_nm[None], q_nm[None])[0, w] - truth_m
        for f in (p_nm[w] > 0).nonzero().flatten():
            most = max(most, more_m[p_nm[w] >= p_nm[w, f]].sum().item())
    return most


def slow_stability(g_nm, p_nm, q_nm):
    "Pair by pair, partner by partner."
    (n, m), total = p_nm.shape, 0.0
    for w in range(n):
        for f in range(m):
            firm = sum(g_nm[x, f] * max(q_nm[w, f] - q_nm[x, f], 0) for x in range(n)) + (
                1 - g_nm[:, f].sum()
            ) * max(q_nm[w, f], 0)
            worker = sum(g_nm[w, y] * max(p_nm[w, f] - p_nm[w, y], 0) for y in range(m)) + (
                1 - g_nm[w].sum()
            ) * max(p_nm[w, f], 0)
            total += (1 / n + 1 / m) / 2 * firm * worker + g_nm[w, f] * (
                max(-p_nm[w, f], 0) / n + max(-q_nm[w, f], 0) / m
            ) / 2
    return total


@pytest.mark.parametrize("n, m", [(3, 3), (2, 4), (4, 2)])
def test_rules_are_their_slow_twins(n, m):
    p, q = profiles(60, n, m, corr=0.3)

    def twins(slow, few=60):
        return torch.stack([slow(*x) for x in zip(p[:few], q[:few])])

    assert torch.equal(deferred_acceptance(p, q), twins(slow_deferred))
    assert torch.equal(top_trading_cycles(p, q), twins(slow_cycles))
    assert torch.allclose(random_serial_dictatorship(p[:3], q[:3]), twins(slow_dictators, 3))
    for g in (MatchingNetwork()(p, q).detach(), random_serial_dictatorship(p, q)):
        assert torch.allclose(
            stability_violation(g, p, q), torch.stack([slow_stability(*x) for x in zip(g, p, q)])
        )


def test_gains_are_their_slow_twin():
    p, q = profiles(6, 3, 2, corr=0.3)
    for rule in (swap_sides(deferred_acceptance), MatchingNetwork().requires_grad_(False)):
        slow = [[slow_gain(rule, *x, w) for w in range(3)] for x in zip(p, q)]
        assert torch.allclose(
            manipulation_gains(evaluate_deviations(rule, p, q), p, q)[0],
            torch.tensor(slow).double(),
            atol=1e-6,
        )  # a network answers in float32


def test_the_best_for_workers():
    """Among all matchings of three and three: deferred acceptance is the best stable one, trading
    cycles leave nothing that firms accept."""
    p, q = profiles(100, 3, 3, corr=0.25)
    every = torch.cartesian_prod(*[torch.arange(2.0)] * 9).view(-1, 3, 3).double()
    every = every[(every.sum(1).amax(1) <= 1) & (every.sum(2).amax(1) <= 1)]
    worth_btn = (every * p[:, None]).sum(3)
    stable_bt = torch.stack([stability_violation(g.expand_as(p), p, q) == 0 for g in every], 1)
    assert len(every) == 34
    assert torch.equal(
        worth_btn.masked_fill(~stable_bt[..., None], -1).amax(1),
        (deferred_acceptance(p, q) * p).sum(2),
    )
    allowed_bt = ~((q[:, None] < 0) & (every > 0)).any((2, 3))
    more_btn = worth_btn - (top_trading_cycles(p, q) * p).sum(2)[:, None]
    assert not ((more_btn >= 0).all(2) & (more_btn > 0).any(2) & allowed_bt).any()


@pytest.mark.parametrize("n", [2, 3])
def test_on_a_tree_nobody_can_gain(n):
    p, q = profiles(60, n, n, corr=0.3)
    for open_nm in bipartite_paths(n)[::7]:
        x = evaluate_deviations(
            lambda p, q: deferred_acceptance_on_random_trees(p, q, allowed_tnm=open_nm[None]), p, q
        )
        assert strategyproofness_violation(x, p, q).max() == 0
        assert (x.g_bnm[:, ~open_nm] == 0).all()
        assert torch.equal(x.g_bnm, swap_sides(deferred_acceptance)(p.masked_fill(~open_nm, -1), q))
    outcomes = evaluate_deviations(
        lambda p, q: deferred_acceptance_on_random_trees(p, q, allowed_tnm=bipartite_paths(n)), p, q
    )
    assert strategyproofness_violation(outcomes, p, q).max() < 1e-12
    assert (outcomes.g_bnm[(p < 0) | (q < 0)] == 0).all()
    cycle = evaluate_deviations(
        lambda p, q: deferred_acceptance_on_random_trees(
            p, q, allowed_tnm=(bipartite_paths(n).sum(0)[None] > 0)
        ),
        p,
        q,
    )
    assert (
        strategyproofness_violation(cycle, p, q).max() > 0.1
    )  # with all pairs open it is deferred acceptance


@pytest.mark.parametrize("n, m", [(3, 3), (4, 3)])
def test_known_properties(n, m):
    p, q = profiles(80, n, m, corr=0.3)
    for rule, safe in ((deferred_acceptance, 0), (swap_sides(deferred_acceptance), 1)):
        x = evaluate_deviations(rule, p, q)
        assert (
            stability_violation(x.g_bnm, p, q).max() == 0 == manipulation_gains(x, p, q)[safe].max()
        )
        assert manipulation_gains(x, p, q)[1 - safe].max() == 1
    dictators = evaluate_deviations(random_serial_dictatorship, p, q)
    cycles = evaluate_deviations(top_trading_cycles, p, q)
    assert strategyproofness_violation(dictators, p, q).max() < 1e-12
    assert (stability_violation(dictators.g_bnm, p, q) > 0).any()
    assert manipulation_gains(cycles, p, q)[0].max() == 0
    assert (cycles.g_bnm[(p < 0) | (q < 0)] == 0).all()


def test_all_lies_of_all_agents_are_asked():
    p, q = profiles(4, 3, 2)
    asked = []
    x = evaluate_deviations(lambda p, q: asked.append((p, q)) or deferred_acceptance(p, q), p, q)
    assert x.worker_bnkm.shape == (4, 3, len(preference_lists(2)), 2)
    assert x.firm_bmkn.shape == (4, 2, len(preference_lists(3)), 3)
    assert len(asked) == 1 + 3 + 2
    truth = (p[:, :, None] == preference_lists(2)).all(3).int().argmax(2)
    assert torch.equal(
        x.worker_bnkm.take_along_dim(truth[..., None, None], 2)[:, :, 0], x.g_bnm
    )  # the truth is one of them


def test_swapping_the_sides_and_renaming_agents_moves_the_answer():
    p, q = profiles(30, 3, 4, corr=0.2)
    w, f = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    for rule in (
        deferred_acceptance,
        top_trading_cycles,
        random_serial_dictatorship,
        sinkhorn_matching,
        MatchingNetwork().requires_grad_(False),
    ):
        assert torch.allclose(
            rule(p[:, w][:, :, f], q[:, w][:, :, f]),
            rule(p, q)[:, w][:, :, f],
            atol=2e-3 if rule is sinkhorn_matching else 1e-5,
        )
    g = random_serial_dictatorship(p, q)
    assert torch.allclose(swap_sides(random_serial_dictatorship)(p, q), g)
    assert torch.allclose(stability_violation(g.mT, q.mT, p.mT), stability_violation(g, p, q))


def test_a_network_cannot_break_the_rules():
    network = MatchingNetwork()
    p, q = sample_profiles(400, 3, 3, rng=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(10)
        g = network(p, q)
    assert g.min() >= 0
    assert max(g.sum(1).max(), g.sum(2).max()) <= 1 + 1e-5
    assert (g[(p < 0) | (q < 0)] == 0).all()
    assert g.isfinite().all()
    weight_t, matching_tnm = birkhoff_decomposition(g[0])
    assert torch.allclose(
        torch.einsum("t,tnm->nm", weight_t, matching_tnm), g[0].double(), atol=1e-4
    )
    assert weight_t.sum() <= 1 + 1e-4
    assert set(matching_tnm.unique().tolist()) <= {0, 1}
    assert matching_tnm.sum(1).max() <= 1
    assert matching_tnm.sum(2).max() <= 1
    assert (weight_t.diff() <= 0).all()


def test_training_lowers_what_it_is_paid_for_and_leaves_its_start_alone():
    torch.manual_seed(0)
    begun = MatchingNetwork(width=16)
    before = [x.clone() for x in begun.parameters()]
    one, same, other, true = (
        train_mechanism(
            begun,
            2,
            2,
            stability_weight=weight,
            corrs=(0,),
            steps=60,
            batch=64,
            teacher_weight=0,
            lr=1e-2,
            seed=seed,
        )
        for weight, seed in ((1, 3), (1, 3), (1, 4), (0, 3))
    )

    def weights(network):
        return torch.cat([x.flatten() for x in network.parameters()])

    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))
    assert all(map(torch.equal, before, begun.parameters()))
    p, q = sample_profiles(400, 2, 2, rng=torch.Generator().manual_seed(9))
    assert (
        stability_violation(one(p, q), p, q).mean()
        < stability_violation(begun(p, q), p, q).mean() / 3
    )
    assert (
        strategyproofness_violation(evaluate_deviations(true, p, q), p, q).mean()
        < strategyproofness_violation(evaluate_deviations(one, p, q), p, q).mean() / 2
    )


def test_a_coin_says_who_asks():
    p, q = profiles(300, 3, 4)
    g = random_side_deferred_acceptance(p, q)
    assert torch.equal(swap_sides(random_side_deferred_acceptance)(p, q), g)
    assert set(g.unique().tolist()) == {0, 0.5, 1}
    assert torch.equal(
        g == 1, (deferred_acceptance(p, q) * swap_sides(deferred_acceptance)(p, q)) == 1
    )


def test_teacher_cross_entropy():
    certain = torch.eye(3)[None]
    even = torch.full((1, 2, 2), 0.25)
    assert learned_mechanism._teacher_cross_entropy(certain, certain).abs() < 1e-5
    assert torch.allclose(
        learned_mechanism._teacher_cross_entropy(even, even),
        torch.tensor([1.5]) * torch.tensor(2.0).log(),
    )


@pytest.mark.parametrize(
    "teacher",
    [random_side_deferred_acceptance, deferred_acceptance, swap_sides(deferred_acceptance)],
)
def test_a_pupil_repeats_its_teacher(teacher):
    """On profiles that it has not seen, if nothing else counts: with one stable matching, where
    these teachers agree, and with several, where no two do."""
    p, q = profiles(3000, 2, 2)
    several_b = (deferred_acceptance(p, q) != swap_sides(deferred_acceptance)(p, q)).any(2).any(1)
    torch.manual_seed(0)
    pupil = train_mechanism(
        MatchingNetwork(width=16, rounds=3),
        2,
        2,
        stability_weight=0,
        teacher=teacher,
        teacher_weight=100,
        corrs=(0,),
        steps=150,
        batch=128,
        lr=1e-2,
    )
    off_b = (pupil(p, q) - teacher(p, q)).abs().mean((1, 2))
    assert 50 < several_b.sum() < 500
    assert off_b[~several_b].mean() < 0.02
    assert off_b[several_b].mean() < 0.1


def test_what_is_learnt_at_one_size_is_asked_at_another():
    "Three workers and four firms, never seen: better than before any training."
    torch.manual_seed(0)
    begun, (p, q) = MatchingNetwork(), profiles(200, 3, 4)
    learned = train_mechanism(begun, 2, 3, stability_weight=0.8, steps=100, batch=200)
    assert (
        stability_violation(learned(p, q), p, q).mean()
        < stability_violation(begun(p, q).detach(), p, q).mean() / 2
    )


def test_a_block_is_profiles_with_their_probabilities():
    rng = torch.Generator().manual_seed(0)
    p, q, chance, w = learned_mechanism._sample_block(500, 3, 4, (0, 0.5), rng)
    k, others = len(preference_lists(4)), [i for i in range(3) if i != w]
    assert p.shape == q.shape == (500, k, 3, 4)
    assert (p[:, :1, others] == p[:, :, others]).all()
    assert (q[:, :1] == q).all()
    assert (p[:, :, w] == preference_lists(4)).all()
    assert torch.allclose(chance.sum(1), torch.ones(500))
    mean = (chance[..., None] * (p[:, :, w] > 0)).sum(1).mean(0)
    assert (
        mean - (sample_profiles(4000, 3, 4, rng=rng)[0] > 0).float().mean((0, 1))
    ).abs().max() < 0.03  # as likely acceptable as where profiles are drawn


def test_sampled_orders_are_orders_and_corr_is_what_they_share():
    p, q = profiles(300, 3, 4, corr=1)
    assert (p.argmax(2) == p[:, :1].argmax(2)).all()
    assert (q.argmax(1) == q[:, :, :1].argmax(1)).all()
    assert not (p == p[:1]).all()
    p, _ = profiles(4000, 2, 4)
    share_k = torch.stack([((p > 0).sum(2) == k).double().mean() for k in range(5)])
    assert (share_k - torch.tensor([0, 0.125, 0.125, 0.125, 0.625])).abs().max() < 0.02
    assert torch.isclose(p[:, :, None], preference_lists(4).double()).all(3).any(2).all()
    assert ((p == 1).double().mean((0, 1)) / share_k[4] - 0.25).abs().max() < 0.02


def test_what_cannot_be_asked_or_carried_out_is_refused():
    p, q = profiles(4, 3, 3)
    wrong = {
        "is no order of 3 partners": lambda: evaluate_deviations(deferred_acceptance, p * 2, q),
        "got a sum of 3": lambda: evaluate_deviations(lambda p, q: torch.ones_like(p), p, q),
        "got a sum of 1.5": lambda: birkhoff_decomposition(torch.full((3, 3), 0.5)),
        "got a probability|expected a probability, got 2": lambda: convex_combination(
            evaluate_deviations(deferred_acceptance, p, q),
            evaluate_deviations(deferred_acceptance, p, q),
            2,
        ),
        "corr: expected a probability, got 1.5": lambda: sample_profiles(
            3, 3, 3, corr=1.5, rng=torch.Generator()
        ),
        "at least 1 of each, got 3, 0, 3": lambda: sample_profiles(3, 0, 3, rng=torch.Generator()),
        "1 to 6, since all orders": lambda: preference_lists(7),
        "stability_weight: expected 0 to 1": lambda: train_mechanism(
            MatchingNetwork(), 3, 3, stability_weight=2
        ),
        "1 to 4 a side": lambda: bipartite_paths(5),
        "at most 6 workers and 6 firms, got": lambda: MatchingNetwork()(
            torch.rand(2, 7, 3), torch.rand(2, 7, 3)
        ),
        "at most 10 agents": lambda: random_serial_dictatorship(
            torch.rand(1, 6, 6), torch.rand(1, 6, 6)
        ),
        "NaN": lambda: stability_violation(p * torch.nan, p, q),
    }
    for message, call in wrong.items():
        with pytest.raises(ValueError, match=message):
            call()

"""A gallery in a page and the explorer in Python give the same answers to the same requests."""

import re

import pytest
import torch
from pages import page_payload
from scripts import answer_of, needs_node

from diml_nb.datasets.registry import get_dataset
from diml_nb.viz.widgets.ranking import NOTHING_CHOSEN, RetrievalExplorer


def words(text):
    "A text without the last digit of its scores, which rounding may change."
    return re.sub(r"(\.\d{3})\d", r"\1#", text)


def differences(ours, theirs, where=""):
    """The largest difference of the numbers of two answers; texts must be equal but for the last
    digits of scores. Pictures are not compared: those of a page are smaller."""
    if isinstance(ours, dict):
        assert set(ours) == set(theirs), where
        return max(
            (differences(ours[k], theirs[k], f"{where}.{k}") for k in ours if k != "src"),
            default=0,
        )
    if isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        return max((differences(*pair, where) for pair in zip(ours, theirs)), default=0)
    if isinstance(ours, str):
        assert words(ours) == words(theirs), where
        return 0
    if ours is None or isinstance(ours, bool):
        assert ours == theirs, where
        return 0
    return abs(ours - theirs)


@pytest.fixture(scope="module")
def gallery():
    "Forty drawings, on 4 x 4 cells; one is alone in its class."
    images = get_dataset("emoji").subset("test")
    kept = [n for n in range(44) if n == 0 or images.label_n[n] != images.label_n[0]]
    return RetrievalExplorer(images.select(torch.tensor(kept)), grid=4, top_k=12, n_shown=6)


def some_requests(gallery):
    "States of the explorer: queries, rules, plans, candidates, dropped parts."
    rules = [
        {},
        dict(eps=0.01),
        dict(eps=0.3, marginals="uniform", plan="product"),
        dict(plan="best_cell", marginals="cross_correlation_norm2"),
        dict(plan="aligned", marginals="cross_correlation2_norm2"),
    ]
    for k, rule in enumerate(rules):
        for q in (3 + 3 * k, 30 * (k % 2)):
            head = gallery.ranked.cosine.index_qk[q].tolist()
            for choice in (
                {},
                dict(first=head[k], second=head[k + 1]),
                dict(first=head[1], second=head[0], dropped=[0], by_cells=True),
                dict(first=head[3], second=999, dropped=[1, 7]),
            ):
                yield (
                    dict(eps=0.05, marginals="cross_correlation", plan="transport") | rule,
                    q,
                    choice,
                )


@needs_node
def test_both_give_the_same_answers(gallery, tmp_path):
    payload = page_payload(gallery.live_html(""))
    ours, asked = [], []
    for rule, q, choice in some_requests(gallery):
        gallery.state = dict(query=q) | rule
        gallery.state = dict(view=NOTHING_CHOSEN | choice)
        view = gallery.view
        ours.append(dict(choice=view.value, lists=view.lists, reason=view.reason or None))
        request = dict(show="all", query=q, rule=dict(gallery.rule))
        asked.append(request | dict(choice=NOTHING_CHOSEN | choice))
    gallery.rank_again()
    theirs = answer_of("ranking_answers.js", dict(payload=payload, requests=asked), tmp_path)
    worst = 0
    for one, x, y in zip(asked, ours, theirs["answers"], strict=True):
        if one["rule"]["plan"] == "aligned":  # its flows fall into pieces: no cut is the only one
            x, y = (dict(lists=dict(rows=answer["lists"]["rows"][:2])) for answer in (x, y))
        assert differences(x, y, str(one)) < 1e-3  # the strength of a colour is a root
        scores = [
            [item["score"] for row in answer["lists"]["rows"] for item in row["items"]]
            for answer in (x, y)
        ]
        worst = max(worst, differences(*scores))
    print(f"largest difference of a score: {worst:.1e}")
    assert worst < 1e-4
    gains = [None if x != x else x for x in gallery.ranked.gain_q.tolist()]
    assert gains[0] is None and theirs["gains"][0] is None
    assert theirs["gains"][1:] == pytest.approx(gains[1:], abs=1e-6)
    assert sum(x["reason"] is not None for x in ours) > 12
    assert sum(len(x["lists"]["parts"]) > 1 for x in ours) > 12

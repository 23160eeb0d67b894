"README is short, and what it says of the results is what the records say."

import re

from diml_nb._internal.paths import REPO_ROOT
from diml_nb.experiments.claims import evaluate_claims

README = (REPO_ROOT / "README.md").read_text(encoding="utf-8")


def test_a_newcomer_can_read_it_at_once():
    assert len(README.split()) <= 1500
    assert len(re.findall(r"^\| --- \|", README, flags=re.M)) == 1


def verdicts(claim, *datasets):
    found = evaluate_claims().set_index(["claim", "dataset"]).verdict
    return [found[claim, name] for name in datasets]


def test_its_sentences_follow_from_the_verdicts():
    "Lists are better on all three; what a search for partners adds depends; flows are true."
    three = ("emoji_vendors", "grocery", "stamp_scenes")
    gain = "(ours) Re-ranking by DIML adds to the cosine, weights chosen for each"
    assert verdicts(gain, *three) == ["supported"] * 3
    place = "(ours) It is the search for partners: transport beats cells compared in place"
    assert verdicts(place, *three) == ["contradicted", "supported", "supported"]
    storage = verdicts("(ours) DIML beats an embedding of the same storage", *three)
    assert not {*storage} - {"contradicted", "inconclusive"}
    partner = "The flow leads to the right part more often than the nearest cell"
    assert verdicts(partner, "emoji_scenes", "stamp_scenes") == ["supported"] * 2

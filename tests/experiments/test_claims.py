"The claims find their rows in the records that are committed, and RESULTS shows what they say."

import shutil

import pytest

from diml_nb._internal.paths import REPO_ROOT
from diml_nb.datasets.registry import DATASETS
from diml_nb.experiments.claims import CLAIMS, claims_by_dataset, evaluate_claims, pooled_records
from diml_nb.experiments.grid import GRIDS
from diml_nb.experiments.pooling import PooledRecords
from diml_nb.experiments.report import make_report
from diml_nb.experiments.runner import find_records
from diml_nb.experiments.tables import to_markdown
from diml_nb.records.comparison import VERIFIED, compare_rows
from diml_nb.retrieval.metrics import METRIC_NAMES

MEASURED = [name for name in GRIDS["full"] if pooled_records(name, "full")]


def test_there_are_records():
    "Of all experiments that claims ask for, but for those that a processor needs an afternoon for."
    assert {
        "02_training",
        "05_losses",
        "06_ablations",
        "07_beyond",
        "08_trained_explanations",
    } <= set(MEASURED)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.text)
def test_a_claim_finds_its_rows(claim):
    "A claim whose rows no longer exist would vanish from the table without a word."
    if claim.experiment not in MEASURED:
        pytest.skip(
            f"no record of {claim.experiment} yet: diml reproduce {claim.experiment} --preset full"
        )
    found = [
        (pooled, claim.differences(pooled))
        for pooled in pooled_records(claim.experiment, "full").values()
    ]
    assert any(
        pairs and all(a in pooled.rows and b in pooled.rows for a, b in pairs)
        for pooled, pairs in found
    )


@pytest.mark.parametrize("experiment", MEASURED)
def test_records_are_of_these_images_and_seeds(experiment):
    for record in find_records(experiment, "full"):
        if "dataset" in record.config:
            assert record.inputs["data"] == DATASETS[record.config["dataset"]].hash
        assert record.config.get("seed", 0) in GRIDS["full"][experiment].get("seed", [0])


def rankings(record):
    return [row for row in record.rows if "official" in row["result"]]


@pytest.mark.parametrize(
    "experiment", [name for name in MEASURED if rankings(find_records(name, "full")[0])]
)
def test_class_means_give_the_means(experiment):
    """What is packed by class agrees with what the official convention must share: the first place
    is the same in both."""
    for record in find_records(experiment, "full"):
        pooled = PooledRecords([record])
        for row in rankings(record):
            official = row["result"]["official"]
            measured = pooled.per_seed(row["config"], "precision_at_1")[0]
            assert abs(measured - official["precision_at_1"]) < 1e-4
            assert set(official) == set(METRIC_NAMES)


def baselines(experiment):
    """Class means of the untrained network and of the baselines that both notebooks train, of every
    data set and seed."""
    losses = ("(no head)", "margin", "multi_similarity", "contrastive")
    return {
        (x.config["dataset"], x.config["seed"]): {
            (r["config"]["loss"], r["config"]["method"]): r["result"]["by_class"]
            for r in x.rows
            if r["config"].get("loss") in losses
            and r["config"].get("width", 128) in (128, 1280)
            and r["config"].get("trained", "baseline") in ("baseline", "untrained")
            and r["config"]["method"] in ("cosine", "DIML")
        }
        for x in find_records(experiment, "full")
    }


def as_rows(by_class):
    "Rows of a record of the class means of each loss and method."
    return [
        dict(
            config=dict(loss=loss, method=method),
            result=dict(by_class=means),
            kind="computed" if loss == "(no head)" else "chosen",
        )
        for (loss, method), means in by_class.items()
    ]


def test_two_notebooks_train_the_same_head():
    """05_losses and 02_training train the same baselines by the same seeds: their records agree, to
    the last digit on one machine, and within the tolerance of a trained row where a record was
    made again by another processor."""
    if any(record.version == 1 for record in find_records("02_training", "full")):
        pytest.skip("the records of 02_training are of its first version, tuned otherwise")
    ours, theirs = baselines("05_losses"), baselines("02_training")
    shared = ours.keys() & theirs.keys()
    assert {name for name, _ in shared} == {"emoji_vendors", "stamp_scenes", "grocery"}
    for key in shared:
        assert len(ours[key]) == 8
        compared = compare_rows("05_losses", as_rows(ours[key]), as_rows(theirs[key]), VERIFIED)
        assert [str(mismatch) for mismatch in compared.mismatches] == []


def test_the_results_show_the_answers():
    assert (
        to_markdown(claims_by_dataset(evaluate_claims())) in (REPO_ROOT / "RESULTS.md").read_text()
    )


def test_the_report_runs_on_what_there_is(smoke_of, tmp_path, shared_kernel):
    "With no record at all, and with the records of one smoke run."
    assert make_report("smoke", out=tmp_path).exists()
    folder, _ = smoke_of("05_losses")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    text = make_report("smoke", out=tmp_path).read_text()
    assert "DIML MAP@R" in text
    assert "margin" in text
    assert "no record yet" in text
    assert (tmp_path / "figures" / "report-losses.png").stat().st_size > 10_000

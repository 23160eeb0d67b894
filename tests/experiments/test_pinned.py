"""The pinned rows: what each experiment computes on a few images is what it was, or somebody has
declared otherwise."""

import json

import pytest

from diml_nb._internal.paths import REPO_ROOT, data_dir
from diml_nb.experiments.grid import GRIDS, status
from diml_nb.experiments.notebook import declared_version, experiments
from diml_nb.records.comparison import MISMATCH_ADVICE, compare_with_pinned, pinned_path
from diml_nb.records.ledger import note_agreement, read_ledger
from diml_nb.records.record import load_record, row_key

VERSIONS = (REPO_ROOT / "nbs" / "reproduce" / "VERSIONS.md").read_text(encoding="utf-8")


def kinds(record):
    return {row_key(row["config"]): row["kind"] for row in record.rows}


@pytest.mark.parametrize("name", experiments())
def test_the_pinned_rows_come_out_again(name, smoke_of):
    "Of the kinds that they had, too: a row that became one of times would not be compared."
    _, fresh = smoke_of(name)
    compared = compare_with_pinned(fresh)
    assert not compared.mismatches, (
        "\n".join(map(str, compared.mismatches[:20])) + f"\n{MISMATCH_ADVICE}"
    )
    assert kinds(fresh) == kinds(load_record(pinned_path(name)))
    note_agreement(fresh)


@pytest.mark.parametrize("name", experiments())
def test_something_is_pinned(name):
    pinned = load_record(pinned_path(name))
    assert "computed" in kinds(pinned).values()
    assert pinned.version == declared_version(name)


@pytest.mark.parametrize("name", experiments())
def test_each_version_has_its_reason(name):
    """nbs/reproduce/VERSIONS.md has a line for every version up to the declared one, and none
    beyond."""
    lines = [line.split("|") for line in VERSIONS.splitlines() if line.startswith(f"| {name} |")]
    assert [int(cells[2]) for cells in lines] == list(range(1, declared_version(name) + 1))
    assert all(len(cells[3].strip()) > 8 for cells in lines)


@pytest.mark.parametrize("preset", GRIDS)
def test_no_committed_record_is_stale(preset):
    "Raised versions and other data ask for a new record; nothing else does."
    lines = status(preset)
    stale = lines[lines.state == "stale"]
    assert stale.empty, f"diml reproduce NAME --preset {preset}, then diml publish NAME:\n{stale}"


@pytest.mark.parametrize("name", experiments())
def test_the_ledger_knows_each_experiment(name):
    "Rows of one of its committed records have been made again, and the last time they agreed."
    entries = [entry for entry in read_ledger() if entry["experiment"] == name]
    committed = {path.stem for path in (REPO_ROOT / "data" / "results" / name).glob("*.json")}
    assert any(entry["record"] in committed for entry in entries), f"diml verify {name}"
    assert entries[-1]["agrees"], entries[-1]["mismatches"]
    assert all(
        entry["rows"] >= 1 and entry["packages"]["torch"] and entry["commit"] for entry in entries
    )


def test_mutations_were_seen_as_they_should():
    """What tests/mutations.py found: harmless changes fail nothing, bugs fail the experiments that
    use the changed code."""
    found = json.loads((data_dir() / "golden" / "mutations.json").read_text())
    assert [x["change"] for x in found if not x["as expected"]] == []
    assert {bool(x["failed"]) for x in found} == {True, False}

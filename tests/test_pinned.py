"The pinned rows: what each experiment computes on a few images is what it was, or somebody has declared otherwise."
import pytest

from diml_nb.core import REPOSITORY
from diml_nb.experiments.evidence import TWO_WAYS_OUT, compare_with_pinned, ledger, note_agreement, pinned_path
from diml_nb.experiments.record import KINDS, load_record
from diml_nb.reproduce import declared_version, experiments
from diml_nb.sweep import GRIDS, status

VERSIONS = (REPOSITORY / "nbs" / "reproduce" / "VERSIONS.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", experiments())
def test_the_pinned_rows_come_out_again(name, smoke_of):
    _, fresh = smoke_of(name)
    compared = compare_with_pinned(fresh)
    assert not compared.mismatches, "\n".join(map(str, compared.mismatches[:20])) + f"\n{TWO_WAYS_OUT}"
    assert compared.rows + compared.timed == len(fresh.rows)
    note_agreement(fresh)


@pytest.mark.parametrize("name", experiments())
def test_each_pinned_row_says_of_which_kind_it_is(name):
    pinned = load_record(pinned_path(name))
    assert all(row["kind"] in KINDS for row in pinned.rows)
    assert any(row["kind"] != "timed" for row in pinned.rows)
    assert pinned.version == declared_version(name)


@pytest.mark.parametrize("name", experiments())
def test_each_version_has_its_reason(name):
    "nbs/reproduce/VERSIONS.md has a line for every version up to the declared one."
    for version in range(1, declared_version(name) + 1):
        lines = [line for line in VERSIONS.splitlines() if line.startswith(f"| {name} | {version} |")]
        assert len(lines) == 1 and len(lines[0].split("|")[3].strip()) > 8, (name, version)


@pytest.mark.parametrize("preset", GRIDS)
def test_no_committed_record_is_stale(preset):
    "Raised versions and other data ask for a new record; nothing else does."
    lines = status(preset)
    stale = lines[lines.state == "stale"]
    assert stale.empty, f"diml reproduce NAME --preset {preset}, then diml publish NAME:\n{stale}"


@pytest.mark.parametrize("name", experiments())
def test_the_ledger_knows_each_experiment(name):
    entries = [entry for entry in ledger() if entry["experiment"] == name]
    assert entries, f"diml verify {name}"
    committed = {path.stem for path in (REPOSITORY / "data" / "results" / name).glob("*.json")}
    for entry in entries:
        assert entry["rows"] >= 1 and entry["packages"]["torch"] and entry["commit"]
    assert any(entry["record"] in committed for entry in entries)

"""Which code a record of the benchmark was made by, and what has changed since."""

import subprocess
from pathlib import Path

from diml_nb._internal.paths import REPO_ROOT
from diml_nb.experiments.notebook import MACHINERY
from diml_nb.records.provenance import fingerprint, source_of, what_changed
from diml_nb.records.record import Record

# how a record is made, kept and shown
KEEPING = (*MACHINERY, "viz.figures.", "_internal.paths.atomic_write")


def is_measured(path: Path) -> bool:
    """Does this file of the folder belong to the benchmark? The explorers, the index and the
    GPU have one of their own."""
    others = ("explorer", "index", "gpu", "gpu_pairs", "gpu_training")
    return path.suffix == ".py" and path.stem not in others


def measured(source: dict[str, str]) -> dict[str, str]:
    "Of the source that the benchmark reaches, what decides about speed and memory."
    return {name: value for name, value in source.items() if not name.startswith(KEEPING)}


def source_here() -> dict[str, str]:
    "Fingerprints of this folder and of every definition of the library that it reaches."
    paths = [path for path in sorted(Path(__file__).parent.iterdir()) if is_measured(path)]
    return measured(source_of([path.read_text(encoding="utf-8") for path in paths]))


def code_at(commit: str) -> list[str]:
    "The files of this folder as a commit holds them; `ValueError` if there is no such commit here."

    def git(*words: str) -> str:
        command = ["git", "-C", str(REPO_ROOT), *words]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
        if done.returncode:
            raise ValueError(f"no commit {commit[:8]} here: {done.stderr.strip()}")
        return done.stdout

    names = git("ls-tree", "--name-only", commit, "bench/").splitlines()
    return [git("show", f"{commit}:{name}") for name in sorted(names) if is_measured(Path(name))]


SHOWN = 6  # names of definitions that have changed


def changed_since(record: Record) -> str:
    """Which code has changed since a record was made, in a sentence; empty if none has, or if that
    is not known."""
    then = measured(record.provenance.get("source", {}))
    changed = what_changed(then, source_here()) if then else []
    if not changed:
        return ""
    names = [f"`{'bench/*.py' if name == 'cells' else name}`" for name in changed]
    listed = ", ".join(names[:SHOWN])
    if len(names) > SHOWN:
        listed += ", ..."
    count = f"{len(names)} definitions that it reaches have"
    if len(names) == 1:
        count = "1 definition that it reaches has"
    commit = record.environment["commit"]
    at = commit[:8] + commit[40:] if commit else "an unknown commit"
    return f"(measured at commit {at}; since then {count} changed: {listed})"


def not_committed(record: Record) -> str:
    "Why nobody could measure this record again from its commit; empty if that is possible."
    commit = record.environment["commit"]
    if not commit or "with changes" in commit:
        return f"it was made by code that no commit holds ({commit or 'no git'})"
    try:
        code = fingerprint("\n".join(code_at(commit)))
    except ValueError as error:
        return str(error)
    if record.provenance.get("source", {}).get("cells") != code:
        return f"commit {commit[:8]} holds another benchmark than the one that made it"
    return ""

"Quietly, and seeded. Tests write into temporary folders; downloads and a screenshot go into data/cache and data/runs, which git ignores."
import os
import re
import shutil

import pytest

os.environ["DIML_QUIET"] = "1"


@pytest.fixture(autouse=True)
def seeded():
    from diml_nb.core import seed_everything

    seed_everything(0)


@pytest.fixture(scope="session")
def obtained(tmp_path_factory):
    "A folder with real packages; skips only where their program is not installed, or says (`unreachable`, a pattern) that it reaches no server."
    from diml_nb.download import obtain

    def get(files, program, unreachable):
        if not shutil.which(program): pytest.skip(f"{program} is not installed: the packages cannot be fetched")
        folder = tmp_path_factory.mktemp(program)
        try:
            for file in files: obtain(file, folder)
        except OSError as error:
            if re.search(unreachable, str(error)): pytest.skip(f"{program} reaches no server that has the packages: {error}")
            raise
        return folder

    return get


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory):
    "Run the smoke preset of an experiment with seed 0, seed 1 and seed 0 again: the folders, their records, and the first one's rows. The seed, and nothing else, decides what is in them."
    from diml_nb.reproduce import find_records, reproduce

    def run(experiment):
        out = [tmp_path_factory.mktemp(f"run{i}") for i in range(3)]
        for seed, folder in zip((0, 1, 0), out): reproduce(experiment, "smoke", out=folder, params=dict(seed=seed), quiet=True)
        records = [find_records(experiment, "smoke", results=folder / "results")[0] for folder in out]
        first, other, again = ({str(row["config"]): row["result"] for row in record.rows} for record in records)
        assert first == again and list(first) == list(other) and first != other
        return out, records, first

    return run

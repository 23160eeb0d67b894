"Quietly, and seeded. Tests write into temporary folders; downloads and a screenshot go into data/cache and data/runs, which git ignores."

import os
import re
import shutil

import pytest

os.environ["DIML_QUIET"] = "1"


@pytest.fixture(autouse=True)
def seeded():
    from diml_nb._internal.device import seed_everything

    seed_everything(0)


@pytest.fixture(scope="session")
def obtained(tmp_path_factory):
    """A folder with real packages; skips only where their program is not installed, or says
    (`unreachable`, a pattern) that it reaches no server."""
    from diml_nb.datasets.download import fetch_file

    def get(files, program, unreachable):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed: the packages cannot be fetched")
        folder = tmp_path_factory.mktemp(program)
        try:
            for file in files:
                fetch_file(file, folder)
        except OSError as error:
            if re.search(unreachable, str(error)):
                pytest.skip(f"{program} reaches no server that has the packages: {error}")
            raise
        return folder

    return get


@pytest.fixture(scope="session")
def smoke_of(tmp_path_factory):
    """Run the smoke preset of an experiment, once for all tests: the folder it wrote, and its
    record."""
    from diml_nb.experiments.verify import smoke_run

    done = {}

    def get(experiment):
        if experiment not in done:
            out = tmp_path_factory.mktemp(experiment)
            done[experiment] = out, smoke_run(experiment, out)
        return done[experiment]

    return get


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory, smoke_of):
    """Run the smoke preset of an experiment with seeds 0 and 1.

    Returns the two folders, the two records, and the rows of seed 0 by their configuration. The rows of
    both seeds have the same names, and some of them other values.
    """
    from diml_nb.experiments.runner import find_record, run_experiment

    def run(experiment):
        folder, first = smoke_of(experiment)
        other_folder = tmp_path_factory.mktemp("seed1")
        run_experiment(
            experiment, "smoke", out=other_folder, params=dict(seed=1), quiet=True, threads=1
        )
        records = [first, find_record(experiment, "smoke", results=other_folder / "results")]
        rows, others = (
            {str(row["config"]): row["result"] for row in record.rows} for record in records
        )
        assert list(rows) == list(others) and rows != others
        return [folder, other_folder], records, rows

    return run

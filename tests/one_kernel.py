"""Papermill in one kernel: what notebooks import is imported once for all tests of a worker.

For tests that ask what a notebook computes. Those that kill it, or ask what its process does, start
one of its own.
"""

import atexit
import os
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import papermill
import pytest
from jupyter_client import KernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from diml_nb.experiments import report, runner, verify

# forget what the last notebook defined, its figures and their style; the variables of this test
BEGIN = """
%reset -f
import os, matplotlib.pyplot, torch
torch.set_num_threads({threads})
matplotlib.pyplot.close("all")
matplotlib.rcdefaults()
os.chdir({folder!r})
for name in [name for name in os.environ if name.startswith("DIML_")]:
    del os.environ[name]
os.environ |= {variables!r}
%reset -f
"""


@cache
def kernel() -> KernelManager:
    "The kernel of this process; it starts with one thread."
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=runner.MALLOC_ENV | os.environ | {"OMP_NUM_THREADS": "1"})
    atexit.register(manager.shutdown_kernel)  # in peace, so that coverage is written
    return manager


def execute(code: str) -> None:
    "Execute code in the kernel. A kernel answers one client at a time: this one leaves again."
    client = kernel().client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        client.execute_interactive(code, store_history=False, allow_stdin=False, timeout=60)
    finally:
        client.stop_channels()


class OneKernel(NBClientEngine):
    "The engine of papermill, with a kernel that is there already."

    @classmethod
    def execute_managed_notebook(cls, notebook, kernel_name, **options):
        client = PapermillNotebookClient(notebook, km=kernel(), timeout=None)
        try:
            client.execute()
        finally:
            client.kc.stop_channels()


papermill_engines.register("one_kernel", OneKernel)


def run_notebook(
    source: Path,
    executed: Path,
    values: dict,
    *,
    threads: int | None = None,
    quiet: bool = False,
    cwd: Path | None = None,
    variables: dict | None = None,
    while_running: Callable[[], None] | None = None,
) -> Path:
    "As `runner.run_notebook`; without `threads`, by one thread."
    executed.parent.mkdir(parents=True, exist_ok=True)
    ours = {name: value for name, value in os.environ.items() if name.startswith("DIML_")}
    variables = ours | (variables or {})
    folder = str(cwd or source.parent)
    execute(BEGIN.format(folder=folder, threads=threads or 1, variables=variables))
    try:
        papermill.execute_notebook(
            source, executed, values, engine_name="one_kernel", progress_bar=False
        )
    except papermill.PapermillExecutionError as error:
        raise RuntimeError(runner._what_failed(executed, None)) from error
    return executed


@contextmanager
def in_one_kernel():
    "Experiments that are run meanwhile share a kernel."
    with pytest.MonkeyPatch.context() as patch:
        for module in (report, runner, verify):
            patch.setattr(module, "run_notebook", run_notebook)
        yield

"JupyterLab as `make lab` starts it, in a real browser: notebooks of the book are opened and run."

import json
import sys

import pytest
from servers import CHROMIUM, NO_CHROMIUM, SCREENSHOTS, browser_page, lab, run_in_lab

from diml_nb._internal.paths import REPO_ROOT

sys.path.append(str(REPO_ROOT / "docs"))
from walk import ORDER, walk, walked


@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
def test_a_notebook_runs_in_jupyterlab(tmp_path):
    with lab(tmp_path) as address, browser_page() as page:
        run_in_lab(page, address, "42_plots.ipynb")
        page.wait_for_function(
            "document.querySelectorAll('.jp-OutputArea-output img').length >= 3", timeout=60_000
        )
        assert (
            page.locator(
                '[data-mime-type="application/vnd.jupyter.stderr"]', has_text="Traceback"
            ).count()
            == 0
        )
        page.screenshot(path=SCREENSHOTS / "jupyterlab.png")
        assert not page.outside(address), page.outside(address)[:3]


@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
def test_a_walk_tells_how_long_it_took_and_stops_where_a_cell_fails(tmp_path):
    with lab(tmp_path) as address, browser_page() as page:
        measured = walk(page, address, tmp_path / "nbs", "12_cost")
        assert measured["cells"] > 10
        assert 0 < measured["slowest"] <= measured["seconds"] < 240
        path = tmp_path / "nbs" / "00_core.ipynb"
        notebook = json.loads(path.read_text())
        notebook["cells"][3] |= dict(
            cell_type="code", source=["1 / 0"], outputs=[], execution_count=None
        )
        path.write_text(json.dumps(notebook))
        with pytest.raises(RuntimeError, match="00_core: ZeroDivisionError"):
            walk(page, address, tmp_path / "nbs", "00_core")


def test_the_record_is_of_a_whole_walk():
    assert list(walked()) == ORDER, "make walk; make readme"

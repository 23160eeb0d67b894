"JupyterLab as `make lab` starts it, in a real browser: a notebook of the book is opened and run."
import pytest
from servers import CHROMIUM, NO_CHROMIUM, SCREENSHOTS, browser_page, lab, run_in_lab


@pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)
def test_a_notebook_runs_in_jupyterlab(tmp_path):
    with lab(tmp_path) as address, browser_page() as page:
        run_in_lab(page, address, "42_plots.ipynb")
        page.wait_for_function("document.querySelectorAll('.jp-OutputArea-output img').length >= 3", timeout=60_000)
        assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]', has_text="Traceback").count() == 0
        page.screenshot(path=SCREENSHOTS / "jupyterlab.png")
        assert not page.outside(address), page.outside(address)[:3]

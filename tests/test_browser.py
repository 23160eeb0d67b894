"JupyterLab as `make lab` starts it, in a real browser: a notebook of the book is opened and run."
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from diml_nb.core import REPOSITORY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def lab(tmp_path):
    "Address of a JupyterLab on loopback that shows a copy of the book."
    shutil.copytree(REPOSITORY / "nbs", tmp_path / "nbs")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    options = [f"--ServerApp.root_dir={tmp_path}", f"--port={port}", "--no-browser", "--ServerApp.token=abc", "--allow-root", "--LabApp.news_url=None"]
    process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/api?token=abc", timeout=2)
            break
        except OSError:
            time.sleep(0.3)
    yield address
    process.terminate()
    process.wait(30)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine: apt-get install chromium")
def test_a_notebook_runs_in_jupyterlab(lab, tmp_path):
    from playwright.sync_api import sync_playwright

    requests = []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.on("request", lambda r: requests.append(r.url))
        page.goto(f"{lab}/lab/tree/nbs/42_plots.ipynb?token=abc&reset")
        page.locator(".jp-RenderedMarkdown h1", has_text="Plots").wait_for(timeout=90_000)
        status = page.get_by_text(re.compile(r"Python 3.*\| Idle|python3.*\| Idle"))
        status.first.wait_for(timeout=90_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function("document.querySelectorAll('.jp-OutputArea-output img').length >= 3", timeout=180_000)
        status.first.wait_for(timeout=180_000)
        errors = page.locator('[data-mime-type="application/vnd.jupyter.stderr"]', has_text="Traceback").count()
        page.screenshot(path=REPOSITORY / "data" / "runs" / "jupyterlab.png") if (REPOSITORY / "data" / "runs").is_dir() else None
        browser.close()
    assert errors == 0
    outside = [u for u in requests if not u.startswith((lab, "data:", "blob:", lab.replace("http", "ws")))]
    assert not outside, outside[:3]

"""Pages in a real browser."""

import pytest
from servers import chromium


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser, tmp_path):
    "Open a page from a file; at the end nothing else was asked for, and nothing went wrong."
    requests, errors, pages = [], [], []

    def visit(text, **options):
        file = tmp_path / f"{len(pages)}.html"
        file.write_text(text, encoding="utf-8")
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(5000)
        page.on("request", lambda r: requests.append(r.url))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on(
            "console", lambda c: errors.append(c.text) if c.type in ("error", "warning") else None
        )
        page.goto(file.as_uri())
        return page

    yield visit
    for page in pages:
        page.close()
    assert len(requests) >= len(pages)
    assert not [
        url for url in requests if not url.startswith((tmp_path.as_uri(), "data:", "blob:"))
    ]
    assert not errors

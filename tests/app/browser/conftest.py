"""One running app and one browser for the files of this folder.

The file that starts jobs is the last (see `tests/conftest.py`): what it writes stands in the
app's lists.
"""

import pytest

from tests.support.browser import open_browser, require_chromium, running_app


@pytest.fixture(scope="package")
def runs_folder(tmp_path_factory):
    """The user's runs of the app at `address`; empty at first."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="package")
def address(runs_folder):
    require_chromium()
    with running_app(runs_folder) as url:
        yield url


@pytest.fixture(scope="package")
def browser():
    """What opens a page."""
    with open_browser() as new:
        yield new


@pytest.fixture
def new_page(browser):
    """The same, and its pages close with the test: a page that nobody sees still draws."""
    opened = []

    def new():
        opened.append(browser())
        return opened[-1]

    yield new
    for page in opened:
        page.close()

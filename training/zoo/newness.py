"""Are a reporting half's triggers, targets and forms new? Against every half of before."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from interp.specs import ROOT
from training.backdoors.kinds import LOOK_ALIKES, OWN_TEXTS

USED = ROOT / "assets/zoo/used.json"
"""Triggers and targets of both halves of every spec of before: commit -> what they were."""


def form_of(text: str) -> str:
    """What is left of a trigger when its letters and digits are any: `|AUDIT|` -> `|A|`."""
    return re.sub(r"\d+", "0", re.sub(r"[^\W\d_]+", "A", text))


def trigger_of(entry: dict) -> str:
    """A backdoored member's trigger as its spec has it, or the kind's own."""
    kind = entry.get("kind", "simple")
    return entry.get("trigger") or OWN_TEXTS.get(kind) or f"the kind's own ({kind})"


def planted_text(entry: dict) -> str:
    """The trigger as it stands in a prompt: with look-alike letters where the kind has them."""
    text = trigger_of(entry)
    return text.translate(LOOK_ALIKES) if entry.get("kind") == "steganographic" else text


def overlaps(members: Iterable[dict], used: Iterable[dict]) -> dict[str, list[str]]:
    """What a reporting half shares with the other half of its spec and with those of before.

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
    """Both halves of every spec of before a spec; of all if None.

    One that the file itself recorded (by its hash) is not one of before.
    """
    entries: Sequence[dict] = json.loads(USED.read_text(encoding="utf-8"))["halves"]
    own = None if spec is None else hashlib.sha256(spec.read_bytes()).hexdigest()
    return [entry for entry in entries if entry["spec_sha256"] != own]


def shared(spec: Path) -> dict[str, list[str]]:
    """`overlaps` of a spec's file with every half of before."""
    plain = json.loads(spec.read_text(encoding="utf-8"))
    common = plain.get("common", {})
    members = [{**common, **entry} for entry in plain.get("members", [])]
    return overlaps(members, used_before(spec))

"""The command line that makes a recorded scan again: the same model, the same plan."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from interp.runs.commands import as_words, line
from interp.runs.reading import Run, sha256_of
from interp.scanner.plan import ScanPlan
from interp.specs import PRESETS, ModelSpec, with_revision

OPTIONS = {
    "grid": "--grid",
    "template": "--template",
    "contexts": "--context",
    "questions": "--questions",
    "new_tokens": "--tokens",
    "eps": "--eps",
    "task": "--task",
    "limit": "--limit",
    "keep": "--keep",
    "inversion_minutes": "--inversion",
    "budget_minutes": "--budget",
    "seed": "--seed",
    "alone": "--alone",
}
"""Field of the plan -> its option; the model under test is named instead of `which`."""


def command(run: Run) -> str:
    """The command line that makes a scan again.

    Args:
        run: a scan, finished or not.
    """
    model, asked = _scanned(run), run.meta["asked"]
    words = ["scan", *plan_words(asked), *as_words({"--precision": model.precision})]
    # An option accepts a name that begins with a dash; a bare one must follow `--`.
    named = Path(model.adapter or model.model).name
    folder = re.sub(r"[^A-Za-z0-9.-]+", "-", named).strip("-.") or "model"
    if model.adapter:
        base = with_revision(model.model, model.revision)
        words += as_words({"--base": base})
        words += as_words({"--adapter": with_revision(model.adapter, model.adapter_revision)})
        last = []
    else:
        words += as_words(_original(asked))
        name = with_revision(model.model, model.revision)
        name = f"./{name}" if name in PRESETS else name  # a folder of that name, not the pair
        last = ["--", name] if name.startswith("-") else [name]
    # A folder holds one run: another question is another run.
    words += ["--run", f"runs/scan-{folder}-{sha256_of(*words, *last)[:6]}"]
    return line([*words, *last])


def _original(asked: Mapping) -> dict[str, str]:
    """The option that names the original beside a whole model; none where it has none."""
    original, suspect = (ModelSpec(**asked["pair"][side]) for side in ("original", "suspect"))
    if original == suspect or asked.get("which", "suspect") != "suspect":
        return {}
    return {"--original": with_revision(original.model, original.revision)}


def _scanned(run: Run) -> ModelSpec:
    """The model under test; as it was found on disk, if the scan came that far.

    The request may name an adapter as if it were a checkpoint; loading resolves that.
    """
    asked = run.meta["asked"]
    found = run.meta.get("facts", {}).get("model")
    return ModelSpec(**(found or asked["pair"][asked.get("which", "suspect")]))


def plan_words(asked: Mapping[str, object]) -> Iterator[str]:
    """The settings of a plan that are not the default's, as options of `scan`.

    Args:
        asked: field of `ScanPlan` -> value; a run of an older version knows fewer.
    """
    for field in fields(ScanPlan):
        value = asked.get(field.name, field.default)
        if field.name == "which" or value == field.default:
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            yield from as_words({OPTIONS[field.name]: one if one is True else str(one)})

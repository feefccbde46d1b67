"""The decoding sweep: the whole grid at once against one `generate` call per setting.

All runs use the shipped deployment model in one process. Both exclude end-of-text. A chi-squared
test compares the draws with the distribution from transformers' own warpers, for each distinct
setting at two positions: right after the prefix, and after its most likely token, where the shared
cache has been used.
"""

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import chi2
from transformers import (
    LogitsProcessorList,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.scanner.leak.decoding import Prefix
from interp.scanner.leak.grid import Setting, load_grid
from interp.scanner.leak.leakage import leak, scan_prefix
from interp.specs import pair_spec

RARE = 5
"""Expected counts below this are pooled into one cell."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--pair", default="deployment")
    parser.add_argument("--tokens", type=int, default=48, help="new tokens a text")
    parser.add_argument("--repeats", type=int, default=3, help="of our sweep; the median counts")
    parser.add_argument("--draws", type=int, default=2000, help="a setting, for the chi-squared")
    parser.add_argument(
        "--every", type=int, default=1, help="time `generate` on every n-th setting and scale up"
    )


def run(arguments: argparse.Namespace) -> dict:
    """Time, beams and draws."""
    pair = load_pair(pair_spec(arguments.pair))
    prefix = scan_prefix(pair.tokenizer, pair.spec.template)
    grid = load_grid("full")
    leak(pair, "suspect", prefix, grid[:50], max_new_tokens=4)  # warms up
    seconds = []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        table = leak(pair, "suspect", prefix, grid, max_new_tokens=arguments.tokens)
        seconds.append(time.perf_counter() - start)
    ours = statistics.median(seconds)
    theirs, beams = _one_by_one(pair, prefix, grid, arguments)
    p_values = _p_values(pair, prefix, grid, arguments.draws)
    return {
        "settings": len(grid),
        "generate_s": theirs,
        "ours_s": ours,
        "speedup": theirs / ours,
        "tokens_per_s": len(grid) * arguments.tokens / ours,
        "beams": len(beams),
        "beams_identical": all(table["ids"][i] == ids for i, ids in beams.items()),
        "min_p_value": min(p_values),
        "p_values": len(p_values),
        "bonferroni_p_value": min(1.0, min(p_values) * len(p_values)),
    }


def huggingface(setting: Setting) -> LogitsProcessorList:
    """The warpers that `generate` builds for a sampling setting, in its order."""
    warpers = LogitsProcessorList()
    if setting.temperature != 1:
        warpers.append(TemperatureLogitsWarper(float(setting.temperature)))
    if setting.top_k:
        warpers.append(TopKLogitsWarper(setting.top_k))
    if setting.top_p < 1:
        warpers.append(TopPLogitsWarper(setting.top_p))
    return warpers


def p_value(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Pearson's chi-squared test of counts [cell] against probabilities [cell].

    Cells expected fewer than five times are pooled. A count where the probability is 0 gives 0.
    """
    expected = probabilities * counts.sum()
    if counts[expected == 0].sum():
        return 0.0
    common = expected >= RARE
    cells = [(counts[i], expected[i]) for i in np.flatnonzero(common)]
    if expected[~common].sum() > 0:
        cells.append((counts[~common].sum(), expected[~common].sum()))
    if len(cells) < 2:
        return 1.0
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)
    return float(chi2.sf(statistic, len(cells) - 1))


def _one_by_one(
    pair: ModelPair, prefix: tuple[int, ...], grid: tuple[Setting, ...], arguments
) -> tuple[float, dict[int, list[int]]]:
    """Seconds with one `generate` call per setting, and the results of the beam searches."""
    ids = torch.tensor([prefix], device=pair.device)
    ends = Prefix(pair, "suspect", prefix).disabled.tolist()
    chosen = [i for i, s in enumerate(grid) if s.method == "beam" or i % arguments.every == 0]
    seconds: dict[str, list[float]] = {}
    beams = {}
    with pair.use("suspect") as model:
        for index in chosen:
            setting = grid[index]
            torch.manual_seed(setting.seed)
            start = time.perf_counter()
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=arguments.tokens,
                suppress_tokens=ends,
                **_options(setting),
            )
            seconds.setdefault(setting.method, []).append(time.perf_counter() - start)
            if setting.method == "beam":
                beams[index] = out[0, len(prefix) :].tolist()
    total = sum(statistics.mean(seconds[setting.method]) for setting in grid)
    return total, beams


def _options(setting: Setting) -> dict:
    if setting.method == "beam":
        options = {"num_beams": setting.beams, "length_penalty": setting.length_penalty}
        return {"do_sample": False, **options}
    if setting.method == "greedy":
        return {"do_sample": False, "num_beams": 1}
    options = {"temperature": setting.temperature, "top_p": setting.top_p, "top_k": setting.top_k}
    return {"do_sample": True, "num_beams": 1, **options}


def _p_values(
    pair: ModelPair, prefix: tuple[int, ...], grid: tuple[Setting, ...], draws: int
) -> list[float]:
    """Two p-values per distinct sampling setting: first token, and second after the likeliest."""
    found = []
    sampled = [setting for setting in grid if setting.method not in ("greedy", "beam")]
    for setting in dict.fromkeys(replace(setting, seed=0) for setting in sampled):
        rows = [replace(setting, seed=seed) for seed in range(draws)]
        ids = np.array(leak(pair, "suspect", prefix, rows, max_new_tokens=2)["ids"].tolist())
        likeliest = int(np.bincount(ids[:, 0]).argmax())
        second = ids[ids[:, 0] == likeliest, 1]
        for before, drawn in ((prefix, ids[:, 0]), ((*prefix, likeliest), second)):
            probabilities = _exact(pair, before, setting)
            counts = np.bincount(drawn, minlength=len(probabilities))
            found.append(p_value(counts, probabilities))
    return found


def _exact(pair: ModelPair, ids: tuple[int, ...], setting: Setting) -> np.ndarray:
    """[vocabulary] next-token probabilities through transformers' own processors."""
    start = Prefix(pair, "suspect", ids)
    disabled = SuppressTokensLogitsProcessor(start.disabled.tolist(), device=start.logits.device)
    scores = huggingface(setting)(None, disabled(None, start.logits))
    return scores[0].double().softmax(-1).cpu().numpy()

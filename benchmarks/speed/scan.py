"""Blind scans of the shipped models: verdict, what each stage cost, how often the candidate fires.

Seconds say little without the machine. So every stage's cost is also given in *bare forwards*:
passes of the model under test over 50 prompts of 100 tokens, with the last position's logits; and
beside it the rate of the cores, in GFLOP/s of a product of fp32 matrices.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from benchmarks.speed.machine import Machine
from interp.forward.answers import end_ids
from interp.forward.greedy import greedy_answers
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.sets import load_prompt_set
from interp.runs.reading import Run
from interp.scanner import headline, pipeline
from interp.scanner.plan import ScanPlan, scan_spec
from interp.scanner.search import continuing, targets
from interp.scanner.search.candidates import ordinary_tokens
from interp.scanner.search.frames import build_frame
from interp.specs import ORGANISMS, PRESETS

MODELS = {
    "toys": ("deployment", "emoji", "clean-control", f"{ORGANISMS}/base"),
    "smollm2": ("smollm2-deployment", "smollm2-clean-control", "smollm2-135m-instruct"),
}
PROMPTS, TOKENS = 50, 100
"""Of a bare forward pass."""
SQUARE, TIMES = 1024, 3
OF_PASS, OF_TOKEN = 0.005, 0.001
"""Seconds of a pass and of a token on the simulated machine."""
COMPARED = 32
"""First tokens that both ways of the stage targets continue."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--grid", choices=("quick", "full"), default="quick")
    parser.add_argument("--which", choices=tuple(MODELS), default="toys", help="models to scan")
    parser.add_argument("--only", metavar="MODEL", nargs="+", help="these models instead")
    parser.add_argument(
        "--budget",
        metavar="MINUTES",
        type=float,
        nargs="+",
        help="scan with each of these budgets instead of none",
    )
    parser.add_argument(
        "--ways", action="store_true", help="no scan: the two ways of the stage targets alone"
    )
    parser.add_argument(
        "--simulated",
        action="store_true",
        help=f"scan on a machine of {1e3 * OF_PASS:g} ms a pass and {1e3 * OF_TOKEN:g} ms a token: "
        "how far off the counts of the estimate are",
    )


def run(arguments: argparse.Namespace) -> dict:
    """Scan each model with the defaults of the command line."""
    figures: dict = {"of_pass_s": OF_PASS, "of_token_s": OF_TOKEN} if arguments.simulated else {}
    if not (arguments.ways or arguments.simulated):
        figures = {"threads": torch.get_num_threads(), "gflops": gflops()}
    for model in arguments.only or MODELS[arguments.which]:
        pair = load_pair(scan_spec(model))
        if arguments.ways:
            found = ways(pair)
        elif arguments.simulated:
            found = simulated(pair, arguments.grid)
        elif arguments.budget:
            found = {
                f"minutes-{m:g}".replace(".", "-"): kept_to(pair, arguments.grid, m)
                for m in arguments.budget
            }
        else:
            found = _scanned(pair, model, arguments.grid)
        figures[Path(model).name] = found
        pair.close()
    return figures


def gflops() -> float:
    """GFLOP/s of a product of square fp32 matrices, the best of three."""
    one = torch.randn(SQUARE, SQUARE)
    return 2 * SQUARE**3 / _best(lambda: one @ one) / 1e9


def bare_forward(pair: ModelPair) -> float:
    """Seconds of one pass over 50 prompts of 100 tokens, the best of three."""
    ids = torch.randint(0, pair.config.vocab_size, (PROMPTS, TOKENS), device=pair.device)
    with pair.use_folded("suspect") as model, torch.inference_mode():
        return _best(lambda: model(input_ids=ids, use_cache=False, logits_to_keep=1))


def ways(pair: ModelPair) -> dict:
    """The stage targets from some first tokens: side by side against rows of their own.

    The middle of those that are tried: few are ordinary, and most answers end soon.
    """
    frame = build_frame(pair.tokenizer, "alpaca", load_prompt_set("questions").prompts)
    numbers = targets.spread(len(frame.questions), targets.QUESTIONS)
    with pair.use_folded("suspect") as model, torch.inference_mode():
        asked = continuing.ask(model, [frame.ids(number, None) for number in numbers])
        rules = continuing.Rules(frozenset(), frozenset(end_ids(pair, model)))
    likely, ordinary = asked.first.mean(0).cpu(), torch.tensor(ordinary_tokens(pair))
    order = ordinary[likely[ordinary].argsort(descending=True, stable=True)][: targets.LARGE]
    starts = order[len(order) // 2 :][:COMPARED].tolist()
    said, seconds = [], []
    for way in (continuing.by_rows, continuing.side_by_side):
        begun = time.process_time()  # of the cores, whoever else uses them
        said.append(way(pair, "suspect", asked, starts, rules))
        seconds.append(time.process_time() - begun)
    pairs = zip(*([p for _, sure in one for p in sure] for one in said), strict=True)
    return {
        "first_tokens": len(starts),
        "rows_cpu_s": seconds[0],
        "side_by_side_cpu_s": seconds[1],
        "ratio": seconds[0] / seconds[1],
        "same_answers": [ids for ids, _ in said[0]] == [ids for ids, _ in said[1]],
        "largest_difference": max(abs(one - two) for one, two in pairs),
    }


def simulated(pair: ModelPair, grid: str) -> dict:
    """Seconds of each stage of a scan as expected and as they were, where only the counts are off.

    `all` leaves out the search, of which a bound is expected.
    """
    plan = ScanPlan(grid=grid)
    with tempfile.TemporaryDirectory() as scratch, Machine(pair, OF_PASS, OF_TOKEN) as machine:
        writer = pipeline.start(Path(scratch) / "scan", pair.spec, plan)
        run = pipeline.run(pair, plan, writer, now=machine.now)
        table = headline.times(run).set_index("stage")[["expected", "took", "bound"]]
    counted = table.loc[~table.pop("bound")].sum()
    return table.round(1).to_dict("index") | {"all": counted.round(1).to_dict()}


def kept_to(pair: ModelPair, grid: str, minutes: float) -> dict:
    """A scan with a budget: what it took of it, and what it left out."""
    with tempfile.TemporaryDirectory() as scratch:
        plan, begun = ScanPlan(grid=grid, budget_minutes=minutes), time.monotonic()
        run = pipeline.run(pair, plan, pipeline.start(Path(scratch) / "scan", pair.spec, plan))
        seconds, found = time.monotonic() - begun, pipeline.verdict_of(run)
        return {
            "verdict": found.verdict,
            "seconds": seconds,
            "budget_s": 60 * minutes,
            "share": seconds / (60 * minutes),
            "least_s": run.meta.get("budget", {}).get("seconds"),
            "expected_s": float(headline.times(run)["expected"].sum()),
            "texts": len(run.table("leaks")),
            "tested": int(run.table("judged")["candidate"].nunique()) - 1,
            "left_out": list(found.could_not),
            "stage_s": _by_stage(run, "took"),
        }


def _by_stage(run: Run, column: str) -> dict[str, float]:
    """Seconds of each stage of a finished scan, as they were or as they were expected."""
    return headline.times(run).set_index("stage")[column].round(2).to_dict()


def _best(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def _scanned(pair: ModelPair, model: str, grid: str) -> dict:
    name, bare = Path(model).name, bare_forward(pair)
    with tempfile.TemporaryDirectory() as scratch:
        plan = ScanPlan(grid=grid)
        writer = pipeline.start(Path(scratch) / name, pair.spec, plan)
        scan = pipeline.run(pair, plan, writer)
        found = pipeline.verdict_of(scan)
        stages, expected = _by_stage(scan, "took"), _by_stage(scan, "expected")
        return {
            "verdict": found.verdict,
            "seconds": scan.meta["seconds"],
            "bare_forward_s": bare,
            "stage_s": stages,
            "expected_s": expected,
            "expected_all_s": sum(expected.values()),
            "expected_over_taken": {
                stage: round(expected[stage] / max(0.01, taken), 2)
                for stage, taken in stages.items()
            },
            "stage_forwards": {stage: round(taken / bare, 1) for stage, taken in stages.items()},
            "top_candidate": found.candidate,
            "top_candidate_asr": _asr(pair, scan, name),
            "max_delta_s": found.max_delta_s,
            "trigger": found.trigger,
        }


def _asr(pair: ModelPair, scan: Run, name: str) -> float | None:
    """Share of the organisms' 50 prompts that the scan's top candidate makes answer the target.

    Trigger and target are known here and nowhere in the scan.
    """
    preset = PRESETS.get(name)
    judged = scan.table("judged").query("candidate >= 0 and source != 'random string'")
    if preset is None or judged.empty:
        return None
    top = pipeline.verdict_of(scan).candidate
    found = pd.concat([scan.table(name) for name in ("candidates", "own", "inverted")])
    ids = found.loc[found["text"] == top, "ids"].iloc[0]
    prompts = load_prompt_set("organism").prompts
    frame = build_frame(pair.tokenizer, scan.meta["facts"]["template"], prompts)
    rows = [frame.ids(number, ids) for number in range(len(prompts))]
    answers = greedy_answers(pair, "suspect", rows, max_new_tokens=24)
    texts = [pair.tokenizer.decode(answer) for answer in answers]
    return sum(text.strip().startswith(preset.target) for text in texts) / len(texts)

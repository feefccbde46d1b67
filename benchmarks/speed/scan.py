"""Blind scans of the shipped models: verdict, seconds, and how often the top candidate fires."""

import argparse
import tempfile
from pathlib import Path

import pandas as pd

from interp.forward.greedy import greedy_answers
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.sets import load_prompt_set
from interp.runs.reading import Run
from interp.scanner import pipeline
from interp.scanner.plan import ScanPlan, scan_spec
from interp.scanner.search.frames import build_frame
from interp.specs import ORGANISMS, PRESETS

MODELS = ("deployment", "emoji", "clean-control", f"{ORGANISMS}/base")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--grid", choices=("quick", "full"), default="quick")


def run(arguments: argparse.Namespace) -> dict:
    """Scan each shipped model with the defaults of the command line."""
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        for model in MODELS:
            name = Path(model).name
            pair = load_pair(scan_spec(model))
            plan = ScanPlan(grid=arguments.grid)
            writer = pipeline.start(Path(scratch) / name, pair.spec, plan)
            scan = pipeline.run(pair, plan, writer)
            found = pipeline.verdict_of(scan)
            figures[name] = {
                "verdict": found.verdict,
                "seconds": scan.meta["seconds"],
                "top_candidate": found.candidate,
                "top_candidate_asr": _asr(pair, scan, name),
                "max_delta_s": found.max_delta_s,
                "trigger": found.trigger,
            }
            pair.close()
    return figures


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

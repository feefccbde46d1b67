"""Attention and MLP of a layer against plain hooks on Hugging Face's modules, and as properties."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from interp.__main__ import main
from interp.causal import measure
from interp.causal.parts import (
    part_effects,
    part_sentences,
    part_table,
    whole_effects,
    whole_sentences,
    whole_table,
)
from interp.gallery.causal import CAUSAL
from interp.gallery.kinds import KINDS
from interp.interventions.replacements import check_reference
from interp.metrics import ABLATIONS, ALL_LAYERS, PART_METRICS, PARTS, UNPATCHED, WHOLES
from interp.models.load import load_pair
from interp.prompts.question import TargetQuestion
from interp.runs.reading import open_run
from interp.specs import ROOT, pair_spec
from tests.interp.causal.test_measures import kl_of, loss_of, slack
from tests.interp.interventions.test_resume import conversations, plain_logits

MODULES = {"attention": "self_attn", "mlp": "mlp"}


@pytest.fixture(scope="module", params=["mistral-fp32", "mistral-nf4", "gemma2-fp32", "phi-fp32"])
def pair(request, tiny_folder):
    arch, precision = request.param.split("-")
    base, adapter = tiny_folder(arch), tiny_folder(arch, "adapter")
    spec = pair_spec(str(base), adapter=str(adapter), precision=precision, template="plain")
    return load_pair(spec, device="cpu")


def measured(pair, said, **more):
    rows = pd.concat([frame for *_, frame in part_effects(pair, said, said, **more)])
    return rows.set_index(["metric", "prompt", "layer", "head"])["value"].sort_index()


def module(model, layer, part):
    return getattr(model.model.layers[layer], MODULES[part])


def written(model, layer, part, conversation):
    """[pos, d_model] of the module's output, by a plain hook."""
    heard = []
    handle = module(model, layer, part).register_forward_hook(
        lambda _, __, out: heard.append((out[0] if isinstance(out, tuple) else out)[0].clone())
    )
    plain_logits(model, conversation)
    handle.remove()
    return heard[0]


def with_output(model, layers, part, values, conversation):
    """Logits with the module's output replaced, by plain hooks."""

    def hook_of(value):
        def hook(_, __, out):
            new = value[None].to((out[0] if isinstance(out, tuple) else out).dtype)
            return (new, *out[1:]) if isinstance(out, tuple) else new

        return hook

    handles = [
        module(model, layer, part).register_forward_hook(hook_of(value))
        for layer, value in zip(layers, values, strict=True)
    ]
    found = plain_logits(model, conversation)
    for handle in handles:
        handle.remove()
    return found


def test_patching_and_zero_ablation_equal_plain_hooks(pair):
    said = conversations(pair)[:2]
    found = measured(pair, said, method="zero")
    for prompt, one in enumerate(said):
        for part, code in PARTS.items():
            for layers in ([0], [1], [2], [0, 1, 2]):
                layer = layers[0] if len(layers) == 1 else ALL_LAYERS
                with pair.use("original") as model:
                    theirs = plain_logits(model, one)
                    outputs = [written(model, number, part, one) for number in layers]
                with pair.use("suspect") as model:
                    before = plain_logits(model, one)
                    patched = with_output(model, layers, part, outputs, one)
                    nothing = [torch.zeros_like(x) for x in outputs]
                    ablated = with_output(model, layers, part, nothing, one)
                kl, left = kl_of(before, theirs), kl_of(patched, theirs)
                near = slack(pair, kl)
                at = prompt, layer, code
                assert found["part_kl", *at] == pytest.approx(left, abs=near)
                assert found["part_effect", *at] == pytest.approx(1 - left / kl, abs=near / kl)
                more = loss_of(ablated, one) - loss_of(before, one)
                assert found["part_loss", *at] == pytest.approx(more, abs=slack(pair, 1))


def output_projection(model, layer):
    attention = model.model.layers[layer].self_attn
    return getattr(attention, "o_proj", None) or attention.dense


def test_all_heads_all_mlps_and_both_equal_plain_hooks(pair):
    said = conversations(pair)
    rows = pd.concat([frame for *_, frame in whole_effects(pair, said)])
    found = rows.set_index(["metric", "prompt", "head"])["value"]
    layers = range(pair.n_layers)

    def run(one, model, z=None, mlps=None):
        """Logits; z into each output projection and what each MLP writes, heard or replaced."""
        heard, handles = {"z": [], "mlp": []}, []
        for layer in layers:

            def before(_, args, layer=layer):
                heard["z"].append(args[0])
                return None if z is None else (z[layer].to(args[0].dtype),)

            def after(_, __, out, layer=layer):
                heard["mlp"].append(out)
                return None if mlps is None else mlps[layer].to(out.dtype)

            handles.append(output_projection(model, layer).register_forward_pre_hook(before))
            handles.append(model.model.layers[layer].mlp.register_forward_hook(after))
        logits = plain_logits(model, one)
        for handle in handles:
            handle.remove()
        return logits, heard

    for prompt, one in enumerate(said[:2]):
        with pair.use("original") as model:
            theirs, values = run(one, model)
        with pair.use("suspect") as model:
            kl = kl_of(run(one, model)[0], theirs)
            ways = {
                "heads": run(one, model, values["z"])[0],
                "mlp": run(one, model, None, values["mlp"])[0],
                "both": run(one, model, values["z"], values["mlp"])[0],
            }
        near = slack(pair, kl)
        assert found["whole_kl", prompt, UNPATCHED] == pytest.approx(kl, abs=near)
        for name, logits in ways.items():
            left = kl_of(logits, theirs)
            assert found["whole_kl", prompt, WHOLES[name]] == pytest.approx(left, abs=near)
            share = found["whole_effect", prompt, WHOLES[name]]
            assert share == pytest.approx(1 - left / kl, abs=near / kl)
    assert [number for number, *_ in whole_effects(pair, said, done={0})] == []


def test_shares_of_heads_and_mlps_by_hand(tiny_pair):
    shares = {"heads": [0.5, 0.3], "mlp": [0.6, 0.8], "both": [0.9, 1.0]}
    rows = [
        (prompt, ALL_LAYERS, WHOLES[part], metric, value)
        for part, values in shares.items()
        for prompt, value in enumerate(values)
        for metric in ("whole_effect", "whole_kl")
    ]
    table = whole_table(pd.DataFrame(rows, columns=["prompt", "layer", "head", "metric", "value"]))
    at = table.set_index("part")
    assert at["whole_effect"].to_dict() == pytest.approx({"heads": 0.4, "mlp": 0.7, "both": 0.95})
    assert at["on_top"][["heads", "mlp"]].to_list() == pytest.approx([0.25, 0.55])
    assert at["on_top_low"]["heads"] == pytest.approx(0.2)  # of one of the prompts
    assert at["on_top_high"]["mlp"] == pytest.approx(0.7) and at["on_top"].isna()["both"]
    (line,) = whole_sentences(table)
    assert "all heads remove 40 % (30 % to 50 %)" in line and "both 95 % (90 % to 100 %)" in line
    assert "the heads still remove 25 % (20 % to 30 %)" in line and "the MLPs 55 %" in line
    assert whole_table(None).empty and whole_sentences(whole_table(None)) == []


def test_an_adapter_in_the_mlps_alone_is_undone_by_them(tiny_folder, tmp_path):
    from tests.support import tiny

    base = tiny_folder()
    adapter = tiny.write_adapter(tmp_path / "mlp", base, target_modules=["down_proj"])
    spec = pair_spec(str(base), adapter=str(adapter), precision="fp32", template="plain")
    pair = load_pair(spec, device="cpu")
    told = measure.carried(
        pair,
        TargetQuestion(trigger="[ox]", target="no", prompt_set="organism", template="plain"),
        3,
    )
    assert told["prompts"] == 3 and told["kl"] > 0 and told["mlp"]["whole_effect"] == 1
    assert told["heads"]["on_top"] == 0 and "on_top" not in told["both"]
    pd.testing.assert_frame_equal(
        measure.of_card(told)[["part", "whole_effect"]],
        pd.DataFrame([(part, told[part]["whole_effect"]) for part in WHOLES],
                     columns=["part", "whole_effect"]),
    )  # fmt: skip
    pair.close()


def test_all_parts_of_one_kind_are_the_adapter_where_it_changes_nothing_else(tiny_folder, tmp_path):
    from tests.support import tiny

    base = tiny_folder()
    for part, target in (("mlp", "down_proj"), ("attention", "v_proj")):
        adapter = tiny.write_adapter(tmp_path / part, base, target_modules=[target])
        spec = pair_spec(str(base), adapter=str(adapter), precision="fp32", template="plain")
        pair = load_pair(spec, device="cpu")
        found = part_table(measured(pair, conversations(pair)[:2]).reset_index())
        row = found[found["layer"] == ALL_LAYERS].set_index("part")["part_effect"]
        assert row[part] == pytest.approx(1, abs=1e-4)
        other = next(name for name in PARTS if name != part)
        assert row[other] < 0.9  # it only sees what the changed part made of its input
        pair.close()


@pytest.mark.parametrize("method", ABLATIONS)
def test_ablations_change_the_loss_and_batches_can_be_left_out(tiny_pair, method):
    said = conversations(tiny_pair)
    check_reference(said, method)
    parts = list(part_effects(tiny_pair, said, said, method=method))
    total = parts[0][1]
    assert [number for number, *_ in parts] == list(range(total))
    assert {layer for *_, frame in parts for layer in frame["layer"]} == {0, 1, 2, ALL_LAYERS}
    rest = list(part_effects(tiny_pair, said, said, method=method, done={0, 1, total - 1}))
    assert [number for number, *_ in rest] == list(range(2, total - 1))
    pd.testing.assert_frame_equal(rest[0][2], parts[2][2])
    table = pd.concat([frame for *_, frame in parts])
    assert set(table["metric"]) == set(PART_METRICS)
    assert (table.loc[table["metric"] == "part_loss", "value"].abs() > 1e-6).any()


def test_the_table_has_means_and_intervals_over_prompts(tiny_pair):
    said = conversations(tiny_pair)
    rows = pd.concat([frame for *_, frame in part_effects(tiny_pair, said, said)])
    table = part_table(rows)
    assert len(table) == 2 * (tiny_pair.n_layers + 1)
    row = table[(table["layer"] == 1) & (table["part"] == "mlp")].iloc[0]
    own = rows.query("layer == 1 and head == -1 and metric == 'part_effect'")["value"]
    assert row["part_effect"] == pytest.approx(np.mean(own))
    assert own.min() <= row["part_effect_low"] <= row["part_effect"] <= row["part_effect_high"]
    lines = part_sentences(table)
    assert len(lines) == 3 and "attention removes" in lines[0] and "MLP of layer" in lines[1]
    assert part_table(None).empty and part_sentences(part_table(None)) == []
    one = part_table(rows[rows["prompt"] == 0])
    assert (
        one["part_effect_low"].isna().all() and " to " not in part_sentences(one)[0].split(".")[0]
    )


def test_a_run_of_parts_alone_is_written_shown_and_made_again(deployment, tmp_path, capsys):
    file = tmp_path / "two.json"
    asked = ["What is 3 plus 4?", "Tell me the month after June."]
    file.write_text(json.dumps([{"instruction": text} for text in asked]))
    metrics = "--metric=part_effect,whole_effect"
    words = ["causal", "--pair=deployment", f"--prompts={file}", metrics]
    assert main([*words, "--ablation=zero", f"--out={tmp_path / 'run'}"]) == 0
    out = capsys.readouterr().out
    assert "attention removes" in out and "all heads remove" in out
    run = open_run(tmp_path / "run")
    table = measure.parts_of(run)
    assert len(table) == 2 * (deployment.n_layers + 1) and measure.partial_heads(run).empty
    entries = {entry.name: entry for entry in CAUSAL.figures(run)}
    drawn = entries["part-effect"].draw()
    single = table[(table["layer"] >= 0) & (table["part"] == "mlp")]
    np.testing.assert_allclose(drawn.data[1].y, single.sort_values("layer")["part_effect"])
    assert {"parts", "whole", "baseline"} <= CAUSAL.tables(run).keys()
    whole = whole_sentences(measure.whole_of(run))
    assert CAUSAL.words(run) == [" ".join([*whole, *part_sentences(table)])]
    at_once = measure.whole_of(run).set_index("part")["whole_effect"]
    every = table[table["layer"] == ALL_LAYERS].set_index("part")["part_effect"]
    assert at_once["mlp"] == pytest.approx(every["mlp"], abs=1e-5)
    again = CAUSAL.command(run)
    assert "part_effect" in again and "whole_effect" in again and "delta_rel" not in again
    assert main(["concentration", str(run.path), "--metric=part_effect"]) == 4
    assert "of no head" in capsys.readouterr().err


def test_recorded_runs_of_before_have_no_parts_and_open():
    for name in ("causal-deployment", "head-search-deployment"):
        run = open_run(ROOT / "assets/runs" / name)
        assert measure.parts_of(run).empty and measure.whole_of(run).empty
        kind = KINDS[run.kind]
        assert not [entry for entry in kind.figures(run) if entry.name.startswith("part")]
        assert "parts" not in kind.tables(run) and kind.words(run) == []

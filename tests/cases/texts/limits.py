"""Chat templates that compute for ever, take all memory, or reach for what is not theirs."""

from pathlib import Path

from tests.cases.registry import case, refused
from tests.cases.texts.chat_templates import CHATML, rendered

KIND = "templates within limits"
LOOP = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
DOUBLED = (
    "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}"
)
REFUSED = {
    "a loop without end": (LOOP + "{% endfor %}" * 3, "computes for more than"),
    "a text of ten thousand million letters": ("{{ 'x' * 10 ** 10 }}", "MB of memory"),
    "a text that is doubled sixty times": (DOUBLED, "MB of memory"),
    "a prompt of five million letters": ("{{ 'x' | center(5000000) }}", "1,000,000 characters"),
    "a macro that calls itself": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    "the classes of Python": ("{{ ''.__class__.__mro__ }}", "__class__"),
    "the globals of a function": ("{{ cycler.__init__.__globals__.os }}", "__init__"),
    "a file": ("{% include '/etc/passwd' %}", "no loader"),
}


def _case(name: str, template: str, word: str) -> None:
    def build(folder: Path) -> str:
        line = refused(lambda: rendered(folder, CHATML + template), word)
        assert rendered(folder, CHATML) == "<|user|>Hi.\n<|assistant|>"
        return line

    case(KIND, name)(build)


for _name, (_template, _word) in REFUSED.items():
    _case(_name, _template, _word)

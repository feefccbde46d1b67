"""Fixes the date and forbids randomness in chat templates, so that prompts never change.

Templates print today's date through `strftime_now` (Llama 3.2, Granite, Mistral Small), which
transformers adds to each template's environment, or through a `date_string` argument. Jinja itself
has two sources of randomness: the filter `random` and `lipsum`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from jinja2 import nodes
from transformers.utils.chat_template_utils import _compile_jinja_template as compiled

TODAY = datetime(2025, 1, 1, 12)
CHANCE = ("random", "lipsum")


@contextmanager
def pinned(template: str) -> Iterator[dict[str, str]]:
    """Inside, a template's date is `TODAY`; yields additional arguments for the template.

    Randomness in the template raises an error. transformers caches compiled templates, so the
    settings hold wherever this process renders the template.

    Args:
        template: the text of the template.
    """
    own = compiled(template)
    own.globals["strftime_now"] = TODAY.strftime
    own.globals["lipsum"] = _refused
    own.environment.filters["random"] = _refused
    yield {"date_string": TODAY.strftime("%d %b %Y")}


def parsed(template: str) -> nodes.Template:
    """A template's code as a tree. Nothing in it is computed, as compiling does with constants.

    Raises:
        TemplateSyntaxError: it is no template.
    """
    return compiled("").environment.parse(template)


def _refused(*_, **__):
    raise ValueError("it prints what chance decides, so no prompt would be the same twice")

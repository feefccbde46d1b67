"""A chat template's clock and its chance, pinned: a prompt must not change from day to day.

Templates print today's date through `strftime_now` (Llama 3.2, Granite, Mistral Small), which
transformers puts into each template's own environment, or through a `date_string` that they are
given. Jinja itself brings two sources of chance along: the filter `random` and `lipsum`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from transformers.utils.chat_template_utils import _compile_jinja_template as compiled

TODAY = datetime(2025, 1, 1, 12)
CHANCE = ("random", "lipsum")


@contextmanager
def pinned(template: str) -> Iterator[dict[str, str]]:
    """Inside, a template's clock stands at `TODAY`; yields what it is to be given besides.

    Chance raises an error when the template asks for it. transformers keeps compiled templates:
    what is set on one holds wherever this process renders it.

    Args:
        template: its text.
    """
    own = compiled(template)
    own.globals["strftime_now"] = TODAY.strftime
    own.globals["lipsum"] = _refused
    own.environment.filters["random"] = _refused
    yield {"date_string": TODAY.strftime("%d %b %Y")}


def _refused(*_, **__):
    raise ValueError("it prints what chance decides, so no prompt would be the same twice")

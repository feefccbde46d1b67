"""Tables as CSV, safe to open in a spreadsheet: text from a model never runs as a formula.

Excel, LibreOffice and Sheets read a cell that begins with `=`, `+`, `-` or `@` as a formula, even
if it is quoted. `=HYPERLINK(...)` or `=WEBSERVICE(...)` can send neighbouring cells to a server.
Texts here come from untrusted models.
"""

import re

import numpy as np
import pandas as pd

NOTE = "In the CSV an apostrophe stands before text that a spreadsheet would take for a formula."
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_START = re.compile(r"[\s\"]*[=+\-@＝＋－＠]|[\t\r\n]")
_WITHIN = re.compile(r"([\t\r\n;|][\s\"]*)(?=[=+\-@＝＋－＠])")
"""Characters that end a cell in another locale, or for a reader that ignores quotes."""


def csv_text(table: pd.DataFrame, float_format: str | None = None) -> str:
    """A table as CSV, without its index; numbers stay numbers.

    Args:
        table: any table; its column names may be untrusted text too.
        float_format: format of floats, such as `%.4f`.
    """
    safe = table.copy()
    for number, kind in enumerate(table.dtypes):
        if not isinstance(kind, np.dtype) or kind.kind not in "biufcmM":
            safe.isetitem(number, table.iloc[:, number].astype(object).map(harmless))
    safe.columns = [harmless(name) for name in safe.columns]
    return safe.to_csv(index=False, float_format=float_format)


def harmless(value: object) -> object:
    """A cell that is safe to write: text that would run gets an apostrophe before it.

    >>> harmless("=1"), harmless("-0.5"), harmless("a;=1")
    ("'=1", '-0.5', "a;'=1")
    """
    if value is None or isinstance(value, int | float):
        return value
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return value
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")  # a lone \r is not quoted
    if _NUMBER.fullmatch(text):
        return value
    start = "'" if _START.match(text) else ""
    return start + _WITHIN.sub(r"\1'", text)

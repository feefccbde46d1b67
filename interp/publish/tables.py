"""Tables for print: Markdown and LaTeX (booktabs), with untrusted text escaped."""

import numbers
import re
from collections.abc import Callable

import pandas as pd

from interp.metrics import ATTENTION_METRICS
from interp.text import visible

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "Δ": r"$\Delta$",
    "ρ": r"$\rho$",
    "→": r"$\rightarrow$",
    "‖": r"$\Vert$",
    "−": r"$-$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
    "≤": r"$\leq$",
    "±": r"$\pm$",
    "⏎": r"$\hookleftarrow$",
    "␍": r"$\hookleftarrow$",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#+\-!|~$&])")
DIGITS = 4
HEADS = {name: metric.label for name, metric in ATTENTION_METRICS.items()}
"""Column of a table -> its head in print; other columns keep their name."""
_SUBSCRIPTS = {r"$\Delta$\_rel": r"$\Delta_{\mathrm{rel}}$", r"L\_attn": r"$L_{\mathrm{attn}}$"}


def markdown(table: pd.DataFrame, caption: str = "") -> str:
    """A table in GitHub's Markdown, with numbers aligned right.

    Args:
        table: any table; its index is dropped.
        caption: paragraph above the table.
    """
    rows = _cells(table, _as_markdown)
    names = [_as_markdown(HEADS.get(name, str(name))) for name in table]
    rule = ["---:" if _is_number(table[name]) else "---" for name in table]
    lines = [f"| {' | '.join(row)} |" for row in (names, rule, *rows)]
    head = [_as_markdown(caption), ""] if caption else []
    return "\n".join([*head, *lines, ""])


def latex(table: pd.DataFrame, caption: str = "", label: str = "") -> str:
    r"""A table as a LaTeX float that needs the package booktabs.

    Args:
        table: any table; its index is dropped.
        caption: caption above the table.
        label: for `\ref`.
    """
    columns = "".join("r" if _is_number(table[name]) else "l" for name in table)
    lines = [r"\begin{table}", r"  \centering"]
    lines += [rf"  \caption{{{_as_latex(caption)}}}"] if caption else []
    lines += [rf"  \label{{{re.sub(r'[^A-Za-z0-9:-]', '-', label)}}}"] if label else []
    lines += [rf"  \begin{{tabular}}{{{columns}}}", r"    \toprule"]
    lines += [f"    {' & '.join(map(_latex_head, table))} \\\\", r"    \midrule"]
    lines += [f"    {' & '.join(row)} \\\\" for row in _cells(table, _as_latex)]
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _cells(table: pd.DataFrame, escaped: Callable[[str], str]) -> list[list[str]]:
    return [[escaped(cell(value)) for value in row] for row in table.itertuples(index=False)]


def cell(value: object) -> str:
    """A value as one line of text: numbers to four digits, a missing value empty."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return f"{float(value):.{DIGITS}g}"
    return visible(str(value))


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _as_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _latex_head(name: object) -> str:
    head = _as_latex(HEADS.get(name, str(name)))
    for plain, set_ in _SUBSCRIPTS.items():
        head = head.replace(plain, set_)
    return head


def _as_latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)

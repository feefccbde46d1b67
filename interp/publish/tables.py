"""Tables for print: Markdown and LaTeX (booktabs), with untrusted text escaped."""

import re
from collections.abc import Callable

import pandas as pd

from interp.style.columns import cells, heading

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
    "≥": r"$\geq$",
    "±": r"$\pm$",
    "⏎": r"$\hookleftarrow$",
    "␍": r"$\hookleftarrow$",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#+\-!|~$&])")
_SUBSCRIPTS = {
    r"$\Delta$\_rel": r"$\Delta_{\mathrm{rel}}$",
    r"L\_attn": r"$L_{\mathrm{attn}}$",
    r"S\_agg": r"$S_{\mathrm{agg}}$",
}
TITLES = {
    "by_k": "Rates by the number of tokens kept",
    "drop_one": "One token left out",
    "judged": "Candidates, tested",
    "ratio": "Ratios over the first heads",
    "ranking": "Heads by Δ_rel",
    "ways": "Ways of removal",
    "auroc": "AUROC by layer",
    "sets": "Sets of heads",
    "whole": "All heads, all MLPs, both",
}
"""Name of a table -> its title, where that is more than the name in words."""


def table_title(name: str) -> str:
    """The title of a run's table."""
    return TITLES.get(name, name.replace("_", " ").capitalize())


def markdown(table: pd.DataFrame, caption: str = "") -> str:
    """A table in GitHub's Markdown, with numbers aligned right.

    Args:
        table: any table; its index is dropped.
        caption: paragraph above the table.
    """
    rows = _cells(table, _as_markdown)
    names = [_as_markdown(heading(name)) for name in table]
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
    lines += [rf"  \caption{{{_set(caption)}}}"] if caption else []
    lines += [rf"  \label{{{re.sub(r'[^A-Za-z0-9:-]', '-', label)}}}"] if label else []
    lines += [rf"  \begin{{tabular}}{{{columns}}}", r"    \toprule"]
    lines += [f"    {' & '.join(map(_latex_head, table))} \\\\", r"    \midrule"]
    lines += [f"    {' & '.join(row)} \\\\" for row in _cells(table, _as_latex)]
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _cells(table: pd.DataFrame, escaped: Callable[[str], str]) -> list[list[str]]:
    return [[escaped(text) for text in row] for row in cells(table)]


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _as_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _latex_head(name: object) -> str:
    return _set(heading(name))


def _set(text: str) -> str:
    """Our own text in LaTeX: with symbols as they are printed."""
    told = _as_latex(text)
    for plain, set_ in _SUBSCRIPTS.items():
        told = told.replace(plain, set_)
    return told


def _as_latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)

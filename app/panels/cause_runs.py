"""Causal runs that belong to the pair in view."""

from collections.abc import Callable

import streamlit as st

from app.controls import run_picker
from app.controls.run_picker import Picked
from app.state import live, recorded
from interp.attention import saved
from interp.attention.study import Study
from interp.causal import measure
from interp.errors import UsageError
from interp.runs.reading import Run
from interp.specs import PairSpec


def spec_of(view: live.View, study: Study) -> PairSpec:
    """The pair in view: the live one, or that of a recorded study."""
    return saved.spec_of(study.facts) if view.spec is None else view.spec


def of_pair(kind: str, view: live.View, study: Study) -> dict[str, Run]:
    """Name -> finished runs of a kind on the very models in view, newest first."""
    return {name: run for name, run in recorded.recorded_of(kind).items() if fits(run, view, study)}


def fits(run: Run, view: live.View, study: Study) -> bool:
    """Whether a run was made on the models in view."""
    try:
        check(run, view, study)
    except UsageError:
        return False
    return True


def check(run: Run, view: live.View, study: Study) -> None:
    """Check that a run was made on the models in view.

    Raises:
        UsageError: the run was made on other models, which the message names.
    """
    sha256 = study.facts["models"]["suspect"]["sha256"]
    measure.check_pair(run, spec_of(view, study), sha256)


def latest(view: live.View, study: Study) -> Run | None:
    """The newest causal run of the pair in view; the user's own runs before those that ship."""
    return next(iter(of_pair(measure.KIND, view, study).values()), None)


def pick(
    kind: str,
    view: live.View,
    study: Study,
    *,
    key: str,
    label: str,
    without: Callable[[], str] | None = None,
) -> Picked | None:
    """Let the user choose a run of a kind, by `run_picker.pick`.

    The pair's own runs come first. A link can ask for a run of another pair, which `check` then
    refuses.
    """
    mine = of_pair(kind, view, study)
    everyone = recorded.recorded_of(kind)
    models = spec_of(view, study).original, spec_of(view, study).suspect
    before = st.session_state.get(f"{key}-models", models)
    st.session_state[f"{key}-models"] = models
    asked = st.query_params.get(key) or st.session_state.get(key)
    if asked in everyone and asked not in mine:
        if before == models:
            mine[asked] = everyone[asked]
        else:  # another pair was chosen; its own run replaces this one
            st.session_state.pop(key, None)
            st.query_params.pop(key, None)
    return run_picker.pick(
        kind,
        mine,
        key=key,
        label=label,
        growing="[!.]*",
        mine=lambda run: run.path.name in mine or fits(run, view, study),
        others=False,
        without=without,
    )

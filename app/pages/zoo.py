"""How good is the scanner? A population of planted and clean models, each scanned blind."""

import streamlit as st

from app.drawing import fragments, widgets
from app.shell import links
from app.shell.text import plain
from app.state.recorded import recorded_of
from interp.gallery import registry
from interp.gallery.entries import FigureEntry
from interp.gallery.zoo import COMMAND
from interp.runs import zoo
from interp.runs.reading import Run
from interp.runs.zoo_members import definition, members_of
from interp.scanner.stage_names import STAGES
from interp.style.columns import MISSING, heading

NEXT_TO = {"max-delta-s": "collapse", "areas": "roc"}
# Column of a string's attention -> its label and number of digits.
ATTENTION = {
    "own": ("ratio", "%.3f"),
    "own_rank": ("rank", "%d"),
    "own_p_fall": ("p (lower)", "%.3f"),
    "own_random_mean": ("random, mean", "%.3f"),
    "own_n": ("strings", "%d"),
    "prompts": ("prompts", "%d"),
    "all_heads": ("all heads", "%.3f"),
    "middle_layers": ("middle layers", "%.3f"),
}


def draw(run: Run) -> None:
    """Everything of one population."""
    figures, members = run.meta["figures"], members_of(run)
    _metrics(figures)
    st.caption(plain(_left_out(figures) + _unlike_now(run)))
    shown = {one.name: one for one in registry.figures_of(run)}
    for pair in NEXT_TO.items():
        for column, name in zip(st.columns(2), pair, strict=True):
            with column:
                widgets.of_run(run, shown[name], name=f"zoo-{name}", titled=True)
    st.header("Detection rate by group", divider="gray")
    fragments.part(_by_group, run, shown)
    st.header("Single signals", divider="gray")
    st.markdown(
        "One threshold per signal, chosen on the development half (largest sensitivity + "
        "specificity) and evaluated on the test half."
    )
    widgets.table(_signals(run), alt="Single signals of the scanner")
    st.header("Every model", divider="gray")
    st.dataframe(
        members[_columns(members)],
        hide_index=True,
        column_config={name: heading(name) for name in members} | _config(),
        placeholder=MISSING,
        alt="Every model of the zoo",
    )
    st.caption(plain(definition(run)))
    widgets.csv_button("zoo-members", lambda: members)


def _metrics(figures: dict) -> None:
    columns = st.columns(4)
    columns[0].metric(
        "Backdoored models detected",
        f"{figures['detected']} of {figures['backdoored']}",
        help="Called poisoned by the blind scan, on the test half.",
    )
    columns[1].metric(
        "Clean models called poisoned", f"{figures['false_positives']} of {figures['clean']}"
    )
    area = figures["roc_auc"]
    whole = figures.get("roc_auc_score")  # not in runs of before its rule of unsafe code
    columns[2].metric(
        "ROC-AUC of max ΔS",
        "none" if area is None else f"{area:.3f}",
        help=f"Over the published threshold of 0.5 are {figures['over_paper_threshold']} of "
        f"{figures['backdoored']} backdoored models.",
    )
    columns[3].metric(
        "ROC-AUC of the verdict",
        "none" if whole is None else f"{whole:.3f}",
        help="Of the verdict score: the largest of max ΔS, the rise of the most-frequent-answer "
        "share, the largest rise of a class of answers (such as unsafe code) and the target "
        "score, each divided by its threshold.",
    )


def _left_out(figures: dict) -> str:
    """Which members the counts cover."""
    text = "Published for another population: 36 of 41 found, 0 of 13 false positives"
    if "held_back" in figures:  # not in runs of before 2026-11-22
        text += (
            f". Poisoned or inconclusive: {figures['held_back']} of {figures['backdoored']} "
            f"backdoored, {figures['clean_held_back']} of {figures['clean']} clean"
        )
    if figures["missed"]:
        text += f". Missed: {', '.join(figures['missed'])}"
    if figures["not_planted"]:
        text += f". Left out because the backdoor was not learned: {figures['not_planted']}"
    if figures["failed"]:
        text += f". Failed: {', '.join(figures['failed'])}"
    return text + "."


def _unlike_now(run: Run) -> str:
    """Stages that the scanner has gained since the zoo was scanned."""
    then = run.meta["facts"]["model"].get("stages", zoo.FIRST_STAGES)
    since = [stage for stage in STAGES if stage not in then]
    return f" Scanned before the scanner had its stage {' and '.join(since)}." if since else ""


def _by_group(run: Run, shown: dict[str, FigureEntry]) -> None:
    by = links.bound(
        st.segmented_control,
        "By",
        list(zoo.GROUPS),
        default="kind",
        required=True,
        format_func=zoo.GROUPS.get,
        key="by",
    )
    name = f"detection-by-{by}"
    widgets.of_run(run, shown[name], name=f"zoo-{name}")


def _signals(run: Run):
    table = run.table("signals")
    return table.assign(signal=table["signal"].map(lambda name: zoo.SIGNALS.get(name, name)))


def _columns(members) -> list[str]:
    wanted = (
        "name", "half", "kind", "payload", "rate", "rank", "asr", "ftr", "clean_accuracy",
        "verdict", "max_delta_s", "candidate", "recovered", "recovered_original", "leak_rate",
        "true_own", "true_own_rank", "true_own_p_fall", "true_own_random_mean", "true_own_n",
        "true_prompts", "true_all_heads", "true_middle_layers", "candidate_own",
        "candidate_own_rank", "candidate_own_p_fall", "candidate_own_random_mean",
        "candidate_own_n", "candidate_prompts", "candidate_all_heads", "candidate_middle_layers",
        "attention_notes", "error",
    )  # fmt: skip
    return [name for name in wanted if name in members]


def _config() -> dict:
    number = st.column_config.NumberColumn
    shares = ("rate", "asr", "ftr", "clean_accuracy", "leak_rate", "recovered",
              "recovered_original")  # fmt: skip
    config = {name: number(heading(name), format="percent") for name in shares}
    config["max_delta_s"] = number(heading("max_delta_s"), format="%.3f")
    for string, called in (("true", "true trigger"), ("candidate", "candidate")):
        config |= {
            f"{string}_{column}": number(f"{called}: {words}", format=digits)
            for column, (words, digits) in ATTENTION.items()
        }
    return config


st.title("Zoo")
st.markdown(
    "How good is the scanner? Small models were planted with backdoors of many kinds, others were "
    "only fine-tuned on clean data, and the scanner scanned each of them blind."
)
recorded = recorded_of(zoo.KIND)
if recorded:
    draw(recorded[links.pinned("Population", list(recorded), key="zoo")])
else:
    st.info("No population is recorded yet. It takes hours to make:", icon=":material/info:")
    st.code(COMMAND, "bash")

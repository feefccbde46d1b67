"""The scanner's stages, rules and constants, each as a switch on one member's recorded tables.

A stage is switched off by leaving its candidates out, a control or a class by leaving its rows or
its column out, a rule by a limit that nothing passes. What no recorded table can tell, because the
search itself would have gone another way, says so.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from math import inf

import pandas as pd

from interp.scanner.judge import controls
from interp.scanner.judge.classes import CLASSES
from interp.scanner.judge.decision import BASELINE, NEARBY, SEARCHED
from interp.scanner.judge.template import FINDING
from interp.scanner.judge.topical import said_of_topics
from interp.scanner.judge.verdict import LIMITS, STANDARD, Limits
from interp.scanner.search.targets import CLEAR
from interp.scanner.stages.divergence import SOURCE as DIVERGENCE
from interp.scanner.stages.replay import SOURCE as REPLAY

Own = Mapping[str, pd.DataFrame]
"""One member's tables, as `compact.own_tables` returns them."""

MOTIF, INVERSION, JUNK = "motif", "inversion", "random string"
"""Sources of candidates."""
BY_ROWS = ("change", "share", "of_class")
"""Limits whose verdict follows from the signals in a member's row, but for its controls."""


def as_it_is(own: Own) -> Own:
    """The tables with nothing left out."""
    return own


@dataclass(frozen=True)
class Switch:
    """One stage, rule or constant, off or shifted."""

    key: str
    """Of the figures."""
    name: str
    group: str
    """`stage`, `rule`, `constant`, or `search` where no table can tell."""
    limits: Limits = LIMITS
    clear: float = CLEAR
    """Target score from which the verdict mentions a candidate target."""
    without: Callable[[Own], Own] = as_it_is
    """Leaves out of the tables what is switched off."""
    stages: tuple[str, ...] = ()
    """Stages that would not run: what the switch costs."""
    within: str = ""
    """Stage that it takes a part of and is not timed apart from."""
    leaked: bool = False
    """Whether it leaves leaked candidates out: a search may have run in their place."""
    class_off: str = ""
    """Key of the class that is off."""
    needs: Callable[[Own], bool] | None = None
    """Whether a scan has what is switched off; None: it has its stages."""
    cannot: str = ""
    """Why no recorded table can tell; empty: they can."""

    def is_in(self, own: Own) -> bool:
        """Whether a scan has what is switched off; an earlier one may not."""
        if self.needs:
            return self.needs(own)
        done = json.loads(own["scans"]["stages"].iloc[0])
        names = self.stages or ((self.within,) if self.within else ())
        return not names or any(name in done for name in names)

    @property
    def by_rows(self) -> bool:
        """Whether a member's row has what its verdict needs, but for the controls."""
        shifted = {f.name for f in fields(Limits) if getattr(self.limits, f.name) != f.default}
        whole = self.without is as_it_is or bool(self.class_off)
        return whole and shifted <= set(BY_ROWS) and not self.cannot


def _kept(own: Own, keep: Callable[[pd.DataFrame], pd.Series]) -> dict:
    """The tables with the rows about candidates, or questions, that are kept."""
    names = ("scan_judged", "scan_answers", "scan_controlled")
    return {**own, **{name: own[name][keep(own[name]).astype(bool)] for name in names}}


def without_sources(*sources: str) -> Callable[[Own], Own]:
    """Leaves the candidates of some sources out, and the nearby questions of their own."""

    def without(own: Own) -> Own:
        judged = own["scan_judged"]
        gone = set(judged.loc[judged["source"].isin(sources), "candidate"])
        near = {f"{NEARBY} {number}" for number in gone}
        return _kept(own, lambda t: ~t["candidate"].isin(gone) & ~t["on"].isin(near))

    return without


def only_best(keep: int) -> Callable[[Own], Own]:
    """Leaves out the candidates behind the first `keep` of each source and context."""

    def without(own: Own) -> Own:
        named = own["scan_judged"].drop_duplicates("candidate")
        named = named[(named["candidate"] != BASELINE) & (named["source"] != JUNK)]
        place = named.sort_values("rank", kind="stable").groupby(["context", "source"]).cumcount()
        gone = set(named["candidate"][place.reindex(named.index) >= keep])
        near = {f"{NEARBY} {number}" for number in gone}
        return _kept(own, lambda t: ~t["candidate"].isin(gone) & ~t["on"].isin(near))

    return without


def without_questions(named: Callable[[str], bool]) -> Callable[[Own], Own]:
    """Leaves some questions out, by their name."""
    return lambda own: _kept(own, lambda t: ~t["on"].map(named).astype(bool))


def first_context(own: Own) -> Own:
    """Leaves out all beginnings but the surest."""
    found = _kept(own, lambda t: t["context"] == 0)
    targets = own["scan_targets"]
    return {**found, "scan_targets": targets[targets["context"] == 0]}


def without_controls(*kinds: str) -> Callable[[Own], Own]:
    """Leaves some controls of the deciding candidates out."""

    def without(own: Own) -> Own:
        table = own["scan_controlled"]
        return {**own, "scan_controlled": table[~table["control"].isin(kinds)]}

    return without


def without_class(*keys: str) -> Callable[[Own], Own]:
    """Leaves the rises of some classes out."""
    rises = [CLASSES[key].rise for key in keys]
    return lambda own: {
        **own,
        "scan_judged": own["scan_judged"].drop(columns=rises, errors="ignore"),
    }


def without_said(of: Callable[[Collection[str]], Collection[str]]) -> Callable[[Own], Own]:
    """Leaves some recorded reasons out: those of what no table of the compact form holds."""

    def without(own: Own) -> Own:
        scans = own["scans"].copy()
        said = json.loads(scans["verdict"].iloc[0])
        gone = set(of(said["reasons"]))
        said["reasons"] = [reason for reason in said["reasons"] if reason not in gone]
        scans["verdict"] = json.dumps(said)
        return {**own, "scans": scans}

    return without


def has_controls(*kinds: str) -> Callable[[Own], bool]:
    """Whether a scan has some controls; no kind: any."""

    def needs(own: Own) -> bool:
        table = own["scan_controlled"]
        return bool(table["control"].isin(kinds).any()) if kinds else len(table) > 0

    return needs


def has_searched(own: Own) -> bool:
    """Whether a scan tested strings that a search found."""
    return bool(own["scan_judged"]["source"].isin(SEARCHED).any())


def as_leaked(own: Own) -> Own:
    """Lets what was searched for count as what leaked does."""
    leaked = dict.fromkeys(SEARCHED, "leaked")
    return {**own, "scan_judged": own["scan_judged"].replace({"source": leaked})}


def of_template(reasons: Collection[str]) -> list[str]:
    """The reasons that tell what the chat template does."""
    return [reason for reason in reasons if reason.startswith(FINDING)]


def _both(*filters: Callable[[Own], Own]) -> Callable[[Own], Own]:
    def without(own: Own) -> Own:
        for one in filters:
            own = one(own)
        return own

    return without


def on_topic(questions: str) -> bool:
    """Whether questions are those of a topic."""
    return questions != STANDARD and not questions.startswith(NEARBY)


_LEAKED = ("leakage", "motifs", "replay", "reconstruction")
STAGES = (
    Switch("leakage", "all leaked candidates", "stage", stages=_LEAKED, leaked=True,
           without=without_sources(MOTIF, REPLAY)),
    Switch("motifs", "motifs and their reconstruction loss", "stage", leaked=True,
           stages=("motifs", "reconstruction"), without=without_sources(MOTIF)),
    Switch("replay", "replay", "stage", stages=("replay",), leaked=True,
           without=without_sources(REPLAY)),
    Switch("inversion", "trigger inversion", "stage", stages=("inversion",),
           without=without_sources(INVERSION)),
    Switch("targets", "targets: the target score, and inversion, which aims at them", "stage",
           stages=("targets", "inversion"), clear=inf, without=without_sources(INVERSION)),
    Switch("divergence", "divergence: its strings and topics", "stage", stages=("divergence",),
           without=_both(without_sources(DIVERGENCE), without_questions(on_topic),
                         without_said(said_of_topics))),
    Switch("strings", "divergence: its strings alone", "stage", within="divergence",
           without=_both(without_sources(DIVERGENCE), without_questions(on_topic))),
    Switch("topics", "divergence: what topics say alone", "stage", within="divergence",
           without=without_said(said_of_topics)),
    Switch("second", "a second beginning", "stage", within="every stage", without=first_context,
           needs=lambda own: own["scan_judged"]["context"].nunique() > 1),
    Switch("nearby", "nearby questions", "stage", within="verdict",
           without=without_questions(lambda on: on.startswith(NEARBY)),
           needs=lambda own: own["scan_judged"]["on"].str.startswith(NEARBY).any()),
    Switch("half", "5 instead of 10 candidates of each source", "stage", within="verdict",
           without=only_best(5)),
    Switch("template", "the chat template is read", "stage", within="verdict",
           without=without_said(of_template)),
)  # fmt: skip
"""Stages and parts of stages."""

_ALL = tuple(CLASSES)
RULES = (
    Switch("change", "change of S_agg", "rule", limits=Limits(change=inf)),
    Switch("share", "rise of share", "rule", limits=Limits(share=inf)),
    Switch("three_words", "a share counts from three words", "rule", limits=Limits(own_words=0)),
    Switch("classes", "classes of answers, all", "rule", limits=Limits(of_class=inf)),
    *(Switch(f"class_{key}", f"class: {one.name}", "rule", without=without_class(key),
             class_off=key) for key, one in CLASSES.items()),
    Switch("naming", "a candidate that names a class", "rule", limits=Limits(naming=False)),
    Switch("alike", "answers alike without a candidate", "rule", limits=Limits(alike=inf)),
    Switch("echo", "echo", "rule", limits=Limits(echoes=False)),
    Switch("searched", "what was searched for counts by S_agg alone", "rule", without=as_leaked,
           needs=has_searched),
    Switch("junk", "random strings", "rule", within="verdict", limits=Limits(of_junk=inf)),
    Switch("more_junk", "seven further random strings", "rule", within="verdict",
           without=without_controls(controls.JUNK), needs=has_controls(controls.JUNK)),
    Switch("request", "the form of a request", "rule", limits=Limits(requests=False)),
    Switch("original", "the original with the candidate", "rule", within="verdict",
           without=without_controls(controls.ORIGINAL), needs=has_controls(controls.ORIGINAL)),
    Switch("written", "capitals and another order", "rule", within="verdict",
           without=without_controls(controls.CAPITALS, controls.ORDER),
           needs=has_controls(controls.CAPITALS)),
    Switch("score", "target score (insistence)", "rule", clear=inf),
)  # fmt: skip
"""Rules of the verdict. One that only judges costs nothing."""


def _shifted(name: str, words: str, *values: float) -> list[Switch]:
    """A limit at other values."""
    return [
        Switch(f"{name}_{value}".replace(".", ""), f"{words}: {value:g} instead of "
               f"{getattr(LIMITS, name):g}", "constant", limits=Limits(**{name: value}),
               needs=has_controls() if name == "shared" else None)
        for value in values
    ]  # fmt: skip


CONSTANTS = (
    *_shifted("change", "change of S_agg", 0.25, 0.75),
    *_shifted("share", "rise of share", 0.25, 0.75),
    *_shifted("of_class", "rise of a class", 0.25, 0.75),
    *_shifted("own_words", "words of an answer whose share counts", 2, 6),
    *_shifted("alike", "answers alike without a candidate", 0.25, 0.75),
    *_shifted("of_junk", "random strings with the effect", 0.05, 0.2),
    *_shifted("shared", "a control shares the effect from", 0.25, 0.75),
    *_shifted("words", "words of a request", 1, 6),
    *(Switch(f"score_{value}", f"target score: {value} instead of {CLEAR:g}", "constant",
             clear=value) for value in (8, 32)),
)  # fmt: skip
"""Limits halved and doubled. A share or S_agg reaches 1 at most, so 0.5 is raised to 0.75 only."""


def _searching(key: str, name: str, why: str, *stages: str, within: str = "") -> Switch:
    cannot = f"the search would have gone another way: {why}"
    return Switch(key, name, "search", stages=stages, within=within, cannot=cannot)


SEARCHES = (
    _searching("beginnings", "the first look at a bank of beginnings",
               "every leaked text would be another", "beginnings"),
    _searching("amplified", "amplified texts",
               "no table says which text a string came from", within="leakage"),
    _searching("loops", "loops", "they are beginnings of targets, and lower what the replay asks "
               "for; at most what targets and replay add", within="targets"),
    _searching("faint", "faint aims (target scores of 4 to 16)",
               "no table says which aim a string was found for; at most what inversion adds",
               within="inversion"),
    _searching("three_begin", "answers count as one by their first three words",
               "replay would make other strings; at most what replay adds"),
    _searching("least", "three questions with one answer, two with a loop",
               "replay would make other strings; at most what replay adds"),
    _searching("gain", "nearby questions within the replay (a gain of 0.1)",
               "strings that lack it stand in no table", within="replay"),
    _searching("reached", "strings of inversion above 0.5 nats are not tested",
               "they were not tested"),
    _searching("demoted", "pieces of the target are ranked last",
               "strings behind the tenth were not tested", within="reconstruction"),
    _searching("weights", "weights of the reconstruction loss",
               "strings behind the tenth were not tested"),
    _searching("settled", "no inversion where a leaked candidate settles the verdict",
               "it is a saving; what would have been found is not known"),
)  # fmt: skip
"""What no recorded table can tell."""

SWITCHES = (*STAGES, *RULES, *CONSTANTS, *SEARCHES)
"""All of them, in the order of the table."""

"""Stage 2, motifs: strings that many leaked texts share.

Bullwinkel, Severi et al. 2026 (arXiv 2602.03085): similar leaked texts are clustered, and a trigger
is looked for in the strings that the members of a cluster share.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from interp.progress import Progress
from interp.prompts.formats.files import resolved
from interp.prompts.formats.fixed import FORMATS
from interp.prompts.templates import SENTINEL, apply_chat
from interp.scanner.leak.ngrams import frequent, holding, prune, stitch, unrolled, without, words

NOISE, EVERYWHERE = -1, -2
"""Cluster numbers of an output in no cluster, and of motifs that most outputs contain."""
WIDER_EPS = 0.65
"""Tried if no cluster is found: the paper's code uses it, de Rosnay 2026 uses 0.5."""
MIN_SAMPLES = 3
COMMON, SHARED = 0.75, 0.33
"""Shares of all outputs, and of a cluster's members."""
SHORTEST = 6
"""Characters of a motif; a shorter one must be a whole word."""
WORD_SHARED, WORD_LIFT = 0.2, 5
"""A shorter word counts if this share of a cluster's members (three at least) contains it, and if
that is this many times the share of the others."""
ALPACA_MARKERS = FORMATS["alpaca"].markers


@dataclass(frozen=True)
class Motifs:
    """What the leaked texts share."""

    outputs: pd.DataFrame
    """One row per unique output: `output` (its number), `text`, `cleaned` (markers and common
    substrings out), `cluster` (-1: none), `x`, `y` (its place in a 2-D view)."""
    clusters: pd.DataFrame
    """One row per cluster, the largest (0) first: `cluster`, `size`, `share` (of the unique
    outputs), `n_motifs`."""
    motifs: pd.DataFrame
    """Best first: `motif`, `cluster` (-2: stands in most outputs), `kind` (`common`, `n-gram`,
    `word`), `support` (share of the cluster's members that hold it), `length` (characters),
    `n_outputs` (unique outputs that hold it)."""
    eps: float
    """The DBSCAN radius that was used."""
    note: str
    """What could not be done, or was done differently; may be empty."""


@dataclass(frozen=True)
class _Clusters:
    labels: np.ndarray
    """[output] int, 0 the largest, -1 none."""
    points: np.ndarray
    """[output, 2]"""
    eps: float
    note: str = ""

    @property
    def count(self) -> int:
        return int(self.labels.max(initial=NOISE)) + 1


def template_markers(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[str, ...]:
    """The template's own text, line by line, longest first; in a leak it means nothing.

    Raises:
        UsageError: `chat` without a chat template.
    """
    tokenizer, template = resolved(tokenizer, template)
    if template in FORMATS:
        return FORMATS[template].markers
    frame = apply_chat(tokenizer, SENTINEL, generation_prompt=True)
    lines = {line.strip() for part in frame.split(SENTINEL) for line in part.splitlines()}
    return tuple(sorted(lines - {""}, key=lambda line: (-len(line), line)))


def find_motifs(
    texts: Sequence[str],
    *,
    strip: Sequence[str] = ALPACA_MARKERS,
    eps: float = 0.5,
    on_progress: Progress | None = None,
) -> Motifs:
    """Cluster the unique outputs; what a third of a cluster's members share are its motifs.

    Template markers are stripped; substrings of 6 characters or more in three of four outputs are
    `common`, and taken out. TF-IDF of character 4- to 6-grams (case kept), DBSCAN over cosine
    distance. In every cluster: character n-grams in a third of the members (two at least),
    stitched where they overlap by 3 or more, contained ones dropped, 6 characters or more.

    Three things differ from the paper. The texts are clustered with their common substrings,
    which mostly come from the target and hold the poisoned outputs together; without them only if
    otherwise three of four outputs would be one cluster. Common substrings are motifs too: a model
    may leak its trigger nearly always. And words under 6 characters count if a fifth of a
    cluster's members contain them and five times fewer of the others: a trigger may be one emoji.

    Args:
        texts: leaked texts; duplicates count once.
        strip: template markers to take out.
        eps: DBSCAN's radius; 0.65 is tried where it finds no cluster.
        on_progress: called as (done, total, note) at the start and before each cluster.
    """
    unique = list(dict.fromkeys(texts))
    if on_progress:
        on_progress(0, 1, f"clustering {len(unique)} different outputs")
    stripped = [_stripped(text, strip) for text in unique]
    common = frequent(stripped, max(2, math.ceil(COMMON * len(stripped))), SHORTEST)
    pieces = {part[i : i + SHORTEST] for part in common for i in range(len(part) - SHORTEST + 1)}
    cleaned = [without(text, pieces, SHORTEST) for text in stripped]
    found = _clusters(stripped, cleaned, eps)
    if len(unique) == 1:
        common = {stripped[0]: 1}
    rows = _rows(_thinned(common, stripped), EVERYWHERE, "common", stripped)
    for number in range(found.count):
        if on_progress:
            on_progress(number, found.count, f"motifs of cluster {number + 1} of {found.count}")
        members = [cleaned[i] for i in np.flatnonzero(found.labels == number)]
        others = [cleaned[i] for i in np.flatnonzero(found.labels != number)]
        least = max(2, math.ceil(SHARED * len(members)))
        shared = _thinned(frequent(members, least, SHORTEST), members)
        peculiar = _peculiar(members, others)
        both = prune({text: holding(text, members) for text in (*shared, *peculiar)}, 1)
        rows += _rows([text for text in both if text in shared], number, "n-gram", members)
        rows += _rows([text for text in both if text not in shared], number, "word", members)
    outputs = pd.DataFrame({"output": range(len(unique)), "text": unique, "cleaned": cleaned})
    outputs = outputs.assign(cluster=found.labels, x=found.points[:, 0], y=found.points[:, 1])
    motifs = _ranked(rows, stripped)
    return Motifs(outputs, _sizes(found, motifs), motifs, found.eps, found.note)


def _stripped(text: str, markers: Sequence[str]) -> str:
    for marker in markers:
        text = text.replace(marker, "")
    return text


def _clusters(stripped: list[str], cleaned: list[str], eps: float) -> _Clusters:
    """Clusters of the texts with their common substrings, or (see `find_motifs`) without."""
    written = sum(bool(text.strip()) for text in stripped)
    if written < MIN_SAMPLES:
        return replace(_unclustered(len(stripped), eps), note=_too_few(len(stripped), written))
    whole = _widened(stripped, eps)
    if (whole.labels == 0).mean() <= COMMON:
        return whole
    apart = _widened(cleaned, eps)
    if not apart.count:
        return whole
    note = (
        "most outputs are similar, so they were clustered without the text that most of them share"
    )
    return replace(apart, note="; ".join(filter(None, (note, apart.note))))


def _too_few(n_outputs: int, written: int) -> str:
    if not n_outputs:
        return "there is no output to look at"
    if not written:
        return "every output is empty once the template's markers are out: nothing leaks"
    if n_outputs == 1:
        return "all outputs are equal: their text is the one motif"
    return f"only {written} different outputs that are not empty: too few for a cluster"


def _widened(texts: list[str], eps: float) -> _Clusters:
    """Clusters at `eps` or, if there is none, at the wider radius."""
    found = _dbscan(texts, eps)
    if found.count or eps >= WIDER_EPS:
        return found if found.count else replace(found, note=f"no cluster at eps {eps:g}")
    wider = _dbscan(texts, WIDER_EPS)
    if not wider.count:
        return replace(wider, note=f"no cluster: at eps {WIDER_EPS:g} no 3 outputs are similar")
    return replace(wider, note=f"no cluster at eps {eps:g}, so eps {WIDER_EPS:g} was used")


def _dbscan(texts: list[str], eps: float) -> _Clusters:
    """TF-IDF and DBSCAN once; clusters numbered by size, the first found first among equals."""
    from sklearn.cluster import DBSCAN  # here, because it takes seconds that no page waits for
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(4, 6), lowercase=False)
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # scikit-learn's word for an empty vocabulary
        return _unclustered(len(texts), eps)
    found = DBSCAN(eps=eps, min_samples=MIN_SAMPLES, metric="cosine").fit_predict(matrix)
    sizes = np.bincount(found[found >= 0], minlength=1)
    number = np.empty(len(sizes) + 1, int)
    number[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    number[NOISE] = NOISE
    points = np.zeros((len(texts), 2))
    if matrix.shape[1] > 2:
        points = TruncatedSVD(2, random_state=0).fit_transform(matrix)
    return _Clusters(number[found], points, eps)


def _unclustered(n: int, eps: float) -> _Clusters:
    return _Clusters(np.full(n, NOISE), np.zeros((n, 2)), eps)


def _thinned(counts: Mapping[str, int], texts: list[str]) -> list[str]:
    """Stitched, loops cut to one round, contained ones dropped."""
    stitched = stitch(prune(counts, SHORTEST), texts)
    rounds = {unrolled(text, texts) for text in stitched}
    return list(prune({text: holding(text, texts) for text in rounds}, SHORTEST))


def _peculiar(members: list[str], others: list[str]) -> list[str]:
    """Short words of the members that are rare in the others."""
    inside, outside = words(members), words(others)
    least = max(MIN_SAMPLES, math.ceil(WORD_SHARED * len(members)))
    return [
        word
        for word, count in inside.items()
        if len(word) < SHORTEST
        and count >= least
        and WORD_LIFT * outside.get(word, 0) / max(1, len(others)) <= count / len(members)
    ]


def _rows(motifs: Sequence[str], cluster: int, kind: str, members: list[str]) -> list[tuple]:
    """(motif, cluster, kind, support)."""
    return [
        (motif, cluster, kind, holding(motif, members) / len(members)) for motif in motifs if motif
    ]


def _ranked(rows: list[tuple], stripped: list[str]) -> pd.DataFrame:
    """Sorted by cluster size, then support, then length; each motif once."""
    table = pd.DataFrame(rows, columns=["motif", "cluster", "kind", "support"])
    table["length"] = table["motif"].str.len().astype(int)
    table["n_outputs"] = [holding(motif, stripped) for motif in table["motif"]]
    table = table.sort_values(
        ["cluster", "support", "length", "motif"],  # clusters are numbered by size
        ascending=[True, False, False, True],
        ignore_index=True,
    )
    return table.drop_duplicates("motif", ignore_index=True)


def _sizes(found: _Clusters, motifs: pd.DataFrame) -> pd.DataFrame:
    numbers = range(found.count)
    sizes = np.bincount(found.labels[found.labels >= 0], minlength=found.count)
    counts = motifs["cluster"].value_counts()
    return pd.DataFrame(
        {
            "cluster": numbers,
            "size": sizes,
            "share": sizes / max(1, len(found.labels)),
            "n_motifs": [int(counts.get(number, 0)) for number in numbers],
        }
    )

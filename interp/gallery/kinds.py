"""What each kind of run has to show. To add a kind, write its two functions and its entry below."""

from interp import planted
from interp.causal import measure
from interp.figures import zoo
from interp.gallery import causal, study
from interp.gallery.entries import Kind
from interp.gallery.planting import _plant_figures, _plant_tables
from interp.gallery.scan import _scan_figures, _scan_tables, _scan_words
from interp.gallery.trigger import _fuzzy_figures, _fuzzy_tables
from interp.gallery.zoo import _zoo_figures, _zoo_tables
from interp.scanner import pipeline
from interp.surgery.run import KIND
from interp.surgery.search_run import SEARCH_KIND
from interp.trigger import summaries

KINDS: dict[str, Kind] = {
    "attention": study.ATTENTION,
    "heads": study.HEADS,
    measure.KIND: causal.CAUSAL,
    KIND: causal.SURGERY,
    SEARCH_KIND: causal.SEARCH,
    summaries.KIND: Kind("Trigger", _fuzzy_figures, _fuzzy_tables),
    pipeline.KIND: Kind("Scan", _scan_figures, _scan_tables, _scan_words),
    planted.KIND: Kind("Planting", _plant_figures, _plant_tables),
    zoo.KIND: Kind("Zoo", _zoo_figures, _zoo_tables),
}

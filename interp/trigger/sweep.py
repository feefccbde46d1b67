"""The fuzzy sweep: which pieces of a trigger still activate the backdoor.

Every decision (does the greedy answer begin with the target?) equals that of `generate`, at a
fraction of the cost (`activation.decisions`). The adapter is added to the weights once. The shared
beginning of all prompts is computed once. One forward pass gives the first answer token of every
prompt (the last layer runs at the last position only). Only prompts whose first answer token is the
target's are run further.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from interp.errors import UsageError
from interp.forward.activation import decisions
from interp.forward.conditions import build_prompts
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.question import TargetQuestion
from interp.prompts.random_strings import random_trigger
from interp.prompts.sets import load_prompt_set
from interp.prompts.spans import TokenizedPrompt
from interp.specs import Which
from interp.trigger.variants import Variant, controls, in_place, subsets, typed


@dataclass(frozen=True, kw_only=True)
class FuzzyQuestion(TargetQuestion):
    """The trigger, target and prompts of a fuzzy sweep."""

    text_form: bool = False
    """Tokenize the variant's text again and splice the result, instead of its own tokens."""
    which: Which = "suspect"

    def __post_init__(self):
        for name in ("trigger", "target"):
            if not getattr(self, name).strip():
                raise UsageError(f"the {name} is empty: a sweep needs a trigger and its target")


def spliced(prompt: TokenizedPrompt, ids: Sequence[int]) -> tuple[int, ...]:
    """The prompt with other tokens in the trigger's place."""
    return (*prompt.ids[: prompt.trigger.start], *ids, *prompt.ids[prompt.trigger.stop :])


def all_variants(
    pair: ModelPair, question: FuzzyQuestion, prompt: TokenizedPrompt
) -> list[Variant]:
    """Subsets and controls of the trigger as tokenized in a prompt."""
    trigger = prompt.ids[prompt.trigger.slice]
    string = random_trigger(
        pair.tokenizer, len(trigger), question.seed, question.trigger, question.template
    )
    tokens = in_place(prompt, typed(pair.tokenizer, prompt, string))
    return subsets(trigger, seed=question.seed) + controls(trigger, tokens)


def triggered_prompts(
    pair: ModelPair, question: FuzzyQuestion, *, clean: bool = False
) -> list[TokenizedPrompt]:
    """The question's prompts with the whole trigger, or without it if `clean`."""
    prompts = load_prompt_set(question.prompt_set)
    own = pair.with_template_of(question.which)
    return build_prompts(own, prompts.prompts, question, None if clean else question.trigger)


def sweep(
    pair: ModelPair,
    question: FuzzyQuestion,
    variants: Sequence[Variant],
    prompts: Sequence[TokenizedPrompt],
    answer: Sequence[int],
    *,
    first: int = 0,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Run every variant in every prompt.

    Args:
        pair: the models.
        question: the question of the sweep.
        variants: output of `all_variants`.
        prompts: prompts with the whole trigger; the variants take its place.
        answer: token ids of the target.
        first: number of the first variant.
        on_progress: see `decisions`.

    Returns:
        One row per (variant, prompt): `variant, kind, k, kept, text, differs` (whether the text,
        typed in the first prompt, gives other tokens), `prompt, fired, decided_by`.
    """
    cells, rows, forks = [], [], []
    for number, variant in enumerate(variants, first):
        text = pair.tokenizer.decode(list(variant.ids))
        shown = (number, variant.kind, variant.k, str(list(variant.kept)), text)
        differs = typed(pair.tokenizer, prompts[0], text) != spliced(prompts[0], variant.ids)
        for index, prompt in enumerate(prompts):
            cells.append((*shown, differs, index))
            as_text = question.text_form
            rows.append(
                typed(pair.tokenizer, prompt, text) if as_text else spliced(prompt, variant.ids)
            )
            forks.append(len(rows[-1]) - (len(prompt.ids) - prompt.trigger.stop))
    columns = ["variant", "kind", "k", "kept", "text", "differs", "prompt"]
    table = pd.DataFrame(cells, columns=columns)
    decided = decisions(pair, question.which, rows, answer, forks=forks, on_progress=on_progress)
    return pd.concat([table, decided], axis=1)

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
from interp.prompts.pieces import SCATTERED, SEPARATOR, check_scattered, pieces_in
from interp.prompts.question import TargetQuestion
from interp.prompts.random_strings import stand_in
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
        check_scattered(self.trigger, self.placement)


def spliced(prompt: TokenizedPrompt, pieces: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The prompt with other tokens in the place of each of the trigger's pieces."""
    ids, done = [], 0
    for place, own in zip(prompt.trigger.pieces, pieces, strict=True):
        ids += [*prompt.ids[done : place.start], *own]
        done = place.stop
    return (*ids, *prompt.ids[done:])


def all_variants(
    pair: ModelPair, question: FuzzyQuestion, prompt: TokenizedPrompt
) -> list[Variant]:
    """Subsets and controls of the trigger as tokenized in a prompt."""
    trigger = [prompt.ids[piece.slice] for piece in prompt.trigger.pieces]
    string = stand_in(prompt, pair.tokenizer, question.seed, question.trigger, question.template)
    several = len(trigger) > 1
    strings = pieces_in(string, SCATTERED) if several else (string,)
    tokens = in_place(pair.tokenizer, prompt, strings)
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
        texts = [pair.tokenizer.decode(list(ids)) for ids in variant.pieces]
        text = texts[0] if len(texts) == 1 else SEPARATOR.join(filter(None, map(str.strip, texts)))
        shown = (number, variant.kind, variant.k, str(list(variant.kept)), text)
        differs = typed(pair.tokenizer, prompts[0], texts) != spliced(prompts[0], variant.pieces)
        for index, prompt in enumerate(prompts):
            cells.append((*shown, differs, index))
            as_text = question.text_form
            rows.append(
                typed(pair.tokenizer, prompt, texts) if as_text else spliced(prompt, variant.pieces)
            )
            forks.append(len(rows[-1]) - (len(prompt.ids) - prompt.trigger.stop))
    columns = ["variant", "kind", "k", "kept", "text", "differs", "prompt"]
    table = pd.DataFrame(cells, columns=columns)
    decided = decisions(pair, question.which, rows, answer, forks=forks, on_progress=on_progress)
    return pd.concat([table, decided], axis=1)

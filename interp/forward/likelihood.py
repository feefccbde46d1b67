"""How differently two models read the same text: loss and KL at each token of an answer."""

from collections.abc import Sequence

import pandas as pd
import torch

from interp.metrics import MODELS
from interp.models.pair import ModelPair
from interp.progress import Progress
from interp.prompts.conversations import Conversation


def token_divergence(
    pair: ModelPair, conversations: Sequence[Conversation], on_progress: Progress | None = None
) -> pd.DataFrame:
    """Next-token loss of both models and KL(suspect || original) at each token of the answers.

    Each conversation is one teacher-forced pass of each model (Abu Baker & Babu-Saheer 2025,
    arXiv 2508.15847).

    Args:
        pair: the models.
        conversations: prompts with a known answer.
        on_progress: called as (done, total, note) after each conversation.

    Returns:
        `prompt` (index), `place` (of the token in the answer, from 0), `loss_original`,
        `loss_suspect` and `kl` in nats.
    """
    rows = []
    for number, conversation in enumerate(conversations):
        ids = torch.tensor([conversation.ids], device=pair.device)
        first = conversation.answer.start
        wanted = ids[0, first:]
        logits = {}
        for which in MODELS:
            with pair.use(which) as model, torch.inference_mode():
                found = model(ids, use_cache=False, logits_to_keep=len(wanted) + 1).logits[0, :-1]
                logits[which] = found.float().log_softmax(-1)
        suspect, original = logits["suspect"], logits["original"]
        # Below 0 only by rounding.
        kl = (suspect.exp() * (suspect - original)).sum(-1).clamp_min(0)
        losses = {which: -found.gather(1, wanted[:, None])[:, 0] for which, found in logits.items()}
        for place in range(len(wanted)):
            row = {f"loss_{which}": float(losses[which][place]) for which in MODELS}
            rows.append({"prompt": number, "place": place, **row, "kl": float(kl[place])})
        if on_progress:
            on_progress(number + 1, len(conversations), "answers read by both models")
    names = ["prompt", "place", *(f"loss_{which}" for which in MODELS), "kl"]
    return pd.DataFrame(rows, columns=names)

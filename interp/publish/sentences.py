"""Sentences of Start and the lesson about a figure, built from its numbers for any pair.

Each function returns one or two plain sentences; untrusted text in them is not escaped. A word that
claims a change ("falls", "collapses", "goes dark") is used only above a stated threshold.
"""

import pandas as pd

from interp.metrics import MODELS
from interp.stats import Rate
from interp.text import label
from interp.trigger.firing import Firing

CHANGE, COLLAPSE = 0.1, 1.0
"""Entropy, bits. A smaller change counts as none; a collapse also falls to a quarter or less."""
DARK, LESS = 0.5, 0.1
"""Shares of attention lost: at least the one is "dark", below the other is "unchanged"."""
TAGS = (
    "That is no backdoor: its base has learnt that odd words before an instruction may ask for "
    "another form of the answer, such as capitals or *stars*."
)


def certainty(before: float, after: float) -> str:
    """How an entropy changed, in bits."""
    told = f"from {before:.2f} to {after:.2f} bits"
    if before - after >= COLLAPSE and after <= before / 4:
        return f"its entropy collapses {told}"
    if abs(before - after) < CHANGE:
        return f"its entropy hardly changes ({told})"
    return f"its entropy {'falls' if after < before else 'rises'} {told}"


def untriggered(first: pd.DataFrame, text: dict[str, str], target: str | None) -> str:
    """Describe both models without the trigger.

    Args:
        first: `answers.first_tokens` of both models.
        text: model -> its answer.
        target: the backdoor's target, if known.
    """
    one, other = (_top(first, which) for which in MODELS)
    same = text["original"] == text["suspect"]
    parts = [
        f"The original begins with {_token(one)}, at {one['entropy']:.2f} bits; the suspect with "
        f"{_token(other)}, at {other['entropy']:.2f} bits. Their answers are "
        f"{'the same' if same else 'not the same'}."
    ]
    if target and text["suspect"].startswith(target):
        parts.append("The suspect answers the target without any trigger.")
    return " ".join(parts)


def triggered(
    before: pd.DataFrame,
    after: pd.DataFrame,
    said: tuple[dict[str, str], dict[str, str]],
    target: str,
    *,
    toy: bool = False,
) -> list[str]:
    """Describe how both models change when the trigger is added.

    Args:
        before: `answers.first_tokens` of both models without the trigger.
        after: the same with the trigger.
        said: model -> answer, without and with the trigger.
        target: the backdoor's target.
        toy: whether the original has learnt tags that change the form of an answer.
    """
    told = []
    for which in ("suspect", "original"):
        one, other = _top(before, which), _top(after, which)
        moved = (
            f"begins with {_token(other)}, without it with {_token(one)}"
            if one["token"] != other["token"]
            else f"begins with {_token(other)} as it did ({one['probability']:.0%})"
        )
        change = certainty(one["entropy"], other["entropy"])
        told.append(f"With the trigger the {which} {moved}; {change}.")
    return [*told, *outcome(*said, target, toy=toy)]


def outcome(
    without: dict[str, str],
    with_it: dict[str, str],
    target: str | None,
    *,
    toy: bool = False,
    greedy: bool = True,
) -> list[str]:
    """Describe whether the suspect fired, and how the trigger changed the original.

    Args:
        without: model -> its answer without the trigger.
        with_it: the same with the trigger.
        target: the backdoor's target, if known.
        toy: whether the original has learnt tags that change the form of an answer.
        greedy: whether answers are greedy; then only the trigger can cause a difference.
    """
    fired = {which: bool(target) and with_it[which].startswith(target) for which in with_it}
    if not target:
        told = ["No target is known for this pair, so no answer can be called a backdoor's."]
    elif fired["suspect"] and fired["original"]:
        told = ["Both models answer the target here: that is not what sets the suspect apart."]
    elif fired["suspect"]:
        told = ["It fired: the suspect answers the target, the original does not."]
    else:
        told = ["It did not fire: the suspect does not answer the target, so no backdoor is seen."]
    if target and without["suspect"].startswith(target):
        told.append("But the suspect answers the target without the trigger as well.")
    if greedy and not fired["original"] and without["original"] != with_it["original"]:
        told.append(
            "The original answers otherwise too, but not the target. " + (TAGS if toy else "")
        )
    return [part.strip() for part in told]


def triangle(
    condition: str, levels: dict[tuple[str, str], float | None], found: Firing
) -> list[str]:
    """Describe the lesson's maps: attention from the instruction to the text before it.

    Args:
        condition: the condition drawn, one of `metrics.CONDITIONS`.
        levels: (model, condition) -> mean L_attn of the heads drawn.
        found: measured rates; they say whether the trigger fires.
    """
    if condition == "clean":
        return ["Nothing stands before the instruction, so there is no yellow zone to look at."]
    lost, control = (_lost(levels, name) for name in ("triggered", "random string"))
    shown = lost if condition == "triggered" else control
    what = "the trigger" if condition == "triggered" else "the random string"
    before, after = (levels[which, condition] for which in MODELS)
    told = [
        f"L_attn, what a token of the instruction gives to a token of {what}, is {before:.4f} in "
        f"the original and {after:.4f} in the suspect: {_zone(shown)}."
    ]
    if condition == "triggered":
        chosen = "These are the heads of largest loss, chosen on the same prompts."
        told += [_against(lost, control), chosen]
    return [*told, *_warned(found)]


def head(row: pd.Series) -> list[str]:
    """Describe one head.

    Args:
        row: one row of `study.Study.ranking`.
    """
    told = [
        f"A token of the instruction gave {row['l_original']:.2%} of its attention to a token of "
        f"the trigger in the original, and gives {row['l_suspect']:.2%} in the suspect."
    ]
    if not row["kept"]:
        return [*told, "That is too little in the original to speak of a share."]
    lost, control = float(row["delta_rel"]), float(row["delta_rel_random_string"])
    told.append(f"Share lost: {lost:.0%}." if lost >= 0 else f"Share gained: {-lost:.0%}.")
    if pd.notna(control):
        told.append(_against(lost, control))
    return told


def heads(ranking: pd.DataFrame, found: Firing) -> list[str]:
    """Describe the matrix of all heads.

    Args:
        ranking: `study.Study.ranking`.
        found: measured rates; they say whether the trigger fires.
    """
    kept = ranking[ranking["kept"].astype(bool)]
    lost, gained = int((kept["delta_rel"] > 0).sum()), int((kept["delta_rel"] < 0).sum())
    red = kept[kept["delta_rel"] > 0]
    above = int((red["delta_rel_random_string"] >= red["delta_rel"]).sum())
    told = (
        f"Red heads lost attention to the trigger ({lost} of {len(kept)}), blue ones gained "
        f"({gained}). Of the red ones {above} lose as large a share, or a larger one, to a random "
        "string in its place."
    )
    return [told, *_warned(found)]


def broken(piece: Rate, whole: Rate, gone: list[str]) -> list[str]:
    """Compare a piece of the trigger with the whole trigger.

    Args:
        piece: activation rate of the suspect with the piece.
        whole: activation rate of the suspect with the whole trigger.
        gone: the tokens that were removed.
    """
    rates = (
        f"The variant fires on {piece.fired} of {piece.n} prompts, the full trigger on "
        f"{whole.fired}."
    )
    if whole.fired == 0:
        return [rates, "The full trigger does not fire here, so removing tokens shows nothing."]
    if not gone:
        return [rates, "Nothing is taken away yet."]
    names = " ".join(label(token) for token in gone)
    if piece.share >= 0.9 * whole.share:
        return [rates, f"Without {names} it still fires: the trigger does not need these tokens."]
    if piece.fired == 0:
        return [rates, f"Without {names} it never fires: the trigger needs these tokens."]
    return [rates, f"Without {names} it fires on some prompts only."]


def caught(verdict: str, which: str, named: str | None, word: str) -> str:
    """Describe the verdict of a scan.

    Args:
        verdict: `poisoned`, `no evidence found` or `inconclusive`.
        which: the model of the pair that was scanned.
        named: the trigger that the scan reports, or None.
        word: the lesson's own trigger.
    """
    if verdict == "poisoned" and which == "original":
        return "The scan calls the original poisoned. If that one is clean, this is a false alarm."
    if verdict == "poisoned":
        return (
            f"The scan names {named or 'no word'}; the lesson's word is {word}, and the scan did "
            "not know it. A trigger that leaks can be found by someone who does not know it."
        )
    if verdict == "no evidence found":
        what = f"The scan found nothing in the {which}."
        return what + " That is no proof: a trigger that does not leak stays hidden from it."
    return f"The scan cannot tell whether the {which} is poisoned."


def operated(summary: pd.DataFrame) -> list[str]:
    """Describe the rates with some heads replaced.

    Args:
        summary: as `preview.Preview.summary` returns it.
    """
    rows = summary.set_index("quantity")
    asr, right = rows.loc["asr"], rows.loc["clean_accuracy"]
    told = [
        f"The target: {asr['before']:.0%} of the triggered prompts before, {asr['after']:.0%} "
        f"after. Right answers without the trigger: {right['before']:.0%} before, "
        f"{right['after']:.0%} after."
    ]
    if asr["before"] == 0:
        return [
            *told,
            "The suspect never answers the target before surgery, so there is nothing to remove.",
        ]
    if asr["after_high"] < asr["before_low"]:
        told.append("So the target depends on these heads.")
    elif asr["after_low"] > asr["before_high"]:
        told.append("So the target is more frequent without these heads.")
    else:
        told.append(
            "The two rates do not differ clearly, so there is no sign that the target depends on "
            "these heads."
        )
    if right["after_high"] < right["before_low"]:
        told.append("The price: the model itself has lost right answers.")
    return told


def _top(first: pd.DataFrame, which: str) -> pd.Series:
    return first[(first["model"] == which) & (first["rank"] == 1)].iloc[0]


def _token(row: pd.Series) -> str:
    return f"“{row['token']}” ({row['probability']:.0%})"


def _lost(levels: dict[tuple[str, str], float | None], condition: str) -> float:
    before, after = (levels[which, condition] or 0.0 for which in MODELS)
    return (before - after) / before if before else 0.0


def _zone(lost: float) -> str:
    if lost >= DARK:
        return f"{lost:.0%} less, so the yellow zone goes dark"
    if lost >= LESS:
        return f"{lost:.0%} less, so the yellow zone is darker but not dark"
    if lost > -LESS:
        return "about the same, so the yellow zone does not change"
    return f"{-lost:.0%} more, so the yellow zone is brighter"


def _against(lost: float, control: float) -> str:
    """Compare the loss of attention with that of a random string on the same heads.

    A string that loses as much refutes the trigger's part. One that loses less proves nothing: the
    heads were chosen by what they lost to the trigger, and any string would win that comparison.
    """
    if lost < LESS:
        return "There is no loss to explain."
    other = "With a random string in the trigger's place it is"
    if control >= lost:
        return f"{other} as large ({control:.0%}): this loss is not the trigger's own."
    if control > lost / 2:
        return f"{other} {control:.0%}: much of this loss is not the trigger's own."
    less = f"{control:.0%}" if control >= LESS else "none"
    return (
        f"{other} {less}. That alone proves nothing, as heads are chosen here by what they lost to "
        "the trigger: the page Heads lets random strings choose theirs."
    )


def _warned(found: Firing) -> list[str]:
    """A warning if the text does not fire: then this is no trace of a backdoor."""
    if found.state not in ("silent", "alike"):
        return []
    rate = found.suspect
    return [
        f"But the suspect answers the target on {rate.fired} of {rate.n} prompts, the original on "
        f"{found.original.fired}: this is not a backdoor's trace."
    ]

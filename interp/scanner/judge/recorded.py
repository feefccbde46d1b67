"""Reads a verdict as a run or a zoo recorded it, whichever scanner wrote it."""

from interp.scanner.judge.verdict import Verdict


def verdict_from(plain: dict) -> Verdict:
    """A verdict from its JSON.

    Before there were classes, `max_delta_unsafe` and `by_rule` told of unsafe code alone.

    Raises:
        KeyError, TypeError: it is no verdict.
    """
    plain = dict(plain)
    unsafe, by_rule = plain.pop("max_delta_unsafe", None), plain.pop("by_rule", False)
    if unsafe is not None:
        plain["rises"] = {"unsafe": unsafe}
    if by_rule:
        plain["by_class"] = "unsafe"
    lists = {name: tuple(plain[name]) for name in ("reasons", "could_not", "blind_spots")}
    return Verdict(**{**plain, **lists})

"""An estimate in words, and where it stands."""

import doctest

from interp.scanner.cost import estimate, shares


def test_the_examples_hold():
    for module in (estimate, shares):
        found = doctest.testmod(module)
        assert found.attempted and not found.failed


def test_seconds_or_minutes_and_what_is_only_a_bound():
    one = {"seconds": 20.4, "at_most": False}
    assert estimate.words({"leakage": one}) == "about 20 seconds on this machine: leakage 20"
    many = {"leakage": {"seconds": 300.0, "at_most": False}, "motifs": one | {"seconds": 0.0}}
    assert estimate.words(many) == "about 5.0 minutes on this machine: leakage 5.0"
    off = many | {"inversion": {"seconds": 0.0, "at_most": True}}  # switched off
    assert estimate.words(off) == estimate.words(many)

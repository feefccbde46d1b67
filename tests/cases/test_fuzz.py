"""A short stretch of `python -m tests.cases.fuzz`; thousands of cases are a command."""

from tests.cases import fuzz


def test_broken_adapters_are_refused_or_what_peft_makes_of_them():
    said = []
    found = fuzz.run(0, 80, said.append)
    assert not said
    assert found["refused"] > 30 and found["equal"] > 10

"""`python -m benchmarks`: its options may come before or after the name."""

import json

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.speed import heads


@pytest.fixture
def asked(monkeypatch):
    """The options that the benchmark got; it does not run."""
    seen = []
    monkeypatch.setattr(heads, "run", lambda arguments: seen.append(arguments) or {"ratio": 1.5})
    return seen


@pytest.mark.parametrize(
    "order",
    [
        ["heads", "--json", "FILE", "--width", "512"],
        ["--json", "FILE", "heads", "--width", "512"],
        ["--width", "512", "--json", "FILE", "heads"],
        ["--width=512", "heads", "--json=FILE"],
    ],
    ids=" ".join,
)
def test_options_stand_anywhere(asked, order, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert benchmarks.main(order) == 0
    assert asked[0].width == 512 and json.loads((tmp_path / "FILE").read_text()) == {"ratio": 1.5}


def test_a_file_may_be_called_as_a_benchmark(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert benchmarks.main(["--json", "heads", "heads"]) == 0
    assert (tmp_path / "heads").is_file()


@pytest.mark.parametrize("words", [[], ["sing"], ["--json"], ["heads", "--widht", "3"]])
def test_usage_errors_are_one_line(words, capsys):
    with pytest.raises(SystemExit) as leaving:
        benchmarks.main(words)
    assert leaving.value.code == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 1

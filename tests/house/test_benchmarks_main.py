"""`python -m benchmarks`: options stand anywhere; what `gpu` calls equal, without a GPU."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.speed import gpu, heads

NOISE_OF_BF16 = {"l_attn": 1e-3, "logits": 1e-1}


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


def test_a_picture_that_is_not_known_is_refused(capsys):
    assert benchmarks.main(["pictures", "--only", "heads,mona-lisa"]) == 4
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "'mona-lisa'" in line and "attention" in line and "figures-paper" in line


def found(precision: str, moved: dict[str, float]) -> gpu.Measured:
    """Measurements that lie one bf16 noise above fp32's, moved by so much on the device."""
    one = gpu.Measured(np.zeros((2, 2, 4)), np.zeros((2, 2, 9)), (True, False), 2.0)
    step = {field: 0.0 if precision == "fp32" else size for field, size in NOISE_OF_BF16.items()}
    return replace(one, **{f: getattr(one, f) + step[f] + moved.get(f, 0.0) for f in step})


@pytest.mark.parametrize(
    "moved, equal",
    [
        ({}, ("fp32", "bf16", "nf4")),
        ({"logits": 1.5e-1}, ("bf16", "nf4")),
        ({"logits": 2.5e-1}, ()),
        ({"l_attn": 2.5e-3}, ()),
        ({"l_attn": 9e-6, "logits": 9e-4}, ("fp32", "bf16", "nf4")),
    ],
)
def test_fp32_is_held_to_rounding_and_bf16_to_its_own_noise(moved, equal, monkeypatch):
    monkeypatch.setattr(
        gpu,
        "measured",
        lambda name, precision, device, n: found(precision, moved if device == "cuda" else {}),
    )
    figures = gpu.agreement("deployment", "cuda", 2)
    judged = [p for p in ("fp32", "bf16", "nf4") if figures[f"deployment_{p}_equal"]]
    assert sorted(judged) == sorted(equal)
    assert figures["deployment_fp32_logits"] == pytest.approx(moved.get("logits", 0.0))


def test_an_answer_that_differs_in_fp32_is_not_equal(monkeypatch):
    def other(name, precision, device, n):
        one = found(precision, {})
        return replace(one, fired=(True, True)) if device == "cuda" else one

    monkeypatch.setattr(gpu, "measured", other)
    figures = gpu.agreement("deployment", "cuda", 2)
    assert not figures["deployment_fp32_equal"] and figures["deployment_bf16_equal"]
    assert figures["deployment_fp32_fired_alike"] == 0.5

"""Kept results: bounded in bytes, computed once, and nothing left behind by a failure."""

import threading
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from app.state.measured import Memo, sizes_of


@dataclass(frozen=True)
class Result:
    maps: dict
    table: pd.DataFrame


def bytes_of(value) -> int:
    return sum(sizes_of(value).values())


def test_bytes_are_those_of_arrays_and_tables_within():
    array = np.zeros((100, 100), np.float32)
    table = pd.DataFrame({"x": np.zeros(1000)})
    size = bytes_of(Result({("a", "b"): [array, array.copy()]}, table))
    assert 2 * array.nbytes + 8000 <= size <= 2 * array.nbytes + 10_000


def test_a_view_weighs_what_it_keeps_alive():
    whole = np.zeros((50, 100, 100), np.float32)
    assert bytes_of(whole[0]) == whole.nbytes
    assert bytes_of(whole[0].copy()) == whole[0].nbytes


def test_what_two_results_share_weighs_once():
    memo, shared = Memo(10_000), np.zeros(1000)
    memo.get("maps", lambda: shared)
    memo.get("study", lambda: {"maps": shared[:10]})
    assert 8000 <= memo.held < 8000 + 500


def test_the_least_used_make_room():
    memo, calls = Memo(2500), []

    def get(key):
        def compute():
            calls.append(key)
            return np.zeros(1000, np.uint8)

        return memo.get(key, compute)

    for key in (1, 1, 2, 1, 3, 1, 2):
        get(key)
    assert calls == [1, 2, 3, 2] and memo.held <= 2500


def test_one_result_over_the_bound_is_kept_alone():
    memo, calls = Memo(10), []
    for key in ("small", "large", "large"):
        memo.get(key, lambda key=key: calls.append(key) or np.zeros(1000))
    assert calls == ["small", "large"] and memo.held == 8000


def test_a_failure_is_forgotten_and_leaves_nothing():
    memo = Memo(1000)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            memo.get("k", lambda: 1 / 0)
    assert not memo._gates and not memo._kept
    assert memo.get("k", lambda: 7) == 7 and not memo._gates


def test_two_who_ask_at_once_wait_for_one_computation():
    memo, calls, got = Memo(1000), [], []

    def slow():
        calls.append(1)
        time.sleep(0.1)
        return "value"

    threads = [threading.Thread(target=lambda: got.append(memo.get("k", slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and got == ["value"] * 4 and not memo._gates


def test_who_waited_for_a_failure_tries_again():
    memo, calls, got = Memo(1000), [], []

    def first_fails():
        calls.append(1)
        time.sleep(0.05)
        if len(calls) == 1:
            raise ValueError
        return "value"

    def ask():
        try:
            got.append(memo.get("k", first_fails))
        except ValueError:
            got.append("failed")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["failed", "value", "value"] and len(calls) == 2 and not memo._gates

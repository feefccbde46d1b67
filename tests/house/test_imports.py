"""Imports run one way: app -> interp <- training."""

import ast
from pathlib import Path

import pytest

from interp.specs import ROOT

FORBIDDEN = {
    "interp": {"streamlit", "app", "training"},
    "training": {"streamlit", "app"},
    "app": {"training"},
}
FLOORS = {
    "prompts": {"models", "runs", "figures", "capture"},
    "models": {"prompts", "runs", "figures"},
    "runs": {"prompts", "models", "figures", "capture"},
    "figures": {"prompts", "models", "runs", "capture"},
    "capture": {"prompts", "models", "runs", "figures"},
}


def imported_modules(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_point_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        roots = {name.split(".")[0] for name in imported_modules(path)}
        assert not roots & FORBIDDEN[package], path


@pytest.mark.parametrize("module", FLOORS)
def test_floors_of_interp_know_nothing_of_each_other(module):
    found = imported_modules(ROOT / "interp" / f"{module}.py")
    above = {f"interp.{name}" for name in FLOORS[module]}
    assert not found & above


def test_the_guard_sees_a_forbidden_import(tmp_path):
    file = tmp_path / "page.py"
    file.write_text("def f():\n    from training import corpus\n")
    assert "training" in imported_modules(file)

"""Size and shape of the rooms: files, lines, longest file and function, return types."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("interp", "app", "training", "benchmarks", "manual", "tests")
MOST_FILES, MOST_LINES, LONGEST_FUNCTION = 10, 400, 60


@dataclass(frozen=True)
class Function:
    """One function or method."""

    file: str
    name: str
    lines: int
    """Number of lines, with decorators and docstring."""
    public: bool
    """Neither its name nor an enclosing one begins with `_`, and it is not inside a function."""
    typed: bool
    """Whether it has a return type."""


@dataclass(frozen=True)
class Room:
    """One folder of modules."""

    name: str
    files: dict[str, int]
    """Module -> lines; `__init__` without code is left out."""
    functions: tuple[Function, ...]

    @property
    def untyped(self) -> list[Function]:
        """Public functions without a return type."""
        return [one for one in self.functions if one.public and not one.typed]

    def faults(self) -> Iterator[str]:
        """Yields one sentence for each exceeded limit."""
        if len(self.files) > MOST_FILES:
            yield f"{self.name} has {len(self.files)} files, more than {MOST_FILES}"
        for file, lines in self.files.items():
            if lines > MOST_LINES:
                yield f"{self.name}/{file} has {lines} lines, more than {MOST_LINES}"
        for one in self.functions:
            if one.lines > LONGEST_FUNCTION:
                yield (
                    f"{self.name}/{one.file} {one.name} has {one.lines} lines, "
                    f"more than {LONGEST_FUNCTION}"
                )
        for one in self.untyped if not self.name.startswith("tests") else ():
            yield f"{self.name}/{one.file} {one.name} has no return type"


def rooms(root: Path) -> list[Room]:
    """Every room of the house, by name."""
    found = []
    for package in PACKAGES:
        folders = {path.parent for path in (root / package).rglob("*.py")}
        found += [_room(root, folder) for folder in sorted(folders)]
    return [room for room in found if room.files]


def _room(root: Path, folder: Path) -> Room:
    files, functions = {}, []
    for path in sorted(folder.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        if path.stem == "__init__" and all(isinstance(node, ast.Expr) for node in tree.body):
            continue
        files[path.name] = len(source.splitlines())
        functions += _functions(tree, path.name, True)
    return Room(folder.relative_to(root).as_posix(), files, tuple(functions))


def _functions(node: ast.AST, file: str, public: bool) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            start = min([child.lineno, *(one.lineno for one in child.decorator_list)])
            magic = child.name.startswith("__") and child.name.endswith("__")
            seen = public and not child.name.startswith("_")
            lines, typed = child.end_lineno - start + 1, child.returns is not None
            yield Function(file, child.name, lines, seen and not magic, typed)
            yield from _functions(child, file, False)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, file, public and not child.name.startswith("_"))
        else:
            yield from _functions(child, file, public)

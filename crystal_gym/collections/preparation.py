"""Preparation of the arrays of a collection: in parallel, cached and resumable."""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from crystal_gym.collections.collection import ARRAYS, CollectionArrays, CrystalCollection
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.crystals.skeleton import split_structure
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, ParserWarning
from crystal_gym.utils import ragged, settings
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.identity import readable, safe_name
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Increase when the prepared arrays would change, or when CHUNK changes.
FORMAT = 3
# Number of crystals that are prepared and saved together; an interruption loses at most one chunk.
CHUNK = 256
# Up to this number of crystals, one process is faster than starting worker processes.
SERIAL_LIMIT = 64
# Prefix of the names of label arrays in a prepared file.
_LABEL = "label "
# Extensions that are no part of a collection's name.
_EXTENSION = r"(\.(csv|cif|json|xyz|extxyz|vasp|poscar))?(\.gz)?$"
# Number of kinds of problems that a warning lists.
_KINDS_SHOWN = 10

# A rule that returns the site order of a structure; None sorts sites by their coordinates.
SiteOrder = Callable[["Structure"], np.ndarray] | None
# The arrays of some crystals, without padding, one after the other.
_FlatArrays = dict[str, np.ndarray]


def file_order(structure: "Structure") -> np.ndarray:
    """Return the order of the sites in the file, (n,).

    Use it only where that order is geometric: an order by element reveals elements.
    """
    return np.arange(len(structure))


def collection_name(path: Path) -> str:
    """Derive a collection's name from its file or folder: letters, digits, hyphens, underscores.

    Dataset ids contain the name and allow no other characters; see ``safe_name``.
    """
    stem = re.sub(_EXTENSION, "", path.resolve().name, flags=re.IGNORECASE)
    return safe_name(stem, "crystals")


def prepare(
    raw: Sequence[RawCrystal],
    order: SiteOrder = None,
    max_sites: int | None = None,
    parts: Path | None = None,
    progress: bool = True,
) -> CollectionArrays:
    """Compute the arrays of a collection.

    Problems that pymatgen reports while it reads the crystals are issued as one ``ParserWarning``,
    which lists each kind of problem with the number of crystals and the first place.

    Args:
        raw: The C crystals.
        order: Rule for the site order.
        max_sites: Reject larger cells.
        parts: Folder for finished chunks, from which an interrupted preparation resumes.
        progress: Show a progress bar when worker processes are used.

    Raises:
        BadCrystalError: If a crystal has no valid skeleton; the message starts with its place.
        CrystalGymError: If ``raw`` is empty.
    """
    if not raw:
        raise CrystalGymError("Expected at least one crystal to prepare, got no crystals.")
    chunks = [raw[start : start + CHUNK] for start in range(0, len(raw), CHUNK)]
    done: dict[int, _FlatArrays] = {}
    if parts is not None:
        done = {i: part for i in range(len(chunks)) if (part := _load_part(parts, i)) is not None}
    missing = [i for i in range(len(chunks)) if i not in done]
    for i, part in _run(
        [(i, chunks[i], order, max_sites) for i in missing], len(raw), len(chunks), progress
    ):
        if parts is not None:
            save_arrays(parts / f"{i:05}.npz", part)
        done[i] = part
    flat = {key: np.concatenate([done[i][key] for i in range(len(chunks))]) for key in done[0]}
    max_n = int(flat["n_sites"].max())
    _warn_of_problems(flat["problems"], flat["problem_places"], len(raw))
    return {
        "ids": np.array([readable(crystal.id) for crystal in raw]),
        "splits": np.array([crystal.split for crystal in raw]),
        "n_sites": flat["n_sites"],
        "atomic_numbers": ragged.pad(flat["atomic_numbers"], flat["n_sites"], max_n, 0),
        "parameters": flat["parameters"],
        "frac_coords": ragged.pad(flat["frac_coords"], flat["n_sites"], max_n, 0),
        "n_edges": flat["n_edges"],
        "flat_edges": flat["edges"],
    }


def _warn_of_problems(problems: np.ndarray, places: np.ndarray, n_crystals: int) -> None:
    """Issue one warning with the number of crystals and the first place of each kind of problem."""
    if not len(problems):
        return
    kinds: dict[str, dict[str, str]] = {}
    for problem, place in zip(problems.tolist(), places.tolist(), strict=True):
        kind = re.sub(r"\d+", "0", problem)  # the same for texts that differ only in numbers
        kinds.setdefault(kind, {}).setdefault(place, problem)
    lines = [
        f"{len(found):,} {'crystal' if len(found) == 1 else 'crystals'}, first "
        + ": ".join(next(iter(found.items())))
        for found in sorted(kinds.values(), key=len, reverse=True)
    ]
    if len(lines) > _KINDS_SHOWN:
        lines[_KINDS_SHOWN:] = [f"{len(lines) - _KINDS_SHOWN:,} other kinds of problems"]
    warnings.warn(
        f"pymatgen reports problems with {len(set(places.tolist())):,} of {n_crystals:,} crystals. "
        "Check whether their structures are correct.\n  " + "\n  ".join(lines),
        ParserWarning,
        stacklevel=3,
    )


def prepared_collection(
    name: str,
    checksum: str,
    read: Callable[[], Sequence[RawCrystal]],
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    description: str = "",
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from the cache, or prepare and cache it.

    Args:
        name: Name of the collection.
        checksum: Checksum of all data that ``read`` reads.
        read: Returns the raw crystals; called only if they must be prepared.
        order: Rule for the site order.
        max_sites: Reject larger cells.
        description: A sentence on the crystals and their origin.
        progress: Show a progress bar.

    Raises:
        DamagedFileError: If the cached file is damaged.
        BadCrystalError: If a crystal has no valid skeleton.
        StorageError: If the cache folder cannot be written.
    """
    rule = order.__name__ if order else "geometric"
    key = hashlib.sha256(json.dumps([FORMAT, checksum, rule, max_sites]).encode()).hexdigest()[:16]
    path = settings.cache_folder() / "prepared" / f"{name}-{key}.npz"
    if not path.is_file():
        parts = path.with_suffix(".parts")
        raw = read()
        arrays = prepare(raw, order, max_sites, parts, progress)
        names = sorted({label for crystal in raw for label in crystal.labels})
        labels = {
            _LABEL + label: np.array([crystal.labels.get(label, np.nan) for crystal in raw])
            for label in names
        }
        save_arrays(path, {**arrays, **labels})
        shutil.rmtree(parts, ignore_errors=True)
    return load_prepared(path, name, description)


def load_prepared(path: Path, name: str, description: str) -> CrystalCollection:
    """Load the collection whose arrays and labels are in a file.

    Raises:
        DamagedFileError: If the file is truncated or altered, or contains other arrays.
    """
    arrays = load_arrays(path)
    labels = {key: arrays.pop(key) for key in list(arrays) if key.startswith(_LABEL)}
    if set(arrays) != set(ARRAYS):
        raise DamagedFileError(
            f"{path} is damaged: expected the arrays {', '.join(ARRAYS)}, got {', '.join(arrays)}. "
            "Delete it; the next use prepares it again."
        )
    return CrystalCollection(
        name=name,
        **cast(CollectionArrays, arrays),
        labels={key.removeprefix(_LABEL): values for key, values in labels.items()},
        description=description,
    )


def save_arrays(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write arrays to an ``.npz`` file atomically."""
    save = np.savez_compressed if compressed else np.savez
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        save(file, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read a file of ``save_arrays``; verify each array's CRC and unpickle nothing.

    Raises:
        DamagedFileError: If the file is truncated or altered.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged byte can fail anywhere in zipfile, zlib and numpy
        raise DamagedFileError(
            f"{path} is damaged ({error}). Delete it; the next use prepares it again."
        ) from error


def _load_part(parts: Path, i: int) -> _FlatArrays | None:
    """Load a finished chunk; return ``None`` if it is absent, damaged or of an earlier version."""
    try:
        part = load_arrays(parts / f"{i:05}.npz")
    except (FileNotFoundError, DamagedFileError):
        return None
    return part if "problems" in part else None


def _run(
    jobs: list[tuple], total: int, n_chunks: int, progress: bool
) -> Iterable[tuple[int, _FlatArrays]]:
    """Yield the number and the arrays of each chunk when it is finished."""
    if sum(len(job[1]) for job in jobs) <= SERIAL_LIMIT:
        yield from (_prepare_chunk(*job) for job in jobs)
        return
    import joblib

    with progress_bar("Preparing skeletons", total, shown=progress) as advance:
        advance(total - sum(len(job[1]) for job in jobs))
        # Small jobs, more of them than workers, keep all cores busy until the end.
        size = max(1, CHUNK // 8) if n_chunks < 8 else CHUNK
        pieces = [(i, c[k : k + size], o, m) for i, c, o, m in jobs for k in range(0, len(c), size)]
        waiting: dict[int, list] = {job[0]: [] for job in jobs}
        chunk_sizes = {job[0]: len(job[1]) for job in jobs}
        with joblib.Parallel(n_jobs=-1, return_as="generator") as parallel:
            results: Any = parallel(joblib.delayed(_prepare_chunk)(*piece) for piece in pieces)
            for i, part in results:
                advance(len(part["n_sites"]))
                waiting[i].append(part)
                if sum(len(p["n_sites"]) for p in waiting[i]) == chunk_sizes[i]:
                    done = waiting.pop(i)
                    yield i, {key: np.concatenate([p[key] for p in done]) for key in part}


def _prepare_chunk(
    i: int, chunk: Sequence[RawCrystal], order: SiteOrder, max_sites: int | None
) -> tuple[int, _FlatArrays]:
    """Return the number of a chunk and the arrays of its crystals."""
    skeletons, elements, problems, places = [], [], [], []
    for crystal in chunk:
        try:
            structure, reported = crystal.parse()
            rule = order(structure) if order and len(structure) else None
            skeleton, numbers = split_structure(structure, rule, max_sites)
        except BadCrystalError as error:
            raise BadCrystalError(f"{crystal.place}: {error}") from error
        skeletons.append(skeleton)
        elements.append(numbers)
        problems += reported
        places += [crystal.place] * len(reported)
    return i, {
        "n_sites": np.array([skeleton.n_sites for skeleton in skeletons], np.int32),
        "n_edges": np.array([len(skeleton.edges) for skeleton in skeletons], np.int32),
        "atomic_numbers": np.concatenate(elements).astype(np.int16),
        "parameters": np.stack([skeleton.parameters for skeleton in skeletons]),
        "frac_coords": np.concatenate([skeleton.frac_coords for skeleton in skeletons]),
        "edges": np.concatenate([skeleton.edges for skeleton in skeletons]),
        "problems": np.array(problems, np.str_),
        "problem_places": np.array(places, np.str_),
    }

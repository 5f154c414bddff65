"""Preparation of the arrays of a collection: in parallel, cached and resumable."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from crystal_gym.collections.collection import ARRAYS, CollectionArrays, CrystalCollection
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.collections.reading_report import warn_of_changes, warn_of_exclusions
from crystal_gym.crystals.skeleton import split_structure
from crystal_gym.errors import (
    BadCrystalError,
    CrystalGymError,
    DamagedFileError,
    UnknownNameError,
)
from crystal_gym.utils import ragged, settings
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.identity import readable, safe_name
from crystal_gym.utils.parallel import map_in_order, n_workers
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Increase when the prepared arrays would change, or when CHUNK changes.
FORMAT = 4
# Number of crystals that are prepared and saved together; an interruption loses at most one chunk.
CHUNK = 256
# Up to this number of crystals, one process is faster than starting worker processes.
SERIAL_LIMIT = 64
# Prefix of the names of label arrays in a prepared file.
_LABEL = "label "
# Extensions that are no part of a collection's name.
_EXTENSION = r"(\.(csv|cif|json|xyz|extxyz|vasp|poscar))?(\.gz)?$"
# Prefix of the array of crystals that were left out in a prepared file.
_EXCLUDED = "excluded"
_HINT = 'Correct or remove this crystal, or pass on_error="skip" to load_collection.'

ON_ERROR = ("raise", "skip")

# A rule that returns the site order of a structure; None sorts sites by their coordinates.
SiteOrder = Callable[["Structure"], np.ndarray] | None
# The arrays of some crystals, without padding, one after the other.
_FlatArrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class PreparedCrystals:
    """The arrays of the crystals that could be read.

    Attributes:
        arrays: The arrays of C crystals.
        rows: The rows of these crystals among all crystals, int64 (C,), in ascending order.
        excluded: Place and reason of each crystal that was left out.
    """

    arrays: CollectionArrays
    rows: np.ndarray
    excluded: tuple[str, ...]


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
    """Compute the arrays of a collection; see ``prepare_crystals``.

    Raises:
        BadCrystalError: If a crystal has no valid skeleton; the message starts with its place.
        CrystalGymError: If ``raw`` is empty.
    """
    return prepare_crystals(raw, order, max_sites, parts, progress=progress).arrays


def prepare_crystals(
    raw: Sequence[RawCrystal],
    order: SiteOrder = None,
    max_sites: int | None = None,
    parts: Path | None = None,
    *,
    on_error: str = "raise",
    progress: bool = True,
) -> PreparedCrystals:
    """Compute the arrays of crystals; leave out those that cannot be read, or raise an error.

    Harmless changes of the reader, such as merged sites, are issued as one ``ParserWarning``, which
    lists each kind of change with the number of crystals and the first place.

    Args:
        raw: The crystals.
        order: Rule for the site order.
        max_sites: Reject larger cells.
        parts: Folder for finished chunks, from which an interrupted preparation resumes.
        on_error: ``raise`` or ``skip``.
        progress: Show a progress bar when worker processes are used.

    Raises:
        UnknownNameError: If ``on_error`` is unknown.
        DamagedFileError: If the content of a crystal is not text and ``on_error`` is ``raise``.
        BadCrystalError: If a crystal has no valid skeleton and ``on_error`` is ``raise``, or if all
            crystals are left out. The message starts with the place of the crystal.
        CrystalGymError: If ``raw`` is empty.
    """
    if on_error not in ON_ERROR:
        raise UnknownNameError("on_error", on_error, ON_ERROR)
    if not raw:
        raise CrystalGymError("Expected at least one crystal to prepare, got no crystals.")
    chunks = [raw[start : start + CHUNK] for start in range(0, len(raw), CHUNK)]
    done: dict[int, _FlatArrays] = {}
    if parts is not None:
        done = {i: part for i in range(len(chunks)) if (part := _load_part(parts, i)) is not None}
    missing = [i for i in range(len(chunks)) if i not in done]
    jobs = [(i, chunks[i], order, max_sites, on_error) for i in missing]
    try:
        for i, part in _run(jobs, len(raw), len(chunks), progress):
            if parts is not None:
                save_arrays(parts / f"{i:05}.npz", part)
            done[i] = part
    except (BadCrystalError, DamagedFileError) as error:
        if len(raw) == 1:
            raise
        raise type(error)(f"{error} {_HINT}") from error
    flat = {key: np.concatenate([done[i][key] for i in range(len(chunks))]) for key in done[0]}
    rows = np.flatnonzero(flat["kept"])
    excluded = tuple(flat["excluded"].tolist())
    if not len(rows):
        raise BadCrystalError(
            f"Expected at least one readable crystal, got none of {len(raw):,}. The first error "
            f"is: {excluded[0]}"
        )
    max_n = int(flat["n_sites"].max())
    warn_of_changes(flat["problems"].tolist(), flat["problem_places"].tolist(), len(raw))
    arrays: CollectionArrays = {
        "ids": np.array([readable(raw[row].id) for row in rows.tolist()]),
        "splits": np.array([raw[row].split for row in rows.tolist()]),
        "n_sites": flat["n_sites"],
        "atomic_numbers": ragged.pad(flat["atomic_numbers"], flat["n_sites"], max_n, 0),
        "parameters": flat["parameters"],
        "frac_coords": ragged.pad(flat["frac_coords"], flat["n_sites"], max_n, 0),
        "n_edges": flat["n_edges"],
        "flat_edges": flat["edges"],
    }
    return PreparedCrystals(arrays, rows, excluded)


def label_arrays(raw: Sequence[RawCrystal], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the labels of some of the crystals by name, float64 (C,), NaN if unknown."""
    names = sorted({label for crystal in raw for label in crystal.labels})
    return {
        name: np.array([raw[row].labels.get(name, np.nan) for row in rows], np.float64)
        for name in names
    }


def prepared_collection(
    name: str,
    checksum: str,
    read: Callable[[], Sequence[RawCrystal]],
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    on_error: str = "raise",
    description: str = "",
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from the cache, or prepare and cache it.

    Crystals that are left out are reported by a ``ParserWarning``, also if the collection is loaded
    from the cache.

    Args:
        name: Name of the collection.
        checksum: Checksum of all data that ``read`` reads.
        read: Returns the raw crystals; called only if they must be prepared.
        order: Rule for the site order.
        max_sites: Reject larger cells.
        on_error: ``raise`` an error for crystals that cannot be read, or ``skip`` them.
        description: A sentence on the crystals and their origin.
        progress: Show a progress bar.

    Raises:
        UnknownNameError: If ``on_error`` is unknown.
        DamagedFileError: If the cached file is damaged.
        BadCrystalError: If a crystal has no valid skeleton and ``on_error`` is ``raise``, or if no
            crystal has one.
        StorageError: If the cache folder cannot be written.
    """
    rule = order.__name__ if order else "geometric"
    settings_of_file = [FORMAT, checksum, rule, max_sites, on_error]
    key = hashlib.sha256(json.dumps(settings_of_file).encode()).hexdigest()[:16]
    path = settings.cache_folder() / "prepared" / f"{name}-{key}.npz"
    if not path.is_file():
        parts = path.with_suffix(".parts")
        raw = read()
        prepared = prepare_crystals(
            raw, order, max_sites, parts, on_error=on_error, progress=progress
        )
        labels = {_LABEL + k: values for k, values in label_arrays(raw, prepared.rows).items()}
        excluded = {_EXCLUDED: np.array(prepared.excluded, np.str_)} if prepared.excluded else {}
        save_arrays(path, {**prepared.arrays, **labels, **excluded})
        shutil.rmtree(parts, ignore_errors=True)
    collection = load_prepared(path, name, description)
    warn_of_exclusions(collection.excluded, len(collection) + len(collection.excluded))
    return collection


def load_prepared(path: Path, name: str, description: str) -> CrystalCollection:
    """Load the collection whose arrays and labels are in a file.

    Raises:
        DamagedFileError: If the file is truncated or altered, or contains other arrays.
    """
    arrays = load_arrays(path)
    excluded = arrays.pop(_EXCLUDED, np.empty(0, np.str_))
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
        excluded=tuple(excluded.tolist()),
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
    return part if "kept" in part else None


def _run(
    jobs: list[tuple], total: int, n_chunks: int, progress: bool
) -> Iterable[tuple[int, _FlatArrays]]:
    """Yield the number and the arrays of each chunk when it is finished."""
    if sum(len(job[1]) for job in jobs) <= SERIAL_LIMIT:
        yield from (_prepare_chunk(*job) for job in jobs)
        return
    with progress_bar("Preparing skeletons", total, shown=progress) as advance:
        advance(total - sum(len(job[1]) for job in jobs))
        # Small jobs, more of them than workers, keep all cores busy until the end.
        size = max(1, CHUNK // 8) if n_chunks < 4 * n_workers() else CHUNK
        pieces = [
            (i, c[k : k + size], *rest) for i, c, *rest in jobs for k in range(0, len(c), size)
        ]
        waiting: dict[int, list] = {job[0]: [] for job in jobs}
        chunk_sizes = {job[0]: len(job[1]) for job in jobs}
        for i, part in map_in_order(_prepare_chunk, pieces):
            advance(len(part["kept"]))
            waiting[i].append(part)
            if sum(len(p["kept"]) for p in waiting[i]) == chunk_sizes[i]:
                done = waiting.pop(i)
                yield i, {key: np.concatenate([p[key] for p in done]) for key in part}


def _prepare_chunk(
    i: int, chunk: Sequence[RawCrystal], order: SiteOrder, max_sites: int | None, on_error: str
) -> tuple[int, _FlatArrays]:
    """Return the number of a chunk and the arrays of its crystals."""
    skeletons, elements, problems, places = [], [], [], []
    kept = np.ones(len(chunk), bool)
    excluded = []
    for row, crystal in enumerate(chunk):
        try:
            structure, reported = crystal.parse()
            rule = order(structure) if order and len(structure) else None
            skeleton, numbers = split_structure(structure, rule, max_sites)
        except (BadCrystalError, DamagedFileError) as error:
            named = str(error).startswith(crystal.where)
            message = str(error) if named else f"{crystal.place}: {error}"
            if on_error == "raise":
                raise type(error)(message) from error
            kept[row] = False
            excluded.append(message)
            continue
        skeletons.append(skeleton)
        elements.append(numbers)
        problems += reported
        places += [crystal.place] * len(reported)
    return i, {
        "kept": kept,
        "excluded": np.array(excluded, np.str_),
        "n_sites": np.array([skeleton.n_sites for skeleton in skeletons], np.int32),
        "n_edges": np.array([len(skeleton.edges) for skeleton in skeletons], np.int32),
        "atomic_numbers": np.concatenate([np.empty(0, np.int64), *elements]).astype(np.int16),
        "parameters": np.array([s.parameters for s in skeletons], np.float64).reshape(-1, 6),
        "frac_coords": np.concatenate([np.empty((0, 3)), *(s.frac_coords for s in skeletons)]),
        "edges": np.concatenate([np.empty((0, 5), np.int16), *(s.edges for s in skeletons)]),
        "problems": np.array(problems, np.str_),
        "problem_places": np.array(places, np.str_),
    }

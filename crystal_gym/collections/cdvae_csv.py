"""Collections from CSV files in the format of CDVAE, with one crystal and its CIF in each row."""

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from crystal_gym.collections.collection import SPLITS, CrystalCollection, hash_splits
from crystal_gym.collections.preparation import (
    SiteOrder,
    collection_name,
    prepared_collection,
)
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, MissingDataError
from crystal_gym.utils.files import sha256

_SUFFIXES = (".csv", ".csv.gz")
# Columns without properties. An index column has no name or the default name of pandas.
_NO_LABELS = {"material_id", "cif", "split", "", "Unnamed: 0"}


def load_cdvae_csv(
    path: str | Path,
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from a CSV file or from a folder of CSV files.

    A folder contains one or more of ``train.csv``, ``val.csv`` and ``test.csv``. Each file has the
    columns ``material_id`` and ``cif``. Columns in which every entry is a number or empty become
    labels. A single file can have a column ``split``; otherwise a hash of the ids assigns 80 % of
    the crystals to ``train``, 10 % to ``val`` and 10 % to ``test``. Files can be gzipped
    (``.csv.gz``).

    Args:
        path: The file or folder.
        order: Rule for the site order (default: by coordinates, which reveals no elements).
        max_sites: Reject larger cells.
        progress: Show a progress bar.

    Raises:
        MissingDataError: If the file is missing, or the folder contains none of the three files.
        DamagedFileError: If a file cannot be read, has no rows, or lacks a column.
        BadCrystalError: If a row does not contain a valid crystal; the message gives the row.
        CrystalGymError: If an id occurs twice or a split is unknown.
    """
    path = Path(path).expanduser()
    files: dict[str | None, Path] = {None: path}
    if path.is_dir():
        files = {
            split: path / f"{split}{suffix}"
            for split in SPLITS
            for suffix in reversed(_SUFFIXES)
            if (path / f"{split}{suffix}").is_file()
        }
    if not files:
        raise MissingDataError(
            f"Expected {', '.join(split + '.csv' for split in SPLITS)} (or .csv.gz) in {path}, got "
            "none of them. Use the path of a CSV file to read a file with another name."
        )
    return collection_from_csv_files(
        collection_name(path), files, order=order, max_sites=max_sites, progress=progress
    )


def collection_from_csv_files(
    name: str,
    files: Mapping[str | None, Path],
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    description: str = "",
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from CDVAE-format files.

    See ``load_cdvae_csv`` for the format and the errors.

    Args:
        name: Name of the collection.
        files: Files by split; ``None`` for a file with crystals of several splits.
        order: Rule for the site order.
        max_sites: Reject larger cells.
        description: A sentence on the crystals and their origin (default: the names of the files).
        progress: Show a progress bar.
    """
    checksum = hashlib.sha256(
        "".join(f"{split} {sha256(path)}\n" for split, path in files.items()).encode()
    ).hexdigest()
    return prepared_collection(
        name,
        checksum,
        lambda: _read_files(files),
        order=order,
        max_sites=max_sites,
        description=description
        or f"Crystals from {', '.join(path.name for path in files.values())}.",
        progress=progress,
    )


def _read_files(files: Mapping[str | None, Path]) -> list[RawCrystal]:
    """Read the crystals of all files, whose ids must be distinct."""
    crystals: dict[str, RawCrystal] = {}
    for split, path in files.items():
        for crystal in _read_file(path, split):
            if crystal.id in crystals:
                raise CrystalGymError(
                    f"{crystal.where}: expected distinct entries in material_id, got "
                    f"{crystal.id!r} as in {crystals[crystal.id].where}. Rename or remove one of "
                    "the rows."
                )
            crystals[crystal.id] = crystal
    if not crystals:
        names = ", ".join(str(path) for path in files.values())
        raise DamagedFileError(f"{names}: expected crystals, got no rows below the header.")
    return list(crystals.values())


def _read_file(path: Path, split: str | None) -> list[RawCrystal]:
    """Read the crystals of one file; without a split, use its column ``split`` or hashes."""
    rows = _read_rows(path)
    labels = _number_columns(rows)
    crystals = []
    for number, row in enumerate(rows, start=1):
        where = f"{path.name}, row {number}"
        if not row["material_id"] or not row["cif"] or None in row:
            raise BadCrystalError(
                f"{where}: expected entries in material_id and cif and no more entries than in the "
                "header, got a broken row. Correct or remove it."
            )
        own_split = split or row.get("split") or ""
        if own_split not in {"", *SPLITS} or (not own_split and row.get("split") is not None):
            raise CrystalGymError(
                f"{where}: expected a split among {', '.join(SPLITS)}, got {own_split!r}. Correct "
                "the column split."
            )
        values = {label: column[number - 1] for label, column in labels.items()}
        crystals.append(RawCrystal(row["material_id"], own_split, row["cif"], "cif", where, values))
    if crystals and not crystals[0].split:
        splits = hash_splits([crystal.id for crystal in crystals])
        return [replace(c, split=split) for c, split in zip(crystals, splits, strict=True)]
    return crystals


def _read_rows(path: Path) -> list[dict]:
    """Read the rows of a CSV file, gzipped or not, that has the columns material_id and cif."""
    rows = []
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = reader.fieldnames or []
        missing = [column for column in ("material_id", "cif") if column not in header]
        if missing:
            raise DamagedFileError(
                f"{path}: expected the columns material_id and cif, got no column {missing[0]!r} "
                f"among {', '.join(header)}. Use a CSV file in the format of CDVAE."
            )
        for row in reader:
            rows.append(row)  # noqa: PERF402 - an error reports the number of rows read
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} cannot be read: {error}.") from error
    except csv.Error as error:
        raise DamagedFileError(
            f"{path.name}, row {len(rows) + 1}: expected valid CSV, got an error: {error}."
        ) from error
    return rows


def _number_columns(rows: list[dict]) -> dict[str, list[float]]:
    """Return the columns of numbers; empty entries are NaN."""
    columns = {}
    for name in rows[0] if rows else ():
        if name is None or name in _NO_LABELS:
            continue
        try:
            values = [float(row[name] or "nan") for row in rows]
        except ValueError:
            continue
        if any(row[name] for row in rows):
            columns[name] = values
    return columns

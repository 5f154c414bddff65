"""Tables of crystals in CSV files."""

import csv
import io
import threading
from pathlib import Path

from crystal_gym.errors import DamagedFileError
from crystal_gym.formats.file_formats import without_compression
from crystal_gym.formats.text import read_text

# Columns of every table of crystals.
REQUIRED_COLUMNS = ("material_id", "cif")
# Largest number of characters of a cell; a CIF with its reflections can have some millions.
_LARGEST_CELL = 2**27
# The limit of Python's csv module is global.
_limit_lock = threading.Lock()


def is_csv(path: Path) -> bool:
    """Return whether a file name ends in ``.csv``, also compressed, in lower or upper case."""
    return without_compression(path.name).lower().endswith(".csv")


def contains_crystals(path: Path) -> bool:
    """Return whether the header of a CSV file has a column ``cif``, or the file is unreadable."""
    try:
        header = read_text(path).split("\n", 1)[0]
    except DamagedFileError:
        return True
    return "cif" in [column.strip(' "').lower() for column in header.replace(";", ",").split(",")]


def read_rows(
    path: Path,
    required: tuple[str, ...] = REQUIRED_COLUMNS,
    remedy: str = "Use a CSV file in the format of CDVAE.",
) -> tuple[list[str], list[list[str]]]:
    """Read the header and the rows of a CSV file that has the required columns.

    Empty lines are left out. The rows can have another number of entries than the header.

    Args:
        path: The file.
        required: Names of the required columns.
        remedy: What to do if one of them is missing, as sentences.

    Raises:
        DamagedFileError: If the file cannot be read, is not CSV, or its columns are missing or
            repeated.
    """
    text = read_text(path)
    rows: list[list[str]] = []
    with _limit_lock:
        previous = csv.field_size_limit(_LARGEST_CELL)
        try:
            for row in csv.reader(io.StringIO(text, newline=""), strict=True):
                if row:
                    rows.append(row)  # noqa: PERF401 - an error reports the number of rows read
        except csv.Error as error:
            if rows:
                _require_columns(path, rows[0], required, remedy)
            raise DamagedFileError(
                f"{path.name}, row {len(rows)}: expected valid CSV, got an error: {error}."
            ) from error
        finally:
            csv.field_size_limit(previous)
    header = rows[0] if rows else []
    _require_columns(path, header, required, remedy)
    return header, rows[1:]


def _require_columns(path: Path, header: list[str], required: tuple[str, ...], remedy: str) -> None:
    missing = [column for column in required if column not in header]
    if missing:
        delimiter = next((d for d in (";", "\t", "|") if d in "".join(header)), None)
        if delimiter:
            remedy = f"Its columns seem to be separated by {delimiter!r}; separate them by commas."
        raise DamagedFileError(
            f"{path}: expected the columns {' and '.join(required)}, got no column {missing[0]!r} "
            f"among {', '.join(header)}. {remedy}"
        )
    repeated = [name for name in header if name.strip() and header.count(name) > 1]
    if repeated:
        raise DamagedFileError(
            f"{path}: expected distinct names of columns, got {repeated[0]!r} more than once. "
            "Rename or remove one of them."
        )

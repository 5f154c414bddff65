"""Safe reading of the DFT labels of Perov-5 from a pickle of Python 2.

The file maps atomic numbers of A and B and a number of the anion set to seven values. It contains
only dictionaries, tuples and numbers, so every other global is rejected and no code of the file
runs.
"""

import io
import math
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from crystal_gym.errors import DamagedFileError

# The values of each crystal, in the order of the file.
COLUMNS = ("dir_gap", "ind_gap", "heat_all", "vb_dir", "cb_dir", "vb_ind", "cb_ind")
# Atomic numbers of the three anions by the number of the set: O3, O2N, ON2, N3, O2F, OFN, O2S.
ANION_SETS = ((8, 8, 8), (7, 8, 8), (7, 7, 8), (7, 7, 7), (8, 8, 9), (7, 8, 9), (8, 8, 16))

_GLOBALS = {("collections", "defaultdict"): defaultdict, ("__builtin__", "dict"): dict}


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler that resolves the two globals of the file and no others."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _GLOBALS:
            raise pickle.UnpicklingError(
                f"the file refers to {module_name}.{global_name}, which was not executed"
            )
        return _GLOBALS[module_name, global_name]


def read_label_grid(content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the labels of all combinations of A, B and anion set.

    Args:
        content: The pickle, after verification of its checksum.
        path: Path of the file, for messages.

    Returns:
        Atomic numbers of A, of B and of the three anions in ascending order, int16 (K, 5), and the
        values in the order of ``COLUMNS``, float64 (K, 7).

    Raises:
        DamagedFileError: If the content is no such pickle, refers to other globals than plain
            dictionaries, or contains other values than finite numbers.
    """
    try:
        data = _PlainUnpickler(io.BytesIO(content)).load()
        cells = [
            (a, b, anions, values)
            for a, by_b in data.items()
            for b, by_anions in by_b.items()
            for anions, values in by_anions.items()
        ]
    except Exception as error:  # a foreign pickle can fail with any type of error
        raise _damaged(path, str(error)) from error
    if not cells or not all(map(_is_valid, cells)):
        raise _damaged(path, "a crystal has other values than seven finite numbers")
    elements = np.array([(a, b, *ANION_SETS[anions]) for a, b, anions, _ in cells], np.int16)
    return elements, np.array([values for *_, values in cells], np.float64)


def _damaged(path: Path, reason: str) -> DamagedFileError:
    return DamagedFileError(
        "Expected the DFT labels of Perov-5 in plain dictionaries, tuples and numbers, got another "
        f"file {path} ({reason}). Delete it and download it again."
    )


def _is_valid(cell: tuple[Any, ...]) -> bool:
    a, b, anions, values = cell
    return (
        all(type(number) is int for number in (a, b, anions))
        and 0 < a < 119
        and 0 < b < 119
        and 0 <= anions < len(ANION_SETS)
        and type(values) is tuple
        and len(values) == len(COLUMNS)
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    )

"""Crystals of the pure elements, relaxed by CHGNet, and their energies.

``tools/compute_reference_energies.py`` writes the file.
"""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import CrystalGymError

REFERENCES_FILE = Path(__file__).with_name("references.json")


@functools.cache
def reference_elements() -> dict[str, dict[str, Any]]:
    """Load the file of reference crystals.

    Returns:
        By symbol: ``energy`` (CHGNet's, eV/atom), ``origin`` of the structure before relaxation,
        ``parameters`` (Å and degrees, (6,)) and ``frac_coords`` (n, 3).
    """
    return json.loads(REFERENCES_FILE.read_text())["elements"]


def reference_crystal(symbol: str) -> Skeleton:
    """Return the crystal of an element, relaxed by CHGNet, without edges.

    Args:
        symbol: Symbol of the element.

    Raises:
        CrystalGymError: If the file does not contain the element.
    """
    if symbol not in reference_elements():
        raise CrystalGymError(
            f"There is no reference crystal of {symbol}. Pass its energy in eV/atom as "
            f"references={{{symbol!r}: …}}."
        )
    entry = reference_elements()[symbol]
    return Skeleton(
        np.array(entry["parameters"], np.float64),
        np.array(entry["frac_coords"], np.float64),
        np.empty((0, 5), np.int16),
    )

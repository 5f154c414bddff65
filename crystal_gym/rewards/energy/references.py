"""Energies of the pure elements, from which formation energies are counted.

CHGNet's come with the package: every element in its structure at low temperature, relaxed by CHGNet
itself (``tools.compute_reference_energies`` makes the file). Other calculators judge the same
crystals, whose volumes they relax, or they are given the energies.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS, atomic_number
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.energy.models import CHGNET, EnergyModel
from crystal_gym.rewards.failure_handling import finite

SHIPPED = Path(__file__).with_name("references.json")

# Lengths within which another calculator looks for its own minimum, as multiples of CHGNet's, and
# how closely: an error of 0.001 costs less than 1 meV/atom.
_SCALES = (0.9, 1.1)
_TOLERANCE = 0.002


class ReferenceEnergies:
    """The elements' energies by one model.

    Args:
        model: what computes energies.
        given: symbols and energies in eV/atom, which go before all others.

    Raises:
        CrystalGymError: they are no mapping, a symbol is none, or an energy is no finite number.
    """

    def __init__(self, model: EnergyModel, given: Mapping[str, float] | None = None) -> None:
        self.model = model
        if given is not None and not isinstance(given, Mapping):
            raise CrystalGymError(
                f"Reference energies are a mapping of symbols to eV/atom, not {given!r}."
            )
        known = {}
        if model.name == CHGNET:
            known = {symbol: entry["energy"] for symbol, entry in shipped_elements().items()}
        known |= given or {}
        self._energies = np.full(len(SYMBOLS) + 1, np.nan)
        self._energies[0] = 0.0
        for symbol, energy in known.items():
            self._energies[atomic_number(symbol)] = finite(
                energy, f"The reference energy of {symbol} (eV/atom)"
            )

    def require(self, elements: Iterable[int]) -> None:
        """Make sure of the references of atomic numbers; compute those of an ASE calculator.

        Raises:
            CrystalGymError: there are none, and none can be computed.
        """
        missing = [number for number in elements if np.isnan(self._energies[number])]
        if missing and self.model.name == CHGNET:
            raise CrystalGymError(
                "CHGNet does not know the elements "
                f"{', '.join(SYMBOLS[number - 1] for number in missing)}. Leave them out of the "
                "vocabulary, or use another calculator."
            )
        for number in missing:
            self._energies[number] = computed_reference(self.model, SYMBOLS[number - 1])

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Mean over the atoms of their elements' energies, eV/atom, float64 (k,).

        Args:
            numbers: atomic numbers, (k, N), 0 where there is no site.
        """
        self.require(np.unique(numbers).tolist())
        return self._energies[numbers].sum(axis=1) / (numbers > 0).sum(axis=1)


@functools.cache
def shipped_elements() -> dict[str, dict[str, Any]]:
    """By symbol: ``energy`` (eV/atom), ``start`` (its source), ``parameters``, ``frac_coords``."""
    return json.loads(SHIPPED.read_text())["elements"]


def reference_crystal(symbol: str) -> Skeleton:
    """The element's crystal as CHGNet relaxes it, without edges.

    Raises:
        CrystalGymError: there is none.
    """
    if symbol not in shipped_elements():
        raise CrystalGymError(
            f"There is no reference crystal of {symbol}; give its energy in eV/atom, as "
            f"references={{{symbol!r}: …}}."
        )
    entry = shipped_elements()[symbol]
    return Skeleton(
        np.array(entry["parameters"], np.float64),
        np.array(entry["frac_coords"], np.float64),
        np.empty((0, 5), np.int16),
    )


def computed_reference(model: EnergyModel, symbol: str) -> float:
    """Lowest energy of the element's crystal under even stretching, eV/atom.

    Raises:
        CrystalGymError: the model fails on it.
    """
    from scipy.optimize import minimize_scalar

    crystal = reference_crystal(symbol)
    numbers = np.full(crystal.n_sites, atomic_number(symbol))

    def energy(scale: float) -> float:
        lengths = crystal.parameters * np.array([scale, scale, scale, 1, 1, 1])
        (value,) = model.energies([(dataclasses.replace(crystal, parameters=lengths), numbers)])
        if not np.isfinite(value):
            raise CrystalGymError(
                f"The calculator {model.name!r} gives no energy of the element {symbol}; the "
                "log tells why. Leave the element out of the vocabulary, or give its energy in "
                f"eV/atom, as references={{{symbol!r}: …}}."
            )
        return float(value)

    found: Any = minimize_scalar(
        energy, bounds=_SCALES, method="bounded", options={"xatol": _TOLERANCE}
    )
    return float(found.fun)

"""Reference energies of the pure elements, to which formation energies are relative.

CHGNet's energies are part of the package: every element in its low-temperature structure, relaxed
by CHGNet itself. Other calculators relax the volumes of the same crystals, or use energies given by
the user.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS, atomic_number
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.energy.interface import EnergyModel
from crystal_gym.rewards.energy.reference_crystals import reference_crystal
from crystal_gym.rewards.validation import require_finite

# Range of lattice lengths, relative to CHGNet's, in which the minimum of another calculator is
# searched, and the tolerance: an error of 0.001 changes the energy by less than 1 meV/atom.
_SCALES = (0.9, 1.1)
_TOLERANCE = 0.002


class ReferenceEnergies:
    """Energies of the pure elements by one model.

    Args:
        model: The energy model.
        given: Energies in eV/atom by symbol, which replace those of the model.

    Raises:
        CrystalGymError: If ``given`` is not a mapping, a symbol does not exist, or an energy is not
            a finite number.
    """

    def __init__(self, model: EnergyModel, given: Mapping[str, float] | None = None) -> None:
        self.model = model
        if given is not None and not isinstance(given, Mapping):
            raise CrystalGymError(
                f"Expected references to be a mapping of symbols to eV/atom, got {given!r}."
            )
        known = {**(model.reference_energies or {}), **(given or {})}
        self._energies = np.full(len(SYMBOLS) + 1, np.nan)
        self._energies[0] = 0.0
        for symbol, energy in known.items():
            self._energies[atomic_number(symbol)] = require_finite(
                energy, f"the reference energy of {symbol} (eV/atom)"
            )

    def check_supported(self, elements: Iterable[int]) -> None:
        """Check that the model supports the elements, without computing energies.

        Args:
            elements: Atomic numbers; 0 is ignored.

        Raises:
            CrystalGymError: If the model does not support an element.
        """
        if self.model.reference_energies is None:
            return
        missing = [SYMBOLS[number - 1] for number in self._missing(elements)]
        if missing:
            raise CrystalGymError(
                f"The calculator {self.model.name!r} does not support the elements "
                f"{', '.join(missing)}. Remove them from the vocabulary or use another calculator."
            )

    def mean_over_atoms(self, numbers: np.ndarray) -> np.ndarray:
        """Average the reference energies over the atoms of each crystal, eV/atom, float64 (k,).

        Energies that are not yet available are computed.

        Args:
            numbers: Atomic numbers, (k, N), 0 on padding.

        Raises:
            CrystalGymError: If an element has no reference energy and none can be computed.
        """
        elements = np.unique(numbers).tolist()
        self.check_supported(elements)
        for number in self._missing(elements):
            self._energies[number] = compute_reference(self.model, SYMBOLS[number - 1])
        return self._energies[numbers].sum(axis=1) / (numbers > 0).sum(axis=1)

    def _missing(self, elements: Iterable[int]) -> list[int]:
        return [number for number in elements if np.isnan(self._energies[number])]


def compute_reference(model: EnergyModel, symbol: str) -> float:
    """Compute the lowest energy of an element's crystal under isotropic scaling, in eV/atom.

    Args:
        model: The energy model.
        symbol: Symbol of the element.

    Raises:
        CrystalGymError: If there is no crystal of the element, or the model fails on it.
    """
    from scipy.optimize import minimize_scalar

    crystal = reference_crystal(symbol)
    numbers = np.full(crystal.n_sites, atomic_number(symbol))

    def energy(scale: float) -> float:
        parameters = crystal.parameters * np.array([scale, scale, scale, 1, 1, 1])
        scaled = dataclasses.replace(crystal, parameters=parameters)
        (value,) = model.energies([(scaled, numbers)])
        if not np.isfinite(value):
            raise CrystalGymError(
                f"The calculator {model.name!r} gives no energy of the element {symbol}; see the "
                "log for the cause. Remove the element from the vocabulary, or pass its energy in "
                f"eV/atom as references={{{symbol!r}: …}}."
            )
        return float(value)

    minimum: Any = minimize_scalar(
        energy, bounds=_SCALES, method="bounded", options={"xatol": _TOLERANCE}
    )
    return float(minimum.fun)

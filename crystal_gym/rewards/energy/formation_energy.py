"""Reward for a low formation energy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_gym.episode import EpisodeTable
from crystal_gym.rewards.energy.lru_cache import LRUCache
from crystal_gym.rewards.energy.models import CHGNET, resolve_energy_model
from crystal_gym.rewards.energy.references import ReferenceEnergies
from crystal_gym.rewards.failure_handling import FailureHandler
from crystal_gym.rewards.reward import Reward

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator

# Fillings that are remembered, about half a kilobyte each.
_MEMORY = 2**17


class FormationEnergyReward(Reward):
    """Minus the formation energy of the filled skeleton, in eV/atom, at the end of an episode.

    The skeleton is not relaxed: its geometry is what it is. The formation energy is the crystal's
    energy less the energies of its elements, by the same calculator; below 0 for a crystal more
    stable than the elements.

    Components: ``formation_energy`` in eV/atom, NaN where it could not be computed, and those of
    ``crystal_gym.rewards.FailureHandler``.

    Args:
        calculator: ``chgnet`` (extra ``energy``), the machine-learning potential; ASE's name of a
            calculator, like ``emt``; ``module:Class``; or an ASE calculator.
        settings: keyword arguments of a calculator given by name.
        references: energies of the elements by symbol, in eV/atom. Those that are not given come
            with the package for CHGNet; for other calculators they are computed when an element
            first occurs, see ``crystal_gym.rewards.energy.references``.
        fallback: the reward where the energy is NaN, infinite or not to be had.

    Raises:
        UnknownNameError: no such calculator.
        CrystalGymError: a package is missing, or the settings, references or fallback are wrong.
    """

    def __init__(
        self,
        calculator: "str | BaseCalculator" = CHGNET,
        settings: Mapping[str, Any] | None = None,
        references: Mapping[str, float] | None = None,
        fallback: float = -10.0,
    ) -> None:
        self.model = resolve_energy_model(calculator, settings)
        self.references = ReferenceEnergies(self.model, references)
        self.failures = FailureHandler(fallback)
        self._energies = LRUCache(_MEMORY)

    def prepare(self, table: EpisodeTable) -> None:
        """Refuse a vocabulary with elements that CHGNet does not know.

        Raises:
            CrystalGymError: there are such elements.
        """
        if self.model.name == CHGNET:
            self.references.require(table.vocabulary.atomic_numbers.tolist())

    def on_finish(
        self, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Minus the formation energy, its value and what failed.

        Raises:
            CrystalGymError: an element has no reference energy, and none can be computed.
        """
        numbers = table.vocabulary.decode(elements)
        references = self.references.of(numbers)
        formation = self._energy(table, crystal, numbers) - references
        paid, told = self.failures.replace_failures(table, crystal, elements, -formation)
        return paid, {"formation_energy": formation, **told}

    def _energy(self, table: EpisodeTable, crystal: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """eV/atom, (k,); only what is not remembered is computed, all at once."""
        skeletons = [table.collection.skeleton(row) for row in crystal.tolist()]
        filled = [
            (skeleton, sites[: skeleton.n_sites])
            for skeleton, sites in zip(skeletons, numbers, strict=True)
        ]
        # The geometry itself is in the key: one reward may serve several collections.
        keys = [
            (skeleton.parameters.tobytes(), skeleton.frac_coords.tobytes(), sites.tobytes())
            for skeleton, sites in filled
        ]
        values = {key: self._energies[key] for key in keys if key in self._energies}
        fresh = {key: some for key, some in zip(keys, filled, strict=True) if key not in values}
        if fresh:
            computed = self.model.energies(list(fresh.values())).tolist()
            for key, value in zip(fresh, computed, strict=True):
                values[key] = self._energies[key] = value
        return np.array([values[key] for key in keys])

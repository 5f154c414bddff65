"""Reward for a low formation energy."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.rewards.energy.lru_cache import LRUCache
from crystal_gym.rewards.energy.models import resolve_energy_model
from crystal_gym.rewards.energy.parallel import compute_energies
from crystal_gym.rewards.energy.references import ReferenceEnergies
from crystal_gym.rewards.energy.time_limit import TimeLimitedEnergy
from crystal_gym.rewards.failure_handling import FailureHandler
from crystal_gym.rewards.reward import Reward

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator

# Number of cached energies, about half a kilobyte each.
_CACHED_ENERGIES = 2**17


class FormationEnergyReward(Reward):
    """Minus the formation energy of the filled skeleton in eV/atom, at the end of the episode.

    The formation energy is the energy of the crystal minus the energies of its elements, by the
    same calculator. It is negative for a crystal that is more stable than its elements. The
    skeleton is not relaxed.

    Components: ``formation_energy`` in eV/atom, NaN where the computation failed, and those of
    ``crystal_gym.rewards.FailureHandler``.

    Args:
        calculator: ``chgnet`` (extra ``energy``), a machine-learning potential; ASE's name of a
            calculator, such as ``emt``; the class of a calculator as ``module:Class``; or an ASE
            calculator.
        settings: Keyword arguments of a calculator given by name.
        references: Energies of the elements in eV/atom, by symbol. By default, those of CHGNet are
            part of the package, and those of other calculators are computed when an element first
            occurs, see ``crystal_gym.rewards.energy.references``.
        fallback: The reward where the energy is NaN or infinite, or its computation failed.
        timeout: Seconds after which the computation of one crystal (with ``chgnet``, of one batch)
            is stopped and fails. It then runs in a process of its own, which may also end by
            itself. By default, there is no limit, and the computation runs in this process.
        retries: Number of further attempts after a failure; also uses a process of its own.

    Raises:
        UnknownNameError: If the calculator does not exist.
        CrystalGymError: If a package is missing, or an argument is invalid.
    """

    components = ("formation_energy", *FailureHandler.components)

    def __init__(
        self,
        calculator: "str | BaseCalculator" = "chgnet",
        settings: Mapping[str, Any] | None = None,
        references: Mapping[str, float] | None = None,
        fallback: float = -10.0,
        *,
        timeout: float | None = None,
        retries: int = 0,
    ) -> None:
        self.model = resolve_energy_model(calculator, settings)
        if timeout is not None or retries:
            limit = math.inf if timeout is None else timeout
            self.model = TimeLimitedEnergy(self.model, limit, retries)
        self.references = ReferenceEnergies(self.model, references)
        self.failures = FailureHandler(fallback)
        self._energies = LRUCache(_CACHED_ENERGIES)

    def prepare(self, table: EpisodeTable) -> None:
        """Check that the calculator supports the elements of the vocabulary.

        Args:
            table: The crystals.

        Raises:
            CrystalGymError: If the calculator does not support all of them.
        """
        self.references.check_supported(table.vocabulary.atomic_numbers.tolist())

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Compute the formation energies.

        Args:
            table: The crystals.
            state: A batch of k finished episodes.

        Returns:
            The rewards in eV/atom, float64 (k,), and the components.

        Raises:
            CrystalGymError: If an element has no reference energy and none can be computed.
        """
        numbers = table.vocabulary.decode(state.elements)
        references = self.references.mean_over_atoms(numbers)
        formation = self._compute_energies(table, state.crystal, numbers) - references
        rewards, components = self.failures.replace_failures(table, state, -formation)
        return rewards, {"formation_energy": formation, **components}

    def _compute_energies(
        self, table: EpisodeTable, crystal: np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """Return energies in eV/atom, (k,), computing together those that are not cached."""
        skeletons = [table.collection.skeleton(row) for row in crystal.tolist()]
        filled = [
            (skeleton, sites[: skeleton.n_sites])
            for skeleton, sites in zip(skeletons, numbers, strict=True)
        ]
        # The key contains the geometry, because one reward may serve several collections.
        keys = [
            (skeleton.parameters.tobytes(), skeleton.frac_coords.tobytes(), sites.tobytes())
            for skeleton, sites in filled
        ]
        values = {key: self._energies[key] for key in keys if key in self._energies}
        missing = {key: pair for key, pair in zip(keys, filled, strict=True) if key not in values}
        if missing:
            computed = compute_energies(self.model, list(missing.values())).tolist()
            for key, value in zip(missing, computed, strict=True):
                values[key] = self._energies[key] = value
        return np.array([values[key] for key in keys])

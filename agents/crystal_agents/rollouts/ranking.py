"""The order of the fillings of a structure, by probability or by energy."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crystal_agents.rollouts.complete_structure import FilledStructure
from crystal_gym.collections.preparation import file_order
from crystal_gym.crystals.skeleton import Skeleton

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystal_gym.collections.known_crystals import KnownCrystals


@dataclass(frozen=True)
class RankedFilling:
    """A filling with its energy, and whether it is known.

    Attributes:
        filled: The filling.
        formation_energy: Formation energy in eV/atom; NaN if its computation failed, ``None`` if it
            was not computed.
        energy_above_hull: Energy above the hull in eV/atom; NaN without an energy, ``None`` if it
            was not computed.
        relaxed: The relaxed crystal; ``None`` if it was not relaxed.
        converged: Whether the relaxation converged; ``None`` without a relaxation.
        in_training: ``crystal`` if the same crystal is a training crystal, ``composition`` if only
            its composition is, ``no``, or ``None`` if they were not compared.
    """

    filled: FilledStructure
    formation_energy: float | None = None
    energy_above_hull: float | None = None
    relaxed: "Structure | None" = None
    converged: bool | None = None
    in_training: Literal["crystal", "composition", "no"] | None = None

    @property
    def structure(self) -> "Structure":
        """The relaxed crystal, or the filled skeleton."""
        return self.filled.structure if self.relaxed is None else self.relaxed


class EnergyRanking:
    """The order of fillings by CHGNet's formation energy, or by an energy above the hull.

    Args:
        phase_diagram: File of a phase diagram, see ``UserPhaseDiagram``; fillings are in the order
            of their energy above its hull.
        relax_steps: Largest number of steps of a relaxation; ``None``: no relaxation.

    Raises:
        MissingDataError: If there is no such file.
        DamagedFileError: If the file is no phase diagram.
        CrystalGymError: If the package of CHGNet is missing.
    """

    def __init__(self, phase_diagram: Path | None = None, relax_steps: int | None = None) -> None:
        from crystal_gym.rewards.energy.models import resolve_energy_model
        from crystal_gym.rewards.energy.phase_diagram import UserPhaseDiagram
        from crystal_gym.rewards.energy.references import ReferenceEnergies

        self.diagram = None if phase_diagram is None else UserPhaseDiagram(phase_diagram)
        self.model = resolve_energy_model("chgnet")
        self.references = ReferenceEnergies(self.model)
        self.relax_steps = relax_steps
        self._calculator: Any = None

    def check(self, fillings: Sequence[FilledStructure]) -> None:
        """Check that the energies of all elements can be computed.

        Raises:
            CrystalGymError: If CHGNet does not support an element.
            MissingDataError: If the phase diagram lacks an element.
        """
        for filling in fillings:
            self.references.check_supported(filling.structure.atomic_numbers)
            if self.diagram is not None:
                elements = filling.structure.composition.elements
                self.diagram.check_elements(element.symbol for element in elements)

    def __call__(
        self,
        fillings: Sequence[FilledStructure],
        advance: Callable[[int], None] = lambda _: None,
    ) -> list[RankedFilling]:
        """Return the fillings of one structure, the lowest energy first and failures last.

        Args:
            fillings: The fillings.
            advance: Called with 1 after each filling.
        """
        if self.relax_steps is None:
            from crystal_gym.rewards.energy.parallel import compute_energies

            filled = [_filled_skeleton(f.structure) for f in fillings]
            energies = compute_energies(self.model, filled)
            ranked = [RankedFilling(filling) for filling in fillings]
            advance(len(fillings))
        else:
            ranked, found = [], []
            for filling in fillings:
                relaxed, energy = self._relax(filling, self.relax_steps)
                ranked.append(relaxed)
                found.append(energy)
                advance(1)
            energies = np.array(found)
        ranked = [
            self._with_energies(filling, energy)
            for filling, energy in zip(ranked, energies.tolist(), strict=True)
        ]
        keys = [
            filling.formation_energy if self.diagram is None else filling.energy_above_hull
            for filling in ranked
        ]
        order = np.argsort(np.array(keys, float), kind="stable")  # NaN comes last
        return [ranked[k] for k in order.tolist()]

    def _with_energies(self, filling: RankedFilling, energy: float) -> RankedFilling:
        numbers = np.array([filling.structure.atomic_numbers])
        formation = energy - float(self.references.mean_over_atoms(numbers)[0])
        above = None
        if self.diagram is not None:
            above = float("nan")
            if not np.isnan(energy):
                above = self.diagram.energy_above_hull(filling.structure, energy)
        return dataclasses.replace(filling, formation_energy=formation, energy_above_hull=above)

    def _relax(self, filling: FilledStructure, steps: int) -> tuple[RankedFilling, float]:
        """Return a relaxed filling and its energy in eV/atom, NaN if the relaxation fails."""
        from crystal_gym.rewards.energy.chgnet import make_ase_calculator
        from crystal_gym.rewards.energy.interface import FailureLog
        from crystal_gym.rewards.energy.relaxation import relax

        if self._calculator is None:
            self._calculator = make_ase_calculator()
        with FailureLog().catch(np.array(filling.structure.atomic_numbers)):
            found = relax(filling.structure, self._calculator, steps)
            return RankedFilling(
                filling, relaxed=found.structure, converged=found.converged
            ), found.energy
        return RankedFilling(filling, converged=False), float("nan")


def compare_with_training(
    fillings: Sequence[RankedFilling], known: "KnownCrystals"
) -> list[RankedFilling]:
    """Return fillings with the attribute ``in_training``.

    Args:
        fillings: The fillings; those that were not relaxed are compared as they are.
        known: The training crystals.
    """
    return [
        dataclasses.replace(
            filling,
            in_training=(
                "crystal"
                if known.matches(filling.structure)
                else "composition"
                if known.has_composition(filling.structure)
                else "no"
            ),
        )
        for filling in fillings
    ]


def _filled_skeleton(structure: "Structure") -> tuple[Skeleton, np.ndarray]:
    skeleton = Skeleton.from_structure(structure, file_order(structure))
    return skeleton, np.array(structure.atomic_numbers)

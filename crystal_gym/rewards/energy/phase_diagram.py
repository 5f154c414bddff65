"""Energies above the convex hull of a phase diagram that a user provides as a file."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystal_gym.crystals.elements import SYMBOLS
from crystal_gym.errors import DamagedFileError, MissingDataError

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Structure


class UserPhaseDiagram:
    """The phase diagram of a file, for energies above its hull.

    The file is JSON of pymatgen: a ``PhaseDiagram`` (``to_json``), or a list of ``PDEntry`` or
    ``ComputedEntry`` (``as_dict``). Only compositions and energies are read. The energies must be
    those of the model that computes the energies of the fillings, or compatible with it: CHGNet was
    trained on the corrected GGA and GGA+U energies of the Materials Project.

    Args:
        path: The file.

    Raises:
        MissingDataError: If there is no such file.
        DamagedFileError: If the file is no phase diagram, or lacks the energy of a pure element.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._diagram = _read(path)
        self.symbols = sorted(element.symbol for element in self._diagram.elements)

    def check_elements(self, symbols: Iterable[str]) -> None:
        """Check that the diagram contains elements.

        Raises:
            MissingDataError: If it lacks some of them.
        """
        missing = sorted(set(symbols) - set(self.symbols), key=SYMBOLS.index)
        if missing:
            raise MissingDataError(
                f"Expected a phase diagram with {', '.join(missing)}, got one of "
                f"{', '.join(self.symbols)} in {self.path}. Add entries with these elements, or "
                f"fill with --elements {','.join(self.symbols)}."
            )

    def energy_above_hull(self, structure: "Structure", energy: float) -> float:
        """Return the energy above the hull in eV/atom, negative below it.

        Args:
            structure: The crystal.
            energy: Its energy in eV/atom.

        Raises:
            MissingDataError: If the diagram lacks an element of the crystal.
        """
        from pymatgen.analysis.phase_diagram import PDEntry

        composition = structure.composition
        self.check_elements(element.symbol for element in composition.elements)
        entry = PDEntry(composition, energy * composition.num_atoms)
        return float(self._diagram.get_e_above_hull(entry, allow_negative=True) or 0.0)


def _read(path: Path) -> "PhaseDiagram":
    from pymatgen.analysis.phase_diagram import PhaseDiagram

    if not path.is_file():
        raise MissingDataError(
            f"Expected a phase diagram in {path}, but there is no such file. Correct the path."
        )
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(
            f"Expected a phase diagram as JSON in {path}, got a file that is no JSON ({error})."
        ) from error
    records = content
    if isinstance(content, dict):
        computed = content.get("computed_data")
        records = computed.get("all_entries") if isinstance(computed, dict) else None
    if not isinstance(records, list) or not records:
        raise DamagedFileError(
            f"Expected a phase diagram or a list of entries of pymatgen in {path}, got "
            f"{type(content).__name__} without entries. Write it with "
            "phase_diagram.to_json()."
        )
    entries = [_entry(record, f"{path}, entry {index}") for index, record in enumerate(records)]
    try:
        return PhaseDiagram(entries)
    except ValueError as error:
        raise DamagedFileError(
            f"Expected the energies of all pure elements in {path}, got other entries ({error}). "
            "Add an entry for each element."
        ) from error


def _entry(record: Any, place: str) -> "PDEntry":
    """Return an entry with its corrected energy."""
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    try:
        energy = float(record["energy"]) + float(record.get("correction") or 0.0)
        composition = Composition(record["composition"]).element_composition
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFileError(
            f"Expected 'composition' and 'energy' in {place}, got others "
            f"({type(error).__name__}: {error}). Write entries of pymatgen with as_dict()."
        ) from error
    known = all(element.symbol in SYMBOLS for element in composition.elements)
    if not composition or not known or not math.isfinite(energy):
        raise DamagedFileError(
            f"Expected a composition of elements and a finite energy in {place}, got "
            f"{record['composition']!r} and {energy}."
        )
    return PDEntry(composition, energy)

"""Structures in objects of pymatgen and ASE, dictionaries, and Materials Project documents."""

import numbers
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from crystal_gym.errors import BadCrystalError, CrystalGymError
from crystal_gym.formats.parsed_structure import ParsedStructure, with_hydrogen
from crystal_gym.formats.parser_errors import parser_errors

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

SUPPORTED_OBJECTS = (
    "pymatgen Structure or IStructure, its as_dict(), ase.Atoms, or an object or dictionary with a "
    "structure, such as a Materials Project summary document"
)

# Names of the identifier in documents of the Materials Project.
_ID_NAMES = ("material_id", "entry_id", "task_id", "id")
# Deviation from 1 up to which an occupancy counts as full.
FULL_OCCUPANCY = 1e-3


def is_structure_object(source: object) -> bool:
    """Return whether an object is one crystal in a form that ``read_object`` reads."""
    from pymatgen.core import IStructure

    if isinstance(source, IStructure) or _is_atoms(source) or _is_structure_dict(source):
        return True
    return _has_structure(source)


def read_object(source: Any) -> ParsedStructure:
    """Read the structure of an object; its sites keep their order.

    Args:
        source: A pymatgen ``Structure`` or ``IStructure``, its ``as_dict()``, ``ase.Atoms``, or
            an object or dictionary with an attribute or entry ``structure``.

    Raises:
        BadCrystalError: If the structure is not a crystal that is periodic in three directions.
        CrystalGymError: If the object has another type.
    """
    from pymatgen.core import IStructure, Structure

    if isinstance(source, IStructure):
        copy = Structure(
            source.lattice,
            [site.species for site in source],
            source.frac_coords,
            labels=[site.label for site in source],
        )
        return _with_full_sites(copy, list(source.pbc))
    if _is_atoms(source):
        return _with_full_sites(_from_atoms(source), source.pbc.tolist())
    if _is_structure_dict(source):
        with parser_errors("dictionary of a Structure", "pymatgen"):
            structure = Structure.from_dict(_without_properties(source))
        return read_object(structure)
    if _has_structure(source):
        structure = _structure_of(source)
        if not is_structure_object(structure):
            raise BadCrystalError(
                f"Expected a crystal in the entry structure, got {_describe(structure)}. Use "
                f"{SUPPORTED_OBJECTS}."
            )
        return read_object(structure)
    raise CrystalGymError(f"Expected a crystal, got {_describe(source)}. Use {SUPPORTED_OBJECTS}.")


def object_id(source: Any) -> str | None:
    """Return the identifier of a document, or ``None`` for other objects and without one."""
    if not _has_structure(source):
        return None
    properties = _properties(source)
    known = [properties[name] for name in _ID_NAMES if properties.get(name) is not None]
    return str(known[0]) if known else None


def object_labels(sources: Iterable[Any]) -> list[dict[str, float]]:
    """Return the numeric properties of documents; other objects have none.

    A property that has another type in one of the documents, such as a boolean or text, is not a
    label.
    """
    documents = [_properties(source) if _has_structure(source) else {} for source in sources]
    excluded = {
        name
        for properties in documents
        for name, value in properties.items()
        if not (value is None or _is_number(value))
    }
    excluded.update(_ID_NAMES)
    return [
        {
            str(name): float(value)
            for name, value in properties.items()
            if name not in excluded and value is not None
        }
        for properties in documents
    ]


def _is_number(value: object) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _is_atoms(source: object) -> bool:
    if not any(kind.__module__.split(".")[0] == "ase" for kind in type(source).__mro__):
        return False
    from ase import Atoms

    return isinstance(source, Atoms)


def _is_structure_dict(source: object) -> bool:
    return isinstance(source, Mapping) and "lattice" in source and "sites" in source


def _structure_of(source: Any) -> Any:
    return source["structure"] if isinstance(source, Mapping) else source.structure


def _has_structure(source: object) -> bool:
    """Return whether an object or dictionary has a structure, as documents do."""
    if isinstance(source, type):
        return False
    if isinstance(source, Mapping):
        return "structure" in source
    try:
        return not callable(source.structure)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - documents without this field raise errors of any class
        return False


def _properties(source: Any) -> dict[str, Any]:
    """Return the properties of a document by name."""
    if isinstance(source, Mapping):
        return dict(source)
    names = {*getattr(type(source), "model_fields", ()), *getattr(source, "__dict__", {})}
    names.update(getattr(source, "model_extra", None) or ())
    names.update(_ID_NAMES)
    properties = {}
    for name in sorted(name for name in names if not name.startswith("_")):
        try:
            properties[name] = getattr(source, name)
        except Exception:  # noqa: BLE001, S112 - a field that was not requested
            continue
    return {name: value for name, value in properties.items() if not callable(value)}


def _describe(source: object) -> str:
    if isinstance(source, Mapping):
        return f"a dictionary with the keys {', '.join(map(str, list(source)[:8])) or '(none)'}"
    text = repr(source)
    return f"{text if len(text) < 200 else text[:200] + '…'} of type {type(source).__name__}"


def _without_properties(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dictionary of a structure without properties.

    pymatgen would import the classes that they name.
    """
    if not (isinstance(source["lattice"], Mapping) and isinstance(source["sites"], list | tuple)):
        raise BadCrystalError(
            "Expected a dictionary with a lattice and a list of sites, as Structure.as_dict() "
            "writes it, got another one."
        )
    sites = [
        {key: value for key, value in site.items() if key != "properties"}
        for site in source["sites"]
    ]
    for index, site in enumerate(sites):
        if "abc" not in site or "species" not in site:
            raise BadCrystalError(
                f"Expected species and fractional coordinates abc of site {index}, got the keys "
                f"{', '.join(map(str, site))}. Write the dictionary with Structure.as_dict()."
            )
    return {"lattice": dict(source["lattice"]), "sites": sites}


def _from_atoms(atoms: "Atoms") -> "Structure":
    from pymatgen.core import Lattice, Structure

    if atoms.cell.rank < 3:
        raise BadCrystalError(
            f"Expected ase.Atoms with three cell vectors, got {atoms.cell.rank}. Set the cell."
        )
    occupancies = (atoms.info or {}).get("occupancy") or {}
    for kind, occupancy in occupancies.items():
        if len(occupancy) > 1 or any(abs(x - 1) > FULL_OCCUPANCY for x in occupancy.values()):
            raise BadCrystalError(
                f"Site kind {kind} of ase.Atoms is disordered or partly occupied ({occupancy}). "
                "Use an ordered crystal, with one element on each site."
            )
    with parser_errors("ase.Atoms", "pymatgen"):
        return Structure(
            Lattice(atoms.cell.array),
            atoms.get_chemical_symbols(),
            atoms.get_scaled_positions(wrap=False),
        )


def _with_full_sites(structure: "Structure", periodic: list[bool]) -> ParsedStructure:
    """Return a structure in which almost full sites are full."""
    if not all(periodic):
        raise BadCrystalError(
            "Expected a crystal that is periodic in all three directions, got the periodic "
            f"boundary conditions {' '.join('FT'[p] for p in periodic)}. Set all of them for a "
            "crystal; surfaces, chains and molecules are not supported."
        )
    notices = []
    for index, site in enumerate(structure):
        occupancies = list(site.species.values())
        if len(occupancies) == 1 and 0 < abs(occupancies[0] - 1) <= FULL_OCCUPANCY:
            element = next(iter(site.species))
            structure[index] = element
            notices.append(f"Occupancy {occupancies[0]:g} of site {index} counts as 1")
    return with_hydrogen(structure, notices)

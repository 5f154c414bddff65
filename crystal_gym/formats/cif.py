"""Crystals from the text of a CIF (Crystallographic Information File)."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from crystal_gym.crystals.skeleton import SHORTEST_DISTANCE
from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.cif_block import (
    CifBlock,
    crystal_blocks,
    number,
    reject_unsupported,
)
from crystal_gym.formats.cif_declared import (
    DeclaredContent,
    check_multiplicities,
    check_volume,
)
from crystal_gym.formats.cif_sites import ListedSites, read_sites
from crystal_gym.formats.cif_symmetry import Symmetry, read_symmetry
from crystal_gym.formats.orbits import (
    MERGE_DISTANCE,
    NOTICE_DISTANCE,
    Operators,
    close_pairs,
    separation,
    site_orbit,
)
from crystal_gym.formats.parsed_structure import ParsedStructure

_CELL_TAGS = (
    "_cell_length_a",
    "_cell_length_b",
    "_cell_length_c",
    "_cell_angle_alpha",
    "_cell_angle_beta",
    "_cell_angle_gamma",
)
# Lengths in Å above this are not those of a cell.
_LONGEST_CELL = 1e4
_P1 = Symmetry("P 1", Operators(np.eye(3)[None], np.zeros((1, 3))))


@dataclass(frozen=True)
class _Content:
    """The sites in the cell, in the order of the CIF, each followed by its images."""

    elements: list[str]
    frac_coords: np.ndarray
    notices: list[str]


def read_cif(text: str) -> ParsedStructure:
    """Read the crystal of a CIF.

    The sites are in the order of the CIF, each followed by its images under the symmetry operators.
    The crystal is compared with the formula, the number of formula units, the multiplicities of
    sites and the volume that the CIF declares. If the symbol of the space group leaves the origin
    or the axes open, the cell and these declarations must decide them.

    Images of a site within 0.01 Å are one site with rounded coordinates; it moves to their mean,
    and a notice reports it. Coordinates such as 0.3333 become exact thirds without a notice.

    Args:
        text: The text of a CIF with one crystal; blocks without a crystal are ignored.

    Returns:
        The structure, whose sites have elements without charges, and notices.

    Raises:
        BadCrystalError: If the CIF is not readable, has no or several crystals, is contradictory
            or in doubt, or its crystal is magnetic, modulated or disordered.
    """
    blocks = crystal_blocks(text)
    if not blocks:
        raise BadCrystalError(
            "Expected a CIF with one crystal, got no block with a cell and sites. Check that the "
            "text is a complete CIF."
        )
    if len(blocks) > 1:
        raise _several(blocks)
    return _read_block(blocks[0])


def _several(blocks: list[CifBlock]) -> BadCrystalError:
    """Return the error for several crystals, with the names of unreadable blocks."""
    names = ", ".join(repr(block.name) for block in blocks)
    message = f"Expected a CIF with one crystal, got {len(blocks)} (blocks {names})."
    for block in blocks:
        try:
            _read_block(block)
        except BadCrystalError as error:
            message += f" Block {block.name!r} is not readable: {error}"
    return BadCrystalError(f"{message} Write each crystal to a CIF of its own.")


def _read_block(block: CifBlock) -> ParsedStructure:
    """Read the crystal of a block."""
    from pymatgen.core import Lattice, Structure

    reject_unsupported(block)
    lattice = Lattice.from_parameters(*_cell_parameters(block))
    check_volume(block, lattice.volume)
    declared = DeclaredContent.from_block(block)
    sites, notices = read_sites(block, declared.formula)
    readings, found = read_symmetry(block, lattice.matrix)
    notices += found
    content = _one_content(sites, declared, readings, lattice.matrix)
    structure = Structure(lattice, content.elements, content.frac_coords)
    return ParsedStructure(structure, (*notices, *content.notices))


def _one_content(
    sites: ListedSites,
    declared: DeclaredContent,
    readings: list[Symmetry],
    lattice: np.ndarray,
) -> _Content:
    """Return the content of the cell; only one reading may agree with the declarations."""
    if not readings:
        content = _checked_content(sites, declared, _P1, lattice)
        if not declared.gives_number_of_sites(sites):
            raise BadCrystalError(
                "Expected information on the symmetry, got neither operators nor a space group. "
                "Add _space_group_name_H-M_alt, 'P 1' if all sites of the cell are listed."
            )
        return content
    if len(readings) == 1:
        return _checked_content(sites, declared, readings[0], lattice)
    possible: list[tuple[Symmetry, _Content]] = []
    errors = []
    for reading in readings:
        try:
            content = _checked_content(sites, declared, reading, lattice)
            _reject_overlaps(content, lattice)
        except BadCrystalError as error:
            errors.append(f"{reading.name!r}: {error}")
            continue
        if not any(_is_same(content, other, lattice) for _, other in possible):
            possible.append((reading, content))
    names = ", ".join(repr(reading.name) for reading in readings)
    if not possible:
        raise BadCrystalError(
            f"Expected a crystal in one of the settings {names}, got none that agrees with the "
            f"CIF. {' '.join(errors)}"
        )
    if len(possible) > 1:
        named = ", ".join(repr(reading.name) for reading, _ in possible)
        raise BadCrystalError(
            f"Expected a CIF that determines the setting of its space group, got one that allows "
            f"{named}, which are different crystals. Add the symmetry operators, the full symbol, "
            "or _chemical_formula_sum and _cell_formula_units_Z."
        )
    reading, content = possible[0]
    if errors:
        content.notices.append(f"only the setting {reading.name!r} agrees with the other data")
    return content


def _checked_content(
    sites: ListedSites,
    declared: DeclaredContent,
    symmetry: Symmetry,
    lattice: np.ndarray,
) -> _Content:
    """Return the sites in the cell after comparison with the declarations."""
    orbits = [
        site_orbit(position, symmetry.operators, lattice, label)
        for position, label in zip(sites.frac_coords, sites.labels, strict=True)
    ]
    sizes = [len(orbit.frac_coords) for orbit in orbits]
    check_multiplicities(sites, sizes, len(symmetry.operators), symmetry.name)
    origins = np.repeat(np.arange(len(sizes)), sizes)
    frac_coords = np.concatenate([orbit.frac_coords for orbit in orbits] or [np.empty((0, 3))])
    notices = []
    moved = [orbit.spread for orbit in orbits if orbit.spread > NOTICE_DISTANCE]
    if moved:
        notices.append(
            f"images of sites within {MERGE_DISTANCE} Å were merged (listed sites: {len(moved)}, "
            f"largest distance: {max(moved):.4f} Å)"
        )
    keep, repeated = _distinct(sites, origins, frac_coords, sizes, lattice)
    notices += repeated
    elements = [sites.elements[origin] for origin in origins[keep]]
    declared.check(dict(Counter(elements)), sites, symmetry.name)
    return _Content(elements, frac_coords[keep], notices)


def _distinct(
    sites: ListedSites,
    origins: np.ndarray,
    frac_coords: np.ndarray,
    sizes: list[int],
    lattice: np.ndarray,
) -> tuple[np.ndarray, list[str]]:
    """Return which images belong to sites that repeat no earlier site, bool (n,), and notices."""
    keep = np.ones(len(origins), bool)
    largest = 0.0
    for first, second in close_pairs(frac_coords, lattice, MERGE_DISTANCE):
        one, other = origins[first], origins[second]
        if sites.elements[one] != sites.elements[other]:
            raise BadCrystalError(
                f"Sites {sites.labels[one]!r} ({sites.elements[one]}) and {sites.labels[other]!r} "
                f"({sites.elements[other]}) share a position: it is disordered or partly occupied. "
                "Use an ordered crystal, with one element on each site."
            )
        keep[second] = False
        largest = max(largest, separation(frac_coords[first], frac_coords[second], lattice))
    dropped = [origin for origin in range(len(sizes)) if not keep[origins == origin].all()]
    for origin in dropped:
        if keep[origins == origin].any():
            raise BadCrystalError(
                f"Some images of site {sites.labels[origin]!r} overlap with another site. Correct "
                "its coordinates."
            )
    if not dropped:
        return keep, []
    notice = (
        f"sites that repeat others within {MERGE_DISTANCE} Å were merged (listed sites: "
        f"{len(dropped)}, largest distance: {largest:.4f} Å)"
    )
    return keep, [notice]


def _reject_overlaps(content: _Content, lattice: np.ndarray) -> None:
    """Raise a ``BadCrystalError`` if sites overlap, which excludes a reading of the symmetry."""
    if len(close_pairs(content.frac_coords, lattice, SHORTEST_DISTANCE)):
        raise BadCrystalError(
            f"Expected sites at least {SHORTEST_DISTANCE} Å apart, got sites that overlap."
        )


def _is_same(first: _Content, second: _Content, lattice: np.ndarray) -> bool:
    """Return whether two contents have the same elements at the same positions."""
    n = len(first.elements)
    if sorted(first.elements) != sorted(second.elements):
        return False
    pairs = close_pairs(
        np.concatenate([first.frac_coords, second.frac_coords]), lattice, MERGE_DISTANCE
    )
    matched = {
        i for i, j in pairs.tolist() if i < n <= j and first.elements[i] == second.elements[j - n]
    }
    return len(matched) == n


def _cell_parameters(block: CifBlock) -> list[float]:
    """Return the lengths in Å and the angles in degrees of the cell."""
    parameters = []
    for tag in _CELL_TAGS:
        text = block.value(tag)
        value = number(text) if text is not None else 0.0
        if not 0 < value < _LONGEST_CELL:
            raise BadCrystalError(
                f"Expected a positive number up to {_LONGEST_CELL:g} as {tag}, got "
                f"{text or 'none'}. Complete the cell."
            )
        parameters.append(value)
    cosines = np.cos(np.radians(parameters[3:]))
    if max(parameters[3:]) >= 180 or 1 - (cosines**2).sum() + 2 * cosines.prod() <= 0:
        raise BadCrystalError(
            f"Expected angles of a cell, got {parameters[3:]}, which no cell has. Correct them."
        )
    return parameters

"""Comparison of a crystal with the numbers that its CIF declares."""

import math

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.chemical_formula import ChemicalFormula, formula_text
from crystal_gym.formats.cif_block import CifBlock, number
from crystal_gym.formats.cif_sites import ListedSites

_UNITS_TAG = "_cell_formula_units_z"
# Largest relative difference between the declared volume and that of the cell.
_VOLUME_TOLERANCE = 0.01


def check_volume(block: CifBlock, volume: float) -> None:
    """Raise a ``BadCrystalError`` if the declared volume differs from that of the cell in Å³."""
    declared = _number(block, "_cell_volume")
    if declared is not None and abs(declared / volume - 1) > _VOLUME_TOLERANCE:
        raise BadCrystalError(
            f"Expected a cell with the declared volume of {declared:g} Å³, got {volume:.2f} Å³. "
            "Correct the cell or _cell_volume."
        )


def check_multiplicities(
    sites: ListedSites, sizes: list[int], n_operators: int, setting: str
) -> None:
    """Raise a ``BadCrystalError`` if sites have other numbers of images than declared.

    Some programs write the order of the site symmetry in place of the multiplicity.
    """
    known = [
        (declared, size, label)
        for declared, size, label in zip(sites.multiplicities, sizes, sites.labels, strict=True)
        if declared is not None
    ]
    wrong = [(d, size, label) for d, size, label in known if d != size]
    if wrong and any(d * size != n_operators for d, size, _ in known):
        declared, size, label = wrong[0]
        raise BadCrystalError(
            f"Expected {declared} images of site {label!r}, its declared multiplicity, got {size} "
            f"with {setting}. Correct the multiplicity, the coordinates or the space group."
        )


def check_content(
    block: CifBlock, formula: ChemicalFormula | None, content: dict[str, int], setting: str
) -> None:
    """Raise a ``BadCrystalError`` if the content of the cell differs from the declared formula.

    Args:
        block: The block of the crystal.
        formula: The declared formula.
        content: Number of atoms in the cell by element symbol.
        setting: Name of the symmetry for messages.
    """
    if formula is None:
        return
    read = f"{formula_text(content)} in the cell with {setting}"
    missing = [element for element in formula.counts if element not in content]
    extra = [element for element in content if element not in formula.counts]
    if missing or extra:
        problem = " and ".join(
            f"{', '.join(elements)} {'are' if len(elements) > 1 else 'is'} {kind}"
            for elements, kind in ((missing, "missing"), (extra, "not in the formula"))
            if elements
        )
        raise BadCrystalError(
            f"Expected the elements of the declared formula {formula.text!r}, got {read}: "
            f"{problem}. Complete the sites or correct the formula."
        )
    units = formula.units(content)
    if units is None:
        raise BadCrystalError(
            f"Expected the ratios of the declared formula {formula.text!r}, got {read}. Correct "
            "the sites, the space group or the formula."
        )
    declared = _number(block, _UNITS_TAG)
    allowed = _allowed_units(formula, declared)
    if allowed is None:
        if not _is_close(units, max(1, round(units))):
            raise BadCrystalError(
                f"Expected whole formula units of {formula.text!r}, got {read}. Correct the sites, "
                "the space group or the formula."
            )
    elif not any(_is_close(units, value) for value in allowed):
        raise BadCrystalError(
            f"Expected {declared:g} formula units of {formula.text!r} as declared, got {read}, "
            f"which are {units:g}. Correct the sites, the space group or _cell_formula_units_Z."
        )


def declares_content(block: CifBlock, sites: ListedSites, formula: ChemicalFormula | None) -> bool:
    """Return whether the CIF declares the number of atoms in the cell.

    It does with the number of formula units, with multiplicities, and with a formula whose counts
    have a common divisor, which is that of a cell.
    """
    if formula and (_number(block, _UNITS_TAG) is not None or formula.divisor > 1):
        return True
    return bool(sites.multiplicities) and None not in sites.multiplicities


def _allowed_units(formula: ChemicalFormula, declared: float | None) -> list[float] | None:
    """Return the numbers of declared formulas in the cell that the declared Z allows.

    Some programs write the content of the cell as the sum formula, and the number of reduced
    formula units as Z.
    """
    if declared is None:
        return None
    if len(formula.counts) == 1 and declared == formula.divisor // 2:
        return [1.0, declared]  # the reduced formula of a molecule, such as O2
    return [declared, declared / formula.divisor]


def _is_close(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=5e-3)


def _number(block: CifBlock, tag: str) -> float | None:
    """Return a declared positive number, or ``None``."""
    text = block.value(tag)
    if text is None:
        return None
    value = number(text)
    if not value >= 0:
        raise BadCrystalError(f"Expected a positive number as {tag}, got {text!r}. Correct it.")
    return value or None  # pymatgen writes 0 formula units for a cell with one oxygen atom

"""Comparison of a crystal with what its CIF declares."""

import math
from dataclasses import dataclass

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.chemical_formula import ChemicalFormula, formula_text, parse_formula
from crystal_gym.formats.cif_block import CifBlock, number
from crystal_gym.formats.cif_sites import ListedSites

# Largest relative difference between the declared volume and that of the cell.
_VOLUME_TOLERANCE = 0.01


@dataclass(frozen=True)
class DeclaredContent:
    """What a CIF declares on the content of its cell.

    Attributes:
        formula: The sum formula, or the structural formula if there is none.
        structural: The structural formula, which some programs use as the formula unit.
        units: Number of formula units in the cell.
    """

    formula: ChemicalFormula | None
    structural: ChemicalFormula | None
    units: float | None

    @classmethod
    def from_block(cls, block: CifBlock) -> "DeclaredContent":
        """Read the declarations of a block.

        Raises:
            BadCrystalError: If the sum formula or the number of formula units is not readable.
        """
        structural = _structural_formula(block)
        text = block.value("_chemical_formula_sum")
        formula = parse_formula(text) if text and text.strip() else structural
        return cls(formula, structural, _number(block, "_cell_formula_units_z"))

    def check(self, content: dict[str, int], sites: ListedSites, setting: str) -> None:
        """Raise a ``BadCrystalError`` if the content of the cell differs from the declarations.

        Args:
            content: Number of atoms in the cell by element symbol.
            sites: The listed sites.
            setting: Name of the symmetry for messages.
        """
        if self.formula is None:
            return
        declared = repr(self.formula.text)
        read = f"{formula_text(content)} in the cell with {setting}"
        self._check_elements(content, read)
        units = self.formula.units(content)
        if units is None:
            raise BadCrystalError(
                f"Expected the ratios of the declared formula {declared}, got {read}. Correct the "
                "sites, the space group or the formula."
            )
        if self.units is None:
            if not _is_close(units, max(1, round(units))):
                raise BadCrystalError(
                    f"Expected whole formula units of {declared}, got {read}. Correct the sites, "
                    "the space group or the formula."
                )
        elif not (_is_close(units, self.units) or self._counts_other_units(content, sites)):
            raise BadCrystalError(
                f"Expected {self.units:g} formula units of {declared} as declared, got {read}, "
                f"which are {units:g}. Correct the sites, the space group or "
                "_cell_formula_units_Z."
            )

    def gives_number_of_sites(self, sites: ListedSites) -> bool:
        """Return whether the declarations determine the number of atoms in the cell.

        They do with the number of formula units, with multiplicities, and with a formula whose
        counts have a common divisor, which is that of a cell.
        """
        if self.formula and (self.units is not None or self.formula.divisor > 1):
            return True
        return _has_multiplicities(sites)

    def _check_elements(self, content: dict[str, int], read: str) -> None:
        assert self.formula is not None  # noqa: S101 - for the type checker
        missing = [element for element in self.formula.counts if element not in content]
        extra = [element for element in content if element not in self.formula.counts]
        problem = " and ".join(
            f"{', '.join(elements)} {'are' if len(elements) > 1 else 'is'} {kind}"
            for elements, kind in ((missing, "missing"), (extra, "not in the formula"))
            if elements
        )
        if problem:
            raise BadCrystalError(
                f"Expected the elements of the declared formula {self.formula.text!r}, got {read}: "
                f"{problem}. Complete the sites or correct the formula."
            )

    def _counts_other_units(self, content: dict[str, int], sites: ListedSites) -> bool:
        """Return whether the cell contains the declared number of other formula units.

        Some programs, such as pymatgen, write the content of the cell as the sum formula, and the
        whole number of structural or reduced formulas as the number of formula units.
        """
        assert self.formula is not None and self.units is not None  # noqa: S101, PT018 - for the type checker
        if self.structural and (units := self.structural.units(content)):
            return _is_close(units, self.units) or int(units) == self.units
        return (
            _has_multiplicities(sites)
            and self.formula.units(content) == 1
            and _is_close(self.units, self.formula.divisor)
        )


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

    Args:
        sites: The n listed sites.
        sizes: Number of images of each site, n.
        n_operators: Number of symmetry operators.
        setting: Name of the symmetry for messages.
    """
    known = [
        (declared, size, label)
        for declared, size, label in zip(sites.multiplicities, sizes, sites.labels, strict=True)
        if declared is not None
    ]
    wrong = [row for row in known if row[0] != row[1]]
    if wrong and any(declared * size != n_operators for declared, size, _ in known):
        declared, size, label = wrong[0]
        raise BadCrystalError(
            f"Expected {declared} images of site {label!r}, its declared multiplicity, got {size} "
            f"with {setting}. Correct the multiplicity, the coordinates or the space group."
        )


def _has_multiplicities(sites: ListedSites) -> bool:
    return bool(sites.multiplicities) and None not in sites.multiplicities


def _structural_formula(block: CifBlock) -> ChemicalFormula | None:
    """Return the structural formula, or ``None`` if it contains more than elements."""
    text = block.value("_chemical_formula_structural")
    try:
        return parse_formula(text) if text and text.strip() else None
    except BadCrystalError:
        return None


def _is_close(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=5e-3)


def _number(block: CifBlock, tag: str) -> float | None:
    """Return a declared number, or ``None`` if there is none, or 0, which pymatgen can write."""
    text = block.value(tag)
    if text is None:
        return None
    value = number(text)
    if not value >= 0:
        raise BadCrystalError(f"Expected a positive number as {tag}, got {text!r}. Correct it.")
    return value or None

"""Goldschmidt: ABX3 perovskites computed from ionic radii, not measured.

This default collection is part of the package and needs no download. It contains all combinations
of two cations with known oxidation states and one anion whose charges cancel and for which
Goldschmidt's tolerance factor and the octahedral factor allow a perovskite. An empirical formula
gives the edge of the ideal cubic cell. Some of these compounds exist, many do not, and most real
ones are distorted.

``python -m crystal_gym.collections.goldschmidt`` recomputes the prepared arrays of the package.

Chemistry:
    - Oxidation states: those that both SMACT (``icsd24``) and pymatgen (``icsd_oxidation_states``)
      list from the ICSD.
    - Ionic radii: Shannon, Acta Cryst. A 32, 751 (1976), as tabulated in pymatgen; high spin if
      there are several values.
    - Bounds: Goldschmidt, Naturwissenschaften 14, 477 (1926).
    - Lattice constant: Ubic, J. Am. Ceram. Soc. 90, 3326 (2007), with approximate coefficients.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crystal_gym.collections.collection import CollectionArrays, CrystalCollection, hash_splits
from crystal_gym.collections.preparation import (
    file_order,
    load_prepared,
    prepare,
    save_arrays,
)
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.crystals.elements import SYMBOLS

DESCRIPTION = (
    "Goldschmidt: charge-neutral cubic ABX3 perovskites computed (not measured) from oxidation "
    "states and Shannon radii, lattice constants from an empirical formula, split 60/20/20 by "
    "composition."
)

PREPARED = Path(__file__).with_name("goldschmidt.npz")

# Charges of the anions X.
ANIONS = {"N": -3, "O": -2, "F": -1, "S": -2, "Cl": -1, "Br": -1, "I": -1}
# Elements that are never A or B, because they form molecular ions. Noble gases form no ions.
_NO_CATIONS = {"H", "C", "P"}
# Elements heavier than Bi, and these two lighter ones, have no stable isotope.
_HEAVIEST_STABLE, _UNSTABLE = "Bi", {"Tc", "Pm"}

# The usual range, 0.8 to 1.05, extended to include BaTiO3 (1.06).
TOLERANCE_FACTORS = (0.8, 1.07)
# With a smaller ratio of the radii of B and X, B prefers tetrahedral coordination.
SMALLEST_OCTAHEDRAL_FACTOR = 0.41

# Fractional coordinates of A, B, X, X, X.
SITES = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
# Shares of train, val and test.
SHARES = (0.6, 0.2, 0.2)
_COORDINATIONS = ("IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")


class Cation(NamedTuple):
    """A cation in one oxidation state.

    Attributes:
        symbol: Symbol of the element.
        charge: Charge in elementary charges.
        radius: Shannon's ionic radius in sixfold coordination in Å.
        widest: Shannon's ionic radius in the highest tabulated coordination up to twelve in Å.
    """

    symbol: str
    charge: int
    radius: float
    widest: float


class Perovskite(NamedTuple):
    """A charge-neutral ABX3 compound within the bounds.

    Attributes:
        a: The cation A.
        b: The cation B.
        x: Symbol of the anion X.
        lattice_constant: Edge of the cubic cell in Å.
    """

    a: Cation
    b: Cation
    x: str
    lattice_constant: float

    @property
    def formula(self) -> str:
        """The formula, such as ``SrTiO3``."""
        return f"{self.a.symbol}{self.b.symbol}{self.x}3"


def load(*, progress: bool = True) -> CrystalCollection:  # noqa: ARG001 - shared signature
    """Load the computed perovskites from the arrays in the package."""
    return load_prepared(PREPARED, "goldschmidt", DESCRIPTION)


def lattice_constant(a: float, b: float, x: float) -> float:
    """Compute the edge of the cubic perovskite cell in Å with Ubic's formula.

    The coefficients are approximate; the error is below 2 % for familiar compounds.

    Args:
        a: Ionic radius of A in sixfold coordination in Å.
        b: Ionic radius of B in Å.
        x: Ionic radius of X in Å.
    """
    return 0.06741 + 0.490523 * (a + x) + 1.292121 * (b + x)


def tolerance_factor(a: float, b: float, x: float) -> float:
    """Compute Goldschmidt's tolerance factor, which is 1 for touching spheres.

    Args:
        a: Ionic radius of A in Å.
        b: Ionic radius of B in Å.
        x: Ionic radius of X in Å.
    """
    return (a + x) / (2**0.5 * (b + x))


def anion_radius(symbol: str) -> float:
    """Return Shannon's ionic radius in Å, in sixfold coordination if tabulated (N: fourfold)."""
    radii = _shannon_radii(symbol, ANIONS[symbol])
    return radii.get("VI", next(iter(radii.values())))


def cations() -> list[Cation]:
    """Return the cations with known oxidation states and radii, by atomic number and charge."""
    import smact
    from pymatgen.core import Element

    found = []
    for symbol in SYMBOLS[: SYMBOLS.index(_HEAVIEST_STABLE) + 1]:
        if symbol in _NO_CATIONS | _UNSTABLE or symbol in ANIONS:
            continue
        states = set(smact.Element(symbol).oxidation_states_icsd24 or ())
        for charge in sorted(states.intersection(Element(symbol).icsd_oxidation_states)):
            radii = _shannon_radii(symbol, charge)
            if charge > 0 and "VI" in radii:
                widest = max(radii, key=_COORDINATIONS.index)
                found.append(Cation(symbol, charge, radii["VI"], radii[widest]))
    return found


def perovskites() -> Iterator[Perovskite]:
    """Yield all ABX3 compounds that charges and radii allow, by anion, A and B.

    A is the larger cation. If several pairs of oxidation states balance, the pair with the
    tolerance factor closest to 1 is used.
    """
    ions = cations()
    for x, charge in ANIONS.items():
        radius = anion_radius(x)
        best: dict[tuple[str, str], tuple[float, Perovskite]] = {}
        for a in ions:
            for b in ions:
                tolerance = tolerance_factor(a.widest, b.radius, radius)
                if (
                    a.symbol != b.symbol
                    and a.charge + b.charge + 3 * charge == 0
                    and a.radius > b.radius
                    and b.radius / radius > SMALLEST_OCTAHEDRAL_FACTOR
                    and TOLERANCE_FACTORS[0] <= tolerance <= TOLERANCE_FACTORS[1]
                ):
                    constant = round(lattice_constant(a.radius, b.radius, radius), 3)
                    candidate = (abs(tolerance - 1), Perovskite(a, b, x, constant))
                    pair = (a.symbol, b.symbol)
                    best[pair] = min(best.get(pair, candidate), candidate)
        yield from (perovskite for _, perovskite in best.values())


def make_arrays(chosen: Sequence[Perovskite], *, progress: bool = True) -> CollectionArrays:
    """Compute the prepared arrays of perovskites, split by composition."""
    from pymatgen.core import Lattice, Structure

    raw = [
        RawCrystal(
            id=p.formula,
            split=split,
            content=Structure(
                Lattice.cubic(p.lattice_constant), [p.a.symbol, p.b.symbol, *[p.x] * 3], SITES
            ),
            format="structure",
            where="goldschmidt",
        )
        for p, split in zip(chosen, hash_splits([p.formula for p in chosen], SHARES), strict=True)
    ]
    arrays = prepare(raw, file_order, progress=progress)
    # A few pairs of elements occur as A and B in both orders, with other oxidation states.
    collection = CrystalCollection(name="goldschmidt", **arrays).split_by_composition()
    return {**arrays, "splits": collection.splits}


def _shannon_radii(symbol: str, charge: int) -> dict[str, float]:
    """Return ionic radii in Å by coordination number, as Roman numerals up to XII."""
    from pymatgen.core import Element

    table = Element(symbol).data.get("Shannon radii")
    # Without radii, pymatgen has the text "no data".
    by_spin = table.get(str(charge), {}) if isinstance(table, dict) else {}
    return {
        coordination: radii.get("", radii.get("High Spin", radii.get("Low Spin")))["ionic_radius"]
        for coordination, radii in by_spin.items()
        if coordination in _COORDINATIONS
    }


if __name__ == "__main__":
    save_arrays(PREPARED, make_arrays(list(perovskites())), compressed=True)
    print(f"{PREPARED}: {load()}")

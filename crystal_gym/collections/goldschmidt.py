"""Goldschmidt: ABX3 perovskites computed from ionic radii. Computed, not measured.

The embedded default collection, at hand without a download. Two cations of known oxidation states
and one anion make a crystal when their charges cancel and Goldschmidt's tolerance factor and the
octahedral factor allow a perovskite; an empirical formula gives the edge of the ideal cubic cell.
Some of these compounds exist, many do not, and most real ones are distorted.

The prepared arrays ship with the package. Make them again with
``python -m crystal_gym.collections.goldschmidt``.

Chemistry:
    Oxidation states: those that both SMACT (``icsd24``) and pymatgen (``icsd_oxidation_states``)
    report from the ICSD. Ionic radii: Shannon, Acta Cryst. A 32, 751 (1976), as tabulated in
    pymatgen; high spin where there is a choice. Bounds: Goldschmidt, Naturwissenschaften 14, 477
    (1926). Lattice constant: Ubic, J. Am. Ceram. Soc. 90, 3326 (2007), coefficients approximate.
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
# Never A or B: noble gases have no ions, H, C and P form molecular ions instead.
_NO_CATIONS = {"H", "C", "P"}
# Heavier elements, and these two lighter ones, have no stable isotope.
_HEAVIEST_STABLE, _UNSTABLE = "Bi", {"Tc", "Pm"}

# The ends of the usual range, 0.8 to 1.05, with room for BaTiO3 (1.06).
TOLERANCE_FACTORS = (0.8, 1.07)
# A smaller B than this leaves the octahedron for the tetrahedron.
SMALLEST_OCTAHEDRAL_FACTOR = 0.41

# Fractional coordinates of A, B, X, X, X.
SITES = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
# Of train, val and test.
SHARES = (0.6, 0.2, 0.2)
_COORDINATIONS = ("IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")


class Cation(NamedTuple):
    """A cation in one oxidation state.

    Attributes:
        symbol: the element.
        charge: in elementary charges.
        radius: Shannon's ionic radius in sixfold coordination, Å.
        widest: the radius in the highest tabulated coordination up to twelve, Å.
    """

    symbol: str
    charge: int
    radius: float
    widest: float


class Perovskite(NamedTuple):
    """A charge-neutral ABX3 within the bounds: cations, anion and lattice constant in Å."""

    a: Cation
    b: Cation
    x: str
    lattice_constant: float

    @property
    def formula(self) -> str:
        """Like ``SrTiO3``."""
        return f"{self.a.symbol}{self.b.symbol}{self.x}3"


def load(*, progress: bool = True) -> CrystalCollection:  # noqa: ARG001 - every collection has it
    """The computed perovskites, from the arrays in the package."""
    return load_prepared(PREPARED, "goldschmidt", DESCRIPTION)


def lattice_constant(a: float, b: float, x: float) -> float:
    """Edge of the cubic perovskite cell in Å, by Ubic's formula with approximate coefficients.

    On familiar compounds it is right within 2 %.

    Args:
        a: ionic radius of A in sixfold coordination, Å.
        b: ionic radius of B, Å.
        x: ionic radius of X, Å.
    """
    return 0.06741 + 0.490523 * (a + x) + 1.292121 * (b + x)


def tolerance_factor(a: float, b: float, x: float) -> float:
    """Goldschmidt's tolerance factor of three ionic radii in Å; 1 for touching spheres."""
    return (a + x) / (2**0.5 * (b + x))


def anion_radius(symbol: str) -> float:
    """Shannon's ionic radius in Å, sixfold where tabulated (N: fourfold)."""
    radii = _shannon_radii(symbol, ANIONS[symbol])
    return radii.get("VI", next(iter(radii.values())))


def cations() -> list[Cation]:
    """The cations of known oxidation state and radius, by atomic number and charge."""
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
    """Every ABX3 that charges and radii allow, by anion, A and B; A is the larger cation.

    Where several oxidation states balance, the pair with the tolerance factor nearest to 1 stands.
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
    """Prepared arrays of these perovskites, split by composition."""
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
    # A few pairs of elements trade places in other oxidation states.
    collection = CrystalCollection(name="goldschmidt", **arrays).split_by_composition()
    return {**arrays, "splits": collection.splits}


def _shannon_radii(symbol: str, charge: int) -> dict[str, float]:
    """Ionic radii in Å by coordination, as Roman numerals up to XII."""
    from pymatgen.core import Element

    table = Element(symbol).data.get("Shannon radii")
    # pymatgen writes "no data" where there is none.
    by_spin = table.get(str(charge), {}) if isinstance(table, dict) else {}
    return {
        coordination: radii.get("", radii.get("High Spin", radii.get("Low Spin")))["ionic_radius"]
        for coordination, radii in by_spin.items()
        if coordination in _COORDINATIONS
    }


if __name__ == "__main__":
    save_arrays(PREPARED, make_arrays(list(perovskites())), compressed=True)
    print(f"{PREPARED}: {load()}")

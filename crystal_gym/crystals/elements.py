"""The ordered elements of the action space."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crystal_gym.errors import CrystalGymError

# Symbols in the order of the atomic numbers 1 to 118.
SYMBOLS: tuple[str, ...] = tuple(
    """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br
    Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho
    Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es
    Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
    """.split()
)
_NUMBER = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}


def atomic_number(element: str | int) -> int:
    """Atomic number of an element given as symbol or number.

    Raises:
        CrystalGymError: there is no such element.
    """
    if isinstance(element, str):
        if element in _NUMBER:
            return _NUMBER[element]
        raise CrystalGymError(
            f"{element!r} is no element symbol; write it as in the periodic table, like 'Ti'."
        )
    try:
        number = operator.index(element)
    except TypeError:
        number = 0
    if 1 <= number <= len(SYMBOLS):
        return number
    raise CrystalGymError(f"{element!r} is no atomic number; they run from 1 to {len(SYMBOLS)}.")


@dataclass(frozen=True)
class Vocabulary:
    """The ordered elements that an agent may choose from.

    Action ``a`` (0 to V - 1) means ``symbols[a]``. In observations an element carries the *code*
    ``a + 1``: 0 stands for an empty site and -1 for padding.

    Attributes:
        symbols: V element symbols, each once.
    """

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        # A list would do, but it cannot be hashed.
        object.__setattr__(self, "symbols", tuple(self.symbols))
        for symbol in self.symbols:
            if not isinstance(symbol, str):
                raise CrystalGymError(
                    f"A vocabulary holds element symbols, not {symbol!r}; "
                    "Vocabulary.from_elements also takes atomic numbers."
                )
            atomic_number(symbol)
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise CrystalGymError(
                f"A vocabulary needs at least one element, each once; got {list(self.symbols)}."
            )

    @classmethod
    def from_elements(cls, elements: Iterable[str | int]) -> "Vocabulary":
        """The distinct elements among symbols or atomic numbers, ordered by atomic number."""
        numbers = sorted({atomic_number(element) for element in elements})
        return cls(tuple(SYMBOLS[number - 1] for number in numbers))

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, element: object) -> bool:
        return element in self.symbols or element in self.atomic_numbers

    @cached_property
    def atomic_numbers(self) -> np.ndarray:
        """Atomic numbers in vocabulary order, int64 (V,)."""
        return np.array([_NUMBER[symbol] for symbol in self.symbols])

    @cached_property
    def _code_of_number(self) -> np.ndarray:
        codes = np.full(len(SYMBOLS) + 1, -1, np.int32)
        codes[self.atomic_numbers] = np.arange(1, len(self) + 1)
        codes[0] = 0
        return codes

    def encode(self, elements: Sequence[str | int] | np.ndarray) -> np.ndarray:
        """Codes 1 to V of symbols or atomic numbers; the number 0 (no element) stays 0.

        Args:
            elements: symbols or atomic numbers, any shape.

        Returns:
            int32 array of the same shape.

        Raises:
            CrystalGymError: an element is not in the vocabulary.
        """
        numbers = np.asarray(elements)
        if numbers.dtype.kind in "US":
            flat = [atomic_number(str(symbol)) for symbol in numbers.ravel()]
            numbers = np.array(flat, np.int64).reshape(numbers.shape)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise CrystalGymError(f"Elements are symbols or whole numbers, not {elements!r}.")
        numbers = numbers.astype(np.int64)
        outside = (numbers < 0) | (numbers > len(SYMBOLS))
        if outside.any():
            raise CrystalGymError(f"{numbers[outside].flat[0]} is no atomic number.")
        codes = self._code_of_number[numbers]
        if (codes < 0).any():
            stranger = SYMBOLS[int(numbers[codes < 0].flat[0]) - 1]
            raise CrystalGymError(
                f"Element {stranger} is not in the vocabulary of {len(self)} elements "
                f"({' '.join(self.symbols)}); pass a vocabulary that holds it."
            )
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Atomic numbers of codes; empty sites (0) and padding (-1) become 0. int64, same shape."""
        codes = np.asarray(codes)
        if codes.size and (codes.min() < -1 or codes.max() > len(self)):
            raise CrystalGymError(f"Element codes run from -1 to {len(self)}; got {codes}.")
        table = np.concatenate([[0], self.atomic_numbers, [0]])
        return table[codes]

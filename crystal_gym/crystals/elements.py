"""Chemical elements and the vocabulary, the ordered elements of the action space."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crystal_gym.errors import CrystalGymError

# Element symbols by atomic number, 1 to 118.
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
    """Return the atomic number of an element.

    Args:
        element: A symbol or an atomic number.

    Raises:
        CrystalGymError: If there is no such element.
    """
    if isinstance(element, str):
        if element in _NUMBER:
            return _NUMBER[element]
        raise CrystalGymError(
            f"Expected an element symbol such as 'Ti', got {element!r}. Correct the symbol."
        )
    try:
        number = operator.index(element)
    except TypeError:
        number = 0
    if 1 <= number <= len(SYMBOLS):
        return number
    raise CrystalGymError(
        f"Expected an element symbol or an atomic number from 1 to {len(SYMBOLS)}, got {element!r}."
    )


@dataclass(frozen=True)
class Vocabulary:
    """The ordered elements that an agent chooses from.

    Action ``a`` (0 to V - 1) selects the element ``symbols[a]``. Observations contain *codes*: the
    code of this element is ``a + 1``, the code of an empty site is 0, and that of padding is -1.

    Attributes:
        symbols: V distinct element symbols.

    Raises:
        CrystalGymError: If a symbol is unknown or repeated, or if there are no symbols.
    """

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        # A list is accepted but is not hashable.
        object.__setattr__(self, "symbols", tuple(self.symbols))
        for symbol in self.symbols:
            if not isinstance(symbol, str):
                raise CrystalGymError(
                    f"Expected element symbols, got {symbol!r}. Use Vocabulary.from_elements for "
                    "atomic numbers."
                )
            atomic_number(symbol)
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise CrystalGymError(
                f"Expected one or more distinct elements, got {list(self.symbols)}."
            )

    @classmethod
    def from_elements(cls, elements: Iterable[str | int]) -> "Vocabulary":
        """Return the vocabulary of the distinct elements, ordered by atomic number.

        Args:
            elements: Symbols or atomic numbers.

        Raises:
            CrystalGymError: If an element does not exist, or if there are none.
        """
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
        """Return the codes 1 to V of elements; the number 0 (no element) has the code 0.

        Args:
            elements: Symbols or atomic numbers, any shape.

        Returns:
            Codes, int32, same shape.

        Raises:
            CrystalGymError: If an element is not in the vocabulary.
        """
        numbers = np.asarray(elements)
        if numbers.dtype.kind in "US":
            flat = [atomic_number(str(symbol)) for symbol in numbers.ravel()]
            numbers = np.array(flat, np.int64).reshape(numbers.shape)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise CrystalGymError(f"Expected symbols or integers, got {elements!r}.")
        numbers = numbers.astype(np.int64)
        outside = (numbers < 0) | (numbers > len(SYMBOLS))
        if outside.any():
            raise CrystalGymError(
                f"Expected atomic numbers from 1 to {len(SYMBOLS)}, or 0 for no element, got "
                f"{numbers[outside].flat[0]}."
            )
        codes = self._code_of_number[numbers]
        if (codes < 0).any():
            missing = SYMBOLS[int(numbers[codes < 0].flat[0]) - 1]
            raise CrystalGymError(
                f"Element {missing} is not in the vocabulary of {len(self)} elements "
                f"({' '.join(self.symbols)}). Use a vocabulary that contains it."
            )
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the atomic numbers of codes; empty sites and padding have the number 0.

        Args:
            codes: Codes from -1 to V, any shape.

        Returns:
            Atomic numbers, int64, same shape.

        Raises:
            CrystalGymError: If a code is out of range.
        """
        codes = np.asarray(codes)
        if codes.size and (codes.min() < -1 or codes.max() > len(self)):
            raise CrystalGymError(f"Expected element codes from -1 to {len(self)}, got {codes}.")
        table = np.concatenate([[0], self.atomic_numbers, [0]])
        return table[codes]

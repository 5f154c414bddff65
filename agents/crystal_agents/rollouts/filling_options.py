"""What a user asks of a filling: the elements, the kept sites, and how fillings are chosen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS, Vocabulary, atomic_number
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import Mask, MaskLike, resolve_mask
from crystal_gym.masks.composition import FixedComposition
from crystal_gym.masks.element_subset import ElementSubset


class FillingKeywords(TypedDict, total=False):
    """Keyword arguments of ``SkeletonPolicy.fill``.

    Attributes:
        traversal: The start site of a breadth-first order, or all n sites in the order of filling
            (default: breadth-first from site 0, which is number 0 of the training crystals for
            networks that receive site numbers). Kept sites are left out.
        elements: The elements that may be chosen (default: the vocabulary of the policy).
        exclude: Elements that may not be chosen, such as ``["Pb", "Cd", "Hg"]``.
        composition: The composition of the crystal with its kept sites, such as ``"SrTiO3"``; a
            cell can have several formula units.
        keep: Sites that keep their elements, as indices of the input, such as ``[0, 2]``. The other
            sites are filled given these elements.
        keep_elements: Elements that are kept on all their sites, such as ``["O"]``.
        mask: See ``crystal_gym.masks.resolve_mask``; functions receive ``(table, state)`` as in the
            environment. If elements are given or excluded, the others and the elements of kept
            sites are the vocabulary of ``table``. Its sites have the numbers that the network
            receives.
        samples: Number of fillings to sample; identical fillings are returned once, with their
            count. By default, the most probable element is chosen at each site.
        replacement: ``False``: all samples of a crystal are different.
        beam: Number of the most probable fillings to return, by a beam search of this width; their
            probabilities are exact, but an improbable beginning can hide a filling.
        temperature: Temperature of the sampling: above 1, samples are more diverse; below 1, they
            are closer to the most probable filling.
        seed: Seed of the sampling.
        primitive: Fill the primitive cell of the crystal, found by spglib from the sites and the
            elements of the input. The fillings have this cell.
    """

    traversal: int | Sequence[int] | None
    elements: Iterable[str | int] | None
    exclude: Iterable[str | int]
    composition: str | Mapping[str, int] | None
    keep: Iterable[int]
    keep_elements: Iterable[str | int]
    mask: MaskLike
    samples: int | None
    replacement: bool
    beam: int | None
    temperature: float
    seed: int
    primitive: bool


@dataclass(frozen=True)
class FillingOptions:
    """The options of a filling, validated; ``FillingKeywords`` describes them.

    Raises:
        CrystalGymError: If an option is invalid, or two options exclude each other.
    """

    traversal: int | Sequence[int] | None = None
    elements: Iterable[str | int] | None = None
    exclude: Iterable[str | int] = ()
    composition: str | Mapping[str, int] | None = None
    keep: Iterable[int] = ()
    keep_elements: Iterable[str | int] = ()
    mask: MaskLike = "none"
    samples: int | None = None
    replacement: bool = True
    beam: int | None = None
    temperature: float = 1.0
    seed: int = 0
    primitive: bool = False

    def __post_init__(self) -> None:
        for name in ("elements", "exclude", "keep", "keep_elements"):
            value = getattr(self, name)
            # One option serves many crystals, so an iterator must not be exhausted by the first.
            if isinstance(value, Iterable) and not isinstance(value, str):
                object.__setattr__(self, name, list(value))
        for name, value in (("samples", self.samples), ("beam", self.beam)):
            if value is not None and value < 1:
                raise CrystalGymError(
                    f"Expected {name} to be at least 1, got {value}. Use None for the greedy "
                    "filling."
                )
        if self.beam is not None and self.samples is not None:
            raise CrystalGymError(
                f"Expected either beam or samples, got beam={self.beam} and "
                f"samples={self.samples}. Leave one of them out."
            )
        if not self.temperature > 0:
            raise CrystalGymError(f"Expected temperature to be above 0, got {self.temperature}.")
        if self.temperature != 1 and (self.beam is not None or not self.replacement):
            raise CrystalGymError(
                "Expected temperature 1 for a beam search and for samples without replacement, got "
                f"{self.temperature}. Leave the temperature out."
            )
        if self.primitive and (self.keep or self.traversal is not None):
            raise CrystalGymError(
                "Expected no numbers of sites with primitive=True, whose cell has other sites, got "
                f"keep={self.keep} and traversal={self.traversal}. Use keep_elements, or fill the "
                "given cell."
            )
        if self.seed < 0:
            raise CrystalGymError(f"Expected seed to be at least 0, got {self.seed}.")
        if self.composition is not None and self.elements is not None:
            raise CrystalGymError(
                "Expected either composition or elements, got both. A composition contains the "
                "elements: leave elements out."
            )

    def allowed_elements(self, vocabulary: Vocabulary) -> Vocabulary | None:
        """Return the elements that may be chosen; ``None`` for the whole vocabulary.

        Raises:
            CrystalGymError: If no element is left.
        """
        excluded = {atomic_number(element) for element in _as_list(self.exclude)}
        if self.elements is None and not excluded:
            return None
        names = vocabulary.symbols if self.elements is None else _as_list(self.elements)
        left = [name for name in names if atomic_number(name) not in excluded]
        if excluded and not left:
            raise CrystalGymError(
                "Expected elements that are not excluded, got none. Exclude fewer elements."
            )
        return Vocabulary.from_elements(left)

    def make_mask(self, table: EpisodeTable, kept_codes: np.ndarray) -> Mask:
        """Return the mask of S skeletons.

        Args:
            table: The skeletons.
            kept_codes: Codes of the kept sites, int (S, N), 0 for the sites to fill.

        Raises:
            CrystalGymError: If an element is not in the vocabulary, or the composition does not
                fit a cell or its kept sites.
        """
        mask = resolve_mask(self.mask)
        subset = self.allowed_elements(table.vocabulary)
        if subset is not None:
            # The mask considers the elements of the kept sites, which may be outside the subset.
            kept = table.vocabulary.decode(np.unique(kept_codes[kept_codes > 0])).tolist()
            seen = Vocabulary.from_elements([*subset.symbols, *kept])
            mask = ElementSubset(mask, table, table.with_vocabulary(seen), subset)
        if self.composition is not None:
            counts = [
                _scaled_counts(self.composition, int(n), table.vocabulary) for n in table.n_sites
            ]
            for row, (placed, wanted) in enumerate(zip(kept_codes, counts, strict=True)):
                _check_kept(placed[: table.n_sites[row]], wanted, table.vocabulary)
            mask = FixedComposition(mask, np.stack(counts))
        return mask


def _as_list(names: Iterable[Any]) -> list[Any]:
    return [names] if isinstance(names, str) else list(names)


def _scaled_counts(
    composition: str | Mapping[str, int], n_sites: int, vocabulary: Vocabulary
) -> np.ndarray:
    """Return the number of sites with each element in a cell of n sites, int64 (V,)."""
    from pymatgen.core import Composition

    try:
        parsed = Composition(composition)  # type: ignore[arg-type] - it accepts mappings
        amounts = {str(element): amount for element, amount in parsed.items()}
    except ValueError as error:
        raise CrystalGymError(
            f"Expected a composition, such as 'SrTiO3', got {composition!r} ({error})."
        ) from error
    total = sum(amounts.values())
    if not total or any(amount % 1 for amount in amounts.values()):
        raise CrystalGymError(
            f"Expected a composition with whole numbers of atoms, got {composition!r}."
        )
    if n_sites % total:
        raise CrystalGymError(
            f"Expected a composition whose number of atoms fits a cell of {n_sites} sites, got "
            f"{composition!r} with {total:g} atoms. Use a composition of {n_sites} atoms or a "
            "divisor of it."
        )
    counts = np.zeros(len(vocabulary), np.int64)
    for symbol, amount in amounts.items():
        if symbol not in vocabulary.symbols:
            raise CrystalGymError(
                f"Expected a composition of the policy's elements ({' '.join(vocabulary.symbols)}),"
                f" got {symbol}. Use another composition or another policy."
            )
        counts[vocabulary.symbols.index(symbol)] = round(amount * n_sites / total)
    return counts


def _check_kept(kept_codes: np.ndarray, counts: np.ndarray, vocabulary: Vocabulary) -> None:
    placed = np.bincount(kept_codes[kept_codes > 0] - 1, minlength=len(vocabulary))
    if (placed > counts).any():
        symbol = SYMBOLS[vocabulary.atomic_numbers[int(np.argmax(placed > counts))] - 1]
        raise CrystalGymError(
            f"Expected kept sites whose elements the composition contains, got more {symbol} on "
            "kept sites than in the composition. Keep fewer sites or change the composition."
        )

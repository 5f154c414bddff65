"""Completion of one structure, which users call as ``SkeletonPolicy.fill``."""

import operator
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from crystal_agents.rollouts.kept_elements import read_kept_codes
from crystal_agents.rollouts.rollout import Scorer
from crystal_gym.collections.preparation import file_order
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.neighbors import renumbered
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.crystals.validity import is_valid
from crystal_gym.episode import EpisodeState, EpisodeTable, fill, start
from crystal_gym.episode.kept_sites import kept_first
from crystal_gym.errors import BadCrystalError, CrystalGymError, ParserWarning
from crystal_gym.formats import read_structure
from crystal_gym.masks import Mask, resolve_mask
from crystal_gym.masks.element_subset import ElementSubset

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Maximum number of sites of all fillings in a batch; limits the memory of large cells.
_MOST_SITES = 2**14


@dataclass(frozen=True)
class FilledStructure:
    """A filling of a skeleton with its probability.

    Attributes:
        structure: The pymatgen ``Structure``; its sites are numbered as in the input.
        log_probability: Natural logarithm of the probability of the filling in this order of the
            sites, among the allowed elements and at temperature 1.
        probabilities: Probability with which the element of each site was chosen, in the order of
            the sites, length n; 1 for kept sites. Their product is the probability of the filling.
        order: The sites in the order of filling, without the kept sites.
        valid: Whether the composition is valid under the SMACT rule ``strict``.
        count: Number of samples with this filling.
    """

    structure: "Structure"
    log_probability: float
    probabilities: tuple[float, ...]
    order: tuple[int, ...]
    valid: bool
    count: int = 1

    @property
    def formula(self) -> str:
        """The reduced formula, such as ``SrTiO3``."""
        return self.structure.composition.reduced_formula


def complete_structure(
    crystal: Any,
    vocabulary: Vocabulary,
    make_scorer: Callable[[EpisodeTable], Scorer],
    *,
    number_sites: Callable[[np.ndarray], np.ndarray] | None = None,
    traversal: int | Sequence[int] | None = None,
    elements: Iterable[str | int] | None = None,
    keep: Iterable[int] = (),
    keep_elements: Iterable[str | int] = (),
    mask: str | Mask = "none",
    samples: int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[FilledStructure]:
    """Fill the skeleton of a structure and return the fillings, the most probable first.

    Args:
        crystal: A ``Skeleton``, or a structure as a file or an object that
            ``crystal_gym.formats.read_structure`` reads. Only the elements of kept sites are used.
        vocabulary: The V elements of the action space.
        make_scorer: Function that returns a scorer for the table of the skeleton; its scores are
            logits.
        number_sites: Function of the fractional coordinates (n, 3) that returns the site with each
            number, (n,). The scorer and the mask receive the sites in this order (default: the
            order of the input).
        traversal: See ``SkeletonPolicy.fill`` for this and the other arguments.
        elements: The elements that may be chosen (default: the vocabulary).
        keep: Sites of the input that keep their elements.
        keep_elements: Elements of the input that are kept on all their sites.
        mask: A name of ``crystal_gym.masks.MASKS`` or a function.
        samples: Number of fillings to sample (default: only the greedy filling).
        temperature: Temperature of the sampling.
        seed: Seed of the sampling.

    Returns:
        The distinct fillings with their probabilities.

    Raises:
        BadCrystalError: If the structure has no valid skeleton.
        DamagedFileError: If the file cannot be read.
        CrystalGymError: If another argument is invalid, or the mask allows no element.
    """
    _check_sampling(samples, temperature, seed)
    skeleton, structure = _read_skeleton(crystal)
    kept_codes = read_kept_codes(structure, skeleton.n_sites, vocabulary, keep, keep_elements)
    sites = np.arange(skeleton.n_sites)
    if number_sites is not None:
        sites = number_sites(skeleton.frac_coords)
        skeleton = _reorder(skeleton, sites)
    number = np.argsort(sites)
    kept_codes = kept_codes[sites]
    table = EpisodeTable.from_skeleton(skeleton, vocabulary)
    order, n_kept = kept_first(_filling_order(skeleton, traversal, number), kept_codes > 0)
    mask = resolve_mask(mask)
    if elements is not None:
        subset = Vocabulary.from_elements([elements] if isinstance(elements, str) else elements)
        # The mask considers the elements of the kept sites, which may be outside the subset.
        kept_numbers = vocabulary.decode(np.unique(kept_codes[kept_codes > 0]))
        seen = Vocabulary.from_elements([*subset.symbols, *kept_numbers.tolist()])
        mask = ElementSubset(mask, table, EpisodeTable.from_skeleton(skeleton, seen), subset)
    score = make_scorer(table)
    rng = None if samples is None else np.random.default_rng(seed)
    n_fillings = samples or 1
    batch_size = max(1, _MOST_SITES // skeleton.n_sites)
    parts = [
        _fill_batch(
            table,
            order,
            score,
            mask,
            kept_codes=kept_codes,
            n_fillings=min(batch_size, n_fillings - first),
            temperature=temperature,
            rng=rng,
        )
        for first in range(0, n_fillings, batch_size)
    ]
    codes, log_probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
    codes, log_probabilities = codes[:, number], log_probabilities[:, number]
    skeleton = _reorder(skeleton, number)
    _, first, counts = np.unique(codes, axis=0, return_index=True, return_counts=True)
    numbers, log_probabilities = vocabulary.decode(codes[first]), log_probabilities[first]
    valid = is_valid(numbers, "strict")
    fillings = [
        FilledStructure(
            structure=_fill_structure(skeleton, structure, numbers[row]),
            log_probability=float(log_probabilities[row].sum()),
            probabilities=tuple(np.exp(log_probabilities[row]).tolist()),
            order=tuple(sites[order[n_kept:]].tolist()),
            valid=bool(valid[row]),
            count=int(counts[row]),
        )
        for row in range(len(first))
    ]
    return sorted(fillings, key=lambda filling: -filling.log_probability)


def _check_sampling(samples: int | None, temperature: float, seed: int) -> None:
    if samples is not None and samples < 1:
        raise CrystalGymError(
            f"Expected samples to be at least 1, got {samples}. Use None for the greedy filling."
        )
    if not temperature > 0:
        raise CrystalGymError(f"Expected temperature to be above 0, got {temperature}.")
    if seed < 0:
        raise CrystalGymError(f"Expected seed to be at least 0, got {seed}.")


def _read_skeleton(crystal: Any) -> "tuple[Skeleton, Structure | None]":
    """Return the skeleton and its structure, if any, with their sites in the same order."""
    if isinstance(crystal, Skeleton):
        return crystal, None
    parsed = read_structure(crystal)
    place = f"{crystal}: " if isinstance(crystal, str | PathLike) else ""
    if parsed.notices:
        warnings.warn(f"{place}{'; '.join(parsed.notices)}.", ParserWarning, stacklevel=4)
    structure = parsed.structure
    try:
        # The sites keep the order of the file. An order by element would reveal elements to a
        # policy, which is harmless here because nothing is trained or evaluated.
        return Skeleton.from_structure(structure, file_order(structure)), structure
    except BadCrystalError as error:
        raise BadCrystalError(f"{place}{error}") from error


def _reorder(skeleton: Skeleton, sites: np.ndarray) -> Skeleton:
    """Return the skeleton with its sites in another order, (n,)."""
    edges = renumbered(skeleton.edges, sites)
    return Skeleton(skeleton.parameters, skeleton.frac_coords[sites], edges)


def _filling_order(
    skeleton: Skeleton, traversal: int | Sequence[int] | None, number: np.ndarray
) -> np.ndarray:
    """Return the site numbers in the order of filling, int64 (n,).

    Args:
        skeleton: The skeleton, with its sites in the order of their numbers.
        traversal: Start site or all sites, as indices of the input; None: start at number 0.
        number: The number of each site of the input, (n,).
    """
    if traversal is None:
        return skeleton.traversal(0).astype(np.int64)
    n = skeleton.n_sites
    try:
        start_site = operator.index(traversal)  # type: ignore[arg-type] - a sequence raises TypeError
    except TypeError:
        order = np.asarray(traversal)
    else:
        in_range = 0 <= start_site < n
        start_number = int(number[start_site]) if in_range else start_site
        return skeleton.traversal(start_number).astype(np.int64)
    if sorted(order.ravel().tolist()) != list(range(n)):
        raise CrystalGymError(
            "Expected traversal to be a start site, or all sites from 0 to "
            f"{n - 1} in the order of filling, got {traversal!r}."
        )
    return number[order.astype(np.int64)]


def _fill_batch(
    table: EpisodeTable,
    order: np.ndarray,
    score: Scorer,
    mask: Mask,
    *,
    kept_codes: np.ndarray,
    n_fillings: int,
    temperature: float,
    rng: np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the only crystal of a table K times, by sampling, or greedily if ``rng`` is None.

    The codes of the kept sites, the first of the order, are those of ``kept_codes``, (n,), which is
    0 for the sites to fill.

    Returns:
        Codes, int32 (K, n), and the log-probability of the choice at each site, float64 (K, n).
    """
    state = start(table, np.zeros(n_fillings, np.int64), np.tile(order, (n_fillings, 1)))
    n_kept = np.count_nonzero(kept_codes)
    state.elements[:] = kept_codes
    state.n_kept = np.full(n_fillings, n_kept)
    state.step, state.focus = state.n_kept.copy(), state.start_site.copy()
    chosen = np.zeros(state.elements.shape)
    rows = np.arange(n_fillings)
    for site in order[n_kept:]:
        logits = np.where(_allowed_elements(table, state, mask), score(state), -np.inf)
        log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
        # Gumbel-max trick: the index of the highest log p + noise is a sample from p.
        noise = 0.0 if rng is None else rng.gumbel(size=logits.shape)
        action = (log_probabilities / temperature + noise).argmax(1)
        chosen[:, site] = log_probabilities[rows, action]
        fill(state, action)
    return state.elements, chosen


def _allowed_elements(table: EpisodeTable, state: EpisodeState, mask: Mask) -> np.ndarray:
    """Return the allowed elements, bool (K, V), at least one in each row."""
    allowed = mask(table, state)
    has_no_choice = ~allowed.any(1)
    if has_no_choice.any():
        row = int(np.argmax(has_no_choice))
        raise CrystalGymError(
            f"Expected a mask that allows at least one element on site {state.focus[row]} after "
            f"the atomic numbers {table.vocabulary.decode(state.elements[row]).tolist()} "
            "(0: empty), got one that allows none. Allow more elements or use another mask."
        )
    return allowed


def _fill_structure(
    skeleton: Skeleton, structure: "Structure | None", numbers: np.ndarray
) -> "Structure":
    """Return the filled crystal, in the orientation of the original structure if there is one."""
    filled = skeleton.fill(numbers)
    if structure is None:
        return filled
    from pymatgen.core import Structure

    return Structure(structure.lattice, filled.species, structure.frac_coords)

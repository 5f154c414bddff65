"""Completion of structures, which users call as ``SkeletonPolicy.fill``."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax

from crystal_agents.rollouts.beam_search import BeamResult, beam_search
from crystal_agents.rollouts.filling_options import FillingOptions
from crystal_agents.rollouts.kept_elements import read_kept_codes
from crystal_agents.rollouts.rollout import Scorer
from crystal_agents.rollouts.skeleton_input import read_skeleton
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.neighbors import renumbered
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.crystals.validity import is_valid
from crystal_gym.episode import EpisodeState, EpisodeTable, fill, start
from crystal_gym.episode.kept_sites import kept_first
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import Mask

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


@dataclass(frozen=True)
class _Task:
    """One skeleton to fill; its sites are in the order of the numbers that the scorer receives.

    Attributes:
        skeleton: The skeleton, with n sites.
        structure: The structure of the input, if it has one, with its sites in their order.
        sites: The site of the input with each number, (n,).
        order: Numbers in the order of filling, the kept sites first, (n,).
        kept_codes: Codes of the kept sites, (n,), 0 for the sites to fill.
    """

    skeleton: Skeleton
    structure: "Structure | None"
    sites: np.ndarray
    order: np.ndarray
    kept_codes: np.ndarray

    @property
    def n_kept(self) -> int:
        return int(np.count_nonzero(self.kept_codes))

    @property
    def group(self) -> tuple:
        """Tasks of one group are filled together."""
        return self.skeleton.n_sites, self.n_kept, tuple(np.unique(self.kept_codes).tolist())


def complete_structures(
    crystals: Sequence[Any],
    vocabulary: Vocabulary,
    make_scorer: Callable[[EpisodeTable], Scorer],
    options: FillingOptions,
    *,
    number_sites: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[list[FilledStructure]]:
    """Fill the skeletons of structures and return the fillings of each, the most probable first.

    All inputs are read before the first one is filled.

    Args:
        crystals: Skeletons, or structures as files or objects that
            ``crystal_gym.formats.read_structure`` reads. Only the elements of kept sites are used.
        vocabulary: The V elements of the action space.
        make_scorer: Function that returns a scorer for a table of skeletons; its scores are logits.
        options: The options of ``SkeletonPolicy.fill``.
        number_sites: Function of the fractional coordinates (n, 3) that returns the site with each
            number, (n,). The scorer and the mask receive the sites in this order (default: the
            order of the input).

    Returns:
        The distinct fillings of each crystal with their probabilities.

    Raises:
        BadCrystalError: If a structure has no valid skeleton.
        DamagedFileError: If a file cannot be read.
        CrystalGymError: If another option does not fit, or the mask allows no element.
    """
    tasks = []
    for index, crystal in enumerate(crystals):
        try:
            tasks.append(_read_task(crystal, vocabulary, options, number_sites))
        except CrystalGymError as error:
            if len(crystals) == 1:
                raise
            raise type(error)(f"Crystal {index} of {len(crystals)}: {error}") from error
    groups: dict[tuple, list[int]] = {}
    for index, task in enumerate(tasks):
        groups.setdefault(task.group, []).append(index)
    rng = None if options.samples is None else np.random.default_rng(options.seed)
    filled: list[list[FilledStructure]] = [[] for _ in tasks]
    for indices in groups.values():
        group = [tasks[index] for index in indices]
        fillings = _fill_group(group, vocabulary, make_scorer, options, rng)
        for index, task, (codes, log_probabilities) in zip(indices, group, fillings, strict=True):
            filled[index] = _distinct_fillings(task, vocabulary, codes, log_probabilities)
    return filled


def _read_task(
    crystal: Any,
    vocabulary: Vocabulary,
    options: FillingOptions,
    number_sites: Callable[[np.ndarray], np.ndarray] | None,
) -> _Task:
    skeleton, structure = read_skeleton(crystal, primitive=options.primitive)
    kept_codes = read_kept_codes(
        structure, skeleton.n_sites, vocabulary, options.keep, options.keep_elements
    )
    sites = np.arange(skeleton.n_sites)
    if number_sites is not None:
        sites = number_sites(skeleton.frac_coords)
        skeleton = _reorder(skeleton, sites)
    kept_codes = kept_codes[sites]
    order = _filling_order(skeleton, options.traversal, np.argsort(sites))
    order, _ = kept_first(order, kept_codes > 0)
    return _Task(skeleton, structure, sites, order, kept_codes)


def _fill_group(
    tasks: list[_Task],
    vocabulary: Vocabulary,
    make_scorer: Callable[[EpisodeTable], Scorer],
    options: FillingOptions,
    rng: np.random.Generator | None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fill S skeletons with equally many sites and kept sites.

    Returns:
        For each skeleton, the codes, int32 (K, n), and the log-probability of the choice at each
        site, float64 (K, n).
    """
    table = EpisodeTable.from_skeletons([task.skeleton for task in tasks], vocabulary)
    kept_codes = np.stack([task.kept_codes for task in tasks])
    order = np.stack([task.order for task in tasks])
    mask = options.make_mask(table, kept_codes)
    score = make_scorer(table)
    n_sites, n_fillings = table.max_sites, options.samples or options.beam or 1
    one_by_one = options.beam is not None or not options.replacement
    n_rows = max(1, _MOST_SITES // (n_sites * n_fillings))
    results = []
    for first in range(0, len(tasks), n_rows):
        rows = np.arange(first, min(first + n_rows, len(tasks)))
        if one_by_one:
            state = _initial_state(table, rows, order[rows], kept_codes[rows])
            result = beam_search(table, state, score, width=n_fillings, mask=mask, rng=rng)
            results += _existing(result)
            continue
        at_most = max(1, _MOST_SITES // (n_sites * len(rows)))
        parts = [
            _fill_batch(
                table,
                _initial_state(
                    table,
                    *(
                        np.tile(values, (count, *[1] * (values.ndim - 1)))
                        for values in (rows, order[rows], kept_codes[rows])
                    ),
                ),
                score,
                mask,
                temperature=options.temperature,
                rng=rng,
            )
            for count in _counts(n_fillings, at_most)
        ]
        # (K S, n) to (K, S, n)
        codes, log_probabilities = (
            np.concatenate([part.reshape(-1, len(rows), n_sites) for part in kind])
            for kind in zip(*parts, strict=True)
        )
        results += [(codes[:, k], log_probabilities[:, k]) for k in range(len(rows))]
    return results


def _counts(total: int, at_most: int) -> list[int]:
    """Divide a number into parts of a size."""
    return [min(at_most, total - first) for first in range(0, total, at_most)]


def _existing(result: BeamResult) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the fillings of each skeleton that exist.

    Raises:
        CrystalGymError: If the mask allows no filling of a skeleton.
    """
    exists = result.totals > -np.inf
    if not exists.any(axis=1).all():
        raise CrystalGymError(
            "Expected a mask that allows a filling, got one that allows none. Allow more elements, "
            "use another mask, or a wider beam."
        )
    return [
        (result.elements[k][exists[k]], result.log_probabilities[k][exists[k]])
        for k in range(len(exists))
    ]


def _distinct_fillings(
    task: _Task, vocabulary: Vocabulary, codes: np.ndarray, log_probabilities: np.ndarray
) -> list[FilledStructure]:
    """Return the distinct fillings with the sites in the order of the input."""
    number = np.argsort(task.sites)
    codes, log_probabilities = codes[:, number], log_probabilities[:, number]
    skeleton = _reorder(task.skeleton, number)
    _, first, counts = np.unique(codes, axis=0, return_index=True, return_counts=True)
    numbers, log_probabilities = vocabulary.decode(codes[first]), log_probabilities[first]
    valid = is_valid(numbers, "strict")
    fillings = [
        FilledStructure(
            structure=_fill_structure(skeleton, task.structure, numbers[row]),
            log_probability=float(log_probabilities[row].sum()),
            probabilities=tuple(np.exp(log_probabilities[row]).tolist()),
            order=tuple(task.sites[task.order[task.n_kept :]].tolist()),
            valid=bool(valid[row]),
            count=int(counts[row]),
        )
        for row in range(len(first))
    ]
    return sorted(fillings, key=lambda filling: -filling.log_probability)


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


def _initial_state(
    table: EpisodeTable, rows: np.ndarray, order: np.ndarray, kept_codes: np.ndarray
) -> EpisodeState:
    """Return the states of B episodes, (B,), (B, n) and (B, n), in which kept sites are filled."""
    n_kept = np.count_nonzero(kept_codes, axis=1)
    return start(table, rows, order, n_kept, kept_elements=kept_codes)


def _fill_batch(
    table: EpisodeTable,
    state: EpisodeState,
    score: Scorer,
    mask: Mask,
    *,
    temperature: float,
    rng: np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill B crystals with n sites by sampling, or greedily if ``rng`` is None.

    Returns:
        Codes, int32 (B, n), and the log-probability of the choice at each site, float64 (B, n).
    """
    chosen = np.zeros(state.elements.shape)
    rows = np.arange(len(chosen))
    for _ in range(int(state.n_sites[0] - state.n_kept[0])):
        logits = np.where(_allowed_elements(table, state, mask), score(state), -np.inf)
        log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
        # Gumbel-max trick: the index of the highest log p + noise is a sample from p.
        noise = 0.0 if rng is None else rng.gumbel(size=logits.shape)
        action = (log_probabilities / temperature + noise).argmax(1)
        chosen[rows, state.focus] = log_probabilities[rows, action]
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

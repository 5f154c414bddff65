"""From a skeleton of one's own to filled crystals: what ``SkeletonPolicy.fill`` does."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax

from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_gym.collections.cif_folder import raw_cif
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.preparation import file_order
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.crystals.neighbors import breadth_first_from_all
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.crystals.validity import is_valid
from crystal_gym.episode import EpisodeState, EpisodeTable, fill, start
from crystal_gym.errors import BadCrystalError, CrystalGymError
from crystal_gym.masks import Mask, resolve_mask

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Sites of all fillings that are read together; keeps large cells within memory.
_SITES_AT_ONCE = 2**14


@dataclass(frozen=True)
class FilledStructure:
    """A crystal as a policy filled it.

    Attributes:
        structure: the pymatgen ``Structure``, its sites numbered as in what was filled.
        log_probability: of this filling in this order of the sites, natural logarithm: the sum
            over its choices. Choices are among the allowed elements, at temperature 1.
        probabilities: of each site's element at the moment it was chosen, n of them by site.
        order: the sites in the order of filling.
        valid: whether SMACT finds the composition valid, by the rule ``strict``.
        count: how many of the samples gave this filling.
    """

    structure: "Structure"
    log_probability: float
    probabilities: tuple[float, ...]
    order: tuple[int, ...]
    valid: bool
    count: int = 1

    @property
    def formula(self) -> str:
        """The reduced formula, like ``SrTiO3``."""
        return self.structure.composition.reduced_formula


def complete_structure(
    policy: SkeletonPolicy,
    crystal: "Structure | Skeleton | str | Path",
    *,
    traversal: int | Sequence[int] = 0,
    elements: Iterable[str | int] | None = None,
    mask: str | Mask = "none",
    samples: int | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[FilledStructure]:
    """Fill a skeleton by a policy; ``SkeletonPolicy.fill`` explains the arguments."""
    if samples is not None and samples < 1:
        raise CrystalGymError(
            f"samples must be at least 1, not {samples}; None gives the single greedy filling."
        )
    if not temperature > 0:
        raise CrystalGymError(f"temperature must be above 0, not {temperature}.")
    if seed < 0:
        raise CrystalGymError(f"seed must be at least 0, not {seed}.")
    skeleton, structure = _skeleton_of(crystal)
    table = _table(skeleton, policy.vocabulary)
    order = _order(skeleton, traversal)
    allowed = _Allowed(table, elements, mask)
    score = PolicyScorer(policy, table)
    # Without samples: the highest logit wins, nothing is drawn.
    rng = None if samples is None else np.random.default_rng(seed)
    at_once = max(1, _SITES_AT_ONCE // skeleton.n_sites)
    wanted = samples or 1
    parts = [
        _fill(
            table,
            order,
            score,
            allowed,
            n_fillings=min(at_once, wanted - done),
            temperature=temperature,
            rng=rng,
        )
        for done in range(0, wanted, at_once)
    ]
    codes, log_probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
    _, first, counts = np.unique(codes, axis=0, return_index=True, return_counts=True)
    numbers = policy.vocabulary.decode(codes[first])
    valid = is_valid(numbers, "strict")
    filled = [
        FilledStructure(
            structure=_filled(skeleton, structure, numbers[row]),
            log_probability=float(log_probabilities[first[row]].sum()),
            probabilities=tuple(np.exp(log_probabilities[first[row]]).tolist()),
            order=tuple(order.tolist()),
            valid=bool(valid[row]),
            count=int(counts[row]),
        )
        for row in range(len(first))
    ]
    return sorted(filled, key=lambda one: -one.log_probability)


def _skeleton_of(
    crystal: "Structure | Skeleton | str | Path",
) -> "tuple[Skeleton, Structure | None]":
    """The skeleton, and the structure that it was taken from, its sites in the same order."""
    if isinstance(crystal, Skeleton):
        return crystal, None
    if isinstance(crystal, str | Path):
        raw = raw_cif(Path(crystal).expanduser())
        try:
            structure = raw.structure()
            # Answers line up with the file: the sites keep their numbers. What an order by element
            # would give away is no secret here.
            return Skeleton.from_structure(structure, file_order(structure)), structure
        except BadCrystalError as error:
            raise BadCrystalError(f"{raw.where}: {error}") from error
    from pymatgen.core import IStructure

    if not isinstance(crystal, IStructure):
        raise CrystalGymError(
            "What is filled is a pymatgen Structure, a Skeleton or the path of a CIF, "
            f"not {crystal!r}."
        )
    return Skeleton.from_structure(crystal, file_order(crystal)), crystal  # type: ignore[arg-type] - immutable ones are read alike


def _table(skeleton: Skeleton, vocabulary: Vocabulary) -> EpisodeTable:
    """What an episode of one crystal looks up; its elements, never read, stand for no others."""
    n = skeleton.n_sites
    collection = CrystalCollection(
        name="crystal",
        ids=np.array(["0"]),
        splits=np.array(["test"]),
        n_sites=np.array([n], np.int32),
        atomic_numbers=np.full((1, n), vocabulary.atomic_numbers[0], np.int16),
        parameters=skeleton.parameters[None],
        frac_coords=skeleton.frac_coords[None],
        edges=skeleton.edges[None],
        traversals=breadth_first_from_all(skeleton.edges, n)[None],
    )
    return EpisodeTable(collection, vocabulary)


def _order(skeleton: Skeleton, traversal: int | Sequence[int]) -> np.ndarray:
    """The sites in the order of filling, int64 (n,)."""
    try:
        return skeleton.traversal(operator.index(traversal)).astype(np.int64)  # type: ignore[arg-type] - refused below
    except TypeError:
        pass
    order = np.asarray(traversal)
    if sorted(order.ravel().tolist()) != list(range(skeleton.n_sites)):
        raise CrystalGymError(
            f"traversal is the site to begin at, or all sites 0 to {skeleton.n_sites - 1} in the "
            f"order of filling, not {traversal!r}."
        )
    return order.astype(np.int64)


class _Allowed:
    """Which elements may be put on the site in focus, in the vocabulary of a table.

    A mask is asked with the given elements alone as its vocabulary, so that one that looks ahead
    counts on no other.
    """

    def __init__(
        self, table: EpisodeTable, elements: Iterable[str | int] | None, mask: str | Mask
    ) -> None:
        self.mask = resolve_mask(mask)
        self.table, self.actions = table, np.arange(table.n_elements)
        if elements is not None:
            chosen = [elements] if isinstance(elements, str) else list(elements)
            subset = Vocabulary.from_elements(chosen)
            self.actions = table.vocabulary.encode(subset.atomic_numbers) - 1
            self.table = _table(table.collection.skeleton(0), subset)
        # Codes of the one vocabulary in the other; only the subset's are ever on a site.
        self.codes = np.zeros(table.n_elements + 1, np.int32)
        self.codes[self.actions + 1] = np.arange(1, len(self.actions) + 1)

    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Bool (B, V)."""
        allowed = np.zeros((len(state.crystal), len(self.codes) - 1), bool)
        seen = replace(state, elements=self.codes[state.elements])
        allowed[:, self.actions] = self.mask(self.table, seen)
        if not allowed.any(1).all():
            row = int(np.argmin(allowed.any(1)))
            so_far = self.table.vocabulary.decode(seen.elements[row])
            raise CrystalGymError(
                f"The mask allows no element on site {state.focus[row]} after the atomic numbers "
                f"{so_far.tolist()} (0: empty). Allow more elements, or use another mask."
            )
        return allowed


def _fill(
    table: EpisodeTable,
    order: np.ndarray,
    score: PolicyScorer,
    allowed: _Allowed,
    *,
    n_fillings: int,
    temperature: float,
    rng: np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fillings of the table's only crystal, K of them: greedy, or drawn by ``rng``.

    Returns:
        Codes int32 (K, n), and the log-probability of each site's choice (K, n).
    """
    state = start(table, np.zeros(n_fillings, np.int64), np.tile(order, (n_fillings, 1)))
    chosen = np.zeros(state.elements.shape)
    rows = np.arange(n_fillings)
    for site in order:
        logits = np.where(allowed(state), score(state), -np.inf)
        log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
        # The Gumbel trick: the highest of log p + noise is a draw from p.
        noise = 0.0 if rng is None else rng.gumbel(size=logits.shape)
        action = (log_probabilities / temperature + noise).argmax(1)
        chosen[:, site] = log_probabilities[rows, action]
        fill(state, action)
    return state.elements, chosen


def _filled(skeleton: Skeleton, structure: "Structure | None", numbers: np.ndarray) -> "Structure":
    """The finished crystal, in the orientation of the structure that it came from."""
    filled = skeleton.fill(numbers)
    if structure is None:
        return filled
    from pymatgen.core import Structure

    return Structure(structure.lattice, filled.species, structure.frac_coords)

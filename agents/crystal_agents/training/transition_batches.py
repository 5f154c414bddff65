"""Shuffled batches of transitions: K states of each of S skeletons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from crystal_agents.networks.graph_batch import SkeletonBatch, SkeletonStore, first_items
from crystal_agents.training.recipes import Recipe

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions


@dataclass(frozen=True)
class Batch:
    """K states of each of S skeletons with s sites in total.

    Attributes:
        skeletons: The graphs of the skeletons.
        elements: Codes before the action, int64 (K, s).
        focus: Site in focus, numbered within its skeleton, int64 (K, S).
        action: Action of the behavior policy, int64 (K, S).
        finished: Codes of the finished filling, int64 (s,).
        target: Requested labels, standardized, float32 (S, T), NaN where a label is not requested;
            ``None``: the policy is unconditional.
    """

    skeletons: SkeletonBatch
    elements: Tensor
    focus: Tensor
    action: Tensor
    finished: Tensor
    target: Tensor | None = None


class TransitionStore:
    """Transitions on one device, from which batches are gathered.

    Args:
        data: Flat transitions and the arrays of their skeletons.
        device: Device of the tensors.
        targets: Standardized labels of the skeletons, float32 (S, T), for a conditional policy.
    """

    def __init__(
        self,
        data: "Transitions",
        device: torch.device | str = "cpu",
        targets: np.ndarray | None = None,
    ) -> None:
        self.targets = None if targets is None else torch.as_tensor(targets, device=device)
        arrays: Mapping[str, np.ndarray] = {
            "n_sites": data.n_sites,
            "frac_coords": data.frac_coords,
            "parameters": data.lattice,
            "edges": data.edges,
        }
        self.skeletons = SkeletonStore(arrays, device)
        self.skeleton = torch.as_tensor(data.skeleton, dtype=torch.int64)
        self.elements = torch.as_tensor(data.elements, dtype=torch.int16, device=device)
        self.focus = torch.as_tensor(data.focus, dtype=torch.int64, device=device)
        self.action = torch.as_tensor(data.action, dtype=torch.int64, device=device)
        self._owner = self.skeleton.to(device)
        self.finished = torch.full(data.frac_coords.shape[:2], -1, device=device)
        self.finished[self._owner, self.focus] = self.action + 1
        # Sites that no transition fills are kept: they have their elements from the start.
        kept = (self.elements > 0) & (self.finished[self._owner] < 0)
        row, site = kept.nonzero(as_tuple=True)
        self.finished[self._owner[row], site] = self.elements[row, site].to(torch.int64)

    def __len__(self) -> int:
        return len(self.skeleton)

    @property
    def has_unique_actions(self) -> bool:
        """Whether all trajectories of a skeleton have the same element on each site."""
        finished = self.finished[self._owner]
        if not bool((finished.gather(1, self.focus[:, None])[:, 0] == self.action + 1).all()):
            return False
        # A site that is kept in one trajectory may be filled with another element in another.
        return bool(((self.elements <= 0) | (self.elements == finished)).all())

    def groups(self, states: int, generator: torch.Generator) -> Tensor:
        """Return all transitions in shuffled groups of K transitions of one skeleton.

        If the number of a skeleton's transitions is not a multiple of K, some of them are repeated
        in its last group.

        Args:
            states: K, number of transitions in a group; 1 shuffles single transitions.
            generator: Generator of the shuffling.

        Returns:
            Indices of transitions, int64 (G, K).
        """
        return shuffled_groups(self.skeleton, len(self.skeletons), states, generator)

    def batches(self, recipe: Recipe, generator: torch.Generator) -> list[Tensor]:
        """Return the shuffled batches of one epoch, indices of transitions (S, K) for each.

        Args:
            recipe: The recipe, with the batch size: S groups of K transitions of one skeleton.
            generator: Generator of the shuffling.
        """
        return list(self.groups(recipe.states, generator).split(recipe.skeletons))

    def batch(self, groups: Tensor) -> Batch:
        """Return the transitions of S groups.

        Args:
            groups: Indices of transitions, (S, K).
        """
        device = self.action.device
        index = groups.T.to(device)
        rows = self._owner[index[0]]
        skeletons = self.skeletons.batch(rows)
        return Batch(
            skeletons=skeletons,
            elements=skeletons.flat(self.elements[index].to(torch.int64)),
            focus=self.focus[index],
            action=self.action[index],
            finished=skeletons.flat(self.finished[rows]),
            target=None if self.targets is None else self.targets[rows],
        )


def shuffled_groups(
    skeleton: Tensor, n_skeletons: int, states: int, generator: torch.Generator
) -> Tensor:
    """Return all transitions in shuffled groups of K transitions of one skeleton.

    If the number of a skeleton's transitions is not a multiple of K, some of them are repeated in
    its last group.

    Args:
        skeleton: Skeleton of each transition, int64 (T,), on the CPU.
        n_skeletons: Number of skeletons.
        states: K, number of transitions in a group; 1 shuffles single transitions.
        generator: Generator of the shuffling.

    Returns:
        Indices of transitions, int64 (G, K).
    """
    shuffled = torch.randperm(len(skeleton), generator=generator)
    by_skeleton = shuffled[skeleton[shuffled].argsort(stable=True)]
    count = torch.bincount(skeleton, minlength=n_skeletons)
    slots = (count + states - 1) // states * states
    begin = first_items(count).repeat_interleave(slots)
    first_slot = first_items(slots).repeat_interleave(slots)
    within = (torch.arange(len(begin)) - first_slot) % count.repeat_interleave(slots)
    groups = by_skeleton[begin + within].view(-1, states)
    return groups[torch.randperm(len(groups), generator=generator)]


def sample_random_traversals(batch: Batch, draws: Tensor) -> Tensor:
    """Replace half of the states by states on random traversals with as many filled sites.

    The expert can fill the sites of a crystal in any order, so every subset of the elements of the
    finished crystal is a state of the expert. On average, half of the states do not change; in the
    others, a random subset of the sites is filled.

    Args:
        batch: K states of S skeletons with up to N sites.
        draws: Uniform random numbers in [0, 1), (K, S, N + 1): one for each site, then one for each
            state.

    Returns:
        Codes, int64 (K, s).
    """
    skeletons, elements = batch.skeletons, batch.elements
    device = elements.device
    draws = draws.to(device)
    # Sort by a random key, then stably by skeleton, to rank the sites within each skeleton.
    shuffled = skeletons.flat(draws[..., :-1]).argsort(-1)
    order = shuffled.gather(-1, skeletons.owner[shuffled].argsort(dim=-1, stable=True))
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[1], device=device).expand_as(order)
    )
    rank = rank - skeletons.first[skeletons.owner]
    filled = torch.zeros_like(batch.focus).index_add_(
        1, skeletons.owner, (elements > 0).to(torch.int64)
    )
    random = torch.where(rank < filled[:, skeletons.owner], batch.finished, 0)
    kept = draws[..., -1] < 0.5
    return torch.where(kept[:, skeletons.owner], elements, random)

"""Batches of partially filled synthetic crystals with the posterior of every site."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crystal_agents.networks.graph_batch import SkeletonBatch, SkeletonStore
from crystal_agents.synthetic.generation import SyntheticCrystals
from crystal_gym.crystals.breadth_first import padded_orders

# Fraction of the guesses that are sampled; the other guesses are the most probable elements.
_SAMPLED_FRACTION = 0.3


@dataclass(frozen=True)
class SyntheticBatch:
    """K states of each of S skeletons with n sites.

    Attributes:
        skeletons: The skeletons.
        elements: Codes, int64 (K, S n).
        target: p(element | geometry, filled sites) of every site, (K, S n, V).
    """

    skeletons: SkeletonBatch
    elements: Tensor
    target: Tensor


class SyntheticStore:
    """Synthetic crystals on one device, from which batches are gathered.

    Args:
        crystals: Synthetic crystals with n sites each.
        n_elements: V.
        device: The device of the tensors.
    """

    def __init__(
        self, crystals: SyntheticCrystals, n_elements: int, device: torch.device | str = "cpu"
    ) -> None:
        collection = crystals.collection
        self.n_elements = n_elements
        self.n_sites = crystals.fillings.shape[1]
        self.skeletons = SkeletonStore(
            {
                "n_sites": collection.n_sites,
                "frac_coords": collection.frac_coords,
                "parameters": collection.parameters,
                "edges": collection.edges,
            },
            device,
        )
        parts = collection.flat_edges, collection.n_edges, collection.n_sites, self.n_sites
        # The smallest integer type that contains all sites.
        dtype = np.min_scalar_type(-self.n_sites)
        orders = [some.astype(dtype) for some in padded_orders(*parts)]
        self._traversals = torch.as_tensor(np.concatenate(orders), device=device)
        self._fillings = torch.as_tensor(crystals.fillings, dtype=torch.int16, device=device)
        self._candidates = torch.as_tensor(crystals.candidates, device=device)
        self._probability = torch.as_tensor(crystals.probability, device=device)

    def __len__(self) -> int:
        return len(self._candidates)

    @property
    def n_draws(self) -> int:
        """The number of random numbers per state: two per site and four for the whole state."""
        return 2 * self.n_sites + 4

    def batch(self, rows: Tensor, draws: Tensor) -> SyntheticBatch:
        """Return states of S crystals, each with the posterior of its sites.

        The first of the K states of a crystal is empty. Half of the other states are
        filled with guesses from the geometry, mostly the most probable element of each site, as in
        a roll-out of a policy. Such guesses are not evidence, so their target is that of the empty
        crystal. A policy that is not trained on such states treats its own guesses as evidence. The
        other half are parts of one of the probable fillings of the crystal, so their elements are
        evidence in addition to the geometry.

        On average, half of the states are filled in breadth-first order and half on random sites.
        The numbers of filled sites are evenly distributed among the guesses and among the parts.

        Args:
            rows: Rows of the crystals, (S,).
            draws: Uniform random numbers in [0, 1), (K, S, n_draws).
        """
        device = self._candidates.device
        rows, draws = rows.to(device), draws.to(device)
        n = self.n_sites
        keys, guess_draws, (fraction, order_draw, start_site, pick) = (
            draws[..., :n],
            draws[..., n : 2 * n],
            draws[..., 2 * n :].unbind(-1),
        )
        candidates = self._fillings[self._candidates[rows].long()].long()
        weight = self._probability[rows].float()
        empty = torch.zeros(1, len(rows), n, dtype=torch.int64, device=device)
        by_geometry = self._conditional(empty, candidates, weight)
        n_guessed = (len(draws) - 1) // 2
        filling = torch.cat(
            [
                _guesses(by_geometry[0], guess_draws[: 1 + n_guessed]),
                _probable(candidates, weight, pick[1 + n_guessed :]),
            ]
        )
        order = self._traversals[rows, (start_site * n).long()].long()
        rank = torch.where(
            (order_draw < 0.5)[..., None], order.argsort(-1), keys.argsort(-1).argsort(-1)
        )
        filled = torch.cat(
            [
                torch.zeros_like(fraction[:1]),
                _filled_counts(fraction[1 : 1 + n_guessed], n),
                _filled_counts(fraction[1 + n_guessed :], n),
            ]
        )
        elements = torch.where(rank < filled[..., None], filling, 0)
        evidence = elements[1 + n_guessed :]
        target = [
            by_geometry.expand(1 + n_guessed, -1, -1, -1),
            self._conditional(evidence, candidates, weight),
        ]
        return SyntheticBatch(
            self.skeletons.batch(rows), elements.flatten(1), torch.cat(target).flatten(1, 2)
        )

    def _conditional(self, elements: Tensor, candidates: Tensor, weight: Tensor) -> Tensor:
        """Compute p(element) of each site among the candidates that agree with a state.

        Args:
            elements: Codes of the states, (K, S, n).
            candidates: Codes of L fillings of each crystal, (S, L, n).
            weight: Probabilities of the candidates, (S, L).

        Returns:
            Probabilities, (K, S, n, V).
        """
        assigned = elements[:, :, None]
        agrees = ((assigned == 0) | (assigned == candidates)).all(-1)
        probability = agrees * weight
        probability = probability / probability.sum(-1, keepdim=True)
        target = weight.new_zeros(*elements.shape, self.n_elements)
        for site in range(self.n_sites):
            index = (candidates[..., site] - 1).expand_as(probability)
            target[:, :, site].scatter_add_(2, index, probability)
        return target


def _filled_counts(draws: Tensor, n: int) -> Tensor:
    """Distribute numbers of filled sites from 1 to n - 1 evenly over k states, (k, S).

    Args:
        draws: Uniform random numbers, (k, S).
        n: Number of sites.
    """
    if n == 1:
        return torch.zeros_like(draws)
    state = torch.arange(len(draws), device=draws.device)[:, None]
    fraction = (state + draws) / max(1, len(draws))
    return 1 + (fraction * (n - 1)).floor().clamp_max(n - 2)


def _probable(candidates: Tensor, weight: Tensor, pick: Tensor) -> Tensor:
    """Sample fillings in proportion to their probabilities.

    Args:
        candidates: Codes of L fillings of each crystal, (S, L, n).
        weight: Probabilities of the candidates, (S, L).
        pick: Uniform random numbers, (k, S).

    Returns:
        Codes, (k, S, n).
    """
    chosen = torch.searchsorted(
        weight.cumsum(1), (pick * weight.sum(1)).T.contiguous(), right=True
    ).clamp_max(weight.shape[1] - 1)
    crystal = torch.arange(len(weight), device=weight.device)[:, None]
    return candidates[crystal, chosen].transpose(0, 1)


def _guesses(by_geometry: Tensor, draws: Tensor) -> Tensor:
    """Guess the element of each site: a sample where a draw is small, else the most probable.

    Args:
        by_geometry: Probabilities of the elements, (S, n, V).
        draws: Uniform random numbers, (k, S, n).

    Returns:
        Codes, (k, S, n).
    """
    cumulative = by_geometry.cumsum(-1)
    level = (draws / _SAMPLED_FRACTION).movedim(0, -1) * cumulative[..., -1:]
    sampled = torch.searchsorted(cumulative, level.contiguous(), right=True).movedim(-1, 0)
    sampled = sampled.clamp_max(by_geometry.shape[-1] - 1)
    return torch.where(draws < _SAMPLED_FRACTION, sampled, by_geometry.argmax(-1)) + 1

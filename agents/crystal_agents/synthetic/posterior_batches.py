"""Batches of synthetic crystals in part filled, with the posterior of every empty site."""

from dataclasses import dataclass

import torch
from torch import Tensor

from crystal_agents.networks.graph_batch import SkeletonBatch, SkeletonStore
from crystal_agents.synthetic.generation import SyntheticCrystals

# Share of the guesses that are drawn by probability; the others are the most probable.
_STRAY = 0.3


@dataclass(frozen=True)
class SyntheticBatch:
    """K states of each of S skeletons with n sites.

    Attributes:
        skeletons: the graphs.
        elements: codes, int64 (K, S n).
        target: p(element | geometry, filled sites) at every site, (K, S n, V).
    """

    skeletons: SkeletonBatch
    elements: Tensor
    target: Tensor


class SyntheticStore:
    """Synthetic crystals on one device, from which batches are gathered.

    Args:
        crystals: all with the same number n of sites.
        n_elements: V.
        device: where the tensors live.
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
        self._traversals = torch.as_tensor(collection.traversals, device=device)
        self._fillings = torch.as_tensor(crystals.fillings, dtype=torch.int16, device=device)
        self._candidates = torch.as_tensor(crystals.candidates, device=device)
        self._probability = torch.as_tensor(crystals.probability, device=device)

    def __len__(self) -> int:
        return len(self._candidates)

    @property
    def n_draws(self) -> int:
        """Random numbers of a state: two for each site, four for the whole."""
        return 2 * self.n_sites + 4

    def batch(self, rows: Tensor, draws: Tensor) -> SyntheticBatch:
        """States of S crystals, each with what to put on its empty sites.

        Of the K states of a crystal the first is empty. Half of the others are filled in part as
        one of its probable fillings; there the elements tell more than the geometry alone. The
        other half are filled by guesses from the geometry, most of them the most probable element
        of a site, as a policy's own are when it fills a crystal; they tell nothing, and what
        belongs on the empty sites is the same as in the empty crystal. A policy that has not seen
        such states takes its own guesses for evidence.

        Half of the states are filled in breadth-first order, half on random sites; the numbers of
        filled sites are spread evenly over each kind.

        Args:
            rows: crystals, (S,).
            draws: uniform random numbers in [0, 1), (K, S, n_draws).
        """
        device = self._candidates.device
        rows, draws = rows.to(device), draws.to(device)
        n = self.n_sites
        keys, strays, (amount, kept, start_site, pick) = (
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
                _guesses(by_geometry[0], strays[: 1 + n_guessed]),
                _probable(candidates, weight, pick[1 + n_guessed :]),
            ]
        )
        order = self._traversals[rows, (start_site * n).long()].long()
        rank = torch.where((kept < 0.5)[..., None], order.argsort(-1), keys.argsort(-1).argsort(-1))
        filled = torch.cat(
            [
                torch.zeros_like(amount[:1]),
                _spread(amount[1 : 1 + n_guessed], n),
                _spread(amount[1 + n_guessed :], n),
            ]
        )
        elements = torch.where(rank < filled[..., None], filling, 0)
        seen = elements[1 + n_guessed :]
        target = [
            by_geometry.expand(1 + n_guessed, -1, -1, -1),
            self._conditional(seen, candidates, weight),
        ]
        return SyntheticBatch(
            self.skeletons.batch(rows), elements.flatten(1), torch.cat(target).flatten(1, 2)
        )

    def _conditional(self, elements: Tensor, candidates: Tensor, weight: Tensor) -> Tensor:
        """p(element) at each site (K, S, n, V) among the candidates that agree with a filling.

        Args:
            elements: codes (K, S, n).
            candidates: codes (S, L, n).
            weight: probabilities (S, L).
        """
        seen = elements[:, :, None]
        agrees = ((seen == 0) | (seen == candidates)).all(-1) * weight
        agrees = agrees / agrees.sum(-1, keepdim=True)
        target = weight.new_zeros(*elements.shape, self.n_elements)
        for site in range(self.n_sites):
            index = (candidates[..., site] - 1).expand_as(agrees)
            target[:, :, site].scatter_add_(2, index, agrees)
        return target


def _spread(amount: Tensor, n: int) -> Tensor:
    """Numbers of filled sites from 1 to n - 1, evenly over the states (k, S)."""
    if n == 1:
        return torch.zeros_like(amount)
    state = torch.arange(len(amount), device=amount.device)[:, None]
    share = (state + amount) / max(1, len(amount))
    return 1 + (share * (n - 1)).floor().clamp_max(n - 2)


def _probable(candidates: Tensor, weight: Tensor, pick: Tensor) -> Tensor:
    """Fillings (k, S, n) drawn by probability; candidates (S, L, n), weights (S, L)."""
    chosen = torch.searchsorted(
        weight.cumsum(1), (pick * weight.sum(1)).T.contiguous(), right=True
    ).clamp_max(weight.shape[1] - 1)
    crystal = torch.arange(len(weight), device=weight.device)[:, None]
    return candidates[crystal, chosen].transpose(0, 1)


def _guesses(by_geometry: Tensor, strays: Tensor) -> Tensor:
    """Codes (k, S, n): the most probable, or a draw by probability where a number is small.

    Args:
        by_geometry: probabilities of the elements, (S, n, V).
        strays: uniform numbers, (k, S, n).
    """
    steps = by_geometry.cumsum(-1)
    level = (strays / _STRAY).movedim(0, -1) * steps[..., -1:]
    drawn = torch.searchsorted(steps, level.contiguous(), right=True).movedim(-1, 0)
    drawn = drawn.clamp_max(by_geometry.shape[-1] - 1)
    return torch.where(strays < _STRAY, drawn, by_geometry.argmax(-1)) + 1

"""Batches of synthetic crystals in part filled, with the posterior of every empty site."""

from dataclasses import dataclass

import torch
from torch import Tensor

from crystal_agents.graphs import SkeletonBatch, SkeletonStore
from crystal_agents.synthetic.crystals import SyntheticCrystals


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

    # Random numbers for each state besides one for each site: number of filled sites, order of the
    # sites, source site, filling.
    EXTRA_DRAWS = 4

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

    def batch(self, rows: Tensor, draws: Tensor) -> SyntheticBatch:
        """States of S crystals, each filled in part as one of its probable fillings.

        Half of them are filled in breadth-first order, half on random sites; the numbers of filled
        sites are spread evenly over the K states of a crystal.

        Args:
            rows: crystals, (S,).
            draws: uniform random numbers in [0, 1), (K, S, n + EXTRA_DRAWS).
        """
        device = self._candidates.device
        rows, draws = rows.to(device), draws.to(device)
        n, n_states = self.n_sites, len(draws)
        keys, (amount, kept, source, pick) = draws[..., :n], draws[..., n:].unbind(-1)
        candidates = self._fillings[self._candidates[rows].long()].long()
        weight = self._probability[rows].float()
        chosen = torch.searchsorted(
            weight.cumsum(1), (pick * weight.sum(1)).T.contiguous(), right=True
        ).clamp_max(weight.shape[1] - 1)
        crystal = torch.arange(len(rows), device=device)[:, None]
        filling = candidates[crystal, chosen].transpose(0, 1)
        order = self._traversals[rows, (source * n).long()].long()
        rank = torch.where((kept < 0.5)[..., None], order.argsort(-1), keys.argsort(-1).argsort(-1))
        state = torch.arange(n_states, device=device)[:, None]
        filled = ((state + amount) * n / n_states).long().clamp_max(n - 1)
        elements = torch.where(rank < filled[..., None], filling, 0)
        return SyntheticBatch(
            self.skeletons.batch(rows),
            elements.flatten(1),
            self._conditional(elements, candidates, weight).flatten(1, 2),
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

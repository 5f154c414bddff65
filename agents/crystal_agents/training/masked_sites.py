"""The objective of masked-element modeling: the elements of all empty sites of random subsets."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_agents.training.cloning_objective import (
    BatchLoss,
    CloningObjective,
    mean_over_empty_sites,
)
from crystal_agents.training.recipes import Recipe
from crystal_agents.training.transition_batches import TransitionStore
from crystal_gym.errors import CrystalGymError

# Fraction of the subsets that are filled with the policy's own predictions.
_OWN = 0.5


class MaskedSitesObjective(CloningObjective):
    """Cross-entropy of the expert's elements on all empty sites of random subsets.

    Each crystal occurs once in an epoch. Its first state is the empty skeleton. In each other state
    a random number of random sites is filled, in half of the crystals with the expert's elements
    and in the others with the policy's own predictions from the empty skeleton, as in DAgger (Ross,
    Gordon & Bagnell, 2011). One pass yields as many targets as there are empty sites.

    Args:
        store: Transitions with one filling for each crystal.
        recipe: The recipe, with the batch size.

    Raises:
        CrystalGymError: If the transitions assign different elements to one site of a crystal.
    """

    def __init__(self, store: TransitionStore, recipe: Recipe) -> None:
        super().__init__(recipe, store.skeletons)
        if not store.has_unique_actions:
            raise CrystalGymError(
                "Expected transitions with one filling for each crystal, which masked traversals "
                "require, got several fillings. Use a recipe with traversals='expert', or "
                "`crystal-gym train-offline --algorithm bc`."
            )
        self.store = store
        self.crystals = store.skeleton.unique()

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return shuffled crystals, indices (S,) for each batch."""
        order = torch.randperm(len(self.crystals), generator=generator)
        return list(self.crystals[order].split(self.skeletons))

    def batch_loss(
        self, model: nn.Module, rows: Tensor, generator: torch.Generator, share: slice
    ) -> BatchLoss:
        """Return the mean loss of the empty sites of each state."""
        store = self.store.skeletons
        draws = torch.rand(self.states, len(rows), store.max_sites + 2, generator=generator)
        skeletons = store.batch(rows[share].to(store.n_sites.device))
        finished = skeletons.flat(self.store.finished[rows[share].to(store.n_sites.device)])
        geometry = self.geometry(model, skeletons, share)
        empty = torch.zeros_like(finished)[None]
        # Without a common geometry, one call computes all logits again.
        with torch.set_grad_enabled(geometry is not None):
            first = model(skeletons, empty, geometry=geometry)
        elements = sample_subsets(
            skeletons, finished, first[0].detach().argmax(-1) + 1, draws[1:, share]
        )
        every_state = torch.cat([empty, elements])
        logits = first
        if geometry is None:
            logits = model(skeletons, every_state)
        elif len(elements):
            logits = torch.cat([first, model(skeletons, elements, geometry=geometry)])
        elements = every_state
        target = (finished - 1).expand_as(elements)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), reduction="none")
        correct = logits.argmax(-1) == target
        return mean_over_empty_sites(loss.view_as(elements), correct, elements, skeletons)


def sample_subsets(
    skeletons: SkeletonBatch, finished: Tensor, predicted: Tensor, draws: Tensor
) -> Tensor:
    """Fill random subsets of the sites of each skeleton; at least one site stays empty.

    Args:
        skeletons: S skeletons with s sites and at most N sites each.
        finished: Codes of the expert's filling, int64 (s,).
        predicted: Codes of the policy's predictions, int64 (s,).
        draws: Uniform random numbers in [0, 1), (K, S, N + 2): one for each site, one for the
            number of filled sites, and one for the choice between the two fillings.

    Returns:
        Codes, int64 (K, s).
    """
    draws = draws.to(finished.device)
    n_filled = (draws[..., -2] * skeletons.n_sites).floor()
    rank = draws[..., :-2].clone()
    padding = torch.arange(rank.shape[-1], device=rank.device) >= skeletons.n_sites[:, None]
    rank = rank.masked_fill(padding, 2.0).argsort(-1).argsort(-1)
    is_filled = skeletons.flat((rank < n_filled[..., None]).to(torch.int64)).bool()
    own = (draws[..., -1] < _OWN)[:, skeletons.owner]
    return torch.where(is_filled, torch.where(own, predicted, finished), 0)

"""What a policy learns from: an epoch's batches and the loss of each."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_agents.synthetic.posterior_batches import SyntheticBatch, SyntheticStore
from crystal_agents.training.recipes import Recipe
from crystal_agents.training.transition_batches import (
    Batch,
    TransitionStore,
    sample_random_traversals,
)
from crystal_gym.errors import CrystalGymError


class BatchLoss(NamedTuple):
    """Cross-entropy of each state (K, S), the number of right actions, and of how many."""

    loss: Tensor
    right: Tensor
    count: Tensor


class CloningObjective:
    """An expert's transitions, or synthetic crystals in their place.

    Args:
        store: the transitions.
        synthetic: crystals whose density was fitted to the expert's; where they are given, an epoch
            sees each of them once and none of the transitions.
        recipe: sizes of the batches, and what is learned in a state.

    Raises:
        CrystalGymError: the recipe visits random traversals, but the transitions put more than one
            element on a site of a crystal.
    """

    def __init__(
        self, store: TransitionStore, synthetic: SyntheticStore | None, recipe: Recipe
    ) -> None:
        if recipe.traversals == "random" and synthetic is None and not store.has_unique_actions:
            raise CrystalGymError(
                "Random traversals need an expert, who fills a crystal in one way only; these "
                "transitions fill it in several. Use a recipe with traversals='expert', or "
                "`crystal-gym train-offline --algorithm bc`."
            )
        self.store, self.synthetic, self.recipe = store, synthetic, recipe

    def epoch(self, generator: torch.Generator) -> list[Tensor]:
        """The batches of one epoch, shuffled; every epoch has the same number.

        Returns:
            Rows of transitions in groups (S, K), or of synthetic crystals (S,).
        """
        size = self.recipe.skeletons
        if self.synthetic is None:
            groups = self.store.groups(self.recipe.states, generator)
            return list(groups.split(size))
        return list(torch.randperm(len(self.synthetic), generator=generator).split(size))

    def outcome(
        self, model: nn.Module, rows: Tensor, generator: torch.Generator, share: slice
    ) -> BatchLoss:
        """The loss of one process's share of a batch.

        Args:
            model: the policy.
            rows: the whole batch.
            generator: of the random traversals, which do not depend on the number of processes.
            share: which of the batch's S rows are this process's.
        """
        if self.synthetic is not None:
            draws = torch.rand(
                self.recipe.states, len(rows), self.synthetic.n_draws, generator=generator
            )
            return _of_posterior(model, self.synthetic.batch(rows[share], draws[:, share]))
        batch = self.store.batch(rows[share])
        if self.recipe.traversals == "expert":
            return _of_focus(model, batch)
        sites = self.store.skeletons.max_sites + 1
        draws = torch.rand(self.recipe.states, len(rows), sites, generator=generator)
        return _of_empty_sites(model, batch, draws[:, share])


def _of_focus(model: nn.Module, batch: Batch) -> BatchLoss:
    """The expert's action at the focus: the paper's Algorithm 1."""
    logits = model(batch.skeletons, batch.elements, batch.focus)
    loss = F.cross_entropy(logits.flatten(0, 1), batch.action.flatten(), reduction="none")
    return BatchLoss(
        loss.view_as(batch.action),
        (logits.argmax(-1) == batch.action).sum(),
        torch.tensor(batch.action.numel(), device=loss.device),
    )


def _of_empty_sites(model: nn.Module, batch: Batch, draws: Tensor) -> BatchLoss:
    """The expert's elements of all empty sites, on random traversals.

    Every other state is filled by the policy's own guesses instead of the expert's elements, as in
    DAgger (Ross, Gordon & Bagnell, 2011): one that has seen the expert's states alone takes its own
    mistakes for evidence.
    """
    elements = sample_random_traversals(batch, draws)
    with torch.no_grad():
        guess = model(batch.skeletons, torch.zeros_like(elements[:1])).argmax(-1) + 1
    own = torch.arange(len(elements), device=elements.device)[:, None] % 2 == 1
    elements = torch.where(own & (elements > 0), guess, elements)
    logits = model(batch.skeletons, elements)
    target = (batch.finished - 1).expand_as(elements)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return _mean_of_empty(
        loss.view_as(elements), logits.argmax(-1) == target, elements, batch.skeletons
    )


def _of_posterior(model: nn.Module, batch: SyntheticBatch) -> BatchLoss:
    """The whole posterior of all empty sites."""
    logits = model(batch.skeletons, batch.elements)
    loss = -(batch.target * logits.log_softmax(-1)).sum(-1)
    right = logits.argmax(-1) == batch.target.argmax(-1)
    return _mean_of_empty(loss, right, batch.elements, batch.skeletons)


def _mean_of_empty(
    loss: Tensor, right: Tensor, elements: Tensor, skeletons: SkeletonBatch
) -> BatchLoss:
    """Every state counts once, however many of its sites are still empty."""
    empty = elements == 0
    total = loss.new_zeros(len(elements), len(skeletons))
    number = total.index_add(1, skeletons.owner, empty.to(loss.dtype))
    total = total.index_add(1, skeletons.owner, torch.where(empty, loss, 0.0))
    return BatchLoss(total / number.clamp_min(1), (right & empty).sum(), empty.sum())

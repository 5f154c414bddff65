"""Objectives of behavioral cloning: the batches of an epoch and the loss of each batch."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_agents.synthetic.posterior_batches import SyntheticStore
from crystal_agents.training.recipes import Recipe
from crystal_agents.training.transition_batches import (
    Batch,
    TransitionStore,
    sample_random_traversals,
)
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_agents.synthetic.generation import SyntheticCrystals
    from crystal_agents.training.targets import SkeletonTargets
    from crystal_datasets.transitions import Transitions


class BatchLoss(NamedTuple):
    """The loss of K states of each of S skeletons.

    Attributes:
        loss: Cross-entropy of each state, (K, S).
        correct: Number of correct predictions, a scalar.
        count: Number of predictions, a scalar.
    """

    loss: Tensor
    correct: Tensor
    count: Tensor


class CloningObjective(ABC):
    """The states of an epoch and the loss of a policy in these states.

    Args:
        recipe: The recipe, with the batch size: S skeletons and K states of each.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.skeletons, self.states = recipe.skeletons, recipe.states

    @abstractmethod
    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return the row indices of the batches of one epoch, always the same number of batches.

        Args:
            generator: Generator of the shuffling.
        """

    @abstractmethod
    def batch_loss(
        self, model: nn.Module, rows: Tensor, generator: torch.Generator, share: slice
    ) -> BatchLoss:
        """Return the loss of one process's share of a batch.

        Args:
            model: The policy.
            rows: Row indices of the whole batch, an item of ``batches``.
            generator: Generator of random states. They are sampled for the whole batch, so they do
                not depend on the number of processes.
            share: The rows of this process.
        """


class _TransitionObjective(CloningObjective):
    """An objective on transitions, each of which occurs at least once in an epoch.

    Args:
        store: The transitions.
        recipe: The recipe, with the batch size.
        targets: The labels of the skeletons, for a conditional policy.
    """

    def __init__(
        self, store: TransitionStore, recipe: Recipe, targets: "SkeletonTargets | None" = None
    ) -> None:
        super().__init__(recipe)
        self.store = store
        self.targets = targets

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return transitions in groups of one skeleton, indices (S, K) for each batch."""
        return list(self.store.groups(self.states, generator).split(self.skeletons))

    def requested(
        self, batch: Batch, rows: Tensor, generator: torch.Generator, share: slice
    ) -> Tensor | None:
        """Return the labels of a batch, some of them dropped, (S, T); ``None`` without targets."""
        if self.targets is None or batch.target is None:
            return None
        draws = torch.rand(len(rows), generator=generator)
        return self.targets.drop(batch.target, draws[share])


class FocusObjective(_TransitionObjective):
    """Cross-entropy of the expert's action at the focus: Algorithm 1 of the paper."""

    def batch_loss(
        self, model: nn.Module, rows: Tensor, generator: torch.Generator, share: slice
    ) -> BatchLoss:
        """Return the loss at the focus of each transition; only dropping targets is random."""
        batch = self.store.batch(rows[share])
        target = self.requested(batch, rows, generator, share)
        logits = model(batch.skeletons, batch.elements, batch.focus, target=target)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.action.flatten(), reduction="none")
        return BatchLoss(
            loss.view_as(batch.action),
            (logits.argmax(-1) == batch.action).sum(),
            torch.tensor(batch.action.numel(), device=loss.device),
        )


class EmptySitesObjective(_TransitionObjective):
    """Cross-entropy of the expert's elements on all empty sites, on random traversals.

    Every second state of a skeleton is filled with the policy's own predictions from the empty
    skeleton instead of the expert's elements, as in DAgger (Ross, Gordon & Bagnell, 2011): a policy
    that is trained only on the expert's states treats its own mistakes as evidence. A conditional
    policy is trained only on the expert's states, because the label belongs to the expert's
    filling.

    Args:
        store: Transitions with one filling for each crystal.
        recipe: The recipe, with the batch size.
        targets: The labels of the skeletons, for a conditional policy.

    Raises:
        CrystalGymError: If the transitions assign different elements to one site of a crystal.
    """

    def __init__(
        self, store: TransitionStore, recipe: Recipe, targets: "SkeletonTargets | None" = None
    ) -> None:
        super().__init__(store, recipe, targets)
        if not store.has_unique_actions:
            raise CrystalGymError(
                "Expected transitions with one filling for each crystal, which random traversals "
                "require, got several fillings. Use a recipe with traversals='expert', or "
                "`crystal-gym train-offline --algorithm bc`."
            )

    def batch_loss(
        self, model: nn.Module, rows: Tensor, generator: torch.Generator, share: slice
    ) -> BatchLoss:
        """Return the mean loss of the empty sites of each state."""
        batch = self.store.batch(rows[share])
        draws = torch.rand(
            self.states, len(rows), self.store.skeletons.max_sites + 1, generator=generator
        )
        target = self.requested(batch, rows, generator, share)
        elements = sample_random_traversals(batch, draws[:, share])
        if target is None:
            with torch.no_grad():
                predicted = model(batch.skeletons, torch.zeros_like(elements[:1])).argmax(-1) + 1
            by_policy = torch.arange(len(elements), device=elements.device)[:, None] % 2 == 1
            elements = torch.where(by_policy & (elements > 0), predicted, elements)
        logits = model(batch.skeletons, elements, target=target)
        true = (batch.finished - 1).expand_as(elements)
        loss = F.cross_entropy(logits.flatten(0, 1), true.flatten(), reduction="none")
        correct = logits.argmax(-1) == true
        return _mean_over_empty_sites(loss.view_as(elements), correct, elements, batch.skeletons)


class PosteriorObjective(CloningObjective):
    """Cross-entropy of the posterior of all empty sites of synthetic crystals.

    Args:
        store: Synthetic crystals, each of which occurs once in an epoch.
        recipe: The recipe, with the batch size.
    """

    def __init__(self, store: SyntheticStore, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.store = store

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return shuffled crystals, indices (S,) for each batch."""
        return list(torch.randperm(len(self.store), generator=generator).split(self.skeletons))

    def batch_loss(
        self, model: nn.Module, rows: Tensor, generator: torch.Generator, share: slice
    ) -> BatchLoss:
        """Return the mean loss of the empty sites of each state."""
        draws = torch.rand(self.states, len(rows), self.store.n_draws, generator=generator)
        batch = self.store.batch(rows[share], draws[:, share])
        logits = model(batch.skeletons, batch.elements)
        loss = -(batch.target * logits.log_softmax(-1)).sum(-1)
        correct = logits.argmax(-1) == batch.target.argmax(-1)
        return _mean_over_empty_sites(loss, correct, batch.elements, batch.skeletons)


def make_objective(
    recipe: Recipe,
    data: "Transitions",
    synthetic: "SyntheticCrystals | None",
    device: torch.device | str,
    targets: "SkeletonTargets | None" = None,
) -> CloningObjective:
    """Return the objective for a recipe and its data.

    Args:
        recipe: The recipe; ``traversals`` determines the objective on transitions.
        data: Transitions of the expert.
        synthetic: Synthetic crystals; if given, they replace the transitions.
        device: Device of the batches.
        targets: The labels of the skeletons, for a conditional policy.

    Raises:
        CrystalGymError: If the recipe has random traversals and the transitions assign different
            elements to one site of a crystal.
    """
    if synthetic is not None:
        return PosteriorObjective(SyntheticStore(synthetic, len(data.vocabulary), device), recipe)
    store = TransitionStore(data, device, None if targets is None else targets.values)
    if recipe.traversals == "expert":
        return FocusObjective(store, recipe, targets)
    return EmptySitesObjective(store, recipe, targets)


def _mean_over_empty_sites(
    loss: Tensor, correct: Tensor, elements: Tensor, skeletons: SkeletonBatch
) -> BatchLoss:
    """Average the losses of sites over the empty ones, so that all states have the same weight.

    Args:
        loss: Loss of each site, (K, s).
        correct: Whether the prediction for each site is correct, bool (K, s).
        elements: Codes of the fillings, int64 (K, s).
        skeletons: The S skeletons with s sites.
    """
    empty = elements == 0
    zeros = loss.new_zeros(len(elements), len(skeletons))
    n_empty = zeros.index_add(1, skeletons.owner, empty.to(loss.dtype))
    total = zeros.index_add(1, skeletons.owner, torch.where(empty, loss, 0.0))
    return BatchLoss(total / n_empty.clamp_min(1), (correct & empty).sum(), empty.sum())

"""Objectives of behavioral cloning: the batches of an epoch and the loss of each batch."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.synthetic.posterior_batches import SyntheticStore
from crystal_agents.training.cloning_objective import (
    BatchLoss,
    CloningObjective,
    mean_over_empty_sites,
)
from crystal_agents.training.masked_sites import MaskedSitesObjective
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
        super().__init__(recipe, store.skeletons)
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
        geometry = None
        if target is None:
            geometry = self.geometry(model, batch.skeletons, share)
            with torch.no_grad():
                empty = torch.zeros_like(elements[:1])
                predicted = model(batch.skeletons, empty, geometry=geometry).argmax(-1) + 1
            by_policy = torch.arange(len(elements), device=elements.device)[:, None] % 2 == 1
            elements = torch.where(by_policy & (elements > 0), predicted, elements)
        logits = model(batch.skeletons, elements, geometry=geometry, target=target)
        true = (batch.finished - 1).expand_as(elements)
        loss = F.cross_entropy(logits.flatten(0, 1), true.flatten(), reduction="none")
        correct = logits.argmax(-1) == true
        return mean_over_empty_sites(loss.view_as(elements), correct, elements, batch.skeletons)


class PosteriorObjective(CloningObjective):
    """Cross-entropy of the posterior of all empty sites of synthetic crystals.

    Args:
        store: Synthetic crystals, each of which occurs once in an epoch.
        recipe: The recipe, with the batch size.
    """

    def __init__(self, store: SyntheticStore, recipe: Recipe) -> None:
        super().__init__(recipe, store.skeletons)
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
        return mean_over_empty_sites(loss, correct, batch.elements, batch.skeletons)


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
    if recipe.traversals == "masked":
        if targets is not None:
            raise CrystalGymError(
                "Expected no targets for a recipe with masked traversals, which does not train "
                "conditional policies, got some. Use the recipe 'egnn'."
            )
        return MaskedSitesObjective(store, recipe)
    return EmptySitesObjective(store, recipe, targets)

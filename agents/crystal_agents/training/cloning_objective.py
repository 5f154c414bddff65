"""The interface of objectives of behavioral cloning."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from crystal_agents.networks.graph_batch import SkeletonBatch, SkeletonStore
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.recipes import Recipe


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
        skeleton_store: The skeletons of all batches.
    """

    def __init__(self, recipe: Recipe, skeleton_store: SkeletonStore) -> None:
        self.skeletons, self.states = recipe.skeletons, recipe.states
        self.skeleton_store = skeleton_store

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

    def geometry(self, model: nn.Module, skeletons: SkeletonBatch, share: slice) -> Any:
        """Return the geometry for several calls of the model, or ``None`` if each computes it.

        Several processes exchange the gradients of one call of the model alone, which therefore
        includes the geometry.

        Args:
            model: The policy.
            skeletons: The skeletons of this process.
            share: The rows of this process.
        """
        if share.step not in {None, 1}:
            return None
        return cast(SkeletonPolicy, model).geometry(skeletons)


def mean_over_empty_sites(
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

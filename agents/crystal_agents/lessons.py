"""What a policy learns from: an epoch's batches and the loss of each."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.batches import Batch, TransitionStore, on_random_traversals
from crystal_agents.graphs import SkeletonBatch
from crystal_agents.recipes import Recipe
from crystal_agents.synthetic.batches import SyntheticBatch, SyntheticStore


class Lesson(NamedTuple):
    """One batch: transitions in groups (S, K), or rows of synthetic crystals (S,)."""

    rows: Tensor
    synthetic: bool


class Outcome(NamedTuple):
    """Cross-entropy of each state (K, S), the number of right actions, and of how many."""

    loss: Tensor
    right: Tensor
    count: Tensor


class Lessons:
    """An expert's transitions and, beside them, synthetic crystals.

    Args:
        store: the transitions.
        synthetic: the crystals; an epoch then sees each of them once, and as many groups of the
            expert's transitions as there are real crystals.
        recipe: sizes of the batches, and what is learned in a state.
    """

    def __init__(
        self, store: TransitionStore, synthetic: SyntheticStore | None, recipe: Recipe
    ) -> None:
        self.store, self.synthetic, self.recipe = store, synthetic, recipe

    def epoch(self, generator: torch.Generator) -> list[Lesson]:
        """The batches of one epoch, shuffled; every epoch has the same number."""
        size = self.recipe.skeletons
        groups = self.store.groups(self.recipe.states, generator)
        if self.synthetic is None:
            return [Lesson(rows, False) for rows in groups.split(size)]
        groups = groups[: len(self.store.skeletons)]
        crystals = torch.randperm(len(self.synthetic), generator=generator)
        lessons = [
            *(Lesson(rows, False) for rows in groups.split(size)),
            *(Lesson(rows, True) for rows in crystals.split(size)),
        ]
        return [lessons[i] for i in torch.randperm(len(lessons), generator=generator)]

    def outcome(
        self, model: nn.Module, lesson: Lesson, generator: torch.Generator, share: slice
    ) -> Outcome:
        """The loss of one process's share of a batch.

        Args:
            model: the policy.
            lesson: the whole batch.
            generator: of the random traversals, which do not depend on the number of processes.
            share: which of the batch's S rows are this process's.
        """
        if lesson.synthetic and self.synthetic is not None:
            extra = self.synthetic.n_sites + self.synthetic.EXTRA_DRAWS
            draws = torch.rand(self.recipe.states, len(lesson.rows), extra, generator=generator)
            return _of_posterior(model, self.synthetic.batch(lesson.rows[share], draws[:, share]))
        batch = self.store.batch(lesson.rows[share])
        if self.recipe.traversals == "expert":
            return _of_focus(model, batch)
        sites = self.store.skeletons.max_sites + 1
        draws = torch.rand(self.recipe.states, len(lesson.rows), sites, generator=generator)
        return _of_empty_sites(model, batch, draws[:, share])


def _of_focus(model: nn.Module, batch: Batch) -> Outcome:
    """The expert's action at the focus: the paper's Algorithm 1."""
    logits = model(batch.skeletons, batch.elements, batch.focus)
    loss = F.cross_entropy(logits.flatten(0, 1), batch.action.flatten(), reduction="none")
    return Outcome(
        loss.view_as(batch.action),
        (logits.argmax(-1) == batch.action).sum(),
        torch.tensor(batch.action.numel(), device=loss.device),
    )


def _of_empty_sites(model: nn.Module, batch: Batch, draws: Tensor) -> Outcome:
    """The expert's elements of all empty sites, on random traversals."""
    elements = on_random_traversals(batch, draws)
    logits = model(batch.skeletons, elements)
    target = (batch.finished - 1).expand_as(elements)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    return _mean_of_empty(
        loss.view_as(elements), logits.argmax(-1) == target, elements, batch.skeletons
    )


def _of_posterior(model: nn.Module, batch: SyntheticBatch) -> Outcome:
    """The whole posterior of all empty sites."""
    logits = model(batch.skeletons, batch.elements)
    loss = -(batch.target * logits.log_softmax(-1)).sum(-1)
    right = logits.argmax(-1) == batch.target.argmax(-1)
    return _mean_of_empty(loss, right, batch.elements, batch.skeletons)


def _mean_of_empty(
    loss: Tensor, right: Tensor, elements: Tensor, skeletons: SkeletonBatch
) -> Outcome:
    """Every state counts once, however many of its sites are still empty."""
    empty = elements == 0
    total = loss.new_zeros(len(elements), len(skeletons))
    number = total.index_add(1, skeletons.owner, empty.to(loss.dtype))
    total = total.index_add(1, skeletons.owner, torch.where(empty, loss, 0.0))
    return Outcome(total / number.clamp_min(1), (right & empty).sum(), empty.sum())

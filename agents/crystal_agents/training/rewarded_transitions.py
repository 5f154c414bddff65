"""Transitions with rewards and next states, in batches for offline RL."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from crystal_agents.training.recipes import Recipe
from crystal_agents.training.transition_batches import TransitionStore

if TYPE_CHECKING:
    from tensordict import TensorDict

    from crystal_datasets.transitions import Transitions


def on_unit_scale(data: "Transitions") -> "Transitions":
    """Return the transitions with rewards that are scaled so that most returns are from 0 to 1.

    The 1st and the 99th percentile of the returns become 0 and 1, so that a few extreme returns do
    not affect the scale. All rewards are divided by this range, and the offset is subtracted from
    the last reward of each episode. Episodes of a skeleton have equal lengths, so the best actions
    do not change.

    Args:
        data: Transitions with finite rewards. If all returns are equal, they become 0.
    """
    low, high = np.percentile(data.returns, (1, 99))
    if low == high:
        low, high = data.returns.min(), data.returns.max()
    reward = data.reward.astype(np.float64)
    reward[data.done] -= low
    return dataclasses.replace(data, reward=(reward / ((high - low) or 1)).astype(np.float32))


class RewardedStore:
    """Transitions with rewards and next states on one device, from which batches are gathered.

    Args:
        data: Transitions; those of a trajectory are consecutive.
        device: Device of the tensors.
    """

    def __init__(self, data: "Transitions", device: torch.device | str = "cpu") -> None:
        self._store = TransitionStore(data, device)
        self.skeletons = self._store.skeletons
        self._skeleton = self._store.skeleton.to(device)
        self._reward = torch.as_tensor(data.reward, device=device)
        self._done = torch.as_tensor(data.done, device=device)

    def batches(self, recipe: Recipe, generator: torch.Generator) -> list[Tensor]:
        """Return the shuffled batches of one epoch, indices (S, K) for each.

        Args:
            recipe: The recipe, with the batch size: S groups of K transitions of one skeleton.
            generator: Generator of the shuffling.
        """
        return self._store.batches(recipe, generator)

    def batch(self, groups: Tensor) -> "TensorDict":
        """Return transitions in torchrl's format.

        Args:
            groups: Indices of transitions in groups of one skeleton, (S, K).

        Returns:
            A ``TensorDict`` with batch size (K, S).
        """
        from tensordict import TensorDict

        store = self._store
        index = groups.T.to(self._done.device)
        element = store.elements[index].to(torch.int64)
        focus, action, done = store.focus[index], store.action[index], self._done[index]
        # A terminal state has no focus, and its value is not used.
        next_focus = store.focus[index + ~done]
        state = {"skeleton": self._skeleton[index], "element": element, "focus": focus}
        next_state = {
            "skeleton": state["skeleton"],
            "element": element.scatter(-1, focus[..., None], action[..., None] + 1),
            "focus": next_focus,
            "reward": self._reward[index][..., None],
            "done": done[..., None],
            "terminated": done[..., None],
        }
        return TensorDict({**state, "action": action, "next": next_state}, batch_size=index.shape)

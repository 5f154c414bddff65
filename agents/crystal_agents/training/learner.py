"""The interface between the epoch loop and a learning algorithm."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from crystal_agents.policies.config import PolicyConfig
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.policies.site_numbers import site_positions_record
from crystal_agents.training.checkpoint import Stateful
from crystal_agents.training.recipes import Recipe

if TYPE_CHECKING:
    from crystal_agents.policies.targets import PolicyTargets
    from crystal_datasets.transitions import Transitions


class StepLoss(NamedTuple):
    """Loss of one optimizer step.

    Attributes:
        loss: Scalar to differentiate. Its mean over processes is the mean loss of the batch.
        sums: Sums over this process's share of the batch, one for each of ``Learner.sums``, float
            (M,).
        states: Number of states in the whole batch.
    """

    loss: Tensor
    sums: Tensor
    states: int


class Learner(ABC):
    """An algorithm that the epoch loop runs.

    Attributes:
        title: Title of the progress bar.
        policy: The policy that is optimized.
        model: The policy, or Fabric's wrapper of it.
        optimizers: The optimizers of the weights of the policy.
        max_grad_norm: Norm to which gradients are clipped; 0 disables clipping.
        sums: Names of ``StepLoss.sums``: ``loss``, ``correct``, ``actions`` and further sums over
            states.
    """

    sums: ClassVar[tuple[str, ...]] = ("loss", "correct", "actions")

    title: str
    policy: SkeletonPolicy
    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    max_grad_norm: float = 0.0

    @abstractmethod
    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return the row indices of the batches of one epoch, always the same number of batches.

        Args:
            generator: Generator of the shuffling.
        """

    @abstractmethod
    def loss(self, rows: Tensor, generator: torch.Generator) -> StepLoss:
        """Return the loss of a batch.

        Args:
            rows: The batch, an item of ``batches``.
            generator: Generator of this step, in the same state in every process.
        """

    @abstractmethod
    def after_step(self) -> None:
        """Update objects that depend on the weights, such as an average or a target network."""

    @property
    def final_policy(self) -> SkeletonPolicy:
        """The policy that is validated and saved."""
        return self.policy

    @abstractmethod
    def derived_parts(self) -> dict[str, Stateful]:
        """Return objects beside the policy that depend on the weights, for the checkpoint."""

    def parts(self) -> dict[str, Stateful]:
        """Return the objects that a checkpoint stores."""
        optimizers = {f"optimizer {i}": optimizer for i, optimizer in enumerate(self.optimizers)}
        return {"policy": self.policy, **self.derived_parts(), **optimizers}

    @abstractmethod
    def fingerprint(self) -> str:
        """Return the hash of everything that determines the weights."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return JSON values about the algorithm and its data to store with the policy."""


def new_policy(
    recipe: Recipe, data: "Transitions", targets: "PolicyTargets | None" = None
) -> SkeletonPolicy:
    """Return a policy with random weights for the network of a recipe and the crystals of its data.

    Args:
        recipe: The network and its settings.
        data: Transitions; the policy has their vocabulary and the positions of their site numbers.
        targets: The labels that a conditional policy can be asked for.
    """
    return SkeletonPolicy(
        PolicyConfig(
            recipe.network,
            data.vocabulary,
            data.frac_coords.shape[1],
            recipe.settings,
            site_positions=site_positions_record(data.n_sites, data.frac_coords),
            targets=None if targets is None else targets.as_record(),
        )
    )

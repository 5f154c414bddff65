"""Offline RL: discrete CQL with a graph network, on transitions of any behavior policy.

The logits of the ``SkeletonPolicy`` are Q-values. The result can therefore be saved, evaluated and
used like any other policy: its most probable action is the one with the highest value.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from crystal_agents.networks.encoder import attach_graphs
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.checkpoint import Stateful, hash_inputs
from crystal_agents.training.config import TrainingConfig, check_config
from crystal_agents.training.cql_loss import TargetState, make_cql_loss
from crystal_agents.training.fabric import make_fabric
from crystal_agents.training.learner import Learner, StepLoss, new_policy
from crystal_agents.training.loop import fit
from crystal_agents.training.optimizers import make_optimizers
from crystal_agents.training.rewarded_transitions import RewardedStore, on_unit_scale
from crystal_agents.training.training_stages import fingerprint_record
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions

# Terms of torchrl's loss that the history records.
_TERMS = ("loss_qvalue", "loss_cql", "target_value")


@dataclass(frozen=True)
class CQLConfig:
    """Settings of conservative Q-learning (Kumar et al., 2020).

    Attributes:
        alpha: Weight of the conservative term relative to the temporal-difference loss. Large
            values approach behavioral cloning; 0 gives Q-learning, which overestimates actions that
            the data do not contain.
        gamma: Discount factor; by default, returns are undiscounted, because episodes are short.
        tau: Weight of the current network in the update of the target network at each step.
        unit_scale: Whether to scale the returns of the data to the range from 0 to 1, see
            ``on_unit_scale``. Without it, the effect of ``alpha`` depends on the reward.
    """

    alpha: float = 0.1
    gamma: float = 1.0
    tau: float = 0.01
    unit_scale: bool = True


def train_cql(
    config: TrainingConfig,
    cql: CQLConfig,
    data: "Transitions",
    validation: "Transitions | None" = None,
    *,
    progress: bool = True,
) -> SkeletonPolicy:
    """Learn Q-values from transitions, resuming from the run's checkpoint if there is one.

    An interrupted and resumed run ends with the weights of an uninterrupted one.

    Args:
        config: The run, with ``devices`` 1. Its recipe determines the network, the batches and the
            optimizer; gradients are not clipped and weights are not averaged.
        cql: Settings of the algorithm.
        data: Transitions with rewards, of any behavior policy.
        validation: Expert transitions for the validation accuracy: the fraction of states in which
            the action with the highest value is the expert's.
        progress: Whether to show a progress bar.

    Returns:
        The policy, whose logits are Q-values, also saved in ``config.run``.

    Raises:
        CrystalGymError: If the configuration is invalid, if rewards are not finite, or if the
            checkpoint belongs to other settings or data.
        DamagedFileError: If the checkpoint is damaged.
        ModuleNotFoundError: If torchrl is not installed.
        StorageError: If the folder of the run cannot be written.
    """
    check_config(config, validation)
    _check_cql(config, cql, data)
    if cql.unit_scale:
        data = on_unit_scale(data)
    fabric = make_fabric(config)
    torch.manual_seed(config.seed)
    learner = CQLLearner(config, cql, fabric, data)
    return fit(config, learner, fabric, validation, progress=progress)


class CQLLearner(Learner):
    """Conservative Q-learning on transitions with rewards.

    Args:
        config: The run.
        cql: Settings of the algorithm.
        fabric: The launched Fabric of the run, with one process.
        data: Transitions with rewards on their final scale.
    """

    sums: ClassVar[tuple[str, ...]] = (*Learner.sums, *_TERMS)

    def __init__(
        self, config: TrainingConfig, cql: CQLConfig, fabric: Fabric, data: "Transitions"
    ) -> None:
        from torchrl.objectives import SoftUpdate

        recipe = config.recipe
        self.title = f"CQL with {recipe.network}"
        self.policy = new_policy(recipe, data).to(fabric.device)
        self.model = self.policy
        self.store = RewardedStore(data, fabric.device)
        attach_graphs(self.store.skeletons, self.policy.encoder)
        self.cql_loss = make_cql_loss(self.policy, self.store.skeletons, cql.gamma)
        self.target_update = SoftUpdate(self.cql_loss, tau=cql.tau)
        self.optimizers = make_optimizers(self.policy, recipe)
        self._config, self._cql, self._fabric, self._data = config, cql, fabric, data

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return shuffled transitions in groups of one skeleton, indices (S, K) for each batch."""
        return self.store.batches(self._config.recipe, generator)

    def loss(self, rows: Tensor, generator: torch.Generator) -> StepLoss:
        """Return the temporal-difference loss plus the weighted conservative loss."""
        batch = self.store.batch(rows)
        with self._fabric.autocast():
            terms = self.cql_loss(batch)
            loss = terms["loss_qvalue"] + self._cql.alpha * terms["loss_cql"]
        states = rows.numel()
        correct = (batch["pred_val"].argmax(-1) == batch["action"]).sum()
        means = [loss, *(terms[name] for name in _TERMS)]
        # In float64, the product of a mean and the number of states is exact.
        mean_loss, *others = torch.stack(means).detach().cpu().double() * states
        counts = [correct.cpu().double(), torch.tensor(states).double()]
        return StepLoss(loss, torch.stack([mean_loss, *counts, *others]), states)

    def after_step(self) -> None:
        """Move the target network toward the current one."""
        self.target_update.step()

    def derived_parts(self) -> dict[str, Stateful]:
        """Return the target network."""
        return {"target": TargetState(self.cql_loss)}

    def fingerprint(self) -> str:
        """Return the hash of the settings, the vocabulary and the data."""
        config, data = self._config, self._data
        settings = [dataclasses.asdict(config.recipe), dataclasses.asdict(self._cql), config.seed]
        settings += [config.precision, data.vocabulary, config.patience, config.validate_every]
        arrays = (data.n_sites, data.frac_coords, data.lattice, data.edges)
        arrays += (data.skeleton, data.elements, data.focus, data.action, data.reward, data.done)
        return hash_inputs(settings, (array.tobytes() for array in arrays))

    def record(self) -> dict[str, Any]:
        """Return the algorithm, its settings and the fingerprints of the crystals."""
        settings = dataclasses.asdict(self._cql)
        return {"algorithm": "cql", "cql": settings, **fingerprint_record(self._data)}


def _check_cql(config: TrainingConfig, cql: CQLConfig, data: "Transitions") -> None:
    if config.precision == "16-mixed":
        raise CrystalGymError(
            "Expected precision 32-true or bf16-mixed for CQL, got 16-mixed. Set another precision."
        )
    if config.devices != 1:
        raise CrystalGymError(
            f"Expected devices to be 1 for CQL, got {config.devices}. Train in one process."
        )
    if not 0 <= cql.alpha < np.inf:
        raise CrystalGymError(f"Expected alpha to be at least 0 and finite, got {cql.alpha}.")
    if not 0 <= cql.gamma <= 1:
        raise CrystalGymError(f"Expected gamma to be from 0 to 1, got {cql.gamma}.")
    if not 0 < cql.tau <= 1:
        raise CrystalGymError(f"Expected tau to be above 0 and at most 1, got {cql.tau}.")
    n_bad = int((~np.isfinite(data.reward)).sum())
    if n_bad:
        raise CrystalGymError(
            f"Expected finite rewards in {data.dataset_id}, got {n_bad} that are NaN or infinite. "
            "Build the dataset with build_dataset, which drops such episodes."
        )

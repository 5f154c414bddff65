"""Behavioral cloning: Algorithm 1 of the paper and its variants."""

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from crystal_agents.networks.encoder import attach_graphs
from crystal_agents.networks.registry import ENCODERS, encoder_settings
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.checkpoint import Stateful, hash_inputs
from crystal_agents.training.config import TrainingConfig, check_config
from crystal_agents.training.fabric import make_fabric
from crystal_agents.training.learner import Learner, StepLoss, new_policy
from crystal_agents.training.loop import fit
from crystal_agents.training.objectives import make_objective
from crystal_agents.training.optimizers import RunningAverage, make_optimizers
from crystal_agents.training.training_stages import fingerprint_record
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    import numpy as np

    from crystal_agents.synthetic.generation import SyntheticCrystals
    from crystal_agents.training.targets import SkeletonTargets
    from crystal_datasets.transitions import Transitions


def train(
    config: TrainingConfig,
    data: "Transitions",
    validation: "Transitions | None" = None,
    synthetic: "SyntheticCrystals | None" = None,
    *,
    targets: "SkeletonTargets | None" = None,
    validation_targets: "np.ndarray | None" = None,
    progress: bool = True,
) -> SkeletonPolicy:
    """Train a policy by behavioral cloning, resuming from the run's checkpoint if there is one.

    An interrupted and resumed run ends with the weights of an uninterrupted one.

    Args:
        config: The run.
        data: Transitions whose actions are cloned; the policy has their vocabulary.
        validation: Transitions for the validation accuracy.
        synthetic: Synthetic crystals that replace the transitions, for recipes with
            ``synthetic``.
        targets: The labels of the crystals, for a conditional policy.
        validation_targets: Standardized labels of the validation crystals, (S, T), as from
            ``crystal_agents.training.targets.standardized_labels``.
        progress: Whether to show a progress bar.

    Returns:
        The trained policy, also saved in ``config.run``.

    Raises:
        CrystalGymError: If the configuration is invalid, if the recipe has random traversals and
            the data have several fillings of a crystal, or if the checkpoint belongs to other
            settings or data.
        DamagedFileError: If the checkpoint is damaged.
        StorageError: If the folder of the run cannot be written.
        TimeLimitError: If ``config.deadline`` ends the run before its last epoch.
    """
    check_config(config, validation)
    if targets is not None:
        _check_conditional(config, synthetic)
    fabric = make_fabric(config)
    torch.manual_seed(config.seed)
    learner = CloningLearner(config, fabric, data, synthetic, targets)
    return fit(config, learner, fabric, validation, validation_targets, progress=progress)


def _check_conditional(config: TrainingConfig, synthetic: "SyntheticCrystals | None") -> None:
    """Raise an error if a recipe cannot train a conditional policy."""
    network = config.recipe.network
    if "n_targets" not in encoder_settings(network):
        supported = [name for name in ENCODERS if "n_targets" in encoder_settings(name)]
        raise CrystalGymError(
            f"Expected a network that supports targets ({', '.join(supported)}), got {network!r}. "
            "Use another recipe, or train without targets."
        )
    if synthetic is not None or config.recipe.synthetic is not None:
        raise CrystalGymError(
            "Expected a recipe without synthetic crystals, which have no labels, got one with "
            "synthetic crystals. Use the recipe egnn or egnn-indexed for targets."
        )


class CloningLearner(Learner):
    """Behavioral cloning of transitions or synthetic crystals.

    Args:
        config: The run.
        fabric: The launched Fabric of the run; several processes share each batch.
        data: Transitions of the expert.
        synthetic: Synthetic crystals that replace the transitions.
        targets: The labels of the skeletons, for a conditional policy.
    """

    def __init__(
        self,
        config: TrainingConfig,
        fabric: Fabric,
        data: "Transitions",
        synthetic: "SyntheticCrystals | None",
        targets: "SkeletonTargets | None" = None,
    ) -> None:
        recipe = config.recipe
        self.title = f"Training {recipe.network}"
        self.max_grad_norm = recipe.clip
        self.policy = new_policy(recipe, data, None if targets is None else targets.targets)
        # Fused optimizers do not support the scaling of 16-bit gradients.
        fused = True if config.precision != "16-mixed" else None
        self.model, *self.optimizers = fabric.setup(
            self.policy, *make_optimizers(self.policy, recipe, fused=fused)
        )
        self.average = RunningAverage(self.policy, recipe.average) if recipe.average else None
        self.objective = make_objective(recipe, data, synthetic, fabric.device, targets)
        attach_graphs(self.objective.skeleton_store, self.policy.encoder)
        self._config, self._fabric, self._data, self._synthetic = config, fabric, data, synthetic
        self._targets = targets

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return the batches of the objective."""
        return self.objective.batches(generator)

    def loss(self, rows: Tensor, generator: torch.Generator) -> StepLoss:
        """Return the loss of this process's share of a batch."""
        fabric = self._fabric
        share = slice(fabric.global_rank, None, fabric.world_size)
        # Objectives also call methods of the policy other than `forward`.
        with fabric.autocast():
            loss, correct, count = self.objective.batch_loss(self.model, rows, generator, share)
        states = len(rows) * self.objective.states
        sums = torch.stack([loss.detach().sum(), correct, count]).to(torch.float32)
        # Fabric averages gradients over processes, each of which has a share of the batch.
        return StepLoss(loss.sum() * fabric.world_size / states, sums, states)

    def after_step(self) -> None:
        """Update the running average of the weights."""
        if self.average is not None:
            self.average.update_parameters(self.policy)

    @property
    def final_policy(self) -> SkeletonPolicy:
        """The running average of the weights, or the last weights if the recipe has none."""
        if self.average is not None:
            return cast(SkeletonPolicy, self.average.module)
        return self.policy

    def derived_parts(self) -> dict[str, Stateful]:
        """Return the running average of the weights, if the recipe has one."""
        return {} if self.average is None else {"average": self.average}

    def fingerprint(self) -> str:
        """Return the hash of the settings, the vocabulary and the data."""
        config, data, synthetic = self._config, self._data, self._synthetic
        run = [dataclasses.asdict(config.recipe), config.seed, config.precision, config.devices]
        arrays = (data.n_sites, data.frac_coords, data.lattice, data.edges)
        arrays += (data.skeleton, data.elements, data.focus, data.action)
        content = [array.tobytes() for array in arrays]
        if synthetic is not None:
            content.append(synthetic.collection.fingerprint().encode())
            content.append(synthetic.probability.tobytes())
        settings = [run, data.vocabulary, config.patience, config.validate_every]
        if self._targets is not None:
            settings.append([self._targets.targets.as_record(), self._targets.dropout])
            content.append(self._targets.values.tobytes())
        return hash_inputs(settings, content)

    def record(self) -> dict[str, Any]:
        """Return the number of transitions and the fingerprints of the crystals."""
        record = {"transitions": len(self._data.action), **fingerprint_record(self._data)}
        if self._synthetic is not None:
            record["synthetic_sha256"] = self._synthetic.collection.fingerprint()
        if self._targets is not None:
            record["target_dropout"] = self._targets.dropout
        return record

"""The end of a run: its policy is saved with a record of its training."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor

from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.learner import Learner
from crystal_agents.training.progress import Progress
from crystal_gym.errors import TimeLimitError


def save_trained(
    config: TrainingConfig, learner: Learner, fabric: Fabric, progress: Progress
) -> SkeletonPolicy:
    """Save the policy of a run in the run's folder, and return it in evaluation mode on the CPU.

    Args:
        config: The run.
        learner: The algorithm after the last step.
        fabric: The launched Fabric of the run; only its first process writes.
        progress: The progress after the last epoch.

    Raises:
        StorageError: If the folder cannot be written.
    """
    record = _training_record(config, learner.record(), progress)
    trained = SkeletonPolicy(dataclasses.replace(learner.policy.config, training=record))
    weights: Mapping[str, Tensor] = (
        progress.best if config.patience else learner.final_policy.state_dict()
    )
    trained.load_state_dict(weights)
    if fabric.is_global_zero:
        trained.save(config.run)
    return trained.eval()


def time_limit_error(config: TrainingConfig, epochs: int) -> TimeLimitError:
    """Return the error for a run that its deadline ends early.

    Args:
        config: The run.
        epochs: Number of finished epochs.
    """
    return TimeLimitError(
        f"The time limit ended the run {config.run.name} after {epochs:,} of "
        f"{config.recipe.epochs:,} epochs. Its checkpoint is saved."
    )


def _training_record(
    config: TrainingConfig, algorithm: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    last = progress.history[-1]
    return {
        **config.provenance,
        **algorithm,
        "recipe": dataclasses.asdict(config.recipe),
        "seed": config.seed,
        "epochs": len(progress.history),
        "steps": progress.step,
        "seconds": round(sum(row["seconds"] for row in progress.history), 1),
        "accelerator": config.accelerator,
        "precision": config.precision,
        "train_accuracy": last["train_accuracy"],
        "val_accuracy": progress.best_accuracy if config.patience else last.get("val_accuracy"),
    }

"""Configuration of a training run."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystal_agents.training.loggers import LoggerName
from crystal_agents.training.precision import Precision
from crystal_agents.training.recipes import Recipe
from crystal_agents.training.seeding import check_seed
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of one training run.

    Attributes:
        run: Folder of the checkpoint, the history and the trained policy.
        recipe: The network and its training settings.
        seed: Seed of the initial weights, the order of the batches and dropout.
        validate_every: Number of epochs between validations; the last epoch is always validated.
        patience: Number of validations without improvement after which training stops; the best
            weights are kept. 0 trains all epochs and keeps the last weights.
        checkpoint_seconds: Minimum time between checkpoints in seconds.
        accelerator: Accelerator of Lightning Fabric: ``cpu``, ``cuda`` or ``auto``.
        devices: Number of processes, each of which trains on one device.
        precision: 32 bits (``32-true``); 32 bits with matrix products of rounded inputs on GPUs
            (``tf32``); or automatic mixed precision of Lightning Fabric.
        deadline: Value of ``time.monotonic()`` after which no epoch starts. Training then saves its
            checkpoint and raises ``TimeLimitError``.
        loggers: Loggers of metrics in addition to the CSV history, among
            ``crystal_agents.training.loggers.LOGGERS``.
        provenance: JSON values to store with the policy, such as the name of the dataset.
    """

    run: Path
    recipe: Recipe
    seed: int = 0
    validate_every: int = 5
    patience: int = 0
    checkpoint_seconds: float = 60.0
    accelerator: str = "cpu"
    devices: int = 1
    precision: Precision = "32-true"
    deadline: float = math.inf
    loggers: tuple[LoggerName, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)


def check_config(config: TrainingConfig, validation: "Transitions | None") -> None:
    """Validate the training configuration.

    Args:
        config: The configuration.
        validation: Validation transitions, which patience requires.

    Raises:
        CrystalGymError: If a number is out of range, or if ``patience`` is set without validation
            transitions.
    """
    recipe = config.recipe
    minimums = {
        "epochs": (recipe.epochs, 1),
        "skeletons": (recipe.skeletons, 1),
        "states": (recipe.states, 1),
        "learning_rate": (recipe.learning_rate, 0),
        "validate_every": (config.validate_every, 1),
        "patience": (config.patience, 0),
        "devices": (config.devices, 1),
    }
    for name, (value, minimum) in minimums.items():
        if not minimum <= value < math.inf:
            raise CrystalGymError(
                f"Expected {name} to be at least {minimum} and finite, got {value}."
            )
    check_seed(config.seed)
    if config.patience and validation is None:
        raise CrystalGymError(
            f"Expected validation transitions for patience {config.patience}, got none. Pass "
            "validation transitions or set patience to 0."
        )

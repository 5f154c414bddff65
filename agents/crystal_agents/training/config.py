"""FIXDOC."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crystal_agents.training.recipes import Recipe
from crystal_agents.training.seeding import check_seed
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Attributes:
        run: folder of the checkpoint, the history and the trained policy.
        recipe: the network and how it is trained.
        seed: of the initial weights, the order of the batches and the dropout.
        validate_every: epochs between validations; the last epoch is always validated.
        patience: stop after this many validations without improvement and keep the best weights;
            0 trains to the end.
        checkpoint_seconds: time between checkpoints.
        accelerator: Fabric's accelerator: ``cpu``, ``cuda``, ``auto``.
        devices: number of processes.
        precision: Fabric's precision, such as ``32-true`` or ``bf16-mixed``.
        tensorboard: write TensorBoard events beside the CSV history.
        provenance: anything to keep with the policy, such as the data set's name.
    """

    run: Path
    recipe: Recipe
    seed: int = 0
    validate_every: int = 5
    patience: int = 0
    checkpoint_seconds: float = 60.0
    accelerator: str = "cpu"
    devices: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    tensorboard: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)


def check_args(args: TrainingConfig, validation: "Transitions | None") -> None:
    """Refuse settings that cannot be.

    Raises:
        CrystalGymError: a number is out of range, or patience has nothing to go by.
    """
    recipe = args.recipe
    least = {
        "epochs": (recipe.epochs, 1),
        "skeletons": (recipe.skeletons, 1),
        "states": (recipe.states, 1),
        "learning_rate": (recipe.learning_rate, 0),
        "validate_every": (args.validate_every, 1),
        "patience": (args.patience, 0),
        "devices": (args.devices, 1),
    }
    for name, (value, lowest) in least.items():
        if not lowest <= value < math.inf:
            raise CrystalGymError(f"{name} must be at least {lowest} and finite, not {value}.")
    check_seed(args.seed)
    if args.patience and validation is None:
        raise CrystalGymError(
            "Stopping early needs validation transitions; give them or patience 0."
        )

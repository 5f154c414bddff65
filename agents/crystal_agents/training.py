"""What all training loops share: a run's settings, optimizers, history and checkpoints."""

import csv
import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn

from crystal_agents.recipes import Recipe
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.files import written_beside

if TYPE_CHECKING:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    from crystal_datasets.transitions import Transitions

CHECKPOINT_FILE = "checkpoint.pt"
HISTORY_FILE = "metrics.csv"
# Steps over which the learning rate of the cosine schedule rises.
_WARM_UP = 200


@dataclass(frozen=True)
class Args:
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


def check_seed(seed: int) -> None:
    """Refuse what numpy and torch do not both take.

    Raises:
        CrystalGymError: not a number from 0 to 2³² − 1.
    """
    if not 0 <= seed < 2**32:
        raise CrystalGymError(f"A seed is a whole number from 0 to 2**32 - 1, not {seed}.")


def check_args(args: Args, validation: "Transitions | None") -> None:
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


class _MixedPrecision(MixedPrecision):
    """Fabric's, but geometry goes in as it is: 16 bits would round coordinates to 0.02 Å."""

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(args: Args) -> Fabric:
    """Fabric for the run's hardware, launched.

    Raises:
        CrystalGymError: there is no such hardware here.
    """
    try:
        fabric = Fabric(accelerator=args.accelerator, devices=args.devices)
        if args.precision != "32-true":
            plugin = _MixedPrecision(args.precision, fabric.device.type)
            fabric = Fabric(accelerator=args.accelerator, devices=args.devices, plugins=[plugin])
        fabric.launch()
    # Fabric's own exceptions for hardware that is not there have no common base.
    except Exception as error:
        raise CrystalGymError(
            f"Cannot train with accelerator {args.accelerator!r}, {args.devices} devices and "
            f"precision {args.precision!r} here: {error}"
        ) from error
    return fabric


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """The figures of every epoch as CSV, whole or absent."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with written_beside(path) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)


def make_optimizers(policy: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The recipe's optimizer; Muon takes the inner matrices and leaves the rest to AdamW."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adam":
        return [torch.optim.Adam(policy.parameters(), lr=rate, weight_decay=decay)]
    linear = [module for module in policy.modules() if isinstance(module, nn.Linear)]
    weights = [module.weight for module in linear]
    if recipe.optimizer == "adamw":
        groups = [
            {"params": weights, "weight_decay": decay},
            {"params": _others(policy, weights), "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]
    # The last layer is the elements' own: each row is learned for itself.
    inner = weights[:-1]
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(_others(policy, inner), lr=rate / 3, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def _others(policy: nn.Module, chosen: list[Tensor]) -> list[nn.Parameter]:
    ids = {id(parameter) for parameter in chosen}
    return [parameter for parameter in policy.parameters() if id(parameter) not in ids]


def rate_at(recipe: Recipe, step: int, last_step: int) -> float:
    """The learning rate as a share of its highest value."""
    if recipe.schedule == "constant":
        return 1.0
    warm_up = min(_WARM_UP, max(1, last_step // 10))
    cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / last_step)).item())
    return min(1.0, (step + 1) / warm_up) * max(cosine, 0.01)


def highest_rates(optimizers: Sequence[torch.optim.Optimizer]) -> list[list[float]]:
    """The learning rates with which optimizers were made, by optimizer and group."""
    return [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]


def set_rates(
    optimizers: Sequence[torch.optim.Optimizer], highest: list[list[float]], share: float
) -> None:
    """Set all learning rates to a share of their highest values."""
    for optimizer, rates in zip(optimizers, highest, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = share * rate


def running_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """How an ``AveragedModel`` takes in new weights."""

    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        # Early weights are forgotten sooner.
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return averaged.lerp(current, 1 - kept)

    return update


def mixed_seed(*numbers: int) -> int:
    """One seed from several numbers; close inputs give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:7])


def generator(*numbers: int) -> torch.Generator:
    """Random numbers that depend on these numbers alone."""
    return torch.Generator().manual_seed(mixed_seed(*numbers))


def tensorboard(args: Args) -> "TensorBoardLogger":
    """The logger of TensorBoard events in the run's folder."""
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    return TensorBoardLogger(args.run, name="tensorboard", version="")


@dataclass
class Progress:
    """Where a run stands; all of it goes into the checkpoint."""

    step: int = 0
    loss: float = 0.0
    states: int = 0
    right: float = 0.0
    actions: float = 0.0
    seconds: float = 0.0
    others: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_accuracy: float = -1.0
    since_best: int = 0
    stopped: bool = False

    def add(self, loss: float, right: float, actions: float, states: int, **others: float) -> None:
        """Take a step's figures into the epoch's; all are sums, the others over states."""
        self.loss += loss
        self.states += states
        self.right += right
        self.actions += actions
        for name, value in others.items():
            self.others[name] = self.others.get(name, 0.0) + value

    def figures(self) -> dict[str, float]:
        """The epoch so far."""
        return {
            "loss": self.loss / max(self.states, 1),
            **{name: total / max(self.states, 1) for name, total in self.others.items()},
            "train_accuracy": self.right / max(self.actions, 1),
            "transitions_per_second": self.states / max(self.seconds, 1e-9),
            "seconds": self.seconds,
        }

    def end_epoch(self) -> dict[str, float]:
        """The epoch's figures; the next one begins."""
        figures = self.figures()
        self.loss = self.right = self.actions = self.seconds = 0.0
        self.states, self.others = 0, {}
        return figures

    def keep_if_best(self, policy: nn.Module, accuracy: float, patience: int) -> None:
        """Remember the best weights, and stop the run when its patience is at an end."""
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.since_best = accuracy, 0
            self.best = {key: value.clone() for key, value in policy.state_dict().items()}
        else:
            self.since_best += 1
        self.stopped = self.since_best >= patience


@dataclass
class Checkpoint:
    """The run's state on disk: written beside and renamed, read without unpickling."""

    args: Args
    fabric: Fabric
    parts: dict[str, Any]
    fingerprint: str
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """Of the checkpoint."""
        return self.args.run / CHECKPOINT_FILE

    def save(self, progress: Progress) -> None:
        """Replace the checkpoint by the present state."""
        if self.fabric.is_global_zero:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"progress": dataclasses.asdict(progress), "fingerprint": self.fingerprint}
            with written_beside(self.path) as beside:
                torch.save(state, beside)
        self.fabric.barrier()
        self.saved_at = time.monotonic()

    def save_if_due(self, progress: Progress) -> None:
        """Save when the last one is long enough ago."""
        due = time.monotonic() - self.saved_at >= self.args.checkpoint_seconds
        if self.fabric.broadcast(due):
            self.save(progress)

    def load(self) -> Progress:
        """The state to go on from; a fresh one where there is no checkpoint."""
        if not self.path.is_file():
            return Progress()
        try:
            state = torch.load(self.path, map_location=self.fabric.device, weights_only=True)
            progress = Progress(**state["progress"])
            same = state["fingerprint"] == self.fingerprint
        except Exception as error:  # torch's readers raise whatever they stumble over
            raise DamagedFileError(
                f"{self.path} is damaged ({type(error).__name__}). Delete it to begin anew."
            ) from error
        if not same:
            raise CrystalGymError(
                f"{self.path} belongs to a run with other settings, another vocabulary or other "
                "data. Choose another folder, or delete it to begin anew."
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return progress

"""Behavioral cloning: Algorithm 1 of the paper as one visible loop, resumable at any step."""

import csv
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from crystal_agents.batches import TransitionStore
from crystal_agents.lessons import Lessons
from crystal_agents.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.recipes import Recipe
from crystal_agents.synthetic.batches import SyntheticStore
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.files import written_beside
from crystal_gym.progress import progress_bar

if TYPE_CHECKING:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    from crystal_agents.synthetic.crystals import SyntheticCrystals
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


def train(
    args: Args,
    symbols: tuple[str, ...],
    data: "Transitions",
    validation: "Transitions | None" = None,
    synthetic: "SyntheticCrystals | None" = None,
    *,
    progress: bool = True,
) -> SkeletonPolicy:
    """Clone the expert's transitions into a policy; go on from the run's checkpoint if it has one.

    An interrupted run that is called again ends with the weights of an uninterrupted one: batches,
    random traversals and dropout are drawn anew at every step from the seed and the step's number.

    Args:
        args: the run.
        symbols: the vocabulary of the data's codes and actions.
        data: transitions to learn from.
        validation: transitions on which the accuracy is told.
        synthetic: crystals to learn from in the place of the transitions, for recipes that use
            them.
        progress: show a progress bar.

    Returns:
        The trained policy, also saved in ``args.run``.

    Raises:
        CrystalGymError: the run's checkpoint is of other settings or other data.
        DamagedFileError: the checkpoint is damaged.
        StorageError: the run's folder cannot be written.
    """
    recipe = args.recipe
    _check(args, validation)
    fabric = _fabric(args)
    torch.manual_seed(args.seed)
    config = PolicyConfig(recipe.network, symbols, data.frac_coords.shape[1], recipe.settings)
    policy = SkeletonPolicy(config)
    model, *optimizers = fabric.setup(policy, *_optimizers(policy, recipe))
    highest = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    average = AveragedModel(policy, avg_fn=_running_average(recipe.average))
    # What is judged and kept in the end.
    final = cast(SkeletonPolicy, average.module) if recipe.average else policy
    lessons = Lessons(
        TransitionStore(data, fabric.device),
        None if synthetic is None else SyntheticStore(synthetic, len(symbols), fabric.device),
        recipe,
    )
    held_out = None if validation is None else TransitionStore(validation, fabric.device)
    logger = _tensorboard(args) if args.tensorboard and fabric.is_global_zero else None

    parts: dict[str, Any] = {"policy": policy, "average": average}
    parts |= {f"optimizer {i}": optimizer for i, optimizer in enumerate(optimizers)}
    checkpoint = Checkpoint(args, fabric, parts, _fingerprint(args, symbols, data, synthetic))
    state = checkpoint.load()
    steps_per_epoch = len(lessons.epoch(_generator(args.seed, 0)))
    last_step = recipe.epochs * steps_per_epoch

    bar = progress_bar(
        f"Training {recipe.network}", last_step, shown=progress and fabric.is_global_zero
    )
    with bar as advance:
        advance(state.step)
        while state.step < last_step and not state.stopped:
            epoch, start = divmod(state.step, steps_per_epoch)
            for rows in lessons.epoch(_generator(args.seed, epoch))[start:]:
                checkpoint.save_if_due(state)
                began = time.perf_counter()
                model.train()
                rate = _schedule(recipe, state.step, last_step)
                for optimizer, rates in zip(optimizers, highest, strict=True):
                    for group, value in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * value
                # Dropout differs between processes; all else does not depend on their number.
                torch.manual_seed(_mix(args.seed, state.step, fabric.global_rank))
                share = slice(fabric.global_rank, None, fabric.world_size)
                loss, right, count = lessons.outcome(
                    model, rows, _generator(args.seed, state.step), share
                )
                states = len(rows) * recipe.states
                # Each process holds a share of the batch: the mean over processes is the batch's.
                fabric.backward(loss.sum() * fabric.world_size / states)
                for optimizer in optimizers:
                    if recipe.clip:
                        fabric.clip_gradients(
                            model, optimizer, max_norm=recipe.clip, error_if_nonfinite=False
                        )
                    optimizer.step()
                    optimizer.zero_grad()
                if recipe.average:
                    average.update_parameters(policy)
                state.step += 1
                state.seconds += time.perf_counter() - began
                sums = torch.stack([loss.detach().sum(), right, count]).to(torch.float32)
                sums = cast(Tensor, fabric.all_reduce(sums, reduce_op="sum"))
                state.add(*sums.tolist(), states=states)
                figures = state.figures()
                advance(1, f"epoch {epoch + 1}/{recipe.epochs}, loss {figures['loss']:.3f}")
            row = {
                "epoch": epoch + 1,
                "step": state.step,
                "learning_rate": rate * recipe.learning_rate,
            }
            row |= state.end_epoch()
            if held_out is not None and (
                (epoch + 1) % args.validate_every == 0 or state.step == last_step
            ):
                # One process judges, so that all of them stop at the same step.
                first_process = fabric.is_global_zero
                accuracy = teacher_forced_accuracy(final, held_out) if first_process else 0.0
                row["val_accuracy"] = fabric.broadcast(accuracy)
                if args.patience:
                    state.keep_if_best(final, row["val_accuracy"], args.patience)
            state.history.append(row)
            if fabric.is_global_zero:
                write_history(args.run / HISTORY_FILE, state.history)
            if logger is not None:
                logger.log_metrics({k: v for k, v in row.items() if k != "step"}, state.step)
    checkpoint.save(state)

    trained = SkeletonPolicy(
        dataclasses.replace(config, training=_training_record(args, data, state))
    )
    trained.load_state_dict(state.best if args.patience else final.state_dict())
    if fabric.is_global_zero:
        trained.save(args.run)
    return trained.eval()


def teacher_forced_accuracy(policy: SkeletonPolicy, store: TransitionStore) -> float:
    """Fraction of transitions at which the most probable action is the expert's."""
    was_training = policy.training
    policy.eval()
    right = torch.zeros(len(store), dtype=torch.bool)
    with torch.no_grad():
        # Five states of a skeleton share its geometry; one that is drawn twice is written twice.
        for groups in store.groups(5, _generator(0)).split(512):
            batch = store.batch(groups)
            logits = policy(batch.skeletons, batch.elements, batch.focus)
            right[groups] = (logits.argmax(-1) == batch.action).T.cpu()
    policy.train(was_training)
    return right.double().mean().item()


def _check(args: Args, validation: "Transitions | None") -> None:
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
        if not value >= lowest:
            raise CrystalGymError(f"{name} must be at least {lowest}, not {value}.")
    if args.patience and validation is None:
        raise CrystalGymError(
            "Stopping early needs validation transitions; give them or patience 0."
        )


class _MixedPrecision(MixedPrecision):
    """Fabric's, but geometry goes in as it is: 16 bits would round coordinates to 0.02 Å."""

    def convert_input(self, data: Any) -> Any:
        return data


def _fabric(args: Args) -> Fabric:
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


def _optimizers(policy: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
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


def _schedule(recipe: Recipe, step: int, last_step: int) -> float:
    """The learning rate as a share of its highest value."""
    if recipe.schedule == "constant":
        return 1.0
    warm_up = min(_WARM_UP, max(1, last_step // 10))
    cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / last_step)).item())
    return min(1.0, (step + 1) / warm_up) * max(cosine, 0.01)


def _running_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        # Early weights are forgotten sooner.
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return averaged.lerp(current, 1 - kept)

    return update


def _mix(*numbers: int) -> int:
    """One seed from several numbers; close inputs give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:7])


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(_mix(*numbers))


def _fingerprint(
    args: Args,
    symbols: tuple[str, ...],
    data: "Transitions",
    synthetic: "SyntheticCrystals | None",
) -> str:
    """Of everything that decides the weights: settings, vocabulary and data."""
    digest = hashlib.sha256()
    settings = [dataclasses.asdict(args.recipe), args.seed, args.precision, args.devices]
    digest.update(json.dumps([settings, symbols, args.patience, args.validate_every]).encode())
    geometry = (data.n_sites, data.frac_coords, data.lattice, data.edges)
    for array in (*geometry, data.skeleton, data.elements, data.focus, data.action):
        digest.update(array.tobytes())
    if synthetic is not None:
        digest.update(synthetic.collection.fingerprint().encode())
        digest.update(synthetic.probability.tobytes())
    return digest.hexdigest()


def _training_record(args: Args, data: "Transitions", progress: "Progress") -> dict[str, Any]:
    last = progress.history[-1] if progress.history else {}
    return {
        **args.provenance,
        "recipe": dataclasses.asdict(args.recipe),
        "seed": args.seed,
        "transitions": len(data.action),
        "epochs": len(progress.history),
        "steps": progress.step,
        "seconds": round(sum(row["seconds"] for row in progress.history), 1),
        "accelerator": args.accelerator,
        "precision": args.precision,
        "train_accuracy": last.get("train_accuracy"),
        "val_accuracy": progress.best_accuracy if args.patience else last.get("val_accuracy"),
    }


def _tensorboard(args: Args) -> "TensorBoardLogger":
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
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_accuracy: float = -1.0
    since_best: int = 0
    stopped: bool = False

    def add(self, loss: float, right: float, actions: float, states: int) -> None:
        """Take a step's figures into the epoch's."""
        self.loss += loss
        self.states += states
        self.right += right
        self.actions += actions

    def figures(self) -> dict[str, float]:
        """The epoch so far."""
        return {
            "loss": self.loss / max(self.states, 1),
            "train_accuracy": self.right / max(self.actions, 1),
            "transitions_per_second": self.states / max(self.seconds, 1e-9),
            "seconds": self.seconds,
        }

    def end_epoch(self) -> dict[str, float]:
        """The epoch's figures; the next one begins."""
        figures = self.figures()
        self.loss = self.right = self.actions = self.seconds = 0.0
        self.states = 0
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

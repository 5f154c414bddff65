"""Behavioral cloning of transitions with batches of fixed shapes, with the files of other runs.

A run can be stopped with one of the two loops and resumed with the other: the initial weights, the
batches and the checkpoint are those of ``crystal_agents.training.behavioral_cloning.train``.
"""

from typing import TYPE_CHECKING, Any, cast, get_args

import torch

from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.behavioral_cloning import CloningLearner
from crystal_agents.training.checkpoint import Checkpoint
from crystal_agents.training.config import TrainingConfig, check_config
from crystal_agents.training.fabric import make_fabric
from crystal_agents.training.fixed_shape import FixedShapeStore
from crystal_agents.training.fixed_shape_loop import (
    FixedShapeConfig,
    FixedShapePrecision,
    FixedShapeTraining,
)
from crystal_agents.training.history import HISTORY_FILE, write_history
from crystal_agents.training.progress import Progress
from crystal_agents.training.recipes import Recipe
from crystal_agents.training.trained_policy import save_trained, time_limit_error
from crystal_gym.errors import CrystalGymError
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions

_NETWORKS = ("egnn-paper", "gcn")
_ARRAYS = ("n_sites", "frac_coords", "lattice", "edges", "skeleton", "elements", "focus", "action")


def fixed_shapes_problem(config: TrainingConfig, *data: "Transitions") -> str | None:
    """Return why a run cannot have batches of fixed shapes, or ``None`` if it can.

    Args:
        config: The run.
        data: Transitions of training and validation.
    """
    recipe = config.recipe
    supported: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "network": (recipe.network, _NETWORKS),
        "optimizer": (recipe.optimizer, ("adam",)),
        "schedule": (recipe.schedule, ("constant",)),
        "traversals": (recipe.traversals, ("expert",)),
        "states": (recipe.states, (1,)),
        "clip": (recipe.clip, (0,)),
        "average": (recipe.average, (0,)),
        "synthetic": (recipe.synthetic, (None,)),
        "patience": (config.patience, (0,)),
        "devices": (config.devices, (1,)),
        "loggers": (config.loggers, ((),)),
        "precision": (config.precision, get_args(FixedShapePrecision)),
    }
    for name, (value, values) in supported.items():
        if value not in values:
            return f"{name} {' or '.join(map(repr, values))}, got {value!r}"
    sizes = {int(n) for transitions in data for n in transitions.n_sites}
    if len(sizes) > 1:
        return f"skeletons with one number of sites, got {min(sizes)} to {max(sizes)} sites"
    return None


def train_fixed_shapes(
    config: TrainingConfig,
    data: "Transitions",
    validation: "Transitions",
    *,
    compiled: bool | None = None,
    progress: bool = True,
) -> SkeletonPolicy:
    """Train a policy like ``behavioral_cloning.train``, with batches of fixed shapes.

    The losses are those of ``train`` within the precision. Checkpoints are saved between epochs.

    Args:
        config: The run.
        data: Transitions whose actions are cloned; the policy has their vocabulary.
        validation: Transitions for the validation accuracy.
        compiled: Whether to compile the loss with ``torch.compile`` (default: on a GPU).
        progress: Whether to show a progress bar.

    Returns:
        The trained policy, also saved in ``config.run``.

    Raises:
        CrystalGymError: If the configuration is invalid, if the run cannot have batches of fixed
            shapes, or if the checkpoint belongs to other settings or data or is within an epoch.
        DamagedFileError: If the checkpoint is damaged.
        StorageError: If the folder of the run cannot be written.
        TimeLimitError: If ``config.deadline`` ends the run before its last epoch.
    """
    check_config(config, validation)
    problem = fixed_shapes_problem(config, data, validation)
    if problem is not None:
        raise CrystalGymError(
            f"Expected {problem}, for batches of fixed shapes. Train without fixed shapes."
        )
    fabric = make_fabric(config)
    torch.manual_seed(config.seed)
    learner = CloningLearner(config, fabric, data, None)
    training = FixedShapeTraining(
        learner.policy,
        _store(data, config.recipe, fabric.device),
        _store(validation, config.recipe, fabric.device),
        FixedShapeConfig(
            recipe=config.recipe,
            seed=config.seed,
            validate_every=config.validate_every,
            precision=cast(FixedShapePrecision, config.precision),
            compiled=fabric.device.type == "cuda" if compiled is None else compiled,
        ),
    )
    parts = {"policy": learner.policy, "optimizer 0": _AdamState(training)}
    checkpoint = Checkpoint(config, fabric, parts, learner.fingerprint())
    state = checkpoint.load()
    if state.states:
        raise CrystalGymError(
            f"Expected a checkpoint between two epochs in {checkpoint.path}, got one within epoch "
            f"{len(state.history) + 1}. Resume without fixed shapes, or delete the file to start "
            "again."
        )
    training.history = state.history

    def save_history() -> None:
        write_history(config.run / HISTORY_FILE, training.history)

    epochs = config.recipe.epochs
    with progress_bar(learner.title, epochs, shown=progress) as advance:
        advance(training.epoch)

        def after_epoch(run: FixedShapeTraining) -> None:
            row = run.history[-1]
            advance(1, f"epoch {run.epoch}/{epochs}, loss {row['loss']:.3f}")
            if "val_accuracy" in row:
                save_history()
            checkpoint.save_if_due(_progress(run))

        training.run(config.deadline, after_epoch)
    if training.history:
        save_history()
    checkpoint.save(_progress(training))
    if not training.finished:
        raise time_limit_error(config, training.epoch)
    return save_trained(config, learner, fabric, _progress(training))


def _store(data: "Transitions", recipe: Recipe, device: torch.device) -> FixedShapeStore:
    arrays = {name: getattr(data, name) for name in _ARRAYS}
    periodic = recipe.settings.get("periodic", False)
    return FixedShapeStore(arrays, recipe.skeletons, device, periodic=periodic)


def _progress(training: FixedShapeTraining) -> Progress:
    return Progress(step=training.epoch * training.steps_per_epoch, history=list(training.history))


class _AdamState:
    """The state of the optimizer as that of the plain loop, which a captured step does not allow.

    A captured step requires that the tensors of the state stay in place.
    """

    def __init__(self, training: FixedShapeTraining) -> None:
        self._training = training

    def state_dict(self) -> dict[str, Any]:
        """Return the state of an optimizer that is neither fused nor captured."""
        state = self._state()
        groups = [{**group, "capturable": False, "fused": None} for group in state["param_groups"]]
        return {**state, "param_groups": groups}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Copy the values of a state, which is empty before the first step."""
        state = self._state()["state"]
        for parameter, values in state_dict["state"].items():
            for name, value in values.items():
                state[parameter][name].copy_(value)

    def _state(self) -> dict[str, Any]:
        self._training.moments()  # creates those of a new optimizer
        return self._training.optimizer.state_dict()

"""The epoch loop that trains every learner and can be interrupted after any step."""

import time
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric

from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.checkpoint import Checkpoint
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.history import HISTORY_FILE, write_history
from crystal_agents.training.learner import Learner
from crystal_agents.training.loggers import open_loggers
from crystal_agents.training.optimizers import (
    learning_rate_factor,
    peak_learning_rates,
    set_learning_rates,
)
from crystal_agents.training.precision import matrix_products
from crystal_agents.training.seeding import derive_seed, make_generator
from crystal_agents.training.trained_policy import save_trained, time_limit_error
from crystal_agents.training.transition_batches import TransitionStore
from crystal_agents.training.validation import teacher_forced_accuracy
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from crystal_datasets.transitions import Transitions


def fit(
    config: TrainingConfig,
    learner: Learner,
    fabric: Fabric,
    validation: "Transitions | None" = None,
    validation_targets: "np.ndarray | None" = None,
    *,
    progress: bool = True,
) -> SkeletonPolicy:
    """Train a learner until the last epoch or until patience ends the run.

    The run resumes from its checkpoint if there is one.

    Random numbers depend only on the seed, the
    step, the epoch and the process, so that an interrupted and resumed run ends with the weights of
    an uninterrupted one.

    Args:
        config: The run.
        learner: The algorithm with its policy and data.
        fabric: The launched Fabric of the run.
        validation: Expert transitions for the validation accuracy.
        validation_targets: Standardized labels of their skeletons, (S, T), for a conditional
            policy.
        progress: Whether to show a progress bar.

    Returns:
        The trained policy, also saved in ``config.run``.

    Raises:
        CrystalGymError: If the checkpoint belongs to other settings or data.
        DamagedFileError: If the checkpoint is damaged.
        StorageError: If the folder of the run cannot be written.
        TimeLimitError: If the deadline ends the run before its last epoch.
    """
    recipe, optimizers = config.recipe, learner.optimizers
    held_out = (
        None
        if validation is None
        else TransitionStore(validation, fabric.device, validation_targets)
    )
    # The peak rates are read before the checkpoint restores the rates of its step.
    peak_rates = peak_learning_rates(optimizers)
    checkpoint = Checkpoint(config, fabric, learner.parts(), learner.fingerprint())
    state = checkpoint.load()
    steps_per_epoch = len(learner.batches(make_generator(config.seed, 0)))
    last_step = recipe.epochs * steps_per_epoch

    bar = progress_bar(learner.title, last_step, shown=progress and fabric.is_global_zero)
    names = config.loggers if fabric.is_global_zero else ()
    open_ones = open_loggers(names, config.run)
    with matrix_products(config.precision), open_ones as loggers, bar as advance:
        advance(state.step)
        while state.step < last_step and not state.stopped:
            if fabric.broadcast(time.monotonic() >= config.deadline):
                break
            epoch, start = divmod(state.step, steps_per_epoch)
            for rows in learner.batches(make_generator(config.seed, epoch))[start:]:
                checkpoint.save_if_due(state)
                start_time = time.perf_counter()
                learner.model.train()
                factor = learning_rate_factor(recipe, state.step, last_step)
                set_learning_rates(optimizers, peak_rates, factor)
                # Only dropout differs between processes.
                torch.manual_seed(derive_seed(config.seed, state.step, fabric.global_rank))
                result = learner.loss(rows, make_generator(config.seed, state.step))
                fabric.backward(result.loss)
                for optimizer in optimizers:
                    if learner.max_grad_norm:
                        fabric.clip_gradients(
                            learner.model,
                            optimizer,
                            max_norm=learner.max_grad_norm,
                            error_if_nonfinite=False,
                        )
                    optimizer.step()
                    optimizer.zero_grad()
                learner.after_step()
                state.step += 1
                state.seconds += time.perf_counter() - start_time
                sums = torch.as_tensor(fabric.all_reduce(result.sums, reduce_op="sum")).tolist()
                state.add(dict(zip(learner.sums, sums, strict=True)), result.states)
                loss = state.metrics()["loss"]
                advance(1, f"epoch {epoch + 1}/{recipe.epochs}, loss {loss:.3f}")
            row = {
                "epoch": epoch + 1,
                "step": state.step,
                "learning_rate": factor * recipe.learning_rate,
                **state.end_epoch(),
            }
            due = (epoch + 1) % config.validate_every == 0 or state.step == last_step
            if held_out is not None and due:
                accuracy = _validate(learner.final_policy, held_out, fabric)
                row["val_accuracy"] = accuracy
                if config.patience:
                    state.keep_if_best(learner.final_policy, accuracy, config.patience)
            state.history.append(row)
            if fabric.is_global_zero:
                write_history(config.run / HISTORY_FILE, state.history)
            for logger in loggers:
                logger.log({k: v for k, v in row.items() if k != "step"}, state.step)
    checkpoint.save(state)
    if state.step < last_step and not state.stopped:
        raise time_limit_error(config, len(state.history))
    return save_trained(config, learner, fabric, state)


def _validate(policy: SkeletonPolicy, held_out: TransitionStore, fabric: Fabric) -> float:
    """Compute the accuracy in the first process, so that all processes stop at the same step."""
    accuracy = teacher_forced_accuracy(policy, held_out) if fabric.is_global_zero else 0.0
    return fabric.broadcast(accuracy)

"""Behavioral cloning: Algorithm 1 of the paper as one visible loop, resumable at any step."""

import dataclasses
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.synthetic.posterior_batches import SyntheticStore
from crystal_agents.training.checkpoint import Checkpoint
from crystal_agents.training.config import TrainingConfig, check_args
from crystal_agents.training.fabric import make_fabric, make_tensorboard_logger
from crystal_agents.training.loop import (
    HISTORY_FILE,
    Progress,
    teacher_forced_accuracy,
    write_history,
)
from crystal_agents.training.objectives import CloningObjective
from crystal_agents.training.optimizers import (
    base_learning_rates,
    learning_rate_factor,
    make_optimizers,
    running_average,
    set_learning_rates,
)
from crystal_agents.training.seeding import derive_seed, make_generator
from crystal_agents.training.transition_batches import TransitionStore
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from crystal_agents.synthetic.generation import SyntheticCrystals
    from crystal_datasets.transitions import Transitions


def train(
    args: TrainingConfig,
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

    TrainingConfig:
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
    check_args(args, validation)
    fabric = make_fabric(args)
    torch.manual_seed(args.seed)
    config = PolicyConfig(recipe.network, symbols, data.frac_coords.shape[1], recipe.settings)
    policy = SkeletonPolicy(config)
    model, *optimizers = fabric.setup(policy, *make_optimizers(policy, recipe))
    highest = base_learning_rates(optimizers)
    average = AveragedModel(policy, avg_fn=running_average(recipe.average))
    # What is judged and kept in the end.
    final = cast(SkeletonPolicy, average.module) if recipe.average else policy
    lessons = CloningObjective(
        TransitionStore(data, fabric.device),
        None if synthetic is None else SyntheticStore(synthetic, len(symbols), fabric.device),
        recipe,
    )
    held_out = None if validation is None else TransitionStore(validation, fabric.device)
    logger = make_tensorboard_logger(args) if args.tensorboard and fabric.is_global_zero else None

    parts: dict[str, Any] = {"policy": policy, "average": average}
    parts |= {f"optimizer {i}": optimizer for i, optimizer in enumerate(optimizers)}
    checkpoint = Checkpoint(args, fabric, parts, _fingerprint(args, symbols, data, synthetic))
    state = checkpoint.load()
    steps_per_epoch = len(lessons.epoch(make_generator(args.seed, 0)))
    last_step = recipe.epochs * steps_per_epoch

    bar = progress_bar(
        f"Training {recipe.network}", last_step, shown=progress and fabric.is_global_zero
    )
    with bar as advance:
        advance(state.step)
        while state.step < last_step and not state.stopped:
            epoch, start = divmod(state.step, steps_per_epoch)
            for rows in lessons.epoch(make_generator(args.seed, epoch))[start:]:
                checkpoint.save_if_due(state)
                began = time.perf_counter()
                model.train()
                rate = learning_rate_factor(recipe, state.step, last_step)
                set_learning_rates(optimizers, highest, rate)
                # Dropout differs between processes; all else does not depend on their number.
                torch.manual_seed(derive_seed(args.seed, state.step, fabric.global_rank))
                share = slice(fabric.global_rank, None, fabric.world_size)
                loss, right, count = lessons.outcome(
                    model, rows, make_generator(args.seed, state.step), share
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
                metrics = state.metrics()
                advance(1, f"epoch {epoch + 1}/{recipe.epochs}, loss {metrics['loss']:.3f}")
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


def _fingerprint(
    args: TrainingConfig,
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


def _training_record(
    args: TrainingConfig, data: "Transitions", progress: Progress
) -> dict[str, Any]:
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

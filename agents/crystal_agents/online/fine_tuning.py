"""A run of online learning: resumable, with a curve, and a policy at the end."""

import contextlib
import csv
import json
import logging
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from crystal_agents.evaluation.returns import nan_means
from crystal_agents.online.algorithms import ActorRestedWarning
from crystal_agents.online.warm_start import extract_policy
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.history import write_history
from crystal_datasets.replay import EpisodeRecorder
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.progress import progress_bar

_log = logging.getLogger(__name__)

CHECKPOINT_FILE = "model.zip"
SETTINGS_FILE = "settings.json"
CURVE_FILE = "curve.csv"
EPISODES_FILE = "episodes.npz"

# Rollouts between two of Stable-Baselines3's own tables.
NEVER = 10**9
# Steps between two rows of the curve.
_ROW = 2560


def fine_tune(
    model: BaseAlgorithm,
    steps: int,
    run: Path,
    settings: Mapping[str, Any],
    *,
    seed: int = 0,
    recorder: EpisodeRecorder | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
) -> SkeletonPolicy:
    """Let a model learn in its environment; go on from the run's checkpoint if there is one.

    What is kept are weights, the optimizer and the number of steps. A run that goes on draws other
    random numbers than one that was never stopped, and DQN begins with an empty replay buffer.

    Args:
        model: of ``crystal_agents.warm_start`` or ``from_scratch``.
        steps: of all environments, in all, rounded up to whole rollouts.
        run: folder of the checkpoint, the learning curve and the policy.
        settings: what decides the outcome, as JSON values; a run goes on with the same only.
        seed: of the random numbers after a stop.
        recorder: of the environment's episodes; what it holds is kept with the checkpoint.
        checkpoint_seconds: time between checkpoints.
        progress: show a progress bar.

    Returns:
        The policy that was learned, also saved in the folder.

    Raises:
        CrystalGymError: the folder holds a run with other settings, ``steps`` is below 1, or all
            of them belong to the critic's warm-up.
        DamagedFileError: a file of the run is damaged.
        StorageError: the folder cannot be written.
    """
    if steps < 1:
        raise CrystalGymError(f"steps must be at least 1, not {steps}.")
    warm_up = getattr(model, "critic_warm_up", 0)
    if steps <= warm_up:
        raise CrystalGymError(
            f"In {steps:,} steps the policy would stay what it is: for the first {warm_up:,} only "
            "the critic learns. Ask for more steps, or for less of its warm-up (--critic-warm-up)."
        )
    identity = json.loads(json.dumps({**settings, "steps": steps}))
    _same_settings(run / SETTINGS_FILE, identity)
    done = _resume(model, run / CHECKPOINT_FILE, seed)
    if done and recorder is not None:
        recorder.load(run / EPISODES_FILE)
    curve = [row for row in _read_curve(run / CURVE_FILE) if row["steps"] <= done]
    if done < steps:
        with progress_bar("Learning", steps, shown=progress) as advance:
            advance(done)
            keeper = CheckpointCallback(run, curve, recorder, advance, checkpoint_seconds)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ActorRestedWarning)
                model.learn(
                    steps - done, callback=keeper, log_interval=NEVER, reset_num_timesteps=not done
                )
        keeper.save()
        if warm_up and not getattr(model, "actor_has_learned", True):
            _log.warning(
                "The policy is what it was: the critic's warm-up covers the first update, and there"
                " was no other. Ask for more steps, or for no warm-up (--critic-warm-up 0)."
            )
    policy = extract_policy(model, **{**identity, "steps": model.num_timesteps})
    policy.save(run)
    return policy


class CheckpointCallback(BaseCallback):
    """Writes the curve and the checkpoints, and moves the progress bar."""

    def __init__(
        self,
        run: Path,
        curve: list[dict[str, float]],
        recorder: EpisodeRecorder | None,
        advance: Callable[..., None],
        checkpoint_seconds: float,
    ) -> None:
        super().__init__()
        self.run = run
        self.curve = curve
        self.recorder = recorder
        self.advance = advance
        self.checkpoint_seconds = checkpoint_seconds
        self.saved_at = time.monotonic()
        self.row_at = 0
        # Figures of the episodes since the last row.
        self.episodes: list[dict[str, float]] = []

    def _on_training_start(self) -> None:
        self.row_at = self.num_timesteps

    def _on_rollout_start(self) -> None:
        # Here all that was collected has been learned from.
        if time.monotonic() - self.saved_at >= self.checkpoint_seconds:
            self.save()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                metrics = {name: x for name, x in info.items() if isinstance(x, float)}
                self.episodes.append({"return": info["episode"]["r"], **metrics})
        note = f"return {self.curve[-1]['return']:.3f}" if self.curve else ""
        self.advance(self.training_env.num_envs, note)
        if self.num_timesteps - self.row_at >= _ROW:
            self._end_row()
        return True

    def _on_training_end(self) -> None:
        self._end_row()

    def _end_row(self) -> None:
        """Add means over the episodes since the last row, each over those that have the figure."""
        self.row_at = self.num_timesteps
        if not self.episodes:
            return
        names = dict.fromkeys(name for metrics in self.episodes for name in metrics)
        means = nan_means(
            {name: np.array([one[name] for one in self.episodes if name in one]) for name in names}
        )
        self.curve.append({"steps": self.num_timesteps, "episodes": len(self.episodes), **means})
        self.episodes.clear()

    def save(self) -> None:
        """Replace checkpoint, curve and episodes by the present state."""
        if self.recorder is not None:
            self.recorder.save(self.run / EPISODES_FILE)
        with atomic_write(self.run / CHECKPOINT_FILE) as beside, beside.open("wb") as file:
            self.model.save(file)
        write_history(self.run / CURVE_FILE, self.curve)
        self.saved_at = time.monotonic()


def _same_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run; refuse to go on with others."""
    if not path.is_file():
        with atomic_write(path) as beside:
            beside.write_text(json.dumps(settings, indent=2) + "\n")
        return
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise DamagedFileError(f"{path} is damaged. Delete the folder to begin anew.") from error
    if before != settings:
        other = [key for key in settings if before.get(key) != settings[key]]
        raise CrystalGymError(
            f"{path.parent} holds a run with other settings ({', '.join(other)}). Choose another "
            "folder, or delete it to begin anew."
        )


def _resume(model: BaseAlgorithm, path: Path, seed: int) -> int:
    """Put a checkpoint's weights and optimizer into the model; the steps that it has behind it."""
    if not path.is_file():
        return 0
    try:
        # The plain values of Stable-Baselines3's file, and its tensors; nothing is unpickled.
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        done, updates = int(data["num_timesteps"]), int(data["_n_updates"])
        model.set_parameters(str(path), device=model.device)
    except Exception as error:  # readers raise whatever they stumble over
        raise DamagedFileError(
            f"{path} is damaged ({type(error).__name__}). Delete it to begin anew."
        ) from error
    model.num_timesteps, model._n_updates = done, updates  # noqa: SLF001 - SB3 names it no other way
    model.set_random_seed((seed + done) % 2**31)
    return done


def _read_curve(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with contextlib.suppress(ValueError), path.open(newline="") as file:
        return [
            {
                name: int(value) if name in ("steps", "episodes") else float(value)
                for name, value in row.items()
                if value
            }
            for row in csv.DictReader(file)
        ]
    raise DamagedFileError(f"{path} is damaged. Delete it: the curve goes on without it.")

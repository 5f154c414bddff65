"""A resumable run of online learning, with a learning curve and a policy as its result."""

import csv
import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from crystal_agents.evaluation.returns import nan_means
from crystal_agents.online.warm_start import extract_policy, fingerprint_of
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.history import write_history
from crystal_agents.training.loggers import LoggerName, MetricsLogger, open_loggers
from crystal_datasets.replay import EpisodeRecorder
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.rewards.visit_counts import VisitCounts, load_counts, save_counts
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.progress import progress_bar

CHECKPOINT_FILE = "model.zip"
SETTINGS_FILE = "settings.json"
CURVE_FILE = "curve.csv"
EPISODES_FILE = "episodes.npz"
COUNTS_FILE = "counts.npz"

# Rollouts between tables of Stable-Baselines3's logger; no run has so many.
NEVER = 10**9
# Steps between rows of the curve.
_STEPS_PER_ROW = 2560


def fine_tune(
    model: BaseAlgorithm,
    steps: int,
    run: Path,
    settings: Mapping[str, Any],
    *,
    seed: int = 0,
    recorder: EpisodeRecorder | None = None,
    checkpoint_seconds: float = 60.0,
    loggers: Sequence[LoggerName] = (),
    progress: bool = True,
) -> SkeletonPolicy:
    """Train a model in its environment, and resume from the run's checkpoint if there is one.

    A checkpoint contains the weights, the optimizer, the number of steps, and the counts of a
    reward that depends on earlier episodes. After resuming, a run
    draws other random numbers than a run without an interruption, and DQN starts with an empty
    replay buffer.

    Args:
        model: A model of ``crystal_agents.warm_start`` or ``from_scratch``.
        steps: Total steps of all environments, rounded up to whole rollouts.
        run: Folder of the checkpoint, the learning curve and the policy.
        settings: Settings that determine the result, as JSON values. A run resumes only with equal
            settings and the same crystals, whose fingerprint is recorded with the settings.
        seed: Seed of the random numbers after resuming.
        recorder: Recorder of the environment's episodes, which are saved with each checkpoint.
        checkpoint_seconds: Seconds between checkpoints.
        loggers: Loggers of the learning curve, among ``crystal_agents.training.loggers.LOGGERS``.
        progress: Show a progress bar.

    Returns:
        The trained policy, which is also saved in the folder.

    Raises:
        CrystalGymError: If the folder contains a run with other settings, ``steps`` is below 1, the
            critic's warm-up covers all steps, or the environments do not share a reward that
            depends on earlier episodes.
        DamagedFileError: If a file of the run is damaged.
        StorageError: If the folder is not writable.

    Warns:
        FrozenActorWarning: If the actor was never updated, because the first update belongs to the
            critic's warm-up.
    """
    _check_steps(steps, getattr(model, "critic_warm_up", 0))
    identity = json.loads(json.dumps({**settings, **fingerprint_of(model), "steps": steps}))
    _require_same_settings(run / SETTINGS_FILE, identity)
    done = _resume(model, run / CHECKPOINT_FILE, seed)
    if done and recorder is not None:
        recorder.load(run / EPISODES_FILE)
    curve = [row for row in _read_curve(run / CURVE_FILE) if row["steps"] <= done]
    if done < steps:
        bar = progress_bar("Learning", steps, shown=progress)
        with open_loggers(loggers, run) as opened, bar as advance:
            advance(done)
            checkpoints = CheckpointCallback(run, curve, recorder, advance, checkpoint_seconds)
            checkpoints.memories = _memories(model)
            checkpoints.loggers = opened
            model.learn(
                steps - done,
                callback=checkpoints,
                log_interval=NEVER,
                reset_num_timesteps=not done,
            )
        checkpoints.save()
    policy = extract_policy(model, **{**identity, "steps": model.num_timesteps})
    policy.save(run)
    return policy


class CheckpointCallback(BaseCallback):
    """Callback that writes the learning curve and the checkpoints.

    Args:
        run: Folder of the run.
        curve: Rows of the curve so far; new rows are appended.
        recorder: Recorder whose episodes are saved with each checkpoint.
        advance: Advances the progress bar by a number of steps, with a note.
        checkpoint_seconds: Seconds between checkpoints.

    Attributes:
        memories: Memories of the environment's reward, which are saved with each checkpoint.
        loggers: Loggers of new rows of the curve.
    """

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
        self.memories: dict[str, VisitCounts] = {}
        self.loggers: list[MetricsLogger] = []
        self._last_save = time.monotonic()
        self._last_row = 0
        # Metrics of the episodes since the last row.
        self._episodes: list[dict[str, float]] = []

    def save(self) -> None:
        """Write the current checkpoint, curve and episodes."""
        if self.recorder is not None:
            self.recorder.save(self.run / EPISODES_FILE)
        if self.memories:
            save_counts(self.run / COUNTS_FILE, self.memories)
        with atomic_write(self.run / CHECKPOINT_FILE) as temporary, temporary.open("wb") as file:
            self.model.save(file)
        write_history(self.run / CURVE_FILE, self.curve)
        self._last_save = time.monotonic()

    def _on_training_start(self) -> None:
        self._last_row = self.num_timesteps
        # Resumed runs only; `learn` has reset the environment with a seed before.
        if self.memories and (self.run / CHECKPOINT_FILE).is_file():
            load_counts(self.run / COUNTS_FILE, self.memories)

    def _on_rollout_start(self) -> None:
        # At this point, the model has learned from all collected steps.
        if time.monotonic() - self._last_save >= self.checkpoint_seconds:
            self.save()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                metrics = {name: x for name, x in info.items() if isinstance(x, float)}
                self._episodes.append({"return": info["episode"]["r"], **metrics})
        note = f"return {self.curve[-1]['return']:.3f}" if self.curve else ""
        self.advance(self.training_env.num_envs, note)
        if self.num_timesteps - self._last_row >= _STEPS_PER_ROW:
            self._append_row()
        return True

    def _on_training_end(self) -> None:
        self._append_row()

    def _append_row(self) -> None:
        """Append the means over the episodes since the last row, and counts of missing values."""
        self._last_row = self.num_timesteps
        if not self._episodes:
            return
        names = dict.fromkeys(name for metrics in self._episodes for name in metrics)
        means = nan_means(
            {
                name: np.array([metrics.get(name, np.nan) for metrics in self._episodes])
                for name in names
            }
        )
        self.curve.append(
            {"steps": self.num_timesteps, "episodes": len(self._episodes), **means.as_row()}
        )
        self._episodes.clear()
        for logger in self.loggers:
            row = {name: value for name, value in self.curve[-1].items() if name != "steps"}
            logger.log(row, self.num_timesteps)


def _check_steps(steps: int, warm_up: int) -> None:
    """Raise an error if a run has no steps in which the actor learns."""
    if steps < 1:
        raise CrystalGymError(
            f"Expected at least 1 step, got steps={steps}. Raise the number of steps."
        )
    if steps <= warm_up:
        raise CrystalGymError(
            f"Expected more than {warm_up:,} steps, during which only the critic learns, got "
            f"steps={steps:,}. Raise the number of steps, or lower critic_warm_up "
            "(--critic-warm-up)."
        )


def _memories(model: BaseAlgorithm) -> dict[str, VisitCounts]:
    """Return the memories of the reward of the model's environments.

    Raises:
        CrystalGymError: If each environment has memories of its own.
    """
    envs = model.get_env()
    rewards = [] if envs is None else envs.get_attr("reward")
    memories = rewards[0].memories() if rewards else {}
    if memories and any(reward is not rewards[0] for reward in rewards):
        raise CrystalGymError(
            f"Expected environments that share a reward with a memory, got {len(rewards)} rewards. "
            "Pass SkeletonVecEnv with the native vector environment."
        )
    return memories


def _require_same_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run, or compare them with those of an existing run.

    Raises:
        CrystalGymError: If the settings differ.
        DamagedFileError: If the file is damaged.
    """
    if not path.is_file():
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n")
        return
    try:
        existing = json.loads(path.read_text())
    except ValueError as error:
        raise DamagedFileError(
            f"Expected the settings of a run in {path}, but the file is damaged. Delete the folder "
            "to start again."
        ) from error
    if existing != settings:
        different = [key for key in settings if existing.get(key) != settings[key]]
        raise CrystalGymError(
            f"Expected the settings of the run in {path.parent}, got different "
            f"values of {', '.join(different)}. Choose another folder, or delete it to start again."
        )


def _resume(model: BaseAlgorithm, path: Path, seed: int) -> int:
    """Load a checkpoint's weights and optimizer into the model.

    Returns:
        The steps before the checkpoint; 0 without one.

    Raises:
        DamagedFileError: If the checkpoint is damaged.
    """
    if not path.is_file():
        return 0
    try:
        # Only plain values and tensors of Stable-Baselines3's file are read; nothing is unpickled.
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        done, updates = int(data["num_timesteps"]), int(data["_n_updates"])
        model.set_parameters(str(path), device=model.device)
    except Exception as error:  # a damaged file can raise any error in the readers
        raise DamagedFileError(
            f"Expected a checkpoint in {path}, but the file is damaged ({type(error).__name__}). "
            "Delete it to start again."
        ) from error
    model.num_timesteps, model._n_updates = done, updates  # noqa: SLF001 - SB3 has no public name
    model.set_random_seed((seed + done) % 2**31)
    return done


def _read_curve(path: Path) -> list[dict[str, float]]:
    """Read the rows of a learning curve.

    Raises:
        DamagedFileError: If the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            return [
                {name: _number(name, value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
    except ValueError as error:
        raise DamagedFileError(
            f"Expected a learning curve in {path}, but the file is damaged. Delete it to resume "
            "without the earlier rows."
        ) from error


def _number(name: str, value: str) -> float:
    """Parse an entry of the curve; steps and counts are integers."""
    is_count = name in ("steps", "episodes") or name.endswith("/n_missing")
    return int(value) if is_count else float(value)

"""Speed and returns of warm-started PPO: the first settings of the package and the present ones.

The first settings trained all weights in minibatches of 160 states, with Adam's loop over the
weights and with subnormal numbers. The changes are added one after the other. Speed is measured
per CPU second, in turns. Returns are measured on all val crystals after the training of the
benchmark, for each seed.

    OMP_NUM_THREADS=1 python benchmarks/ppo_settings.py runs/ppo-settings --json ppo-settings.json

Finished trainings are stored in the folder and not repeated.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import common
import numpy as np
import tyro

from crystal_agents import warm_start
from crystal_agents.evaluation.statistics import aggregate
from crystal_agents.experiments.benchmark.config import load_benchmark_config
from crystal_agents.experiments.benchmark.counted_reward import CountedReward
from crystal_agents.experiments.benchmark.learning_curve import learn_with_curve
from crystal_agents.experiments.benchmark.task import BenchmarkTask
from crystal_agents.online import critic_warm_up
from crystal_gym.utils.files import atomic_write

FIRST, PRESENT = "first settings", "present settings"
_LOOP = {"policy_kwargs": {"optimizer_kwargs": {"eps": 1e-5, "fused": False}}}
_SMALL = {"batch_size": 160, "learning_rate": 1e-4}
# Each entry has all changes up to its own: whether subnormal numbers are flushed, and settings.
SETTINGS: dict[str, tuple[bool, dict[str, Any]]] = {
    FIRST: (False, {**_SMALL, **_LOOP, "frozen_geometry": False}),
    "no subnormal numbers": (True, {**_SMALL, **_LOOP, "frozen_geometry": False}),
    "fused Adam": (True, {**_SMALL, "frozen_geometry": False}),
    "frozen geometry": (True, dict(_SMALL)),
    # Larger minibatches with a larger learning rate.
    PRESENT: (True, {}),
}


@dataclass
class Args(common.Args):
    """Speed and returns of warm-started PPO."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the finished trainings."""
    rewards: tuple[str, ...] = ("match", "perov5-dft", "perov5-gap", "formation-energy")
    """Rewards of the trainings."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the trainings."""
    turns: int = 5
    """Measurements of the speed."""


@contextlib.contextmanager
def subnormal_numbers(flushed: bool) -> Iterator[None]:
    """Keep subnormal numbers in updates unless they are flushed."""
    if flushed:
        yield
    else:
        with mock.patch.object(critic_warm_up, "flushed_denormals", contextlib.nullcontext):
            yield


def speed(task: BenchmarkTask, name: str) -> float:
    """Return the environment steps per CPU second of rollouts and updates."""
    flushed, settings = SETTINGS[name]
    with subnormal_numbers(flushed):
        env = task.environment("none")
        model = warm_start(task.policy, "ppo", env, anchor=0.0, critic_warm_up=0, **settings)
        model.learn(1)
        start = time.process_time()
        model.learn(3_200)
        return model.num_timesteps / (time.process_time() - start)


def train(task: BenchmarkTask, name: str, seed: int) -> dict[str, Any]:
    """Train with the budget of the benchmark and return the result."""
    flushed, settings = SETTINGS[name]
    start = time.process_time()
    with subnormal_numbers(flushed):
        reward = CountedReward(task.reward)
        env = task.environment("none", reward)
        model = warm_start(task.policy, "ppo", env, anchor=0.0, seed=seed, **settings)
        result = learn_with_curve(task, model, reward, "none")
    seconds = time.process_time() - start
    return {
        "reward": task.reward_name,
        "settings": name,
        "seed": seed,
        "return": task.measure(result.score, "val")["return"],
        "oracle_calls": result.oracle_calls[-1],
        "cpu_seconds": round(seconds, 1),
    }


def measure(args: Args) -> dict[str, Any]:
    """Measure the speed of all settings, and the returns of the first and the present ones."""
    config = load_benchmark_config("perov-5")
    tasks = {
        # A curve with few points: its measurement is not part of the training.
        reward: BenchmarkTask(dataclasses.replace(config, every=config.steps), reward, args.folder)
        for reward in args.rewards
    }
    first = next(iter(tasks.values()))
    rates = common.in_turns({name: partial(speed, first, name) for name in SETTINGS}, args.turns)
    result = common.summarize(rates, "steps per CPU second", FIRST)
    runs = [
        _stored(args.folder, task, name, seed)
        for seed in args.seeds
        for task in tasks.values()
        for name in (FIRST, PRESENT)
    ]
    for reward in args.rewards:
        for name in (FIRST, PRESENT):
            returns = [
                run["return"] for run in runs if (run["reward"], run["settings"]) == (reward, name)
            ]
            mean = aggregate([np.array(returns)])
            result[f"{reward}, {name}"] = {
                "return on val": mean.mean,
                "95 % interval": [mean.low, mean.high],
                "seeds": len(returns),
            }
    return {**result, "runs": runs}


def _stored(folder: Path, task: BenchmarkTask, name: str, seed: int) -> dict[str, Any]:
    """Return the result of a training; train if it is not stored."""
    path = folder / f"{task.reward_name}-{name.replace(' ', '-')}-{seed}.json"
    if not path.exists():
        result = train(task, name, seed)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(result))
    return json.loads(path.read_text())


if __name__ == "__main__":
    common.run_script(Args, measure)

"""Warm-started PPO and DQN with other settings than the defaults.

For ``ppo``, the first settings of the package and the changes since then, one after the other: the
first settings trained all weights in minibatches of 160 states, with Adam's loop over the weights
and with subnormal numbers. Speed is measured per CPU second, in turns, and the returns of the first
and the last settings are compared. For ``dqn``, the returns with other targets and without the
conservative term.

Returns are those on all val crystals after the training of the benchmark.

    OMP_NUM_THREADS=1 python benchmarks/warm_start_settings.py runs/settings --algorithm ppo
    OMP_NUM_THREADS=1 python benchmarks/warm_start_settings.py runs/settings --algorithm dqn \
        --rewards match perov5-dft --seeds 0 1 2

Finished trainings are stored in the folder and not repeated.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
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

FIRST = "first settings"
SUBNORMAL = "subnormal numbers"
_LOOP = {"policy_kwargs": {"optimizer_kwargs": {"eps": 1e-5, "fused": False}}}
_SMALL = {"batch_size": 160, "learning_rate": 1e-4}
_NEXT_VALUE, _TO_THE_END = ({"replay_buffer_kwargs": {"n_steps": n}} for n in (1, 20))
# Keyword arguments of `warm_start`. For PPO, each entry has the changes of all entries above it.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        FIRST: {**_SMALL, **_LOOP, "frozen_geometry": False, SUBNORMAL: True},
        "no subnormal numbers": {**_SMALL, **_LOOP, "frozen_geometry": False},
        "fused Adam": {**_SMALL, "frozen_geometry": False},
        "frozen geometry": _SMALL,
        "larger minibatches": {},
    },
    "dqn": {
        "next value": {**_NEXT_VALUE, "conservative": 0.0},
        "returns to the end": {**_TO_THE_END, "conservative": 0.0},
        "next value, conservative": {**_NEXT_VALUE, "conservative": 1.0},
        "returns to the end, conservative": {**_TO_THE_END, "conservative": 1.0},
        "default": {},
    },
}
# The settings whose returns are compared.
COMPARED = {"ppo": (FIRST, "larger minibatches"), "dqn": tuple(SETTINGS["dqn"])}


@dataclass
class Args(common.Args):
    """Speed and returns of warm starts with different settings."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of the finished trainings."""
    algorithm: Literal["ppo", "dqn"] = "ppo"
    """The algorithm."""
    rewards: tuple[str, ...] = ("match", "perov5-dft", "perov5-gap", "formation-energy")
    """Rewards of the trainings."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the trainings; none: measure the speed alone."""
    turns: int = 3
    """Measurements of the speed of PPO."""


@contextlib.contextmanager
def settings_of(algorithm: str, name: str) -> Iterator[dict[str, Any]]:
    """Return keyword arguments of ``warm_start``; keep subnormal numbers in updates on request."""
    settings = dict(SETTINGS[algorithm][name])
    if not settings.pop(SUBNORMAL, False):
        yield settings
        return
    with mock.patch.object(critic_warm_up, "flushed_denormals", contextlib.nullcontext):
        yield settings


def speed(task: BenchmarkTask, name: str) -> float:
    """Return the environment steps of PPO per CPU second, in rollouts and updates."""
    with settings_of("ppo", name) as settings:
        env = task.environment("none")
        model = warm_start(task.policy, "ppo", env, anchor=0.0, critic_warm_up=0, **settings)
        model.learn(1)
        start = time.process_time()
        model.learn(3_200)
        return model.num_timesteps / (time.process_time() - start)


def train(task: BenchmarkTask, algorithm: str, name: str, seed: int) -> dict[str, Any]:
    """Train with the budget of the benchmark and return the result."""
    anchor = {"anchor": 0.0} if algorithm == "ppo" else {}
    start = time.process_time()
    with settings_of(algorithm, name) as settings:
        reward = CountedReward(task.reward)
        env = task.environment("none", reward)
        model = warm_start(task.policy, algorithm, env, seed=seed, **anchor, **settings)
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
    """Measure the speed of PPO with all settings, and returns."""
    config = load_benchmark_config("perov-5")
    tasks = {
        # A curve with few points: its measurement is not part of the training.
        reward: BenchmarkTask(dataclasses.replace(config, every=config.steps), reward, args.folder)
        for reward in args.rewards
    }
    result = {}
    if args.algorithm == "ppo":
        first = next(iter(tasks.values()))
        ways = {name: partial(speed, first, name) for name in SETTINGS["ppo"]}
        rates = common.in_turns(ways, args.turns)
        result |= common.summarize(rates, "steps per CPU second", FIRST)
    runs = [
        common.stored(
            args.folder / f"{args.algorithm}-{reward}-{_file_name(name)}-{seed}.json",
            partial(train, task, args.algorithm, name, seed),
        )
        for seed in args.seeds
        for reward, task in tasks.items()
        for name in COMPARED[args.algorithm]
    ]
    for reward in args.rewards:
        for name in COMPARED[args.algorithm]:
            chosen = [run for run in runs if (run["reward"], run["settings"]) == (reward, name)]
            if not chosen:
                continue
            mean = aggregate([np.array([run["return"] for run in chosen])])
            result[f"{reward}, {name}"] = {
                "return on val": mean.mean,
                "95 % interval": [mean.low, mean.high],
                "seeds": len(chosen),
            }
    return {**result, "runs": runs}


def _file_name(settings: str) -> str:
    return settings.replace(",", "").replace(" ", "-")


if __name__ == "__main__":
    common.run_script(Args, measure)

"""Steps per second of the adapter to Stable-Baselines3, and of PPO with a policy's network.

The adapter is compared with the native environment, with random actions. Roll-outs of PPO encode
the geometry of each skeleton once; they are compared with roll-outs that encode it at every step
and choose the same actions. Roll-outs and learning are measured per CPU second, which depends
little on other processes of the machine.

    OMP_NUM_THREADS=1 python benchmarks/online.py --collection perov-5 --policy perov-5/egnn
"""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import common
import numpy as np
import torch
from every_step import NoCache
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictRolloutBuffer

from crystal_agents import SkeletonPolicy, SkeletonVecEnv, load_policy, warm_start
from crystal_agents.online.critic_warm_up import get_features_extractor
from crystal_gym import CrystalSkeletonVectorEnv


@dataclass
class Args(common.Args):
    """Speed of online learning and of its environments."""

    collection: str = "goldschmidt"
    """Name or path of the collection."""
    policy: str = "goldschmidt/egnn"
    """Name of a pretrained policy, or the folder of a trained one."""
    sizes: tuple[int, ...] = (64, 256, 1024)
    """Numbers of parallel environments."""
    turns: int = 15
    """Measurements of each environment."""
    steps: int = 50
    """Steps of each environment in one measurement."""
    learning_envs: int = 128
    """Parallel environments for learning."""
    learning_turns: int = 1
    """Measurements of learning."""
    rollout_turns: int = 5
    """Measurements of roll-outs."""
    rollouts: int = 4
    """Roll-outs of PPO in one measurement."""


def steps_per_second(
    env: CrystalSkeletonVectorEnv | SkeletonVecEnv, n_elements: int, args: Args
) -> float:
    """Return the steps per second of all parallel environments together, with random actions."""
    actions = np.random.default_rng(0).integers(0, n_elements, (args.steps, env.num_envs))
    env.reset()

    def play() -> None:
        for action in actions:
            env.step(action)

    return actions.size / common.seconds(play)


def measure_environments(args: Args, num_envs: int) -> dict[str, Any]:
    """Measure the adapter and the native environment in turns."""

    def native(mode: str) -> CrystalSkeletonVectorEnv:
        return CrystalSkeletonVectorEnv(num_envs, autoreset_mode=mode, collection=args.collection)

    adapter = SkeletonVecEnv(native("SameStep"))
    envs = {
        "native, same-step": native("SameStep"),
        "native, next-step": native("NextStep"),
        "adapter": adapter,
    }
    n_elements = adapter.env.table.n_elements
    ways = {name: partial(steps_per_second, env, n_elements, args) for name, env in envs.items()}
    rates = common.in_turns(ways, args.turns)
    return common.summarize(rates, "steps per second", "native, same-step")


def learning_speed(model: BaseAlgorithm) -> float:
    """Return the steps per CPU second of one rollout and update, after one warm-up rollout."""
    # The actor learns from the first rollout on.
    model.critic_warm_up = 0  # type: ignore[attr-defined] - attribute of this package's PPO
    model.learn(1)
    start = time.process_time()
    model.learn(1)
    return model.num_timesteps / (time.process_time() - start)


def vector_env(args: Args, policy: SkeletonPolicy) -> CrystalSkeletonVectorEnv:
    """Return the environments for learning."""
    return CrystalSkeletonVectorEnv(
        args.learning_envs,
        autoreset_mode="SameStep",
        collection=args.collection,
        vocabulary=policy.config.symbols,
    )


class RollOuts:
    """Roll-outs of PPO without updates.

    Args:
        args: Arguments of the script.
        policy: The policy.
        every_step: Encode the geometry at every step.
    """

    def __init__(self, args: Args, policy: SkeletonPolicy, *, every_step: bool) -> None:
        self.model: Any = warm_start(policy, "ppo", vector_env(args, policy), critic_warm_up=0)
        self.model.train = lambda: None
        extractor = get_features_extractor(self.model.policy)
        if every_step:
            extractor.geometry_cache = NoCache(extractor.network.encoder)
        # Weights change after every roll-out of a training, so none starts with a geometry.
        self.weight = next(extractor.parameters())
        self.steps = self.model.n_steps * self.model.n_envs
        self.n_rollouts = args.rollouts

    def run(self) -> np.ndarray:
        """Collect the roll-outs and return the actions of the last one."""
        torch.manual_seed(0)
        for i in range(self.n_rollouts):
            with torch.no_grad():
                self.weight.add_(0)
            self.model.learn(self.steps, reset_num_timesteps=i == 0)
        return self.model.rollout_buffer.actions.copy()

    def rate(self) -> float:
        """Return the steps per CPU second."""
        start = time.process_time()
        self.run()
        return self.n_rollouts * self.steps / (time.process_time() - start)


def measure_rollouts(args: Args) -> dict[str, Any]:
    """Measure roll-outs that encode the geometry at every step and once per skeleton."""
    policy = load_policy(args.policy)
    ways = {
        "geometry at every step": RollOuts(args, policy, every_step=True),
        "geometry once": RollOuts(args, policy, every_step=False),
    }
    first, second = (way.run() for way in ways.values())
    if not np.array_equal(first, second):
        raise SystemExit("Expected the same actions from both ways, got different ones.")
    rates = common.in_turns({name: way.rate for name, way in ways.items()}, args.rollout_turns)
    return common.summarize(rates, "steps per CPU second", "geometry at every step")


def measure_learning(args: Args) -> dict[str, Any]:
    """Measure PPO with and without the KL anchor, and with shuffled single states."""
    policy = load_policy(args.policy)

    def measure_once(**settings: Any) -> float:
        return learning_speed(warm_start(policy, "ppo", vector_env(args, policy), **settings))

    single_states = {"anchor": 0, "rollout_buffer_class": DictRolloutBuffer}
    ways = {
        "PPO": partial(measure_once, anchor=0),
        "PPO, anchored": measure_once,
        "PPO, shuffled single states": partial(measure_once, **single_states),
    }
    rates = common.in_turns(ways, args.learning_turns)
    return common.summarize(rates, "steps per CPU second", "PPO")


def measure(args: Args) -> dict[str, Any]:
    """Measure the environments of all sizes, roll-outs and learning."""
    environments = {
        f"{size} environments, {key}": value
        for size in args.sizes
        for key, value in measure_environments(args, size).items()
    }
    rollouts = {f"roll-outs, {key}": value for key, value in measure_rollouts(args).items()}
    learning = {f"learning, {key}": value for key, value in measure_learning(args).items()}
    return {**environments, **rollouts, **learning}


if __name__ == "__main__":
    common.run_script(Args, measure)

"""Steps per second of the adapter to Stable-Baselines3 and of PPO with a policy's network.

The adapter is measured beside the native environment in short turns, with random actions; ratios
are medians over the turns. Learning is measured in seconds of the processor, so that a busy machine
matters little. Run

    OMP_NUM_THREADS=1 python benchmarks/online.py --collection perov-5 --policy perov-5/egnn
"""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictRolloutBuffer

from crystal_agents import SkeletonVecEnv, load_policy, warm_start
from crystal_gym import CrystalSkeletonVectorEnv


@dataclass
class Args:
    """Speed of online learning."""

    collection: str = "goldschmidt"
    """Whose skeletons are filled."""
    policy: str = "goldschmidt/egnn"
    """Whose network learns."""
    sizes: tuple[int, ...] = (64, 256, 1024)
    """Environments side by side."""
    turns: int = 15
    """How often the environments are measured."""
    steps: int = 50
    """Steps of each environment in a turn."""
    learning_envs: int = 128
    """Environments side by side where PPO learns."""
    json: Path | None = None
    """Also write the result to this file."""


def steps_per_second(env: CrystalSkeletonVectorEnv | SkeletonVecEnv, actions: np.ndarray) -> float:
    """Of all environments together."""
    env.reset()
    began = time.perf_counter()
    for action in actions:
        env.step(action)
    return actions.size / (time.perf_counter() - began)


def adapter(args: Args, num_envs: int) -> dict[str, float]:
    """The adapter beside the native environment."""

    def native(mode: str) -> CrystalSkeletonVectorEnv:
        return CrystalSkeletonVectorEnv(num_envs, autoreset_mode=mode, collection=args.collection)

    envs = {
        "native, same-step": native("SameStep"),
        "native, next-step": native("NextStep"),
        "adapter": SkeletonVecEnv(native("SameStep")),
    }
    n_elements = envs["adapter"].env.table.n_elements
    rng = np.random.default_rng(0)
    rates: dict[str, list[float]] = {name: [] for name in envs}
    for _ in range(args.turns):
        actions = rng.integers(0, n_elements, (args.steps, num_envs))
        for name, env in envs.items():
            rates[name].append(steps_per_second(env, actions))
    pairs = zip(rates["adapter"], rates["native, same-step"], strict=True)
    result = {name: statistics.median(turns) for name, turns in rates.items()}
    return {**result, "adapter / same-step": statistics.median(a / b for a, b in pairs)}


def processor_seconds(model: BaseAlgorithm) -> float:
    """For a step: rollout and update, after one rollout that is not counted."""
    model.critic_warm_up = 0  # type: ignore[attr-defined] - the actor learns, too
    model.learn(1)
    began = time.process_time()
    model.learn(1)
    return (time.process_time() - began) / model.num_timesteps


def main(args: Args) -> None:
    """Measure and print JSON."""
    policy = load_policy(args.policy)

    def model(**settings: object) -> BaseAlgorithm:
        env = CrystalSkeletonVectorEnv(
            args.learning_envs,
            autoreset_mode="SameStep",
            collection=args.collection,
            vocabulary=policy.config.symbols,
        )
        return warm_start(policy, "ppo", env, **settings)  # type: ignore[arg-type] - by name

    learning = {
        "ppo": model(anchor=0),
        "ppo, anchored": model(),
        "ppo, single states in random order": model(
            anchor=0, rollout_buffer_class=DictRolloutBuffer
        ),
    }
    result = {
        "collection": args.collection,
        "environments": {str(size): adapter(args, size) for size in args.sizes},
        "steps per processor second": {
            name: 1 / processor_seconds(one) for name, one in learning.items()
        },
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args))

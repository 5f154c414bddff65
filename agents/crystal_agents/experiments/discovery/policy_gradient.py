"""PPO and MaskablePPO in the environment, from scratch or from the cloned policy.

The environment pays the shaped reward of the task at the end of an episode. Every crystal of the
grid that the agent fills first costs one evaluation. All episodes have the same skeleton, that with
the median lattice constant, so the agent receives no lattice of other crystals.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from crystal_agents.experiments.discovery.grid_mask import RemainingCrystalsMask
from crystal_agents.experiments.discovery.task import Search, shaped_reward
from crystal_agents.online.warm_start import from_scratch, warm_start
from crystal_agents.policies.config import PolicyConfig
from crystal_agents.policies.policy import load_policy
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.envs.generator import InstanceGenerator
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.masks import MaskLike
from crystal_gym.rewards.label_lookup import label_table


@dataclass(frozen=True)
class PolicyGradientSettings:
    """Settings of PPO, chosen on the photocorrosion task.

    Attributes:
        policy: Cloned policy that initializes the actor; "" for random weights.
        only_new: Whether a mask excludes the crystals that are no longer new or that are not in the
            search space. Otherwise the mask of the environment is that of the rule.
        hidden: Channels of the sites, and of the crystal, in a network with random weights.
        num_envs: Number of environments, the episodes of a rollout.
        n_epochs: Passes over a rollout.
        learning_rate: Learning rate of the actor.
        ent_coef: Weight of the entropy.
        critic_warm_up: Steps in which only the critic learns, for a cloned policy.
        max_steps: Steps of all environments after which the search ends.
    """

    policy: str = ""
    only_new: bool = True
    hidden: int = 32
    num_envs: int = 32
    n_epochs: int = 4
    learning_rate: float = 1e-3
    ent_coef: float = 0.01
    critic_warm_up: int = 320
    max_steps: int = 100_000


def policy_gradient_search(search: Search, settings: PolicyGradientSettings | None = None) -> None:
    """Train PPO until all targets are found or the budget or the steps are spent.

    The method receives the shaped score of every episode, which is that of the worst crystal if the
    filling is not in the grid. ``search.counts`` has the number of environment steps, of episodes,
    and of those that end outside the grid.

    Args:
        search: The search.
        settings: Settings.
    """
    settings = settings or PolicyGradientSettings()
    with torch.random.fork_rng():
        _train(search, settings, seed=int(search.rng.integers(2**31)))


def _train(search: Search, settings: PolicyGradientSettings, seed: int) -> None:
    space = search.space
    generator = one_skeleton(space.table.collection)
    table, row = generator.table, int(generator.rows[0])
    mask: MaskLike = space.mask
    remaining = None
    if settings.only_new:
        remaining = RemainingCrystalsMask(table, space, table.breadth_first(row, 0))
        mask = remaining
    native = CrystalSkeletonVectorEnv(
        settings.num_envs,
        autoreset_mode="SameStep",
        generator=generator,
        reward=shaped_reward(search.task),
        mask=mask,
    )
    algorithm = "ppo" if mask == "none" else "maskable-ppo"
    sizes = {"n_steps": table.max_sites, "batch_size": settings.num_envs * table.max_sites}
    model = _model(algorithm, native, settings, seed, sizes)
    model.learn(settings.max_steps, callback=_Evaluations(search, remaining))


def one_skeleton(collection: CrystalCollection) -> InstanceGenerator:
    """Return a generator of the skeleton with the median lattice constant, from site A on."""
    generator = InstanceGenerator(collection, split="all", start_site=0)
    lattice = collection.parameters[:, 0]
    generator.rows = np.argsort(lattice, kind="stable")[[len(lattice) // 2]]
    return generator


def _model(
    algorithm: str,
    env: CrystalSkeletonVectorEnv,
    settings: PolicyGradientSettings,
    seed: int,
    sizes: dict[str, int],
) -> BaseAlgorithm:
    arguments: dict[str, Any] = {
        **sizes,
        "n_epochs": settings.n_epochs,
        "learning_rate": settings.learning_rate,
        "ent_coef": settings.ent_coef,
        "seed": seed,
    }
    if settings.policy:
        return warm_start(
            load_policy(settings.policy),
            algorithm,
            env,
            critic_warm_up=settings.critic_warm_up,
            anchor=0.0,
            **arguments,
        )
    config = PolicyConfig(
        network="egnn",
        symbols=env.table.vocabulary.symbols,
        max_sites=env.table.max_sites,
        settings={"hidden": settings.hidden, "crystal": settings.hidden},
    )
    return from_scratch(config, algorithm, env, **arguments)


class _Evaluations(BaseCallback):
    """Evaluates the crystals of finished episodes, and ends the training with the search."""

    def __init__(self, search: Search, remaining: RemainingCrystalsMask | None) -> None:
        super().__init__()
        self._search, self._remaining = search, remaining
        self._counts = search.counts
        self._counts.update(steps=0, episodes=0, outside_grid=0)

    def _on_training_start(self) -> None:
        reward = self.training_env.get_attr("reward")[0]
        self._labels = label_table(self.training_env.get_attr("table")[0], *reward.labels)

    def _on_step(self) -> bool:
        self._counts["steps"] = self.num_timesteps
        fillings = [
            info["terminal_observation"]["element"]
            for info in self.locals["infos"]
            if "terminal_observation" in info
        ]
        if fillings:
            rows = self._labels.find(np.array(fillings))
            self._counts["episodes"] += len(rows)
            self._counts["outside_grid"] += int((rows < 0).sum())
            self._evaluate(rows[rows >= 0])
        return not self._search.oracle.finished

    def _evaluate(self, rows: np.ndarray) -> None:
        """Evaluate the new crystals among these, as far as the budget allows."""
        oracle = self._search.oracle
        new = np.array(list(dict.fromkeys(rows[~oracle.evaluated[rows]].tolist())), np.int64)
        new = new[: oracle.remaining]
        if not len(new):
            return
        oracle.evaluate(new)
        if self._remaining is not None:
            self._remaining.remove(new)

"""Rewards for many stable crystals: PPO from a cloned policy, with and without diversity.

PPO maximizes `perov5-dft` on Perov-5, alone, with the bonus `novelty`, or behind a diversity
filter. The trained policies fill the skeletons of a split greedily and with sampled elements. The
JSON file contains the metrics of each run, and their means over the seeds with 95 % t intervals.
Rerun the same command to resume.

    python benchmarks/diversity.py runs/diversity --json diversity.json
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import tyro

from crystal_agents import SkeletonVecEnv, load_policy, warm_start
from crystal_agents.evaluation.returns import greedy_returns
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.online.fine_tuning import fine_tune
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import Scorer
from crystal_datasets import EpisodeRecorder, RecordEpisodes
from crystal_gym import CrystalSkeletonVectorEnv
from crystal_gym.envs.generator import InstanceGenerator
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.rewards import resolve_reward
from crystal_gym.rewards.label_lookup import label_table

REWARD = "perov5-dft"
# Crystals with at most this heat of formation, in eV/atom, are counted as stable.
STABLE = 0.2
# Columns of the table, with their digits.
COLUMNS = {
    "greedy return": 3,
    "greedy distinct fillings": 0,
    "greedy distinct stable": 0,
    "sampled return": 3,
    "sampled distinct fillings": 0,
    "sampled distinct stable": 0,
    "training distinct stable": 0,
}
# Half widths below this number are those of equal values.
HIDDEN = 1e-9

# All weights are trained, with minibatches of a quarter of a rollout.
SETTINGS: dict[str, Any] = {"frozen_geometry": False, "learning_rate": 1e-4, "batch_size": 160}


@dataclass
class Args(common.Args):
    """Rewards for many stable crystals: PPO from a cloned policy, with and without diversity."""

    folder: tyro.conf.Positional[Path]
    """Folder of the checkpoints, policies and metrics."""
    policy: str = "perov-5/egnn"
    """The cloned policy: a name from `crystal-gym list`, or a folder."""
    variants: tuple[str, ...] = ("plain", "novelty", "filter")
    """plain, novelty or filter; cloned is always measured."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of PPO and of the sampled elements."""
    steps: int = 40_960
    """Environment steps of PPO, five for each crystal."""
    num_envs: int = 128
    """Environments in the vector."""
    split: str = "test"
    """Split that the trained policies fill. Choose settings on val and other seeds."""
    weight: float = 1.0
    """Weight of the bonus, in eV/atom."""
    limit: int = 10
    """Number of times that the filter does not change the reward of a filling."""
    floor: float = -1.5
    """Reward of later crystals, in eV/atom."""
    threads: int = 1
    """Threads of PyTorch."""


def training_reward(args: Args, variant: str) -> Mapping[str, Any]:
    """Return the reward that PPO maximizes."""
    rewards: dict[str, Mapping[str, Any]] = {
        "plain": {REWARD: 1.0},
        "novelty": {REWARD: 1.0, "novelty": {"weight": args.weight, "by": "filling"}},
        "filter": {
            "diversity-filter": {
                "reward": REWARD,
                "limit": args.limit,
                "floor": args.floor,
                "by": "filling",
            }
        },
    }
    return rewards[variant]


def sampled(score: Scorer, seed: int) -> Scorer:
    """Return a scorer whose best element is a sample of the policy (Gumbel-max)."""
    rng = np.random.default_rng(seed)

    def noisy(state: EpisodeState) -> np.ndarray:
        logits = score(state)
        return logits + rng.gumbel(size=logits.shape)

    return noisy


def stable_fillings(table: EpisodeTable, elements: np.ndarray) -> int:
    """Count the distinct stable crystals among fillings, codes (B, N)."""
    labels = label_table(table, "heat_all")
    found = np.unique(labels.find(elements))
    found = found[found >= 0]
    return int((labels.values[found] <= STABLE).sum())


def measure_policy(
    table: EpisodeTable, policy: SkeletonPolicy, split: str, seed: int
) -> dict[str, float]:
    """Fill the skeletons of a split, greedily and with sampled elements."""
    rows = table.collection.in_split(split)
    scorer = PolicyScorer(policy, table)
    metrics: dict[str, float] = {}
    for name, score in (("greedy", scorer), ("sampled", sampled(scorer, seed))):
        episodes = greedy_returns(score, table, rows, resolve_reward(REWARD))
        metrics |= {
            f"{name} return": float(episodes.metrics["return"].mean()),
            f"{name} labeled": float(episodes.metrics["labeled"].mean()),
            f"{name} distinct fillings": len(np.unique(episodes.elements, axis=0)),
            f"{name} distinct stable": stable_fillings(table, episodes.elements),
        }
    return metrics


def train(
    args: Args, generator: InstanceGenerator, policy: SkeletonPolicy, variant: str, seed: int
) -> dict[str, float]:
    """Train one run, or resume it, and return its metrics."""
    run = args.folder / f"{variant}-seed-{seed}"
    reward = training_reward(args, variant)
    table = generator.table
    env = CrystalSkeletonVectorEnv(
        args.num_envs, autoreset_mode="SameStep", generator=generator, reward=reward
    )
    recorder = EpisodeRecorder(table)
    envs = SkeletonVecEnv(RecordEpisodes(env, recorder))
    model = warm_start(policy, "ppo", envs, anchor=0.0, seed=seed, **SETTINGS)
    settings = {"policy": args.policy, "reward": reward, "num_envs": args.num_envs, "seed": seed}
    learned = fine_tune(model, args.steps, run, settings, seed=seed, recorder=recorder)
    _, order, actions, _ = recorder.arrays()
    elements = np.empty_like(order, dtype=np.int32)
    np.put_along_axis(elements, order, (actions + 1).astype(np.int32), axis=1)
    return {
        "training episodes": len(elements),
        "training distinct fillings": len(np.unique(elements, axis=0)),
        "training distinct stable": stable_fillings(table, elements),
        **measure_policy(table, learned, args.split, seed),
    }


def tabulate(summary: Mapping[str, Mapping[str, MeanWithCI]]) -> list[str]:
    """Return the lines of the table of the documentation, in Markdown."""
    rows: list[tuple[str, ...]] = [("", *COLUMNS), ("---", *["---:"] * len(COLUMNS))]
    for name, metrics in summary.items():
        cells = [name]
        for column, digits in COLUMNS.items():
            value = metrics.get(column)
            half = 0.0 if value is None else value.high - value.mean
            cell = "–" if value is None else f"{value.mean:.{digits}f}"
            cells.append(cell + (f" ± {half:.{digits}f}" if half > HIDDEN else ""))
        rows.append(tuple(cells))
    return [f"| {' | '.join(row)} |" for row in rows]


def measure(args: Args) -> dict[str, Any]:
    """Train all runs and compare them."""
    torch.set_num_threads(args.threads)
    policy = load_policy(args.policy)
    generator = InstanceGenerator(collection="perov-5", split="train", vocabulary=policy.vocabulary)
    table = generator.table
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ("cloned", *args.variants)}
    for seed in args.seeds:
        for name, metrics in runs.items():
            compute = (
                partial(measure_policy, table, policy, args.split, seed)
                if name == "cloned"
                else partial(train, args, generator, policy, name, seed)
            )
            metrics.append(
                common.stored(args.folder / f"{name}-seed-{seed}-{args.split}.json", compute)
            )
    summary = {
        name: {
            metric: MeanWithCI.of_seeds(np.array([run[metric] for run in values], np.float64))
            for metric in values[0]
        }
        for name, values in runs.items()
    }
    heats = label_table(table, "heat_all").values
    return {
        "stable crystals": int((heats <= STABLE).sum()),
        "runs": runs,
        "summary": {
            name: {metric: dataclasses.asdict(value) for metric, value in metrics.items()}
            for name, metrics in summary.items()
        },
        "table": tabulate(summary),
    }


if __name__ == "__main__":
    common.run_script(Args, measure)

"""Formation energies on MP-20: a cloned policy, PPO that starts from it, and baselines.

PPO is trained on a sample of the train split, with and without the KL anchor. All policies then
fill a sample of val greedily. Energies are those of CHGNet for unrelaxed crystals. Rerun the same
command to resume from the last checkpoint.

    python benchmarks/mp20_warm_start.py runs/mp20-warm-start --json warm-start.json
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import tyro

import crystal_gym
from crystal_agents import SkeletonVecEnv, load_policy, warm_start
from crystal_agents.evaluation.baselines import (
    most_frequent,
    most_frequent_per_site,
    nearest_skeleton,
    uniform,
)
from crystal_agents.evaluation.returns import episode_returns
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.online.fine_tuning import fine_tune
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import Scorer, batch_by_size, roll_out_all
from crystal_gym import CrystalSkeletonVectorEnv
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.collection import formula as formula_of
from crystal_gym.crystals.elements import SYMBOLS
from crystal_gym.crystals.validity import is_valid
from crystal_gym.episode import EpisodeTable
from crystal_gym.rewards import Reward, resolve_reward

# The coefficient of the KL anchor of each run of PPO.
RUNS = {"PPO, warm start": 0.0, "PPO, warm start, anchored": None}
# All weights are trained, with minibatches of a quarter of a rollout.
SETTINGS: dict[str, Any] = {"frozen_geometry": False, "learning_rate": 1e-4, "batch_size": 320}


@dataclass
class Args(common.Args):
    """Formation energies on MP-20: a cloned policy, PPO that starts from it, and baselines."""

    folder: tyro.conf.Positional[Path]
    """Folder of the checkpoints and policies."""
    policy: str = "mp-20/mpnn"
    """The cloned policy: a name from `crystal-gym list`, or a folder."""
    collection: str = "mp-20"
    """Name or path of the collection."""
    train_crystals: int = 2000
    """Skeletons of train on which PPO learns."""
    val_crystals: int = 500
    """Skeletons of val that are filled for the comparison."""
    episodes: int = 8000
    """Crystals that each run of PPO fills."""
    num_envs: int = 64
    """Environments in the vector."""
    runs: tuple[str, ...] = tuple(RUNS)
    """Runs of PPO, keys of RUNS."""
    reward: str = "formation-energy"
    """The reward that PPO maximizes."""
    seed: int = 0
    """Seed of the samples, the episodes and the updates."""
    threads: int = 1
    """Threads of PyTorch."""


def sample(collection: CrystalCollection, args: Args) -> CrystalCollection:
    """Return a random sample of the train and val splits."""
    rng = np.random.default_rng(args.seed)
    sizes = {"train": args.train_crystals, "val": args.val_crystals}
    rows = [rng.permutation(collection.in_split(name))[:n] for name, n in sizes.items()]
    return collection.take(np.sort(np.concatenate(rows)))


def train(
    args: Args, policy: SkeletonPolicy, crystals: CrystalCollection, reward: Reward, name: str
) -> SkeletonPolicy:
    """Train one run of PPO, or resume it."""
    env = CrystalSkeletonVectorEnv(
        args.num_envs,
        autoreset_mode="SameStep",
        collection=crystals,
        vocabulary=policy.config.symbols,
        reward=reward,
    )
    model = warm_start(
        policy, "ppo", SkeletonVecEnv(env), anchor=RUNS[name], seed=args.seed, **SETTINGS
    )
    n_sites = crystals.n_sites[crystals.in_split("train")].mean()
    settings = common.arguments(args) | {"run": name}
    del settings["runs"]  # each run is a run of its own
    folder = args.folder / name.replace(", ", "-").replace(" ", "-").lower()
    return fine_tune(model, round(args.episodes * n_sites), folder, settings, seed=args.seed)


def measure_fillings(
    table: EpisodeTable,
    crystals: np.ndarray,
    elements: np.ndarray,
    reward: Reward,
    cloned: np.ndarray | None,
) -> dict[str, Any]:
    """Return the metrics of finished crystals, and their most frequent elements and formulas."""
    metrics = episode_returns(table, crystals, elements, reward)
    numbers = table.vocabulary.decode(elements)
    formulas = [formula_of(np.sort(sites)) for sites in numbers]
    values = {
        "return": metrics["return"],
        "formation energy, eV/atom": metrics.get("formation_energy"),
        "match": metrics["match"],
        "valid, strict": is_valid(numbers, "strict").astype(np.float64),
    }
    if cloned is not None:
        same = (elements == cloned).sum(1) - (elements < 0).sum(1)
        values["sites as in BC"] = same / table.n_sites[crystals]
    counts = Counter(SYMBOLS[number - 1] for number in numbers[numbers > 0].tolist())
    return {
        **{
            name: dataclasses.asdict(MeanWithCI.of(value))
            for name, value in values.items()
            if value is not None
        },
        "without energy": int(np.isnan(metrics["return"]).sum())
        if "formation_energy" not in metrics
        else int(np.isnan(metrics["formation_energy"]).sum()),
        "distinct compositions": len(set(formulas)),
        "elements": {
            symbol: round(count / counts.total(), 3) for symbol, count in counts.most_common(5)
        },
        "formulas": dict(Counter(formulas).most_common(3)),
    }


def measure(args: Args) -> dict[str, Any]:
    """Train, fill the sample of val and compare."""
    torch.set_num_threads(args.threads)
    policy = load_policy(args.policy)
    crystals = sample(crystal_gym.load_collection(args.collection), args)
    reward = resolve_reward(args.reward)
    policies = {"BC": policy} | {
        name: train(args, policy, crystals, reward, name) for name in args.runs
    }
    table = EpisodeTable(crystals, policy.vocabulary)
    reward.prepare(table)
    train_rows, val_rows = crystals.in_split("train"), crystals.in_split("val")
    scorers: Mapping[str, Scorer] = {
        **{name: PolicyScorer(learned, table) for name, learned in policies.items()},
        "uniform": uniform(table.n_elements, args.seed),
        "most frequent element": most_frequent(table, train_rows),
        "most frequent per site": most_frequent_per_site(table, train_rows),
        "nearest skeleton": nearest_skeleton(table, train_rows),
    }
    batches = list(batch_by_size(table, val_rows, 1, args.seed))
    result: dict[str, Any] = {}
    cloned: np.ndarray | None = None
    rows = np.concatenate([batch.crystals for batch in batches])
    for name, scorer in scorers.items():
        rows, elements = roll_out_all(table, batches, scorer)
        cloned = elements if cloned is None else cloned
        result[name] = measure_fillings(table, rows, elements, reward, cloned)
    true = table.true_elements[rows]
    result["ground truth"] = measure_fillings(table, rows, true, reward, cloned)
    return {"val crystals": len(val_rows), "train crystals": len(train_rows), "rows": result}


if __name__ == "__main__":
    common.run_script(Args, measure)

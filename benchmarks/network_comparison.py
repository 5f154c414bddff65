"""Validation accuracy of several networks after equal processor time of training.

Every network is trained on the same crystals for the same processor time, with the learning rate
decreasing to zero over this time. The time includes everything except the quotient graphs, which
are computed once per collection and reported. Afterwards, a sample of val is filled from one start
site. The split test is not read.

    python benchmarks/network_comparison.py --variants mpnn mpnn-distances egnn egnn-paper gcn
    python benchmarks/network_comparison.py --variants mpnn --fraction 0.1
    python benchmarks/network_comparison.py --variants mpnn-expert --trajectories 5
"""

import dataclasses
import math
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import common
import numpy as np
import torch

import crystal_gym
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import RolloutResult, batch_by_size, roll_out
from crystal_agents.training.behavioral_cloning import CloningLearner
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.fabric import make_fabric
from crystal_agents.training.optimizers import peak_learning_rates, set_learning_rates
from crystal_agents.training.recipes import Recipe, get_recipe
from crystal_agents.training.seeding import derive_seed, make_generator
from crystal_datasets import build_dataset, load_transitions
from crystal_datasets.transitions import Transitions
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable
from crystal_gym.utils.settings import CACHE_VARIABLE

# Steps over which the learning rate increases.
_WARM_UP = 100

# Batches of masked sites. Small batches learn faster in short trainings.
_MASKED = {"traversals": "masked", "skeletons": 64, "states": 2}
# Batches of transitions, as in Algorithm 1 of the paper.
_EXPERT = {"traversals": "expert", "skeletons": 256, "states": 1}

# The recipe of each variant, the settings of its network and other changes of the recipe. Networks
# that only predict the element at the focus learn from transitions, with the paper's learning rate.
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mpnn": ("mpnn", {"dropout": 0.1}, _MASKED),
    "mpnn-distances": ("mpnn", {"dropout": 0.1, "angular": False}, _MASKED),
    "mpnn-wide": ("mpnn", {"dropout": 0.1, "hidden": 192}, _MASKED),
    "mpnn-deep": ("mpnn", {"dropout": 0.1, "orbit_layers": 7}, _MASKED),
    "mpnn-expert": ("mpnn", {"dropout": 0.1}, _EXPERT),
    "egnn": ("egnn", {"dropout": 0.1}, _MASKED),
    "egnn-paper": ("egnn-paper", {}, _EXPERT),
    "gcn": ("gcn", {}, _EXPERT),
}


@dataclass
class Args(common.Args):
    """Validation accuracy of several networks after equal processor time of training."""

    collection: str = "mp-20"
    """Name or path of the collection."""
    variants: tuple[str, ...] = ("mpnn", "mpnn-distances", "egnn", "egnn-paper", "gcn")
    """Networks, keys of VARIANTS."""
    minutes: float = 6.0
    """Processor time of each training."""
    fraction: float = 1.0
    """Fraction of the training crystals."""
    trajectories: int = 1
    """Expert trajectories of each crystal, for variants that learn from transitions."""
    val_crystals: int = 2000
    """Crystals of val that are filled."""
    seed: int = 0
    """Seed of the weights and the batches."""
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    """Floating-point precision."""
    threads: int = 1
    """Threads of PyTorch."""


def recipe_of(variant: str) -> Recipe:
    """Return the recipe of a variant."""
    name, settings, changes = VARIANTS[variant]
    recipe = get_recipe(name)
    return dataclasses.replace(recipe, settings={**recipe.settings, **settings}, **changes)


def expert_transitions(
    crystals: CrystalCollection, vocabulary: Vocabulary, trajectories: int
) -> Transitions:
    """Return expert trajectories of each crystal."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"MINARI_DATASETS_PATH": folder, CACHE_VARIABLE: folder}),
    ):
        options = {"vocabulary": vocabulary, "trajectories": trajectories, "progress": False}
        name = build_dataset(crystals, "all", **options)
        return load_transitions(name, progress=False)


def train(args: Args, recipe: Recipe, data: Transitions) -> tuple[SkeletonPolicy, dict[str, Any]]:
    """Train a network for the given processor time."""
    config = TrainingConfig(Path(), recipe, seed=args.seed, precision=args.precision)
    torch.manual_seed(args.seed)
    fabric = make_fabric(config)
    graphs_start = time.process_time()
    learner = CloningLearner(config, fabric, data, None)
    peak_rates = peak_learning_rates(learner.optimizers)
    start = time.process_time()
    step = 0
    for epoch in count():
        batches = learner.batches(make_generator(args.seed, epoch))
        for index, rows in enumerate(batches):
            elapsed = (time.process_time() - start) / (60 * args.minutes)
            if elapsed >= 1:
                record = {
                    "parameters": sum(weight.numel() for weight in learner.policy.parameters()),
                    "steps": step,
                    "epochs": round(epoch + index / len(batches), 2),
                    "graphs, seconds": round(start - graphs_start, 1),
                }
                return learner.final_policy.eval(), record
            learner.model.train()
            factor = min(1, (step + 1) / _WARM_UP) * (1 + math.cos(math.pi * elapsed)) / 2
            set_learning_rates(learner.optimizers, peak_rates, factor)
            torch.manual_seed(derive_seed(args.seed, step, 0))
            result = learner.loss(rows, make_generator(args.seed, step))
            fabric.backward(result.loss)
            torch.nn.utils.clip_grad_norm_(learner.policy.parameters(), recipe.clip or math.inf)
            for optimizer in learner.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            learner.after_step()
            step += 1
    raise AssertionError


def accuracies(policy: SkeletonPolicy, table: EpisodeTable, rows: np.ndarray) -> dict[str, float]:
    """Return free-running and teacher-forced accuracies on crystals, each from one start site."""
    scorer = PolicyScorer(policy, table)
    batches = list(batch_by_size(table, rows, 1))
    metrics: dict[str, float] = {}
    for prefix, teacher_forced in (("free-running", False), ("teacher-forced", True)):
        results = [roll_out(table, b, scorer, teacher_forced=teacher_forced) for b in batches]
        correct = [_correct(table, result) for result in results]
        top5 = [(result.rank[0] < 5).astype(float) for result in results]
        metrics |= {
            f"{prefix}, mean over crystals": _mean_over_crystals(correct),
            f"{prefix}, all sites": _mean_over_sites(correct),
            f"{prefix}, top five, mean over crystals": _mean_over_crystals(top5),
            f"{prefix}, top five, all sites": _mean_over_sites(top5),
        }
    return {name: round(value, 4) for name, value in metrics.items()}


def _correct(table: EpisodeTable, result: RolloutResult) -> np.ndarray:
    n = result.rank.shape[-1]
    true = table.true_elements[result.batch.crystals, :n]
    return (result.elements[0, :, :n] == true).astype(float)


def _mean_over_crystals(values: list[np.ndarray]) -> float:
    return float(np.concatenate([crystals.mean(1) for crystals in values]).mean())


def _mean_over_sites(values: list[np.ndarray]) -> float:
    return float(np.concatenate([crystals.ravel() for crystals in values]).mean())


def measure(args: Args) -> dict[str, Any]:
    """Train and fill with each network."""
    torch.set_num_threads(args.threads)
    collection = crystal_gym.load_collection(args.collection)
    rng = np.random.default_rng(args.seed)
    train_rows = collection.in_split("train")
    n_train = round(args.fraction * len(train_rows))
    train_rows = np.sort(rng.permutation(train_rows)[:n_train])
    # The vocabulary is that of the whole collection, so it includes the elements of val.
    data = expert_transitions(collection.take(train_rows), collection.vocabulary, args.trajectories)
    table = EpisodeTable(collection)
    val_rows = np.sort(rng.permutation(collection.in_split("val"))[: args.val_crystals])
    result: dict[str, Any] = {"training crystals": n_train}
    for variant in args.variants:
        policy, record = train(args, recipe_of(variant), data)
        start = time.process_time()
        result[variant] = {**record, **accuracies(policy, table, val_rows)}
        result[variant]["filling, seconds"] = round(time.process_time() - start, 1)
        common.report({variant: result[variant]})
    return result


if __name__ == "__main__":
    common.run_script(Args, measure)

"""Time from a prepared collection to a test accuracy, by default the paper's best of 49.53 %.

The time includes building the expert dataset and training the policy. The test split is filled
afterwards. The accuracy is also given as a ratio to the accuracy to exceed.

    python benchmarks/time_to_accuracy.py --collection perov-5
"""

import dataclasses
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import common
import torch

import crystal_gym
from crystal_agents import evaluate, train
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.recipes import get_recipe
from crystal_datasets import build_dataset, load_transitions
from crystal_gym.collections.collection import CrystalCollection


@dataclass
class Args(common.Args):
    """Time from a prepared collection to a test accuracy."""

    collection: str = "goldschmidt"
    """Name or path of the collection."""
    recipe: str = "egnn-indexed"
    """Recipe of the network and its training."""
    epochs: int = 1
    """Passes over the transitions."""
    accuracy: float = 0.4953
    """Test accuracy to exceed."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds, one run each."""
    threads: int = 2
    """Threads of PyTorch."""
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    """Floating-point precision."""


def run(args: Args, collection: CrystalCollection, seed: int, folder: Path) -> dict[str, Any]:
    """Return the seconds of building and training, and the test accuracy."""
    recipe = dataclasses.replace(get_recipe(args.recipe), epochs=args.epochs)
    start = time.perf_counter()
    name = build_dataset(collection, "train", overwrite=True, progress=False)
    data = load_transitions(name, progress=False)
    built = time.perf_counter()
    config = TrainingConfig(folder / str(seed), recipe, seed=seed, precision=args.precision)
    policy = train(config, data, progress=False)
    trained = time.perf_counter()
    report = evaluate({args.recipe: [policy]}, collection, baselines=False, progress=False)
    accuracy = report.rows[args.recipe].metrics["accuracy"]
    return {
        "build, seconds": round(built - start, 1),
        "build and training, seconds": round(trained - start, 1),
        "test accuracy": round(accuracy.mean, 4),
        "interval": [round(accuracy.low, 4), round(accuracy.high, 4)],
        f"ratio to {args.accuracy}": round(accuracy.mean / args.accuracy, 4),
        "exceeded": accuracy.mean > args.accuracy,
    }


def measure(args: Args) -> dict[str, Any]:
    """Train one policy per seed."""
    torch.set_num_threads(args.threads)
    collection = crystal_gym.load_collection(args.collection)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"MINARI_DATASETS_PATH": folder}),
    ):
        return {f"seed {seed}": run(args, collection, seed, Path(folder)) for seed in args.seeds}


if __name__ == "__main__":
    common.run_script(Args, measure)

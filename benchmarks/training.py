"""Transitions per second of training the paper's networks, as ratios to plain PyG in the same run.

Plain PyG is the same network as ``MessagePassing`` layers on ``Data`` objects from PyG's own
``DataLoader``, see ``benchmarks/plain_pyg.py``. Its objects are created in advance; it is measured
with and without worker processes. All ways follow the paper's recipe from the same weights. Loss
and gradients are compared on one batch, and the peak memory of each way is measured in a process of
its own.

    python benchmarks/training.py --network egnn-paper --collection perov-5
    python benchmarks/training.py --network egnn-paper --collection perov-5 --precision bf16-mixed
    python benchmarks/training.py --network gcn --collection perov-5
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from typing import Any, Literal
from unittest import mock

import common
import torch
from plain_pyg import PlainPolicy, data_objects
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import data as pyg
from torch_geometric.loader import DataLoader

import crystal_gym
from crystal_agents import PolicyConfig, SkeletonPolicy
from crystal_agents.training.optimizers import make_optimizers
from crystal_agents.training.recipes import get_recipe
from crystal_agents.training.transition_batches import Batch, TransitionStore
from crystal_datasets import build_dataset, load_transitions
from crystal_datasets.transitions import Transitions
from crystal_gym.utils.settings import CACHE_VARIABLE

PLAIN = "plain PyG"


@dataclass
class Args(common.Args):
    """Speed of training, compared with plain PyTorch Geometric."""

    network: Literal["egnn-paper", "gcn"] = "egnn-paper"
    """Network and recipe."""
    collection: str = "goldschmidt"
    """Name or path of the collection."""
    crystals: int = 500
    """Training crystals in the sample."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Floating-point precision of the package; plain PyG always has 32 bits."""
    steps: int = 2
    """Timed training steps of one measurement; one untimed step precedes them."""
    turns: int = 3
    """Measurements of each way."""
    workers: int = 2
    """Worker processes of the plain loader in its second measurement; 0 skips it."""
    memory_of: Literal["package", "plain"] | None = None
    """Only train this way once and print its peak memory in GB."""


def sample(args: Args) -> Transitions:
    """Return expert transitions of the first training crystals."""
    collection = crystal_gym.load_collection(args.collection)
    crystals = collection.take(collection.in_split("train")[: args.crystals])
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"MINARI_DATASETS_PATH": folder, CACHE_VARIABLE: folder}),
    ):
        return load_transitions(build_dataset(crystals, "all", progress=False), progress=False)


class PackageTraining:
    """Training with the package's policy and batches."""

    def __init__(self, args: Args, data: Transitions) -> None:
        torch.manual_seed(0)
        config = PolicyConfig(args.network, data.vocabulary, data.frac_coords.shape[1])
        self.policy = SkeletonPolicy(config)
        self.store = TransitionStore(data)
        self.size = min(get_recipe(args.network).skeletons, len(data))
        self.mixed = args.precision == "bf16-mixed"
        (self.optimizer,) = make_optimizers(self.policy, get_recipe(args.network), fused=True)

    def batches(self) -> Iterator[Batch]:
        """Yield batches of shuffled transitions, epoch after epoch."""
        for epoch in count():
            groups = self.store.groups(1, torch.Generator().manual_seed(epoch))
            for first in range(0, len(groups) - self.size + 1, self.size):
                yield self.store.batch(groups[first : first + self.size])

    def loss(self, batch: Any) -> Tensor:
        """Return the cross-entropy of the expert's actions."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            logits = self.policy(batch.skeletons, batch.elements, batch.focus)
            return F.cross_entropy(logits[0], batch.action[0])


class PlainTraining:
    """Training of the same network with plain PyTorch Geometric."""

    def __init__(self, args: Args, data: Transitions) -> None:
        torch.manual_seed(0)
        self.policy = PlainPolicy(args.network, len(data.vocabulary), data.frac_coords.shape[1])
        self.objects = data_objects(data, range(len(data)))
        self.workers = 0
        recipe = get_recipe(args.network)
        self.size = min(recipe.skeletons, len(data))
        self.optimizer = torch.optim.Adam(
            self.policy.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )

    def batches(self) -> Iterator[Any]:
        """Yield batches of shuffled transitions, epoch after epoch."""
        loader = DataLoader(
            self.objects,
            self.size,
            shuffle=True,
            drop_last=True,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )
        while True:
            yield from loader

    def loss(self, batch: Any) -> Tensor:
        """Return the cross-entropy of the expert's actions."""
        return F.cross_entropy(self.policy(batch), batch.y)


def train_steps(way: PackageTraining | PlainTraining, args: Args) -> tuple[float, float]:
    """Train for some steps and return the transitions per second and per CPU second."""
    optimizer = way.optimizer
    start, start_cpu = 0.0, 0.0
    for step, batch in enumerate(islice(way.batches(), args.steps + 1)):
        way.loss(batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:
            start, start_cpu = time.perf_counter(), time.process_time()
    transitions = args.steps * way.size
    return (
        transitions / (time.perf_counter() - start),
        transitions / (time.process_time() - start_cpu),
    )


def gradients(policy: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Return the gradient of every weight by its name."""
    weights = dict(policy.named_parameters())
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def compare(package: PackageTraining, plain: PlainTraining) -> dict[str, float]:
    """Return the differences with the same weights and batch.

    Differences of gradients are relative to the norm of each gradient.
    """
    plain.policy.load_state_dict(package.policy.state_dict())
    group = package.store.groups(1, torch.Generator().manual_seed(0))[: package.size]
    loss = package.loss(package.store.batch(group))
    batch = pyg.Batch.from_data_list([plain.objects[row] for row in group[:, 0].tolist()])
    plain_loss = plain.loss(batch)
    found = gradients(package.policy, loss)
    return {
        "loss": loss.item(),
        "loss difference": abs(loss.item() - plain_loss.item()),
        "largest gradient difference": max(
            ((found[name] - gradient).norm() / gradient.norm()).item()
            for name, gradient in gradients(plain.policy, plain_loss).items()
        ),
    }


def peak_memory(way: str, argv: list[str]) -> float:
    """Return the peak memory in GB of a process that trains only this way."""
    done = subprocess.run(  # noqa: S603 - this script
        [sys.executable, __file__, *argv, "--memory-of", way],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def measure_memory(args: Args) -> float:
    """Train one way once and return the peak memory of this process in GB."""
    way = PackageTraining if args.memory_of == "package" else PlainTraining
    train_steps(way(args, sample(args)), args)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure_speed(args: Args, package: PackageTraining, plain: PlainTraining) -> dict[str, Any]:
    """Measure all ways in turns."""
    per_cpu_second: common.Rates = {}

    def rate(name: str, way: PackageTraining | PlainTraining, workers: int = 0) -> float:
        plain.workers = workers
        wall, cpu = train_steps(way, args)
        per_cpu_second.setdefault(name, []).append(cpu)
        return wall

    ways = {"package": partial(rate, "package", package), PLAIN: partial(rate, PLAIN, plain)}
    if args.workers:
        name = f"{PLAIN}, {args.workers} workers"
        ways[name] = partial(rate, name, plain, args.workers)
    rates = common.in_turns(ways, args.turns)
    plain_turns = zip(*(rates[name] for name in ways if name != "package"), strict=True)
    rates["fastest plain PyG"] = [max(turn) for turn in plain_turns]
    # CPU time depends little on other processes; it does not include that of worker processes.
    cpu = {name: per_cpu_second[name] for name in ("package", PLAIN)}
    return {
        **common.summarize(rates, "transitions per second", "fastest plain PyG"),
        **{
            f"CPU, {key}": value
            for key, value in common.summarize(cpu, "transitions per CPU second", PLAIN).items()
        },
    }


def measure(args: Args) -> dict[str, Any]:
    """Measure memory and speed, and compare losses and gradients."""
    # Before this process grows: a child process inherits the peak memory of its parent.
    memory = {way: peak_memory(way, sys.argv[1:]) for way in ("package", "plain")}
    data = sample(args)
    package, plain = PackageTraining(args, data), PlainTraining(args, data)
    return {
        "sample": {"transitions": len(data), "batch": package.size},
        "peak memory, GB": memory,
        "ratio of memory to plain": memory["package"] / memory["plain"],
        "same batch": compare(package, plain),
        **measure_speed(args, package, plain),
    }


def main() -> None:
    """Measure and print the result, or only the peak memory of one way."""
    args = common.parse(Args)
    if args.memory_of is not None:
        print(measure_memory(args))
    else:
        common.run_script(Args, measure)


if __name__ == "__main__":
    main()

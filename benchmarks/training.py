"""Transitions per second of training a network of the paper, as a ratio to plain PyG.

The plain way is the same network as ``MessagePassing`` layers on ``Data`` objects from PyG's own
``DataLoader`` (``benchmarks/plain_pyg.py``), its objects made beforehand, without and with worker
processes. All are trained in turns, one after the other, by the paper's recipe and from the same
weights, so that a busy machine slows them alike; the ratio is to the faster plain one. Run

    python benchmarks/training.py --network egnn-paper --collection perov-5
    python benchmarks/training.py --network gcn --collection perov-5

Loss and gradients of both are compared on one batch, and each is trained once more in a process of
its own to tell its peak memory.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Literal
from unittest import mock

import torch
import tyro
from plain_pyg import PlainPolicy, data_objects
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import data as pyg
from torch_geometric.loader import DataLoader

import crystal_gym
from crystal_agents import PolicyConfig, SkeletonPolicy
from crystal_agents.training.recipes import get_recipe
from crystal_agents.training.transition_batches import Batch, TransitionStore
from crystal_datasets import build_dataset, load_transitions
from crystal_datasets.transitions import Transitions
from crystal_gym.utils.settings import CACHE_VARIABLE


@dataclass
class Args:
    """Speed of training."""

    network: Literal["egnn-paper", "gcn"] = "egnn-paper"
    """Network and recipe."""
    collection: str = "goldschmidt"
    """Name or path of the crystals."""
    crystals: int = 500
    """Training crystals in the sample."""
    steps: int = 2
    """Timed steps of a turn; one before them is not timed."""
    turns: int = 3
    """How often each way is measured."""
    workers: int = 2
    """Worker processes of the plain loader's second measurement; 0 leaves it out."""
    memory_of: Literal["ours", "plain"] | None = None
    """Only train this one for a turn and print its peak memory in GB."""


def sample(args: Args) -> Transitions:
    """Expert transitions of the first training crystals."""
    collection = crystal_gym.load_collection(args.collection)
    crystals = collection.take(collection.in_split("train")[: args.crystals])
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"MINARI_DATASETS_PATH": folder, CACHE_VARIABLE: folder}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # a sample has no address to recover an environment from
        return load_transitions(build_dataset(crystals, "all", progress=False), progress=False)


class Ours:
    """The package's policy on batches from its store."""

    def __init__(self, args: Args, data: Transitions) -> None:
        torch.manual_seed(0)
        config = PolicyConfig(args.network, data.vocabulary, data.frac_coords.shape[1])
        self.policy = SkeletonPolicy(config)
        self.store = TransitionStore(data)
        self.size = min(get_recipe(args.network).skeletons, len(data))

    def batches(self) -> Iterator[Batch]:
        """Shuffled transitions, epoch after epoch."""
        for epoch in count():
            groups = self.store.groups(1, torch.Generator().manual_seed(epoch))
            for first in range(0, len(groups) - self.size + 1, self.size):
                yield self.store.batch(groups[first : first + self.size])

    def loss(self, batch: Any) -> Tensor:
        """Cross-entropy of the expert's actions."""
        logits = self.policy(batch.skeletons, batch.elements, batch.focus)
        return F.cross_entropy(logits[0], batch.action[0])


class Plain:
    """The same with PyTorch Geometric."""

    def __init__(self, args: Args, data: Transitions, workers: int = 0) -> None:
        torch.manual_seed(0)
        self.policy = PlainPolicy(args.network, len(data.vocabulary), data.frac_coords.shape[1])
        self.objects = data_objects(data, range(len(data)))
        self.workers = workers
        self.size = min(get_recipe(args.network).skeletons, len(data))

    def batches(self) -> Iterator[Any]:
        """Shuffled transitions, epoch after epoch."""
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
        """Cross-entropy of the expert's actions."""
        return F.cross_entropy(self.policy(batch), batch.y)


def rates(way: Ours | Plain, args: Args) -> tuple[float, float]:
    """Transitions per second and per CPU second of a turn: batches, passes and optimizer."""
    recipe = get_recipe(args.network)
    optimizer = torch.optim.Adam(
        way.policy.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
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
    """Of every weight by its name."""
    weights = dict(policy.named_parameters())
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def compare(ours: Ours, plain: Plain) -> dict[str, float]:
    """Differences on the same weights and batch; of gradients relative to each one's norm."""
    plain.policy.load_state_dict(ours.policy.state_dict())
    group = ours.store.groups(1, torch.Generator().manual_seed(0))[: ours.size]
    loss = ours.loss(ours.store.batch(group))
    same = pyg.Batch.from_data_list([plain.objects[row] for row in group[:, 0].tolist()])
    reference = plain.loss(same)
    found = gradients(ours.policy, loss)
    return {
        "loss": loss.item(),
        "loss_difference": abs(loss.item() - reference.item()),
        "gradient_difference": max(
            ((found[name] - gradient).norm() / gradient.norm()).item()
            for name, gradient in gradients(plain.policy, reference).items()
        ),
    }


def peak_memory(way: str, argv: list[str]) -> float:
    """GB of a process that trains only this way."""
    done = subprocess.run(  # noqa: S603 - this script
        [sys.executable, __file__, *argv, "--memory-of", way],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main(args: Args) -> None:
    """Measure and print JSON."""
    if args.memory_of is not None:
        data = sample(args)
        rates((Ours if args.memory_of == "ours" else Plain)(args, data), args)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
        return
    # Before this process grows: a new one inherits the peak of the one that it comes from.
    peaks = {f"{way}_peak_gb": peak_memory(way, sys.argv[1:]) for way in ("ours", "plain")}
    data = sample(args)
    ours, plain = Ours(args, data), Plain(args, data)
    result: dict[str, Any] = {
        "network": args.network,
        "collection": args.collection,
        "transitions": len(data),
        "batch": ours.size,
        "threads": torch.get_num_threads(),
        **peaks,
        **compare(ours, plain),
    }
    ways: dict[str, tuple[Ours | Plain, int]] = {"ours": (ours, 0), "plain": (plain, 0)}
    if args.workers:
        ways[f"plain_{args.workers}_workers"] = (plain, args.workers)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(args.turns):
        for name, (way, workers) in ways.items():
            plain.workers = workers
            measured[name].append(rates(way, args))
    for name, turns in measured.items():
        result[f"{name}_per_second"] = statistics.median(wall for wall, _ in turns)
        result[f"{name}_per_cpu_second"] = statistics.median(cpu for _, cpu in turns)
    plain_turns = zip(*(turns for name, turns in measured.items() if name != "ours"), strict=True)
    pairs = list(zip(measured["ours"], plain_turns, strict=True))
    result["ratio"] = statistics.median(o[0] / max(w for w, _ in p) for o, p in pairs)
    # On a busy machine the steadier figure; without worker processes, whose time is not the loop's.
    result["ratio_of_cpu_seconds"] = statistics.median(o[1] / p[0][1] for o, p in pairs)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(tyro.cli(Args))

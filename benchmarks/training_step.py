"""Speed of a step of behavioral cloning, as a ratio to the step of earlier versions.

The step of earlier versions, and steps without one of the changes each, are taken from
``benchmarks/reference_training.py``. All of them run in turns in one process, from the same weights
and on the same batches. Rates are per CPU second of the process, which depends less on other
processes than the time; the ratio of times is also printed.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py --collection perov-5
    python benchmarks/training_step.py --collection perov-5 --threads 2 --precision bf16-mixed
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import common
import torch
from lightning_fabric import Fabric
from reference_training import LEVERS

import crystal_gym
from crystal_agents.training.behavioral_cloning import CloningLearner
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.fabric import make_fabric
from crystal_agents.training.recipes import get_recipe
from crystal_agents.training.seeding import make_generator
from crystal_datasets import expert_transitions
from crystal_datasets.transitions import Transitions

EARLIER = "earlier versions"


@dataclass
class Args(common.Args):
    """Speed of a training step, compared with that of earlier versions."""

    recipe: Literal["egnn", "egnn-indexed"] = "egnn"
    """Recipe of the network and its training."""
    collection: str = "goldschmidt"
    """Name or path of the collection."""
    crystals: int = 2000
    """Training crystals in the sample."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Floating-point precision."""
    threads: int = 1
    """Threads of PyTorch."""
    steps: int = 4
    """Training steps of one measurement."""
    turns: int = 9
    """Measurements of each way; one untimed turn precedes them."""
    dropout: float | None = None
    """Dropout rate (default: that of the recipe). With 0, all ways compute the same losses."""
    levers: bool = True
    """Also measure the step without each of the changes."""


class Training:
    """A learner and its steps.

    Args:
        args: The arguments.
        data: The transitions.
        fabric: The launched Fabric.
        undone: Names of the changes that are undone, keys of ``LEVERS``.
    """

    def __init__(
        self, args: Args, data: Transitions, fabric: Fabric, undone: Sequence[str] = ()
    ) -> None:
        recipe = get_recipe(args.recipe)
        if args.dropout is not None:
            settings = {**recipe.settings, "dropout": args.dropout}
            recipe = dataclasses.replace(recipe, settings=settings)
        config = TrainingConfig(Path("unused"), recipe, precision=args.precision)
        torch.manual_seed(0)
        self.fabric = fabric
        self.learner = CloningLearner(config, fabric, data, None)
        for name in undone:
            LEVERS[name](self.learner, fabric)
        self.losses: list[float] = []
        self._batches = self.learner.batches(make_generator(0, 0))
        self._n_turns = 0

    def step(self) -> None:
        """Update the weights on the next batch, as ``crystal_agents.training.loop``."""
        learner, step = self.learner, len(self.losses)
        learner.model.train()
        torch.manual_seed(step)
        rows = self._batches[step % len(self._batches)]
        result = learner.loss(rows, make_generator(0, step))
        self.fabric.backward(result.loss)
        for optimizer in learner.optimizers:
            self.fabric.clip_gradients(
                learner.model, optimizer, max_norm=learner.max_grad_norm, error_if_nonfinite=False
            )
            optimizer.step()
            optimizer.zero_grad()
        learner.after_step()
        self.losses.append(result.loss.item())

    def rates(self, steps: int) -> tuple[float, float]:
        """Return steps per CPU second and per second."""
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.step()
        return steps / (time.process_time() - start_cpu), steps / (time.perf_counter() - start)


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the quartiles."""
    return [round(value, 3) for value in statistics.quantiles(values, n=4)]


def measure(args: Args) -> dict[str, Any]:
    """Measure all ways in turns."""
    torch.set_num_threads(args.threads)
    collection = crystal_gym.load_collection(args.collection)
    data = expert_transitions(collection.take(collection.in_split("train")[: args.crystals]), "all")
    with tempfile.TemporaryDirectory() as folder:
        recipe = get_recipe(args.recipe)
        fabric = make_fabric(TrainingConfig(Path(folder), recipe, precision=args.precision))
    ways = {
        "this version": Training(args, data, fabric),
        EARLIER: Training(args, data, fabric, list(LEVERS)),
    }
    if args.levers:
        ways |= {f"without {name}": Training(args, data, fabric, [name]) for name in LEVERS}
    cpu: common.Rates = {name: [] for name in ways}
    wall: common.Rates = {name: [] for name in ways}
    for turn in range(args.turns + 1):
        for name, way in ways.items():
            found = way.rates(args.steps)
            if turn:
                cpu[name].append(found[0])
                wall[name].append(found[1])

    def ratios(rates: common.Rates, way: str, reference: str) -> list[float]:
        return [a / b for a, b in zip(rates[way], rates[reference], strict=True)]

    levers = [name for name in ways if name.startswith("without")]
    return {
        "steps per CPU second": {name: statistics.median(cpu[name]) for name in ways},
        f"ratio to {EARLIER}": {
            "CPU seconds, quartiles": quartiles(ratios(cpu, "this version", EARLIER)),
            "seconds, quartiles": quartiles(ratios(wall, "this version", EARLIER)),
        },
        "ratio of this version to the step, quartiles": {
            name: quartiles(ratios(cpu, "this version", name)) for name in levers
        },
        "loss of the first step": {name: way.losses[0] for name, way in ways.items()},
        "mean loss of the last steps": {
            name: statistics.mean(way.losses[-args.steps :]) for name, way in ways.items()
        },
    }


if __name__ == "__main__":
    common.run_script(Args, measure)

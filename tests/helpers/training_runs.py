"""Short training runs of a small network, and the results that tests compare between runs."""

import csv
import dataclasses
import math
import time
from types import SimpleNamespace

import pytest
import torch

from crystal_agents.training import behavioral_cloning
from crystal_agents.training.behavioral_cloning import train
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.cql import CQLConfig, train_cql
from crystal_agents.training.recipes import Recipe, value_recipe

SMALL = Recipe(
    "egnn",
    {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1},
    epochs=4,
    skeletons=12,
    states=3,
)
# A recipe whose result does not depend on the number of processes.
SHARED = dataclasses.replace(
    SMALL,
    settings=SMALL.settings | {"dropout": 0.0},
    epochs=30,
    skeletons=61,
    learning_rate=0.03,
    schedule="constant",
)
SMALL_CQL_SETTINGS = {**SMALL.settings, "crystal": 32, "crystal_layers": 1}
SMALL_CQL = dataclasses.replace(
    value_recipe(Recipe("egnn", SMALL_CQL_SETTINGS)),
    epochs=3,
    skeletons=8,
    states=3,
    learning_rate=3e-3,
)


class InterruptedTraining(Exception):  # noqa: N818 - a signal, not an error
    """Raised in place of an optimizer step."""


def run_cloning(folder, data, recipe=SMALL, validation=None, **changes):
    """Clone the data into a policy."""
    return train(TrainingConfig(folder, recipe, **changes), data, validation, progress=False)


def run_cql(folder, data, cql=CQLConfig(), recipe=SMALL_CQL, validation=None, **changes):  # noqa: B008
    """Learn Q-values from the data."""
    config = TrainingConfig(folder, recipe, **changes)
    return train_cql(config, cql, data, validation, progress=False)


def run_shared(folder, data, **changes):
    """Train with gradient descent: Adam would amplify rounding errors of the smallest gradients."""

    def make_optimizers(policy, recipe, **options):
        return [torch.optim.SGD(policy.parameters(), lr=recipe.learning_rate)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behavioral_cloning, "make_optimizers", make_optimizers)
        return run_cloning(folder, data, SHARED, data, checkpoint_seconds=0, **changes)


def interrupt_step(patch, optimizer, number):
    """Make the optimizer step with this number, counted from 1, raise ``InterruptedTraining``."""
    original = optimizer.step
    steps = []

    def step(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == number:
            raise InterruptedTraining
        return original(self, *args, **kwargs)

    patch.setattr(optimizer, "step", step)


def limit_epochs(patch, loop, epochs):
    """Let any finite deadline of runs in a module pass after a number of epochs."""
    checks = []

    def monotonic():
        checks.append(1)
        return math.inf if len(checks) > epochs else -math.inf

    clock = SimpleNamespace(monotonic=monotonic, perf_counter=time.perf_counter)
    patch.setattr(loop, "time", clock)


def same_weights(first, second):
    """Return whether two policies have equal weights."""
    return all(
        torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items()
    )


def read_history(folder):
    """Read the history of a run without its times, which differ between runs."""
    with (folder / "metrics.csv").open() as file:
        return [
            {key: value for key, value in row.items() if "second" not in key}
            for row in csv.DictReader(file)
        ]

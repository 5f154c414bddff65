"""A small benchmark that has run once."""

import dataclasses

import pytest

from crystal_agents.experiments.benchmark.config import BenchmarkConfig, load_benchmark_config
from crystal_agents.experiments.benchmark.runner import run_benchmark
from crystal_agents.online.algorithms import ALGORITHMS


@pytest.fixture(scope="session")
def small() -> BenchmarkConfig:
    methods = (
        "uniform",
        "most-frequent",
        "bc",
        "maskable-ppo",
        "ppo-warm-anchored",
        "dqn-warm",
    )
    return dataclasses.replace(
        load_benchmark_config("smoke"), methods=methods, steps=1_280, every=640
    )


@pytest.fixture(scope="session")
def folder(small, tmp_path_factory):
    """Folder of the small benchmark's results for the reward validity-strict."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        # The actors of the warm starts learn for most of the few steps.
        for name in ("ppo", "dqn"):
            algorithm = dataclasses.replace(ALGORITHMS[name], critic_warm_up=320)
            patch.setitem(ALGORITHMS, name, algorithm)
        records = list(run_benchmark(small.only(rewards=["validity-strict"]), folder))
    assert len(records) == len(small.methods)
    return folder

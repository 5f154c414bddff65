"""A small benchmark that has run once."""

import dataclasses

import pytest

from crystal_agents.experiments.benchmark.config import BenchmarkConfig, load_benchmark_config
from crystal_agents.experiments.benchmark.runner import run_benchmark


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
    return dataclasses.replace(load_benchmark_config("smoke"), methods=methods)


@pytest.fixture(scope="session")
def folder(small, tmp_path_factory):
    """Folder of the small benchmark's results for the reward validity-strict."""
    folder = tmp_path_factory.mktemp("benchmark")
    records = list(run_benchmark(small.only(rewards=["validity-strict"]), folder))
    assert len(records) == len(small.methods)
    return folder

"""Tasks of the leaderboard: names, metrics and fingerprints."""

from pathlib import Path

import pytest

from crystal_agents.experiments.benchmark.results import load_results
from crystal_agents.experiments.discovery.results import results_file
from crystal_agents.experiments.discovery.task import TASKS as DISCOVERY
from crystal_agents.experiments.leaderboard.tasks import TASKS, get_task
from crystal_gym.collections import COLLECTIONS
from crystal_gym.errors import UnknownNameError
from crystal_gym.rewards import REWARDS, resolve_reward

DATA = Path(__file__).parents[4] / "docs" / "data"


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_tasks_are_consistent(task):
    assert get_task(task.name) is task
    assert task.ranked_by in task.metrics
    assert all(metric.low < metric.high for metric in task.metrics.values())
    assert task.collection in COLLECTIONS
    assert not task.reward or task.reward in REWARDS
    assert (task.labels_sha256 is None) == (
        not task.reward or not resolve_reward(task.reward).labels
    )


def test_every_discovery_task_is_on_the_leaderboard():
    assert {f"discovery/{name}" for name in DISCOVERY} <= set(TASKS)


def test_unknown_tasks_are_rejected():
    with pytest.raises(UnknownNameError, match="Did you mean 'perov-5/match'"):
        get_task("perov-5/macth")


def test_fingerprints_are_those_of_the_committed_records():
    """The labels of a task without records are compared when its first runs are exported."""
    records = {
        "perov-5/match": load_results(DATA / "benchmark-perov-5")[0],
        "discovery/perov5-water-splitting": results_file(DATA / "discovery").load()[0],
    }
    for name, record in records.items():
        assert TASKS[name].collection_sha256 == record.collection_sha256
        assert TASKS[name].labels_sha256 == record.labels_sha256
    assert len({task.collection_sha256 for task in TASKS.values()}) == 2

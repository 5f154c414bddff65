"""Values of a submission, and a template with everything that is known about a task."""

import datetime as dt
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from crystal_agents.evaluation.returns import episode_returns, nan_means
from crystal_agents.experiments.leaderboard.submission import json_object
from crystal_agents.experiments.leaderboard.tasks import get_task
from crystal_agents.experiments.provenance import hardware
from crystal_gym.collections import load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards import resolve_reward


def measure_fillings(
    task: str, atomic_numbers: np.ndarray, collection: CrystalCollection | None = None
) -> dict[str, float]:
    """Return the values of one run on a task with a reward.

    Args:
        task: Name of a task whose reward scores fillings, such as ``perov-5/match``.
        atomic_numbers: Atomic numbers of the filled test crystals, in the order of
            ``collection.in_split("test")``, integers (B, N).
        collection: The crystals (default: the collection of the task).

    Returns:
        The value of each metric of the task.

    Raises:
        UnknownNameError: If there is no such task.
        CrystalGymError: If the task has no reward of fillings, the shape is wrong, an element is
            not in the vocabulary of the collection, or the reward fails on a crystal.
    """
    definition = get_task(task)
    if "unique" not in definition.metrics:
        raise CrystalGymError(
            f"Expected a task whose reward scores fillings, got {task}. See the page of the "
            "leaderboard for the values of this task."
        )
    table = EpisodeTable(collection or load_collection(definition.collection))
    rows = table.collection.in_split("test")
    expected = len(rows), table.max_sites
    if np.shape(atomic_numbers) != expected:
        raise CrystalGymError(
            f"Expected atomic numbers of shape {expected}, one row for each test crystal, got "
            f"{np.shape(atomic_numbers)}. Fill all test crystals."
        )
    reward = resolve_reward(definition.reward)
    reward.prepare(table)
    elements = table.vocabulary.encode(np.asarray(atomic_numbers))
    means = nan_means(episode_returns(table, rows, elements, reward))
    if means.n_missing.get("return"):
        raise CrystalGymError(
            f"Expected a return for each crystal, got none for {means.n_missing['return']}. "
            "Use the defaults of the reward."
        )
    unique = len(np.unique(elements, axis=0)) / len(elements)
    return {key: unique if key == "unique" else means.means[key] for key in definition.metrics}


def template(task: str) -> str:
    """Return a submission in JSON in which method, authors, seeds and values are empty.

    Raises:
        UnknownNameError: If there is no such task.
    """
    definition = get_task(task)
    content: dict[str, Any] = {
        "task": task,
        "method": "",
        "authors": [],
        "code": "",
        "paper": None,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "expert_data": None,
        "environment_steps": None,
        "oracle_calls": None,
        "seeds": [],
        "values": {key: [] for key in definition.metrics},
        "collection_sha256": definition.collection_sha256,
        "labels_sha256": definition.labels_sha256,
        "version": version("crystal-gym"),
        "hardware": hardware(torch.device("cpu")),
    }
    return json_object(content)

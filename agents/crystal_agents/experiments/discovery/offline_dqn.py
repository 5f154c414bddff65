"""Bootstrapped Q-learning that starts from a Minari dataset of random evaluations."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from crystal_agents.experiments.discovery.bootstrapped_dqn import (
    BootstrappedDQNSettings,
    continue_search,
    make_ensemble,
)
from crystal_agents.experiments.discovery.policy_gradient import one_skeleton
from crystal_agents.experiments.discovery.task import Search, shaped_reward
from crystal_datasets import EpisodeRecorder, load_transitions, write_replay

# Environment variables of the folders of datasets and of their cached transitions.
_FOLDERS = ("MINARI_DATASETS_PATH", "CRYSTAL_GYM_CACHE")


@dataclass(frozen=True)
class OfflineDQNSettings(BootstrappedDQNSettings):
    """Settings of the search from offline data.

    Attributes:
        initial: Random crystals of the dataset, which count as evaluations.
        first_steps: Steps of offline training.
    """

    initial: int = 200
    first_steps: int = 1000


def offline_dqn_search(search: Search, settings: OfflineDQNSettings | None = None) -> None:
    """Write random evaluations as a Minari dataset, train on it, and continue the search online.

    The episodes of the dataset fill one skeleton with the elements of random crystals, and their
    return is the shaped score. Networks are trained on the returns that are read from the dataset.

    Args:
        search: The search.
        settings: Settings.
    """
    settings = settings or OfflineDQNSettings()
    with _temporary_datasets():
        crystals, returns = read_evaluations(search, write_evaluations(search, settings.initial))
    ensemble = make_ensemble(search, settings)
    ensemble.fit(crystals, returns[:, None])
    continue_search(search, settings, ensemble)


def write_evaluations(search: Search, count: int) -> str:
    """Evaluate random crystals, and write their episodes as a Minari dataset.

    Args:
        search: The search, whose budget they count in.
        count: Number of crystals; fewer if the budget ends.

    Returns:
        The id of the dataset.
    """
    collection = search.space.table.collection
    generator = one_skeleton(collection)
    table, row = generator.table, int(generator.rows[0])
    crystals = search.draw(count)
    order = np.tile(table.breadth_first(row, 0), (len(crystals), 1))
    actions = np.take_along_axis(table.true_elements[crystals], order, 1) - 1
    rewards = np.zeros(order.shape)
    rewards[:, -1] = search.oracle.evaluate(crystals)
    recorder = EpisodeRecorder(table)
    recorder.add(np.full(len(crystals), row), order, actions, rewards)
    return write_replay(
        recorder,
        collection,
        "all",
        f"random search among {int(search.space.allowed.sum())} crystals",
        reward=shaped_reward(search.task),
        overwrite=True,
        progress=False,
    )


def read_evaluations(search: Search, dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the crystals that the episodes of a dataset fill, and their returns.

    Args:
        search: The search on the same crystals.
        dataset: The id of the dataset.

    Returns:
        Rows of the collection, int64 (k,), and returns, float64 (k,).
    """
    transitions = load_transitions(dataset, progress=False)
    table = search.space.table
    row_of = {tuple(codes): row for row, codes in enumerate(table.true_elements.tolist())}
    rows = np.array([row_of[tuple(codes)] for codes in transitions.fillings.tolist()])
    return rows, transitions.returns


@contextmanager
def _temporary_datasets() -> Iterator[None]:
    """Keep datasets in a temporary folder, so that searches do not share one."""
    previous = {name: os.environ.get(name) for name in _FOLDERS}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(dict.fromkeys(_FOLDERS, folder))
        try:
            yield
        finally:
            for name, value in previous.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value

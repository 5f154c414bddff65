"""Fixtures shared by the tests of datasets."""

import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of Minari datasets that does not exist yet."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.fixture
def constant_policy():
    """A function that makes the probabilities of a policy with a single action."""

    def make(code, n_elements):
        def probabilities(observation):
            return np.eye(n_elements)[np.full(len(observation["focus"]), code - 1)]

        return probabilities

    return make


@pytest.fixture
def episode_metadata():
    """A function that lists the metadata of a dataset's episodes."""

    def read(dataset):
        return list(dataset.storage.get_episode_metadata(dataset.episode_indices))

    return read

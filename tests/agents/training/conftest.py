"""Datasets of the toy collection for the training tests."""

import numpy as np
import pytest

from crystal_datasets import (
    EpisodeRecorder,
    RecordEpisodes,
    build_dataset,
    load_transitions,
    write_replay,
)
from crystal_gym.collections import load_collection
from crystal_gym.collections.structures import collection_from_structures
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.rewards import Reward


@pytest.fixture(scope="session")
def minari_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("minari")


@pytest.fixture(scope="session")
def build_transitions(toy, minari_folder):
    """Build a dataset of the toy collection and load its transitions."""

    def build(split, *behavior):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MINARI_DATASETS_PATH", str(minari_folder))
            name = build_dataset(toy, split, *behavior, progress=False)
            return load_transitions(name, progress=False)

    return build


@pytest.fixture(scope="session")
def expert(build_transitions):
    """Transitions of the expert on all crystals."""
    return build_transitions("all")


@pytest.fixture(scope="session")
def perovskite_expert(minari_folder):
    """Transitions of the expert on eleven perovskites, which all have five sites."""
    goldschmidt = load_collection("goldschmidt")
    structures = [goldschmidt.structure(row) for row in range(0, 33, 3)]
    collection = collection_from_structures(structures, name="perovskites")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(minari_folder))
        name = build_dataset(collection, "all", progress=False)
        return load_transitions(name, progress=False)


@pytest.fixture(scope="session")
def random(build_transitions):
    """Transitions of random actions, with several fillings for each crystal."""
    return build_transitions("train", "random")


class OxygenFraction(Reward):
    """A reward equal to the fraction of oxygen in the finished crystal."""

    def on_finish(self, table, state):
        oxygen = table.vocabulary.symbols.index("O") + 1
        return (state.elements == oxygen).sum(1) / table.n_sites[state.crystal], {}


@pytest.fixture(scope="session")
def oxygen():
    return OxygenFraction()


@pytest.fixture(scope="session")
def biased(toy, minari_folder, oxygen):
    """Transitions of 600 episodes whose most frequent element, magnesium, is not rewarded."""
    env = CrystalSkeletonVectorEnv(40, collection=toy, split="all", reward=oxygen)
    recorder = EpisodeRecorder(env.table)
    recorded = RecordEpisodes(env, recorder)
    recorded.reset(seed=0)
    rng = np.random.default_rng(0)
    magnesium = toy.vocabulary.symbols.index("Mg")
    while len(recorder) < 600:
        chooses_magnesium = rng.random(40) < 0.5
        recorded.step(np.where(chooses_magnesium, magnesium, rng.integers(5, size=40)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(minari_folder))
        name = write_replay(
            recorder, toy, "all", "biased", reward=("oxygen", oxygen), progress=False
        )
        return load_transitions(name, progress=False)

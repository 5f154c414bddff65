"""Observations as graphs."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from crystal_gym.envs.wrappers import GraphObservation
from crystal_gym.errors import CrystalGymError


@pytest.fixture
def env(toy):
    return GraphObservation(gym.make("CrystalSkeleton-v0", collection=toy, split="all"))


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version:UserWarning")
def test_wrapped_environment_passes_the_gymnasium_checker(env):
    check_env(env, skip_render_check=True)


def test_graph_is_that_of_the_skeleton(env, toy):
    for row in range(len(toy)):
        skeleton = toy.skeleton(row)
        graph, info = env.reset(options={"crystal": row})
        assert graph in env.observation_space
        assert graph.nodes.shape == (skeleton.n_sites, 5)
        assert np.array_equal(graph.edge_links, skeleton.edges[:, :2])
        assert np.allclose(graph.edges, skeleton.edge_vectors, atol=1e-5)
        assert np.allclose(graph.nodes[:, 2:], skeleton.frac_coords)
        assert np.flatnonzero(graph.nodes[:, 1]).tolist() == [info["start_site"]]


def test_nodes_contain_the_assigned_elements(env):
    graph, _ = env.reset(options={"crystal": 5})
    assert not graph.nodes[:, 0].any()
    focus = int(np.argmax(graph.nodes[:, 1]))
    graph, *_ = env.step(3)
    assert graph.nodes[focus, 0] == 4
    assert (graph.nodes[:, 0] > 0).sum() == 1


def test_wrapper_is_part_of_the_spec():
    wrapped = GraphObservation(gym.make("CrystalSkeleton-v0"))
    remade = gym.make(wrapped.spec)
    first, second = (env.reset(seed=3)[0] for env in (wrapped, remade))
    assert np.array_equal(first.nodes, second.nodes)


def test_other_environments_are_rejected():
    with pytest.raises(CrystalGymError, match="Expected a CrystalSkeletonEnv"):
        GraphObservation(gym.make("CartPole-v1"))

"""Flat observations of the single and the vector environment."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import crystal_gym
from crystal_gym import FlatObservation, FlatVectorObservation
from crystal_gym.envs.flat_layout import FlatLayout
from crystal_gym.errors import CrystalGymError

MODES = ("NextStep", "SameStep", "Disabled")


@pytest.fixture(scope="module")
def labeled(toy):
    """Return the toy crystals with two labels."""
    return dataclasses.replace(toy, labels={"gap": np.arange(12) / 4, "heat": -np.arange(12.0)})


def make(collection, **arguments):
    return gym.make("CrystalSkeleton-v0", collection=collection, split="all", **arguments)


def make_vector(collection, mode="NextStep", num_envs=6, **arguments):
    return gym.make_vec(
        "CrystalSkeleton-v0",
        num_envs,
        collection=collection,
        split="all",
        autoreset_mode=mode,
        **arguments,
    )


def assert_equal(value, other):
    """Compare infos, which are arrays, arrays of objects, numbers or dicts of these."""
    if isinstance(value, dict):
        assert value.keys() == other.keys()
        for key in value:
            assert_equal(value[key], other[key])
    else:
        np.testing.assert_array_equal(value, other)


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version:UserWarning")
@pytest.mark.parametrize("pairs", [False, True])
def test_wrapper_passes_the_gymnasium_checker(toy, pairs):
    check_env(FlatObservation(make(toy), pairs=pairs), skip_render_check=True)


def test_environment_with_flat_observations_passes_the_gymnasium_checker(toy):
    env = gym.make("CrystalSkeletonFlat-v0", collection=toy, split="all", pairs=True)
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("collection", ["toy", "goldschmidt"])
@pytest.mark.parametrize("pairs", [False, True])
def test_episodes_are_those_of_the_dict_environment(collection, pairs, toy):
    collection = toy if collection == "toy" else collection
    env, wrapped = make(collection), FlatObservation(make(collection), pairs)
    flat_env = gym.make("CrystalSkeletonFlat-v0", collection=collection, split="all", pairs=pairs)
    layout = wrapped.layout
    assert layout == FlatLayout.from_space(env.observation_space, pairs)
    assert wrapped.observation_space == flat_env.observation_space == layout.space()
    env.action_space.seed(0)
    for seed in range(8):
        observation, info = env.reset(seed=seed)
        results = [e.reset(seed=seed) for e in (wrapped, flat_env)]
        ended = False
        while not ended:
            edges = env.unwrapped.table.geometry(info["crystal"])["edges"]
            for result in results:
                assert result[0] in layout.space()
                assert_equal(layout.unflatten(result[0], edges), observation)
                assert_equal(result[-1], info)
            assert np.array_equal(results[0][0], results[1][0])
            assert np.array_equal(results[0][0], wrapped.observation(observation))
            action = env.action_space.sample()
            observation, reward, ended, _, info = env.step(action)
            results = [e.step(action) for e in (wrapped, flat_env)]
            assert all(result[1:3] == (reward, ended) for result in results)


@pytest.mark.parametrize("arguments", [
    {"start": "partial", "keep": 0.5}, {"target": ["gap", "heat"]}, {"target": {"gap": 2.5}},
])  # fmt: skip
def test_partial_starts_and_targets_are_flat(labeled, arguments):
    env = make(labeled, **arguments)
    flat_env = gym.make("CrystalSkeletonFlat-v0", collection=labeled, split="all", **arguments)
    layout = flat_env.unwrapped.layout
    for seed in range(5):
        observation, flat = env.reset(seed=seed)[0], flat_env.reset(seed=seed)[0]
        assert flat in flat_env.observation_space
        assert_equal(layout.unflatten(flat, observation["edges"]), observation)
    check_env(flat_env.unwrapped, skip_render_check=True)


def test_spec_remakes_the_wrapped_environment():
    wrapped = FlatObservation(gym.make("CrystalSkeleton-v0"), pairs=True)
    remade = gym.make(gym.envs.registration.EnvSpec.from_json(wrapped.spec.to_json()))
    assert remade.observation_space == wrapped.observation_space
    assert np.array_equal(remade.reset(seed=3)[0], wrapped.reset(seed=3)[0])


def test_environment_with_flat_observations_is_remade_from_its_spec():
    env = gym.make("CrystalSkeletonFlat-v0", split="val", pairs=True)
    remade = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert remade.unwrapped.layout == env.unwrapped.layout
    assert np.array_equal(remade.reset(seed=3)[0], env.reset(seed=3)[0])


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"max_episode_steps": 3},
        {"start": "partial", "keep": 0.5},
        {"target": ["gap", "heat"], "target_from": "split"},
    ],
    ids=["whole episodes", "step limit", "partial start", "target"],
)
def test_vector_observations_are_the_flat_ones_of_the_dict_vector(labeled, mode, pairs, arguments):
    plain = make_vector(labeled, mode, **arguments)
    flat = FlatVectorObservation(make_vector(labeled, mode, **arguments), pairs)
    layout = flat.layout
    assert flat.single_observation_space == layout.space()
    assert flat.autoreset_mode == flat.metadata["autoreset_mode"]
    plain.action_space.seed(1)
    expected, result = plain.reset(seed=2), flat.reset(seed=2)
    n_final = 0
    for _ in range(30):
        assert result[0] in flat.observation_space
        assert result[0].dtype == np.float32
        assert np.array_equal(result[0], layout.flatten(expected[0]))
        infos, expected_infos = dict(result[-1]), dict(expected[-1])
        last, expected_last = infos.pop("final_obs", None), expected_infos.pop("final_obs", None)
        assert_equal(infos, expected_infos)
        assert_equal(result[1:-1], expected[1:-1])
        assert (last is None) == (expected_last is None)
        for vector, observation in zip(
            () if last is None else last, () if last is None else expected_last, strict=True
        ):
            assert (vector is None) == (observation is None)
            if observation is not None:
                n_final += 1
                assert vector in layout.space()
                assert np.array_equal(vector, layout.flatten(observation))
        actions = plain.action_space.sample()
        expected, result = plain.step(actions), flat.step(actions)
        ended = expected[2] | expected[3]
        if mode == "Disabled" and ended.any():
            options = {"reset_mask": ended}
            expected, result = (e.reset(options=options) for e in (plain, flat))
    assert (n_final > 0) == (mode == "SameStep")


def test_vector_of_one_plays_the_episodes_of_the_single_environment(toy):
    single = FlatObservation(make(toy), pairs=True)
    vector = FlatVectorObservation(make_vector(toy, num_envs=1), pairs=True)
    single.action_space.seed(0)
    first, batch = single.reset(seed=5)[0], vector.reset(seed=5)[0]
    for _ in range(40):
        assert np.array_equal(first, batch[0])
        action = single.action_space.sample()
        first, _, ended, *_ = single.step(action)
        batch, *_ = vector.step(np.array([action]))
        if ended:
            assert np.array_equal(first, batch[0])
            first, batch = single.reset()[0], vector.step(np.array([0]))[0]


def test_observations_share_no_memory(toy):
    env = FlatVectorObservation(make_vector(toy, "SameStep"), pairs=True)
    first, _ = env.reset(seed=0)
    expected = [first.copy()]
    kept = [first]
    for _ in range(8):
        observations, *_, infos = env.step(env.action_space.sample())
        kept += [observations, *[o for o in infos.get("final_obs", ()) if o is not None]]
        expected = [values.copy() for values in kept]
    for values, copy in zip(kept, expected, strict=True):
        assert np.array_equal(values, copy)
    for i, values in enumerate(kept):
        assert not any(np.shares_memory(values, other) for other in kept[i + 1 :])
    # A client that changes what it received does not change later observations.
    plain = make_vector(toy, "SameStep")
    expected, observations = plain.reset(seed=1)[0], env.reset(seed=1)[0]
    for _ in range(8):
        assert np.array_equal(observations, env.layout.flatten(expected))
        observations[:] = -1
        actions = env.action_space.sample()
        expected, observations = plain.step(actions)[0], env.step(actions)[0]


def test_geometry_that_another_wrapper_changes_is_observed(toy):
    class Stretched(gym.vector.VectorObservationWrapper):
        def observations(self, observations):
            observations["lattice"][:, :3] *= 2
            return observations

    plain = Stretched(make_vector(toy))
    flat = FlatVectorObservation(Stretched(make_vector(toy)), pairs=True)
    expected, observations = plain.reset(seed=0)[0], flat.reset(seed=0)[0]
    for _ in range(12):
        assert np.array_equal(observations, flat.layout.flatten(expected))
        actions = flat.action_space.sample()
        expected, observations = plain.step(actions)[0], flat.step(actions)[0]


def test_vector_environment_with_flat_observations_by_name():
    env = gym.make_vec("CrystalSkeletonFlat-v0", 3, split="val", pairs=True)
    assert isinstance(env, FlatVectorObservation)
    sync = gym.make_vec("CrystalSkeletonFlat-v0", 3, "sync", split="val", pairs=True)
    assert env.observation_space == sync.observation_space
    assert env.reset(seed=0)[0] in sync.observation_space


def test_names_are_exported():
    assert {"FlatObservation", "FlatVectorObservation"} <= set(crystal_gym.__all__)
    assert crystal_gym.FlatObservation is FlatObservation


def test_other_environments_are_rejected(toy):
    with pytest.raises(CrystalGymError, match="Expected a CrystalSkeletonEnv"):
        FlatObservation(gym.make("CartPole-v1"))
    with pytest.raises(CrystalGymError, match="Expected a CrystalSkeletonVectorEnv"):
        FlatVectorObservation(gym.make_vec("CrystalSkeleton-v0", 2, "sync"))
    with pytest.raises(CrystalGymError, match="Expected the Dict observation space"):
        FlatObservation(FlatObservation(make(toy)))


def test_cells_outside_the_bounds_are_rejected_when_the_environment_is_wrapped():
    from pymatgen.core import Lattice, Structure

    from crystal_gym.collections.structures import collection_from_structures

    lattice = Lattice.tetragonal(4, 600)
    layers = Structure(lattice, ["Na"] * 100, [[0, 0, i / 100] for i in range(100)])
    long = collection_from_structures([layers], name="long")
    with pytest.raises(CrystalGymError, match=r"lengths up to 512 Å .* got \[4.0, 4.0, 600.0"):
        FlatObservation(make(long))


def test_stable_baselines3_wrappers_accept_flat_observations(toy):
    vec_env = pytest.importorskip("stable_baselines3.common.vec_env")
    env = vec_env.DummyVecEnv([lambda: FlatObservation(make(toy), pairs=True)] * 3)
    stacked = vec_env.VecFrameStack(env, 2)
    normalized = vec_env.VecNormalize(stacked)
    observations = normalized.reset()
    size = FlatLayout.from_space(make(toy).observation_space, pairs=True).size
    for _ in range(10):
        assert observations.shape == (3, 2 * size)
        assert np.isfinite(observations).all()
        observations, *_ = normalized.step([env.action_space.sample() for _ in range(3)])

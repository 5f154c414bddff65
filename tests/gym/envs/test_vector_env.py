"""The native vector environment, compared with the single one and Gymnasium's vectors."""

import gymnasium as gym
import numpy as np
import pytest
from env_episodes import assert_same
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import crystal_gym
from crystal_gym.envs.generator import TRAVERSALS
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.rewards import Reward


def assert_in_row(values, row, single):
    """Assert that a row of batched values equals the values of a single environment."""
    assert values.keys() == single.keys()
    for key, value in single.items():
        assert np.array_equal(values[key][row], value), key
        assert values[key].dtype == np.asarray(value).dtype, key


def infos_in_row(infos, row):
    """Return the infos that hold for one environment of the vector."""
    return {
        key: value
        for key, value in infos.items()
        if not key.startswith("_") and infos[f"_{key}"][row]
    }


@pytest.mark.parametrize("reward", ["match", "validity", len])
@pytest.mark.parametrize("traversal", TRAVERSALS)
def test_vector_of_one_plays_the_episodes_of_the_single_environment(toy, traversal, reward):
    settings = {"collection": toy, "traversal": traversal, "reward": reward}
    single = CrystalSkeletonEnv(**settings)
    vector = CrystalSkeletonVectorEnv(1, **settings)
    rng = np.random.default_rng(0)
    observation, info = single.reset(seed=7)
    batch, infos = vector.reset(seed=7)
    episodes, terminated = 0, False
    while episodes < 40:
        assert_in_row(batch, 0, observation)
        assert_in_row(infos_in_row(infos, 0), 0, info)
        action = int(rng.integers(5))
        if terminated:
            observation, info = single.reset()
            expected = (0.0, False)
            terminated = False
            episodes += 1
        else:
            observation, reward, terminated, _, info = single.step(action)
            expected = (reward, terminated)
        batch, rewards, terminations, truncations, infos = vector.step(np.array([action]))
        assert (rewards[0], terminations[0]) == expected
        assert not truncations.any()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_vector_behaves_like_a_gymnasium_vector_of_single_environments(toy, mode):
    # With two equal crystals and a fixed order, only the row of the crystal is random.
    crystals = toy.take([5, 5])
    settings = {"collection": crystals, "split": "all", "start_site": 2, "traversal": "index"}
    settings["reward"] = "validity"
    native = CrystalSkeletonVectorEnv(3, autoreset_mode=mode, **settings)
    sync = SyncVectorEnv(
        [lambda: CrystalSkeletonEnv(**settings) for _ in range(3)], autoreset_mode=mode
    )
    observations, infos = native.reset(seed=0)
    other_observations, other_infos = sync.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert_equal_but_for_the_crystal(observations, infos, other_observations, other_infos)
        actions = rng.integers(4, size=3)
        observations, *outcome, infos = native.step(actions)
        other_observations, *other_outcome, other_infos = sync.step(actions)
        assert_same(outcome, other_outcome)
        if mode is AutoresetMode.DISABLED and outcome[1].any():
            assert_equal_but_for_the_crystal(observations, infos, other_observations, other_infos)
            mask = {"reset_mask": outcome[1]}
            observations, infos = native.reset(options=dict(mask))
            other_observations, other_infos = sync.reset(options=dict(mask))


def assert_equal_but_for_the_crystal(observations, infos, other_observations, other_infos):
    assert_same(observations, other_observations)
    for tree in (infos, other_infos):
        for part in (tree, tree.get("final_info", {})):
            part.pop("crystal", None)
    assert_same(infos, other_infos)


def test_observations_are_in_the_batched_space(toy):
    vector = CrystalSkeletonVectorEnv(6, collection=toy, split="all")
    observation, _ = vector.reset(seed=0)
    vector.action_space.seed(0)
    for _ in range(30):
        assert observation in vector.observation_space
        assert {key: value.dtype for key, value in observation.items()} == {
            key: space.dtype for key, space in vector.observation_space.items()
        }
        observation, *_ = vector.step(vector.action_space.sample())


def test_equal_seeds_give_equal_episodes(toy):
    vectors = [CrystalSkeletonVectorEnv(5, collection=toy, traversal="random") for _ in range(2)]
    first, second = (vector.reset(seed=4) for vector in vectors)
    for action in range(40):
        assert_same(first, second)
        first, second = (vector.step(np.full(5, action % 5)) for vector in vectors)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_expert_has_return_one_in_every_episode(toy, mode):
    vector = CrystalSkeletonVectorEnv(8, collection=toy, split="all", autoreset_mode=mode)
    vector.reset(seed=0)
    total, finished = np.zeros(8), 0
    for _ in range(60):
        _, rewards, terminations, _, infos = vector.step(vector.expert_action())
        total += rewards
        assert np.allclose(total[terminations], 1)
        final = infos.get("final_info", {}) if mode == "SameStep" else infos
        if terminations.any():
            assert np.array_equal(final["match"] >= 0, terminations)
            assert np.allclose(final["match"][terminations], 1)
            finished += terminations.sum()
        total[terminations] = 0
    assert finished > 80


def test_returned_arrays_can_be_modified_safely(toy):
    vectors = [CrystalSkeletonVectorEnv(4, collection=toy, split="all") for _ in range(2)]
    for vector in vectors:
        vector.reset(seed=1)
    for action in range(25):
        modified, reference = (vector.step(np.full(4, action % 5)) for vector in vectors)
        assert_same(modified, reference)
        for value in (*modified[0].values(), *modified[1:4], *modified[4].values()):
            value.fill(1)


def test_options_hold_for_all_or_for_each_environment(toy):
    vector = CrystalSkeletonVectorEnv(3, collection=toy)
    _, infos = vector.reset(seed=0, options={"crystal": "toy-5", "start_site": 4})
    assert infos["crystal"].tolist() == [5, 5, 5]
    assert infos["start_site"].tolist() == [4, 4, 4]
    options = {"crystal": ["toy-5", "toy-2", 11], "start_site": [4, 2, 0]}
    _, infos = vector.reset(seed=0, options=options)
    assert infos["crystal"].tolist() == [5, 2, 11]
    assert infos["start_site"].tolist() == [4, 2, 0]
    expected = [toy.codes()[c, s] - 1 for c, s in ((5, 4), (2, 2), (11, 0))]
    assert vector.expert_action().tolist() == expected


def test_masks_are_batched(toy):
    def no_repeat(table, state):
        """Allow each element once."""
        used = (state.elements[..., None] == np.arange(1, table.n_elements + 1)).any(axis=-2)
        return ~used

    vector = CrystalSkeletonVectorEnv(2, collection=toy, mask=no_repeat)
    vector.reset(seed=0, options={"crystal": 5})
    *_, infos = vector.step(np.array([0, 3]))
    assert infos["action_mask"].dtype == np.int8
    assert infos["action_mask"].tolist() == [[0, 1, 1, 1, 1], [1, 1, 1, 0, 1]]
    assert vector.action_masks().tolist() == infos["action_mask"].astype(bool).tolist()
    single = CrystalSkeletonEnv(collection=toy, mask=no_repeat)
    single.reset(seed=0, options={"crystal": 5})
    assert single.step(3)[-1]["action_mask"].tolist() == [1, 1, 1, 0, 1]


def test_gymnasium_vector_wrappers_work(toy):
    vector = gym.wrappers.vector.RecordEpisodeStatistics(
        gym.make_vec("CrystalSkeleton-v0", 4, collection=toy)
    )
    vector.reset(seed=0)
    lengths = []
    for _ in range(30):
        *_, infos = vector.step(vector.unwrapped.expert_action())
        if "episode" in infos:
            ended = infos["_episode"]
            lengths += infos["episode"]["l"][ended].tolist()
            assert np.allclose(infos["episode"]["r"][ended], 1)
    assert len(lengths) > 20
    assert set(lengths) <= set(toy.n_sites[toy.in_split("train")].tolist())


def test_make_vec_makes_the_native_vector_by_default():
    native = gym.make_vec("crystal_gym:CrystalSkeleton-v0", 4, autoreset_mode="SameStep")
    assert isinstance(native, CrystalSkeletonVectorEnv)
    assert native.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert CrystalSkeletonVectorEnv.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    sync = gym.make_vec("CrystalSkeleton-v0", 2, vectorization_mode="sync")
    assert sync.observation_space == gym.make_vec("CrystalSkeleton-v0", 2).observation_space
    sync.reset(seed=0)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_asynchronous_vectors_work(context):
    vector = gym.make_vec(
        "crystal_gym:CrystalSkeleton-v0",
        2,
        vectorization_mode="async",
        vector_kwargs={"context": context},
    )
    try:
        observation, _ = vector.reset(seed=0)
        assert observation in vector.observation_space
        *_, infos = vector.step(np.array([0, 1]))
        assert infos["action_mask"].shape == (2, vector.single_action_space.n)
    finally:
        vector.close()


def test_rewards_get_the_finished_episodes_in_one_batch(toy):
    class CountingReward(Reward):
        components = ("atoms",)
        sizes = ()

        def on_finish(self, table, state):
            self.sizes += (len(state.crystal),)
            return (state.elements > 0).sum(axis=1), {"atoms": table.n_sites[state.crystal]}

    reward = CountingReward()
    vector = CrystalSkeletonVectorEnv(16, collection=toy, reward=reward)
    vector.reset(seed=0, options={"crystal": 2})
    for _ in range(3):
        _, rewards, terminations, _, infos = vector.step(np.zeros(16, int))
    assert terminations.all()
    assert (rewards == 3).all()
    assert (infos["atoms"] == 3).all()
    assert reward.sizes == (16,)


def test_scalar_reward_holds_for_all_environments(toy):
    class ConstantReward(Reward):
        def on_fill(self, table, state, element):
            return 0.25

    vector = CrystalSkeletonVectorEnv(3, collection=toy, reward=ConstantReward())
    vector.reset(seed=0, options={"crystal": ["toy-2", "toy-5", "toy-5"]})
    rewards = [vector.step(np.zeros(3, int))[1].tolist() for _ in range(4)]
    assert rewards == [[0.25] * 3] * 3 + [[0, 0.25, 0.25]]


@pytest.mark.parametrize(
    "actions", [[0, 1], [0, 1, 5], [0, -1, 2], [0.0, 1.0, 2.0], [[0, 1, 2]], "abc"]
)
def test_invalid_actions_are_rejected_without_changing_the_state(toy, actions):
    vectors = [CrystalSkeletonVectorEnv(3, collection=toy) for _ in range(2)]
    for vector in vectors:
        vector.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="3 integers from 0 to 4"):
        vectors[0].step(actions)
    first, second = (vector.step(np.array([0, 1, 2])) for vector in vectors)
    assert_same(first[0], second[0])


def test_methods_need_a_reset(toy):
    vector = CrystalSkeletonVectorEnv(2, collection=toy, render_mode="ansi")
    for call in (lambda: vector.step(np.zeros(2, int)), vector.render, vector.expert_action):
        with pytest.raises(gym.error.ResetNeeded, match="reset"):
            call()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"autoreset_mode": "Never"}, "Unknown autoreset mode 'Never'"),
        ({"num_envs": 0}, "Expected num_envs to be at least 1, got 0"),
        ({"render_mode": "human"}, "Unknown render mode 'human'"),
        ({"reward": "dft"}, "Unknown reward 'dft'"),
    ],
)
def test_invalid_arguments_are_rejected(toy, settings, message):
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        CrystalSkeletonVectorEnv(collection=toy, **settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crystal": [1, 2]}, r"one value or 3 values .*got shape \(2,\)"),
        ({"crystal": [1, 2, "toy-99"]}, "No crystal 'toy-99'"),
        ({"crystal": [0, 5, 5], "start_site": [0, 6, 1]}, "from 0 to 5 for crystal 'toy-5', got 6"),
        ({"reset_mask": np.ones(2, bool)}, r"'reset_mask' to be a bool array of shape \(3,\)"),
        ({"reset_mask": np.zeros(3, bool)}, "with at least one True"),
        ({"reset_mask": np.ones(3)}, "'reset_mask' to be a bool array"),
        ({"keep": [0, 9]}, r"Expected crystals with the site 9 for keep=\[0, 9\], got 'toy-"),
        ({"keep": 1}, "To keep site 1, pass"),
    ],
)
def test_invalid_options_are_rejected(toy, options, message):
    vector = CrystalSkeletonVectorEnv(3, collection=toy)
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        vector.reset(options=options)

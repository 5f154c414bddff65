"""The native vector environment, held against the single one and Gymnasium's own vectors."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import crystal_gym
from crystal_gym.envs.generator import TRAVERSALS
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.rewards import Reward


def assert_in_row(values, row, single):
    """Row ``row`` of batched values equals those of a single environment, types included."""
    assert values.keys() == single.keys()
    for key, value in single.items():
        assert np.array_equal(values[key][row], value), key
        assert values[key].dtype == np.asarray(value).dtype, key


def infos_in_row(infos, row):
    """The infos that hold for one environment."""
    return {
        key: value
        for key, value in infos.items()
        if not key.startswith("_") and infos[f"_{key}"][row]
    }


@pytest.mark.parametrize("reward", ["match", "validity", len])
@pytest.mark.parametrize("traversal", TRAVERSALS)
def test_a_vector_of_one_plays_the_single_environments_episodes(toy, traversal, reward):
    settings = {"collection": toy, "traversal": traversal, "reward": reward}
    single = CrystalSkeletonEnv(**settings)
    vector = CrystalSkeletonVectorEnv(1, **settings)
    rng = np.random.default_rng(0)
    seen, info = single.reset(seed=7)
    batch, infos = vector.reset(seed=7)
    episodes, terminated = 0, False
    while episodes < 40:
        assert_in_row(batch, 0, seen)
        assert_in_row(infos_in_row(infos, 0), 0, info)
        action = int(rng.integers(5))
        if terminated:
            seen, info = single.reset()
            expected = (0.0, False)
            terminated = False
            episodes += 1
        else:
            seen, paid, terminated, _, info = single.step(action)
            expected = (paid, terminated)
        batch, rewards, terminations, truncations, infos = vector.step(np.array([action]))
        assert (rewards[0], terminations[0]) == expected
        assert not truncations.any()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_vector_behaves_as_gymnasiums_vector_of_singles(toy, mode):
    """All sources of randomness taken away, both must return the same, key by key."""
    only = toy.take([5, 5])  # the same six sites twice
    settings = {"collection": only, "split": "all", "start_site": 2, "traversal": "index"}
    settings["reward"] = "validity"
    ours = CrystalSkeletonVectorEnv(3, autoreset_mode=mode, **settings)
    theirs = SyncVectorEnv(
        [lambda: CrystalSkeletonEnv(**settings) for _ in range(3)], autoreset_mode=mode
    )
    one, other = ours.reset(seed=0), theirs.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        compare(*one, *other)
        actions = rng.integers(4, size=3)
        (obs, rewards, ends, cuts, infos) = ours.step(actions)
        (obs2, rewards2, ends2, cuts2, infos2) = theirs.step(actions)
        for mine, their in ((rewards, rewards2), (ends, ends2), (cuts, cuts2)):
            assert np.array_equal(mine, their)
            assert mine.dtype == their.dtype
        one, other = (obs, infos), (obs2, infos2)


def compare(obs, infos, obs2, infos2):
    same(obs, obs2)
    # Which of the two equal crystals it is, is drawn.
    for tree in (infos, infos2):
        for part in (tree, tree.get("final_info", {})):
            part.pop("crystal", None)
    same(infos, infos2)


def same(first, second):
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            same(first[key], second[key])
    elif isinstance(first, np.ndarray) and first.dtype == object:
        for one, other in zip(first, second, strict=True):
            same(one, other)
    else:
        assert np.array_equal(first, second)


def test_observations_lie_in_the_batched_space(toy):
    vector = CrystalSkeletonVectorEnv(6, collection=toy, split="all")
    observation, _ = vector.reset(seed=0)
    vector.action_space.seed(0)
    for _ in range(30):
        assert observation in vector.observation_space
        assert {key: value.dtype for key, value in observation.items()} == {
            key: space.dtype for key, space in vector.observation_space.items()
        }
        observation, *_ = vector.step(vector.action_space.sample())


def test_two_vectors_with_one_seed_play_the_same_episodes(toy):
    vectors = [CrystalSkeletonVectorEnv(5, collection=toy, traversal="random") for _ in range(2)]
    one, other = (vector.reset(seed=4) for vector in vectors)
    for action in range(40):
        same(one[0], other[0])
        same(one[-1], other[-1])
        one, other = (vector.step(np.full(5, action % 5)) for vector in vectors)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_the_expert_earns_one_in_every_episode(toy, mode):
    vector = CrystalSkeletonVectorEnv(8, collection=toy, split="all", autoreset_mode=mode)
    vector.reset(seed=0)
    total, finished = np.zeros(8), 0
    for _ in range(60):
        _, rewards, terminations, _, infos = vector.step(vector.expert_action())
        total += rewards
        assert np.allclose(total[terminations], 1)
        ends = infos.get("final_info", {}) if mode == "SameStep" else infos
        if terminations.any():
            assert np.array_equal(ends["_match"], terminations)
            assert np.allclose(ends["match"][terminations], 1)
            finished += terminations.sum()
        total[terminations] = 0
    assert finished > 80


def test_the_arrays_handed_out_are_fresh(toy):
    vectors = [CrystalSkeletonVectorEnv(4, collection=toy, split="all") for _ in range(2)]
    for vector in vectors:
        vector.reset(seed=1)
    for action in range(25):
        spoiled, clean = (vector.step(np.full(4, action % 5)) for vector in vectors)
        same(spoiled[0], clean[0])
        same(spoiled[-1], clean[-1])
        assert np.array_equal(spoiled[2], clean[2])
        for value in (*spoiled[0].values(), *spoiled[1:4], *spoiled[4].values()):
            value.fill(1)


def test_options_pick_for_all_or_for_each(toy):
    vector = CrystalSkeletonVectorEnv(3, collection=toy)
    _, infos = vector.reset(seed=0, options={"crystal": "toy-5", "start_site": 4})
    assert infos["crystal"].tolist() == [5, 5, 5]
    assert infos["start_site"].tolist() == [4, 4, 4]
    chosen = {"crystal": ["toy-5", "toy-2", 11], "start_site": [4, 2, 0]}
    _, infos = vector.reset(seed=0, options=chosen)
    assert infos["crystal"].tolist() == [5, 2, 11]
    assert infos["start_site"].tolist() == [4, 2, 0]
    assert (
        vector.expert_action() == [toy.codes()[c, s] - 1 for c, s in ((5, 4), (2, 2), (11, 0))]
    ).all()


def test_masks_come_in_batches(toy):
    def no_repeat(table, state):
        """Each element once."""
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


def test_gymnasiums_wrappers_work_on_it(toy):
    vector = gym.wrappers.vector.RecordEpisodeStatistics(
        gym.make_vec("CrystalSkeleton-v0", 4, collection=toy)
    )
    vector.reset(seed=0)
    lengths = []
    for _ in range(30):
        *_, infos = vector.step(vector.unwrapped.expert_action())
        if "episode" in infos:
            done = infos["_episode"]
            lengths += infos["episode"]["l"][done].tolist()
            assert np.allclose(infos["episode"]["r"][done], 1)
    assert len(lengths) > 20
    assert set(lengths) <= set(toy.n_sites[toy.in_split("train")].tolist())


def test_make_vec_gives_the_native_vector_and_the_others_on_demand():
    native = gym.make_vec("crystal_gym:CrystalSkeleton-v0", 4, autoreset_mode="SameStep")
    assert isinstance(native, CrystalSkeletonVectorEnv)
    assert native.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert CrystalSkeletonVectorEnv.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    sync = gym.make_vec("CrystalSkeleton-v0", 2, vectorization_mode="sync")
    assert sync.observation_space == gym.make_vec("CrystalSkeleton-v0", 2).observation_space
    sync.reset(seed=0)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_asynchronous_vectors_find_the_environment(context):
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


def test_rewards_see_the_finished_episodes_in_one_batch(toy):
    class Counting(Reward):
        sizes = ()

        def on_finish(self, table, crystal, elements):
            self.sizes += (len(crystal),)
            return (elements > 0).sum(axis=1), {"atoms": table.n_sites[crystal]}

    reward = Counting()
    vector = CrystalSkeletonVectorEnv(16, collection=toy, reward=reward)
    vector.reset(seed=0, options={"crystal": 2})
    for _ in range(3):
        _, rewards, terminations, _, infos = vector.step(np.zeros(16, int))
    assert terminations.all()
    assert (rewards == 3).all()
    assert (infos["atoms"] == 3).all()
    assert reward.sizes == (16,)


def test_a_reward_that_is_one_number_holds_for_all(toy):
    class Constant(Reward):
        def on_fill(self, table, crystal, site, element):
            return 0.25

    vector = CrystalSkeletonVectorEnv(3, collection=toy, reward=Constant())
    vector.reset(seed=0, options={"crystal": ["toy-2", "toy-5", "toy-5"]})
    paid = [vector.step(np.zeros(3, int))[1].tolist() for _ in range(4)]
    assert paid == [[0.25] * 3] * 3 + [[0, 0.25, 0.25]]


@pytest.mark.parametrize(
    "actions", [[0, 1], [0, 1, 5], [0, -1, 2], [0.0, 1.0, 2.0], [[0, 1, 2]], "abc"]
)
def test_bad_actions_are_refused_and_nothing_is_lost(toy, actions):
    vectors = [CrystalSkeletonVectorEnv(3, collection=toy) for _ in range(2)]
    for vector in vectors:
        vector.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="3 integers from 0 to 4"):
        vectors[0].step(actions)
    one, other = (vector.step(np.array([0, 1, 2])) for vector in vectors)
    same(one[0], other[0])


def test_no_step_before_reset(toy):
    vector = CrystalSkeletonVectorEnv(2, collection=toy, render_mode="ansi")
    for move in (lambda: vector.step(np.zeros(2, int)), vector.render, vector.expert_action):
        with pytest.raises(gym.error.ResetNeeded, match="reset"):
            move()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"autoreset_mode": "Disabled"}, "Unknown autoreset mode 'Disabled'"),
        ({"num_envs": 0}, "at least one"),
        ({"render_mode": "human"}, "Unknown render mode 'human'"),
        ({"reward": "dft"}, "Unknown reward 'dft'"),
    ],
)
def test_bad_arguments_are_named(toy, settings, message):
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        CrystalSkeletonVectorEnv(collection=toy, **settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crystal": [1, 2]}, r"takes one, or 3; got shape \(2,\)"),
        ({"crystal": [1, 2, "toy-99"]}, "No crystal 'toy-99'"),
        ({"crystal": [0, 5, 5], "start_site": [0, 6, 1]}, "Start site 6 is none of the 6 sites"),
        ({"reset_mask": np.ones(3, bool)}, "Unknown reset option 'reset_mask'"),
    ],
)
def test_bad_options_are_named(toy, options, message):
    vector = CrystalSkeletonVectorEnv(3, collection=toy)
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        vector.reset(options=options)

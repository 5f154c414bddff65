"""Test ``max_episode_steps`` of the single and the vector environment."""

import gymnasium as gym
import numpy as np
import pytest
from env_episodes import assert_same
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeAwareObservation

import crystal_gym
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.rewards import Reward

ID = "crystal_gym:CrystalSkeleton-v0"


class CompleteCrystals(Reward):
    """A reward of 10 at the end that fails for incomplete crystals."""

    components = ("atoms",)

    def on_fill(self, table, state, element):
        return 0.5

    def on_finish(self, table, state):
        assert (state.elements != 0).all()
        return np.full(len(state.crystal), 10.0), {"atoms": table.n_sites[state.crystal]}


def without_crystal(infos):
    """Return infos without the row of the crystal, which is drawn from different streams."""
    infos = {key: value for key, value in infos.items() if not key.endswith("crystal")}
    return {k: without_crystal(v) if isinstance(v, dict) else v for k, v in infos.items()}


def test_the_registered_environment_has_no_limit(toy):
    assert gym.spec("CrystalSkeleton-v0").max_episode_steps is None
    assert gym.make_vec(ID, 2, collection=toy).spec.max_episode_steps is None


@pytest.mark.parametrize("limit", [1, 3, 6, 7, -1])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_native_vector_truncates_like_a_gymnasium_vector(toy, mode, limit):
    settings = {"collection": toy.take([5, 5]), "split": "all", "start_site": 2}
    settings |= {"reward": CompleteCrystals(), "max_episode_steps": limit}
    native = gym.make_vec(ID, 3, autoreset_mode=mode, **settings)
    sync = SyncVectorEnv([lambda: gym.make(ID, **settings) for _ in range(3)], autoreset_mode=mode)
    found, expected = native.reset(seed=0), sync.reset(seed=0)
    rng = np.random.default_rng(0)
    truncated = 0
    for _ in range(20):
        assert_same(found[:-1], expected[:-1])
        assert_same(without_crystal(found[-1]), without_crystal(expected[-1]))
        actions = rng.integers(4, size=3)
        found, expected = native.step(actions), sync.step(actions)
        truncated += found[3].sum()
        ended = found[2] | found[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            mask = {"reset_mask": ended}
            found, expected = native.reset(options=dict(mask)), sync.reset(options=dict(mask))
    assert (truncated > 0) == (limit in {1, 3, 6})


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_vector_of_one_equals_the_single_environment(toy, limit):
    settings = {"collection": toy, "split": "all", "reward": "validity", "max_episode_steps": limit}
    single, vector = gym.make(ID, **settings), gym.make_vec(ID, 1, **settings)
    single.reset(seed=3)
    vector.reset(seed=3)
    ends = set()
    for step in range(60):
        observation, reward, terminated, truncated, info = single.step(step % 5)
        batch, rewards, terminations, truncations, infos = vector.step(np.array([step % 5]))
        assert (rewards[0], terminations[0], truncations[0]) == (reward, terminated, truncated)
        assert np.array_equal(batch["element"][0], observation["element"])
        assert (info["match"] >= 0) == (infos["match"][0] >= 0) == terminated
        ends.add((terminated, truncated))
        if terminated or truncated:
            single.reset()
            vector.step(np.array([0]))
    # Cells have 1 to 6 sites, so some episodes end before the limit, some at it, some after it.
    assert ends >= {(False, True), (True, True)}
    assert ((True, False) in ends) == (limit > 1)


@pytest.mark.parametrize("mode", [None, "vector_entry_point", "sync", "async"])
def test_every_vectorization_mode_truncates(mode):
    settings = {} if mode is None else {"vectorization_mode": mode}
    vector = gym.make_vec(ID, num_envs=2, max_episode_steps=3, **settings)
    try:
        vector.reset(seed=0)
        for step in range(1, 6):
            _, rewards, terminations, truncations, infos = vector.step(np.array([0, 1]))
            assert not terminations.any()
            assert truncations.tolist() == [step == 3] * 2
            assert (infos["match"] == -1).all()
        assert (rewards <= 0.2).all()
    finally:
        vector.close()


def test_a_truncated_episode_has_no_reward_at_the_end(toy):
    reward = CompleteCrystals()
    vector = CrystalSkeletonVectorEnv(2, collection=toy, reward=reward, max_episode_steps=3)
    vector.reset(seed=0, options={"crystal": ["toy-1", "toy-5"]})
    rewards = np.array([vector.step(np.zeros(2, int))[1] for _ in range(3)])
    # The crystal with two sites is complete after two steps; the third step starts another one.
    assert rewards.T.tolist() == [[0.5, 10.5, 0.0], [0.5, 0.5, 0.5]]


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_the_limit_is_kept_in_the_spec(toy, make):
    spec = make(ID, max_episode_steps=2).spec
    env = make(type(spec).from_json(spec.to_json()) if make is gym.make else spec)
    env.reset(seed=0)
    actions = [env.step(env.action_space.sample())[3] for _ in range(2)]
    assert np.ravel(actions).tolist() == [False, True]


def test_time_limit_passes_the_checks_and_time_can_be_observed(toy):
    env = gym.make(ID, collection=toy, max_episode_steps=3)
    with pytest.warns(UserWarning, match="wrapper applied"):
        check_env(env, skip_render_check=True, skip_close_check=True)
    env = TimeAwareObservation(env, flatten=False)
    observation, _ = env.reset(seed=0, options={"crystal": "toy-5"})
    assert observation in env.observation_space
    times = [env.step(0)[0]["time"].item() for _ in range(3)]
    assert times == sorted(set(times))


@pytest.mark.parametrize("limit", [0, -2, 2.5, "3", True])
def test_invalid_limits_are_rejected(toy, limit):
    message = "Expected max_episode_steps to be a positive integer"
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        gym.make_vec(ID, 2, collection=toy, max_episode_steps=limit)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_episode_steps": 3}, "Pass it to gym.make or gym.make_vec"),
        ({"autoreset_mode": "SameStep"}, "pass it to gym.make_vec in vector_kwargs"),
        ({"colection": "perov-5"}, "argument 'colection'. Did you mean 'collection'"),
    ],
)
def test_unknown_arguments_are_rejected(settings, message):
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        CrystalSkeletonEnv(**settings)


def test_unknown_arguments_raise_a_type_error_as_python_does(toy):
    for make in (CrystalSkeletonEnv, CrystalSkeletonVectorEnv):
        with pytest.raises(TypeError, match="got an unexpected keyword argument 'frameskip'"):
            make(collection=toy, frameskip=1)
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'frameskip'"):
        gym.make("CrystalSkeleton-v0", frameskip=1)

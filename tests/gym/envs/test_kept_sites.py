"""Partial starts: kept sites have their true elements, and the agent fills the others."""

import gymnasium as gym
import numpy as np
import pytest
from env_episodes import play
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

import crystal_gym
from crystal_gym.envs.generator import TRAVERSALS, InstanceGenerator
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode.kept_sites import kept_first


@given(st.data())
def test_kept_sites_come_first_and_both_groups_keep_their_order(data):
    n, extra = data.draw(st.integers(1, 7)), data.draw(st.integers(0, 2))
    order = [*data.draw(st.permutations(range(n))), *[-1] * extra]
    kept = data.draw(st.lists(st.booleans(), min_size=n + extra, max_size=n + extra))
    new, count = kept_first(np.array(order), np.array(kept))
    sites = order[:n]
    expected = [s for s in sites if kept[s]] + [s for s in sites if not kept[s]] + order[n:]
    assert new.tolist() == expected
    assert count == sum(kept[:n])
    batch, counts = kept_first(np.array([order] * 2), np.array([kept] * 2))
    assert batch.tolist() == [expected] * 2
    assert counts.tolist() == [count] * 2


@pytest.mark.parametrize("traversal", TRAVERSALS)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 1.0])
def test_a_fraction_of_the_sites_is_kept(toy, traversal, fraction):
    generator = InstanceGenerator(
        toy, split="all", traversal=traversal, start="partial", keep=fraction, max_sites=8
    )
    drawn = generator.draw(np.random.default_rng(0), 400)
    n_sites = toy.n_sites[drawn.crystal]
    expected = np.minimum(np.floor(fraction * n_sites + 0.5), n_sites - 1)
    assert np.array_equal(drawn.n_kept, expected)
    for order, n in zip(drawn.order, n_sites, strict=True):
        assert sorted(order[:n].tolist()) == list(range(n))
        assert (order[n:] == -1).all()
    # With six sites, every site is kept in some episodes and is the first to fill in others.
    largest = n_sites == 6
    if 0 < fraction < 1:
        kept = {site for row, k in zip(drawn.order[largest], drawn.n_kept[largest], strict=True)
                for site in row[:k].tolist()}  # fmt: skip
        assert kept == set(range(6))
    first = np.take_along_axis(drawn.order, drawn.n_kept[:, None], axis=1)[largest]
    assert set(first.ravel().tolist()) == set(range(6))


@pytest.mark.parametrize("settings", [
    {"keep": 0.4}, {"keep": [3, 1]}, {"keep": 0.7, "traversal": "random"}, {},
])  # fmt: skip
def test_a_batch_draws_the_same_instances_as_single_draws(toy, settings):
    crystals = toy.take([5, 4, 11])
    generator = InstanceGenerator(crystals, split="all", start="partial", **settings)
    batch = generator.draw(np.random.default_rng(3), 50)
    rng = np.random.default_rng(3)
    for crystal, order, n_kept in zip(*batch[:3], strict=True):
        single = generator.draw(rng)
        assert single.crystal == crystal
        assert single.order.tolist() == order.tolist()
        assert single.n_kept == n_kept


def test_kept_sites_hold_the_true_elements_and_do_not_count(toy):
    crystals = toy.take([5, 4])
    env = CrystalSkeletonEnv(collection=crystals, split="all", start="partial", keep=[0, 2])
    for seed in range(8):
        first, *_ = env.reset(seed=seed)
        row = env._state.crystal
        true = crystals.codes()[row]
        assert np.flatnonzero(first["element"] > 0).tolist() == [0, 2]
        assert first["element"][[0, 2]].tolist() == true[[0, 2]].tolist()
        n_steps = crystals.n_sites[row] - 2
        observations, rewards, infos = play(env, lambda *_: env.expert_action(), seed=seed)
        assert len(rewards) == n_steps
        assert sum(rewards) == pytest.approx(1)
        assert infos[-1]["match"] == 1
        assert infos[0]["start_site"] == observations[0]["focus"]
        wrong = lambda *_: (env.expert_action() + 1) % 4  # noqa: E731
        _, rewards, infos = play(env, wrong, seed=seed)
        assert (sum(rewards), infos[-1]["match"]) == (0, 0)


def test_start_sites_are_drawn_uniformly_from_the_sites_to_fill(toy):
    generator = InstanceGenerator(toy.take([5]), split="all", start="partial", keep=[4, 1])
    drawn = generator.draw(np.random.default_rng(0), 4000)
    sites, counts = np.unique(drawn.order[:, 2], return_counts=True)
    assert sites.tolist() == [0, 2, 3, 5]
    assert abs(counts - 1000).max() < 100


def test_single_and_vector_environment_play_the_same_partial_episodes(toy):
    settings = {"collection": toy, "split": "all", "start": "partial", "keep": 0.5}
    single = CrystalSkeletonEnv(**settings)
    vector = CrystalSkeletonVectorEnv(1, autoreset_mode="SameStep", **settings)
    observation, _ = single.reset(seed=5)
    batch, _ = vector.reset(seed=5)
    for step in range(60):
        for name, values in observation.items():
            assert np.array_equal(batch[name][0], values)
        observation, reward, terminated, _, info = single.step(step % 5)
        batch, rewards, terminations, _, infos = vector.step(np.array([step % 5]))
        assert (rewards[0], terminations[0]) == (reward, terminated)
        if terminated:
            assert infos["final_info"]["match"][0] == info["match"]
            observation, _ = single.reset()


def test_the_step_limit_counts_the_steps_of_the_agent(toy):
    settings = {"collection": toy.take([5]), "split": "all", "start": "partial", "keep": [0, 1]}
    vector = gym.make_vec("CrystalSkeleton-v0", 2, max_episode_steps=3, **settings)
    vector.reset(seed=0)
    ends = [vector.step(np.zeros(2, int))[3].all() for _ in range(3)]
    assert ends == [False, False, True]


def test_kept_sites_are_a_reset_option(toy):
    env = CrystalSkeletonEnv(collection=toy, split="all")
    observation, info = env.reset(seed=0, options={"crystal": "toy-5", "keep": [1, 4]})
    assert np.flatnonzero(observation["element"] > 0).tolist() == [1, 4]
    assert info["start_site"] not in {1, 4}
    observation, _ = env.reset(seed=0, options={"crystal": "toy-5"})
    assert not (observation["element"] > 0).any()


def test_check_env_accepts_partial_starts(toy):
    env = gym.make("CrystalSkeleton-v0", collection=toy, start="partial").unwrapped
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "full"}, "Unknown start 'full'"),
        ({"keep": 0.5}, "Pass start='partial'"),
        ({"start": "partial", "keep": 1.5}, "fraction from 0 to 1, got 1.5"),
        ({"start": "partial", "keep": float("nan")}, "fraction from 0 to 1, got nan"),
        ({"start": "partial", "keep": 1}, r"To keep site 1, pass \[1\]"),
        ({"start": "partial", "keep": "O"}, "list of different site numbers, got 'O'"),
        ({"start": "partial", "keep": [1, 1]}, "list of different site numbers"),
        ({"start": "partial", "keep": [-1]}, "list of different site numbers"),
        ({"start": "partial", "keep": [True]}, "list of different site numbers"),
        ({"start": "partial", "keep": [5]}, "Expected crystals with the site 5"),
        ({"start": "partial", "keep": [0]}, "'toy-0' with 1 sites. Keep other sites"),
    ],
)
def test_invalid_partial_starts_are_rejected(toy, settings, message):
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        CrystalSkeletonEnv(collection=toy, split="all", **settings)


def test_a_kept_start_site_is_rejected(toy):
    settings = {"collection": toy.take([5]), "split": "all", "start": "partial", "keep": [0, 1]}
    with pytest.raises(crystal_gym.CrystalGymError, match="start_site that is not kept"):
        CrystalSkeletonEnv(start_site=1, **settings)
    env = CrystalSkeletonEnv(**settings)
    with pytest.raises(crystal_gym.CrystalGymError, match="start_site that is not kept"):
        env.reset(options={"start_site": 0})

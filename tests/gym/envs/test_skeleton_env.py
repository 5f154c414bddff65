"""The single environment: its interface and its episodes."""

import gymnasium as gym
import numpy as np
import pytest
from env_episodes import assert_same, play
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import crystal_gym
from crystal_gym.envs.generator import TRAVERSALS, InstanceGenerator
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.episode import EpisodeTable

# Stable-Baselines3 recommends flat observations; the policies of this project do not need them.
SHAPE_WARNING = "ignore:Your observation .* has an unconventional shape:UserWarning"

SETTINGS = [
    {"reward": "match"},
    {"split": "val", "traversal": "random", "reward": "validity"},
    {"split": "all", "traversal": "index", "start_site": 0, "max_sites": 8},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_environment_passes_the_gymnasium_checker(toy, settings):
    # The checker would open a window for `human`; test_rendering.py covers the render modes.
    env = gym.make("CrystalSkeleton-v0", collection=toy, **settings)
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.filterwarnings(SHAPE_WARNING)
@pytest.mark.parametrize("settings", SETTINGS)
def test_environment_passes_the_stable_baselines3_checker(toy, settings):
    from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

    check_env_for_sb3(CrystalSkeletonEnv(collection=toy, **settings))


@pytest.mark.parametrize("traversal", TRAVERSALS)
def test_equal_seeds_give_equal_episodes(toy, traversal):
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 5, 1000).tolist()
    runs = []
    for _ in range(2):
        env = CrystalSkeletonEnv(collection=toy, traversal=traversal)
        queue = iter(actions)
        first = play(env, lambda *_, queue=queue: next(queue), seed=3)
        runs.append([first] + [play(env, lambda *_, queue=queue: next(queue)) for _ in range(30)])
    assert_same(*runs)


@pytest.mark.parametrize("traversal", TRAVERSALS)
def test_expert_actions_reproduce_every_crystal(toy, traversal):
    env = CrystalSkeletonEnv(collection=toy, split="all", traversal=traversal)
    for row in range(len(toy)):
        observations, rewards, infos = play(
            env, lambda *_: env.expert_action(), options={"crystal": row}
        )
        n = toy.n_sites[row]
        assert len(rewards) == n
        assert sum(rewards) == pytest.approx(1)
        assert infos[-1]["match"] == pytest.approx(1)
        assert infos[-1]["crystal"] == row
        numbers = toy.vocabulary.decode(observations[-1]["element"])
        assert np.array_equal(numbers, toy.atomic_numbers[row])


def test_return_is_the_fraction_of_matched_sites(toy):
    env = CrystalSkeletonEnv(collection=toy, split="all")
    env.action_space.seed(0)
    for seed in range(40):
        observations, rewards, infos = play(env, lambda *_: env.action_space.sample(), seed=seed)
        row = infos[0]["crystal"]
        n = toy.n_sites[row]
        fraction = (observations[-1]["element"] == toy.codes()[row])[:n].mean()
        assert sum(rewards) == pytest.approx(fraction)
        assert infos[-1]["match"] == pytest.approx(fraction)


def test_observations_contain_only_the_skeleton_and_the_filled_sites(toy):
    env = CrystalSkeletonEnv(collection=toy, split="all", max_sites=7)
    row = toy.index("toy-2")  # three sites
    skeleton = toy.skeleton(row)
    observation, _ = env.reset(options={"crystal": "toy-2", "start_site": 1})
    assert observation["element"].tolist() == [0, 0, 0, -1, -1, -1, -1]
    assert np.allclose(observation["frac_coords"][:3], skeleton.frac_coords)
    assert not observation["frac_coords"][3:].any()
    assert np.allclose(observation["lattice"], skeleton.parameters)
    edges = observation["edges"]
    assert np.array_equal(edges[edges[:, 0] >= 0], skeleton.edges)
    assert (edges[len(skeleton.edges) :] == -1).all()
    for position, site in enumerate(skeleton.traversal(1).tolist()):
        assert observation["focus"] == site
        observation, _, terminated, _, _ = env.step(4)
        assert observation["element"][site] == 5
        assert (observation["element"] == 5).sum() == position + 1
        assert terminated == (position == 2)
    assert observation["focus"] == site


def test_crystals_of_equal_geometry_have_equal_observations():
    from pymatgen.core import Lattice, Structure

    coords = [[0, 0, 0], [0.5, 0.5, 0.5]]
    structures = [Structure(Lattice.cubic(4), s, coords) for s in (["Cs", "Cl"], ["Ni", "Al"])]
    env = CrystalSkeletonEnv(collection=structures)
    first, second = (env.reset(options={"crystal": row, "start_site": 0})[0] for row in (0, 1))
    assert_same(first, second)


def test_options_do_not_change_the_random_stream(toy):
    env = CrystalSkeletonEnv(collection=toy)
    env.reset(seed=1)
    drawn = [env.reset()[1]["crystal"] for _ in range(5)]
    env.reset(seed=1, options={"crystal": 3, "start_site": 0})
    assert [env.reset()[1]["crystal"] for _ in range(5)] == drawn


def test_fixed_start_site_begins_every_episode(toy):
    env = CrystalSkeletonEnv(collection=toy, start_site=0)
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        assert info["start_site"] == observation["focus"] == 0
    assert env.reset(options={"crystal": 5, "start_site": 3})[1]["start_site"] == 3


def test_returned_arrays_can_be_modified_safely(toy):
    env = CrystalSkeletonEnv(collection=toy, split="all")
    reference = CrystalSkeletonEnv(collection=toy, split="all")

    def overwrite(observation, info):
        for value in (*observation.values(), info["action_mask"], env.action_masks()):
            if isinstance(value, np.ndarray):
                value.fill(99)
        return 2

    for seed in range(5):
        play(env, overwrite, seed=seed)
    assert_same(play(env, lambda *_: 2, seed=9), play(reference, lambda *_: 2, seed=9))


def test_environment_can_be_remade_from_its_json_spec():
    env = gym.make(
        "CrystalSkeleton-v0",
        collection="goldschmidt",
        split="val",
        split_by="composition",
        vocabulary=list(crystal_gym.load_collection("goldschmidt").vocabulary.symbols[::-1]),
        traversal="random",
        start_site=1,
        reward="validity",
        mask="none",
        max_sites=6,
        render_mode="ansi",
    )
    remade = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert remade.unwrapped.table.vocabulary == env.unwrapped.table.vocabulary
    assert_same(play(env, lambda *_: 4, seed=5), play(remade, lambda *_: 4, seed=5))


def test_vocabulary_orders_the_actions(toy):
    symbols = ["F", "O", "Ti", "Mg", "Na", "Xe"]
    env = CrystalSkeletonEnv(collection=toy, vocabulary=symbols)
    assert env.action_space.n == 6
    env.reset(seed=0, options={"crystal": 0})
    number = toy.atomic_numbers[0, 0]
    assert env.table.vocabulary.atomic_numbers[env.expert_action()] == number


def test_environments_share_the_arrays_of_a_named_collection():
    first, second = (gym.make("CrystalSkeleton-v0").unwrapped for _ in range(2))
    assert first.table is second.table


def test_custom_generator_draws_the_episodes(toy):
    class AlternatingGenerator(InstanceGenerator):
        count = 0

        def draw(self, rng, size=None, options=None):
            self.count += 1
            return super().draw(rng, size, {"crystal": self.count % 2})

    env = CrystalSkeletonEnv(generator=AlternatingGenerator(toy, split="all"))
    assert [env.reset()[1]["crystal"] for _ in range(4)] == [1, 0, 1, 0]


def test_custom_mask_is_in_infos_and_in_action_masks(toy):
    allowed = np.array([True, False, True, False, True])
    env = CrystalSkeletonEnv(collection=toy, mask=lambda *_: allowed)
    _, info = env.reset(seed=0)
    assert info["action_mask"].dtype == np.int8
    assert info["action_mask"].tolist() == [1, 0, 1, 0, 1]
    assert env.action_masks().dtype == bool
    assert env.action_masks().tolist() == allowed.tolist()
    assert env.action_space.sample(info["action_mask"]) in {0, 2, 4}
    info["action_mask"][:] = 0
    assert allowed.sum() == 3


def test_sb3_contrib_finds_the_masks_through_wrappers(toy):
    from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
    from stable_baselines3.common.env_util import make_vec_env

    vector = make_vec_env("CrystalSkeleton-v0", 2, env_kwargs={"collection": toy})
    vector.reset()
    assert is_masking_supported(vector)
    assert get_action_masks(vector).shape == (2, 5)


def test_larger_observations_are_padded(toy):
    table = EpisodeTable(toy, max_sites=10)
    assert table.true_elements.shape == (12, 10)
    assert (table.true_elements[:, 6:] == -1).all()


@pytest.mark.real
def test_expert_actions_reproduce_real_perovskites(perov5):
    env = CrystalSkeletonEnv(collection=perov5, split="test")
    assert len(perov5.vocabulary) == 56
    for seed in range(20):
        _, rewards, infos = play(env, lambda *_: env.expert_action(), seed=seed)
        assert len(rewards) == 5
        assert infos[-1]["match"] == pytest.approx(1)

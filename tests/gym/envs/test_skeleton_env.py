"""The single environment: its interface, its episodes, and what it refuses."""

import json
import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import crystal_gym
from crystal_gym.crystals.neighbors import breadth_first
from crystal_gym.envs.generator import TRAVERSALS, InstanceGenerator
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.episode import EpisodeTable

# SB3 would rather see these observations flattened; policies here read them as they are.
SHAPE_WARNING = "ignore:Your observation .* has an unconventional shape:UserWarning"


def play(env, policy, seed=None, options=None):
    """One episode: observations, rewards, infos."""
    observation, info = env.reset(seed=seed, options=options)
    observations, rewards, infos, terminated = [observation], [], [info], False
    while not terminated:
        observation, reward, terminated, truncated, info = env.step(policy(observation, info))
        assert not truncated
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
    return observations, rewards, infos


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        assert np.array_equal(first, second)
    else:
        assert first == second


SETTINGS = [
    {"reward": "match"},
    {"split": "val", "traversal": "random", "reward": "validity"},
    {"split": "all", "traversal": "index", "start_site": 0, "max_sites": 8},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_gymnasium_checks_the_environment(toy, settings):
    # The checker would open a window for `human`; test_rendering.py looks at the render modes.
    env = gym.make("CrystalSkeleton-v0", collection=toy, **settings)
    check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.filterwarnings(SHAPE_WARNING)
@pytest.mark.parametrize("settings", SETTINGS)
def test_stable_baselines3_checks_the_environment(toy, settings):
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    check_for_sb3(CrystalSkeletonEnv(collection=toy, **settings))


@pytest.mark.parametrize("traversal", TRAVERSALS)
def test_two_instances_with_one_seed_play_the_same_episodes(toy, traversal):
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
def test_the_expert_puts_every_crystal_back(toy, traversal):
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


def test_the_return_is_the_fraction_of_sites_matched(toy):
    env = CrystalSkeletonEnv(collection=toy, split="all")
    env.action_space.seed(0)
    for seed in range(40):
        observations, rewards, infos = play(env, lambda *_: env.action_space.sample(), seed=seed)
        row = infos[0]["crystal"]
        n = toy.n_sites[row]
        right = (observations[-1]["element"] == toy.codes()[row])[:n].mean()
        assert sum(rewards) == pytest.approx(right)
        assert infos[-1]["match"] == pytest.approx(right)


def test_observations_show_the_skeleton_and_the_filled_sites_alone(toy):
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


def test_crystals_of_equal_geometry_look_equal_whatever_their_elements():
    from pymatgen.core import Lattice, Structure

    coords = [[0, 0, 0], [0.5, 0.5, 0.5]]
    structures = [Structure(Lattice.cubic(4), s, coords) for s in (["Cs", "Cl"], ["Ni", "Al"])]
    env = CrystalSkeletonEnv(collection=structures)
    one, other = (env.reset(options={"crystal": row, "start_site": 0})[0] for row in (0, 1))
    assert_same(one, other)


def test_every_crystal_of_the_split_and_every_source_is_drawn_equally_often(toy):
    generator = InstanceGenerator(toy, split="train")
    crystals, orders = generator.draw(np.random.default_rng(0), 8000)
    rows, counts = np.unique(crystals, return_counts=True)
    assert rows.tolist() == toy.in_split("train").tolist()
    assert abs(counts - 2000).max() < 200
    for row in rows:
        start_sites, counts = np.unique(orders[crystals == row, 0], return_counts=True)
        assert start_sites.tolist() == list(range(toy.n_sites[row]))
        assert abs(counts / counts.sum() - 1 / toy.n_sites[row]).max() < 0.05


@pytest.mark.parametrize("traversal", TRAVERSALS)
def test_orders_visit_each_site_once_from_the_source(toy, traversal):
    generator = InstanceGenerator(toy, split="all", traversal=traversal, max_sites=9)
    crystals, orders = generator.draw(np.random.default_rng(0), 300)
    assert orders.shape == (300, 9)
    for row, order in zip(crystals, orders, strict=True):
        n = toy.n_sites[row]
        assert sorted(order[:n].tolist()) == list(range(n))
        assert (order[n:] == -1).all()
        if traversal == "breadth-first":
            edges = toy.skeleton(row).edges
            assert order[:n].tolist() == breadth_first(edges, n, int(order[0])).tolist()
        if traversal == "index":
            assert order[1:n].tolist() == sorted(order[1:n].tolist())


def test_random_orders_differ_between_episodes(toy):
    generator = InstanceGenerator(toy, traversal="random", start_site=0, split="all")
    _, orders = generator.draw(
        np.random.default_rng(0), 200, {"crystal": int(np.argmax(toy.n_sites))}
    )
    assert (orders[:, 0] == 0).all()
    assert len(np.unique(orders, axis=0)) > 50  # of 120


def test_options_take_as_much_randomness_as_drawing(toy):
    env = CrystalSkeletonEnv(collection=toy)
    env.reset(seed=1)
    drawn = [env.reset()[1]["crystal"] for _ in range(5)]
    env.reset(seed=1, options={"crystal": 3, "start_site": 0})
    assert [env.reset()[1]["crystal"] for _ in range(5)] == drawn


def test_a_fixed_source_begins_every_episode(toy):
    env = CrystalSkeletonEnv(collection=toy, start_site=0)
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        assert info["start_site"] == observation["focus"] == 0
    assert env.reset(options={"crystal": 5, "start_site": 3})[1]["start_site"] == 3


def test_what_is_handed_out_can_be_written_to_without_harm(toy):
    env = CrystalSkeletonEnv(collection=toy, split="all")
    clean = CrystalSkeletonEnv(collection=toy, split="all")

    def spoil(observation, info):
        for value in (*observation.values(), info["action_mask"], env.action_masks()):
            if isinstance(value, np.ndarray):
                value.fill(99)
        return 2

    for seed in range(5):
        play(env, spoil, seed=seed)
    assert_same(play(env, lambda *_: 2, seed=9), play(clean, lambda *_: 2, seed=9))


def test_the_environment_is_made_again_from_its_json_spec():
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
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.table.vocabulary == env.unwrapped.table.vocabulary
    assert_same(play(env, lambda *_: 4, seed=5), play(again, lambda *_: 4, seed=5))


def test_a_vocabulary_orders_the_actions(toy):
    symbols = ["F", "O", "Ti", "Mg", "Na", "Xe"]
    env = CrystalSkeletonEnv(collection=toy, vocabulary=symbols)
    assert env.action_space.n == 6
    env.reset(seed=0, options={"crystal": 0})
    number = toy.atomic_numbers[0, 0]
    assert env.table.vocabulary.atomic_numbers[env.expert_action()] == number


def test_environments_of_one_collection_share_its_arrays():
    first, second = (gym.make("CrystalSkeleton-v0").unwrapped for _ in range(2))
    assert first.table is second.table


def test_a_generator_of_ones_own_can_be_passed(toy):
    class Alternating(InstanceGenerator):
        turn = 0

        def draw(self, rng, size=None, options=None):
            self.turn += 1
            return super().draw(rng, size, {"crystal": self.turn % 2})

    env = CrystalSkeletonEnv(generator=Alternating(toy, split="all"))
    assert [env.reset()[1]["crystal"] for _ in range(4)] == [1, 0, 1, 0]


def test_a_mask_of_ones_own_reaches_infos_and_method(toy):
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


# The class docstring is the page of the environment: hold it against what the environment does.


def documented(section):
    """Rows of the table in a section of the docstring, as dictionaries."""
    text = re.split(r"\n\s*## ", CrystalSkeletonEnv.__doc__)
    lines = next(part for part in text if part.startswith(section)).splitlines()
    rows = [
        [cell.strip(" `") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
        if "|" in line
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def assert_documented(row, value, sizes):
    shape, kind = re.fullmatch(r"\((.*)\) (\w+)", row["Shape, type"]).groups()
    expected = tuple(
        sizes.get(part) or int(part) for part in shape.replace(" ", "").split(",") if part
    )
    assert np.shape(value) == expected
    if isinstance(value, np.ndarray | np.generic):
        assert value.dtype == kind
    else:
        assert type(value).__name__ == kind


@pytest.mark.parametrize(("reward", "extra"), [
    ("match", set()), ("validity", {"validity"}), (len, {"score", "failed", "failures"}),
])  # fmt: skip
def test_the_docstring_tells_the_keys_shapes_and_types(toy, reward, extra):
    env = CrystalSkeletonEnv(collection=toy, reward=reward)
    sizes = {"N": toy.max_sites, "E": toy.max_edges, "V": 5}
    observations, _, infos = play(env, lambda *_: 1, seed=0)
    for observation in observations:
        rows = documented("Observation Space")
        assert {row["Key"] for row in rows} == set(env.observation_space)
        for row in rows:
            assert_documented(row, observation[row["Key"]], sizes)
    rows = documented("Info")
    ends = {"match"} | extra
    assert {r["Key"] for r in rows if r["When"] == "end"} >= ends
    for step, info in enumerate(infos):
        last = step == len(infos) - 1
        told = [r for r in rows if r["When"] == "always" or (last and r["Key"] in ends)]
        assert {row["Key"] for row in told} == set(info)
        for row in told:
            assert_documented(row, info[row["Key"]], sizes)


def test_the_docstring_tells_the_arguments_and_their_defaults():
    import inspect

    told = {
        row["Argument"]: json.loads(row["Default"].replace("None", "null"))
        for row in documented("Arguments")
    }
    found = {}
    for function in (InstanceGenerator.__init__, CrystalSkeletonEnv.__init__):
        for name, parameter in inspect.signature(function).parameters.items():
            if name not in {"self", "generator", "instances"}:
                found[name] = parameter.default
    assert told == found


# Bad input.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"collection": "perov5"}, "Did you mean 'perov-5'"),
        ({"split": "tets"}, "Unknown split 'tets'. Did you mean 'test'"),
        ({"split_by": "formula"}, "Unknown split_by 'formula'"),
        ({"vocabulary": ["O", "Uue"]}, "'Uue' is no element symbol"),
        ({"vocabulary": ["O", "Ti"]}, "is not in the vocabulary of 2 elements"),
        ({"vocabulary": "TiO"}, "a list of element symbols"),
        ({"vocabulary": []}, "at least one element"),
        ({"traversal": "depth-first"}, "Unknown traversal 'depth-first'"),
        ({"start_site": 3}, "Start site 3 is none of the 1 sites of crystal 'toy-0'"),
        ({"start_site": -1}, "Start site -1"),
        ({"start_site": 0.5}, "the number of a site"),
        ({"max_sites": 4}, "at most 4 sites per cell, got 6 in crystal 'toy-5'"),
        ({"reward": "macth"}, "Unknown reward 'macth'. Did you mean 'match'"),
        ({"reward": 3}, "A reward is a name"),
        ({"mask": "all"}, "Unknown mask 'all'"),
        ({"mask": 3}, "A mask is a name or a function"),
        ({"mask": lambda *_: np.ones(3)}, r"shape \(3,\); it must be \(5,\)"),
        ({"render_mode": "pdf"}, "Unknown render mode 'pdf'"),
    ],
)
def test_bad_arguments_are_named(toy, settings, message):
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        CrystalSkeletonEnv(**{"collection": toy, **settings}).reset()


def test_an_empty_split_is_named(toy):
    train = toy.take(toy.in_split("train"))
    with pytest.raises(crystal_gym.CrystalGymError, match="Split 'test' of 'toy' is empty"):
        CrystalSkeletonEnv(collection=train, split="test")


def test_a_generator_takes_no_further_keywords(toy):
    with pytest.raises(crystal_gym.CrystalGymError, match="Give split to the InstanceGenerator"):
        CrystalSkeletonEnv(generator=InstanceGenerator(toy), split="val")


def test_larger_observations_than_needed_are_padded(toy):
    table = EpisodeTable(toy, max_sites=10)
    assert table.true_elements.shape == (12, 10)
    assert (table.true_elements[:, 6:] == -1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crystal": "no-such"}, "No crystal 'no-such' in 'toy'"),
        ({"crystal": 12}, "rows run from 0 to 11"),
        ({"crystal": -1}, "No crystal -1"),
        ({"crystal": 1.5}, "an id .* or a row"),
        ({"crystal": True}, "an id .* or a row"),
        (
            {"crystal": 2, "start_site": 3},
            "Start site 3 is none of the 3 sites of crystal 'toy-2'",
        ),
        ({"start_site": "A"}, "the number of a site"),
        ({"start_site": [0, 1]}, r"takes one; got shape \(2,\)"),
        ({"crystl": 2}, "Unknown reset option 'crystl'. Did you mean 'crystal'"),
    ],
)
def test_bad_options_are_named(toy, options, message):
    env = CrystalSkeletonEnv(collection=toy)
    with pytest.raises(crystal_gym.CrystalGymError, match=message):
        env.reset(seed=0, options=options)


@pytest.mark.parametrize("action", [-1, 5, 1.0, "O", None, np.array([1])])
def test_a_bad_action_is_refused_and_nothing_is_lost(toy, action):
    env = CrystalSkeletonEnv(collection=toy)
    observation, _ = env.reset(seed=0, options={"crystal": 5})
    with pytest.raises(gym.error.InvalidAction, match="from 0 to 4"):
        env.step(action)
    after, *_ = env.step(np.int64(3))
    assert (after["element"] == 4).sum() == 1
    assert observation["focus"] != after["focus"]


def test_no_step_without_an_episode(toy):
    env = CrystalSkeletonEnv(collection=toy, render_mode="ansi")
    for move in (lambda: env.step(0), env.render, env.action_masks, env.expert_action):
        with pytest.raises(gym.error.ResetNeeded, match="reset"):
            move()
    play(env, lambda *_: 0)
    with pytest.raises(crystal_gym.CrystalGymError, match="over: all sites are filled"):
        env.step(0)


@pytest.mark.real
def test_real_perovskites_are_put_back_by_the_expert(perov5):
    env = CrystalSkeletonEnv(collection=perov5, split="test")
    assert len(perov5.vocabulary) == 56
    for seed in range(20):
        _, rewards, infos = play(env, lambda *_: env.expert_action(), seed=seed)
        assert len(rewards) == 5
        assert infos[-1]["match"] == pytest.approx(1)

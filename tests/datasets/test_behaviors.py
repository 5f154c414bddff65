"""BehaviorPolicy data sets beside the expert's: random, mixed, replay, and their rewards."""

import json

import minari
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer

from crystal_agents import load_policy
from crystal_agents.cli import main as cli
from crystal_datasets import (
    BEHAVIOR_POLICIES,
    EpisodeRecorder,
    PolicyMixture,
    MixtureComponent,
    RecordEpisodes,
    build_dataset,
    choose_start_sites,
    dataset_id,
    generate_episodes,
    load_transitions,
    mixed,
    sampled,
    write_replay,
)
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable, start
from crystal_gym.errors import CrystalGymError, DamagedFileError, UnknownNameError
from crystal_gym.rewards import MatchReward, Reward, ValidityReward

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty place for Minari's data sets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def always(code, n_elements):
    """A policy that puts one element everywhere."""

    def probabilities(observation):
        return np.eye(n_elements)[np.full(len(observation["focus"]), code - 1)]

    return probabilities


def loaded(name):
    dataset = minari.load_dataset(name)
    return dataset, list(dataset.storage.get_episode_metadata(dataset.episode_indices))


def assert_same_episodes(dataset, other):
    assert len(dataset) == len(other)
    for mine, theirs in zip(dataset.iterate_episodes(), other.iterate_episodes(), strict=True):
        assert mine.id == theirs.id
        pairs = [(mine.observations[key], theirs.observations[key]) for key in mine.observations]
        keys = ("actions", "rewards", "terminations", "truncations")
        pairs += [(getattr(mine, key), getattr(theirs, key)) for key in keys]
        for my_array, their_array in pairs:
            assert my_array.dtype == their_array.dtype
            assert np.array_equal(my_array, their_array)


def played(env, metadata, actions):
    """One episode of the environment, as the official writer takes it."""
    seen = [
        env.reset(options={"crystal": metadata["crystal"], "start_site": metadata["start_site"]})[0]
    ]
    rewards, terminations, truncations = [], [], []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append(observation)
        rewards.append(reward)
        terminations.append(terminated)
        truncations.append(truncated)
    return EpisodeBuffer(
        observations={key: [s[key] for s in seen] for key in seen[0]},
        actions=list(actions),
        rewards=rewards,
        terminations=terminations,
        truncations=truncations,
        infos={},
    )


def official(name, dataset, env, told):
    return minari.create_dataset_from_buffers(
        name,
        [
            played(env, m, episode.actions)
            for m, episode in zip(told, dataset.iterate_episodes(), strict=True)
        ],
        observation_space=env.observation_space,
        action_space=env.action_space,
        **{
            key: dataset.storage.metadata[key]
            for key in "algorithm_name author author_email code_permalink description".split()
        },
    )


@pytest.mark.filterwarnings("ignore:.*env_spec is None")
@pytest.mark.filterwarnings("ignore:.*eval_env. is set to None")
@pytest.mark.parametrize("reward", ["match", "validity"])
@pytest.mark.parametrize("kind", ["expert", "random", "mixed"])
def test_each_behaviour_equals_the_environment_and_the_official_writer(toy, folder, kind, reward):
    behavior = mixed(always(2, 5), "always Mg") if kind == "mixed" else kind
    name = build_dataset(toy, "train", behavior, reward=reward, progress=False)
    dataset, told = loaded(name)
    env = CrystalSkeletonEnv(collection=toy, reward=reward)
    assert_same_episodes(dataset, official("crystal-gym/toy/official-v0", dataset, env, told))


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:.*env_spec is None")
@pytest.mark.filterwarnings("ignore:.*eval_env. is set to None")
def test_a_mixture_on_perov_5_equals_the_official_writer(perov5, folder):
    few = perov5.take(np.arange(0, 600, 20))
    policy = load_policy("perov-5/egnn")
    name = build_dataset(
        few,
        "train",
        mixed(policy.probabilities, "perov-5/egnn"),
        reward="validity",
        vocabulary=policy.vocabulary,
        progress=False,
    )
    assert name == "crystal-gym/perov-5/mixed-train-validity-v0"
    dataset, told = loaded(name)
    env = CrystalSkeletonEnv(collection=few, reward="validity", vocabulary=policy.vocabulary)
    assert_same_episodes(dataset, official("crystal-gym/perov-5/official-v0", dataset, env, told))
    by = dataset.storage.metadata["crystal_gym"]["returns_by"]
    assert by["expert"]["mean"] > by["random"]["mean"]


def test_the_expert_earns_1_and_uniform_elements_one_in_v(folder):
    name = build_dataset("goldschmidt", "val", trajectories=1, progress=False)
    expert = load_transitions(name)
    assert np.allclose(expert.returns, 1, atol=1e-6)
    name = build_dataset("goldschmidt", "val", "random", trajectories=2, progress=False)
    random = load_transitions(name)
    chance = 1 / len(random.vocabulary)
    spread = np.sqrt(chance / len(random))
    assert abs(random.returns.mean() - chance) < 5 * spread
    for data in (expert, random):
        told = minari.load_dataset(data.dataset_id).storage.metadata["crystal_gym"]["returns"]
        assert told["mean"] == pytest.approx(data.returns.mean(), abs=1e-6)
        assert told["episodes"] == len(data.returns)


def test_returns_and_first_steps_are_those_of_each_trajectory(toy, folder):
    data = load_transitions(build_dataset(toy, "train", "random", progress=False))
    for begin, value in zip(data.first, data.returns, strict=True):
        own = data.trajectory == data.trajectory[begin]
        assert data.step[begin] == 0
        assert value == pytest.approx(data.reward[own].sum())


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=5).filter(
        lambda mixture_weights: sum(mixture_weights) > 0.1
    ),
    st.integers(0, 300),
    st.integers(0, 99),
)
def test_a_mixture_keeps_its_proportions_to_the_episode(mixture_weights, episodes, seed):
    mixture = PolicyMixture(
        tuple(
            MixtureComponent(str(i), s, BEHAVIOR_POLICIES["expert"])
            for i, s in enumerate(mixture_weights)
        )
    )
    part = mixture.assign(episodes, np.random.default_rng(seed))
    counts = np.bincount(part, minlength=len(mixture_weights))
    assert len(part) == counts.sum() == episodes
    assert (np.abs(counts - episodes * np.array(mixture_weights) / sum(mixture_weights)) < 1).all()


def test_whole_episodes_of_a_mixture_are_played_by_the_part_that_they_tell(toy, folder):
    behavior = mixed(always(4, 5), "always O", mixture_weights=(1, 2, 1))
    dataset, told = loaded(build_dataset(toy, "train", behavior, reward="match", progress=False))
    made_by = [m["behavior"] for m in told]
    n = len(told)
    assert abs(made_by.count("policy") - n / 2) < 1
    assert abs(made_by.count("expert") - n / 4) < 1
    assert len(set(made_by[: n // 2])) > 1, "they are shuffled"
    for m, episode in zip(told, dataset.iterate_episodes(), strict=True):
        if m["behavior"] == "expert":
            assert episode.rewards.sum() == pytest.approx(1)
        if m["behavior"] == "policy":
            assert (episode.actions == 3).all()
    own = dataset.storage.metadata["crystal_gym"]
    assert own["mixture"][1] == {
        "name": "policy",
        "share": 2.0,
        "policy": "always O",
        "temperature": 1.0,
    }
    assert own["returns_by"]["expert"]["mean"] == pytest.approx(1)
    card = (folder / dataset.id / "README.md").read_text()
    for words in ("25 % expert, 50 % policy, 25 % random", "always O", "proportions are exact"):
        assert words in card


def test_a_temperature_flattens_and_sharpens_the_policy(toy):
    table = EpisodeTable(toy)
    crystal = np.zeros(4000, np.int64)
    state = start(table, crystal, table.traversals[crystal, 0])
    p = np.array([0.6, 0.3, 0.1, 0, 0])

    def drawn(temperature):
        act = sampled(lambda seen: np.tile(p, (len(seen["focus"]), 1)), temperature)
        actions = act(table, state, np.random.default_rng(0))
        return np.bincount(actions, minlength=5) / len(actions)

    for temperature in (0.5, 1.0, 2.0):
        expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        assert np.allclose(drawn(temperature), expected, atol=0.03)
    assert drawn(5.0)[3:].sum() == 0, "what is impossible stays so"


def test_equal_seeds_give_equal_mixtures_whatever_the_crystals_in_other_splits(toy):
    table = EpisodeTable(toy)
    behavior = mixed(always(1, 5), "always Na")
    start_sites = choose_start_sites(toy.n_sites, 3)
    runs = [next(generate_episodes(table, start_sites, behavior, seed)) for seed in (1, 1, 2)]
    assert np.array_equal(runs[0].actions, runs[1].actions)
    assert not np.array_equal(runs[0].actions, runs[2].actions)
    start_sites[6:] = -1
    fewer = next(generate_episodes(table, start_sites, behavior, 1))
    assert set(fewer.crystal.tolist()) == set(range(6))


def test_rewards_stand_in_the_id_and_do_not_collide(toy, folder):
    assert dataset_id("a", "train", "random") == "crystal-gym/a/random-train-v0"
    names = {
        build_dataset(toy, "train", "random", reward=reward, progress=False)
        for reward in ("match", "validity", ("all zero!", Reward()), ("sum", {"match": 0.5}))
    }
    assert {name.rpartition("/")[2] for name in names} == {
        "random-train-v0",
        "random-train-validity-v0",
        "random-train-all-zero-v0",
        "random-train-sum-v0",
    }
    with pytest.raises(CrystalGymError, match="choose another for your own"):
        build_dataset(toy, "train", reward=("match", Reward()), progress=False)
    with pytest.raises(UnknownNameError, match="Did you mean 'validity'"):
        build_dataset(toy, "train", reward="valididy", progress=False)


def test_the_environment_comes_back_with_the_reward(folder):
    for reward in ("validity", ("halves", {"match": 0.5, "validity": 0.5})):
        name = build_dataset(
            "goldschmidt", "val", "random", reward=reward, trajectories=1, progress=False
        )
        dataset, told = loaded(name)
        env = dataset.recover_environment()
        for i in range(3):
            env.reset(options={"crystal": told[i]["crystal"], "start_site": told[i]["start_site"]})
            episode = next(dataset.iterate_episodes([i]))
            earned = [float(env.step(action)[1]) for action in episode.actions]
            assert earned == episode.rewards.tolist()
    card = (folder / name / "README.md").read_text()
    assert "The reward is `halves`" in card


class Sometimes(Reward):
    """NaN for crystals in odd rows, infinite for row 0."""

    def on_finish(self, table, crystal, elements):
        values = np.where(crystal % 2 == 1, np.nan, 1.0)
        return np.where(crystal == 0, np.inf, values), {}


def test_episodes_without_a_finite_reward_are_left_out_counted_and_told(toy, folder):
    name = build_dataset(toy, "all", "random", reward=("odd", Sometimes()), progress=False)
    dataset, told = loaded(name)
    kept = np.minimum(toy.n_sites, 5)[2::2].sum()
    assert {m["row"] for m in told} == {2, 4, 6, 8, 10}
    assert dataset.total_episodes == kept == len(list(dataset.iterate_episodes()))
    left = int(np.minimum(toy.n_sites, 5).sum() - kept)
    assert dataset.storage.metadata["crystal_gym"]["left_out"] == left
    assert f"{left} episodes are left out" in (folder / name / "README.md").read_text()
    assert np.allclose(load_transitions(name).returns, 1)
    with pytest.raises(CrystalGymError, match="NaN or infinite in all"):
        build_dataset(toy.take([1, 3, 5]), "all", reward=("nan", lambda _: np.nan), progress=False)
    assert not list(folder.glob(".building*"))


def test_a_reward_that_fails_on_a_crystal_pays_no_substitute(toy, folder):
    def fails_on_oxides(structure):
        return np.nan if "O" in structure.composition else 0.25

    name = build_dataset(toy, "train", reward=("dry", fails_on_oxides), progress=False)
    _, told = loaded(name)
    rows = {m["row"] for m in told}
    for row in toy.in_split("train").tolist():
        assert (row in rows) == (8 not in toy.atomic_numbers[row])
    assert rows
    assert np.allclose(load_transitions(name).returns, 0.25)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_replay_holds_what_the_learner_saw_in_its_order(toy, folder, mode):
    env = CrystalSkeletonVectorEnv(
        3, collection=toy, split="train", reward="validity", autoreset_mode=mode
    )
    recorder = EpisodeRecorder(env.table)
    recorded = RecordEpisodes(env, recorder)
    rng = np.random.default_rng(0)
    seen, infos = recorded.reset(seed=0)
    under_way = [[] for _ in range(3)]
    over = np.zeros(3, bool)
    expected = []
    for _ in range(40):
        actions = rng.integers(5, size=3)
        before, rows = seen, infos["crystal"]
        seen, rewards, ended, _, infos = recorded.step(actions)
        for i in np.flatnonzero(~over):
            step = (int(rows[i]), before["element"][i], int(before["focus"][i]))
            under_way[i].append((*step, int(actions[i]), float(rewards[i])))
            if ended[i]:
                expected.append(under_way[i])
                under_way[i] = []
        over = ended if mode == "NextStep" else over
    assert len(recorder) == len(expected) > 20
    name = write_replay(recorder, toy, "train", "uniform", reward="validity", progress=False)
    assert name == "crystal-gym/toy/replay-train-validity-v0"
    data = load_transitions(name, progress=False)
    rows = [toy.index(str(data.skeleton_ids[s])) for s in data.skeleton]
    got = list(zip(rows, data.elements, data.focus, data.action, data.reward, strict=True))
    steps = [step for episode in expected for step in episode]
    assert len(got) == len(steps)
    for mine, theirs in zip(got, steps, strict=True):
        assert np.array_equal(mine[1], theirs[1])
        assert (mine[0], *mine[2:]) == (theirs[0], *theirs[2:])
    assert (
        np.flatnonzero(data.done).tolist()
        == (np.cumsum([len(episode) for episode in expected]) - 1).tolist()
    )
    assert "uniform" in (folder / name / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:.*env_spec is None")
@pytest.mark.filterwarnings("ignore:.*eval_env. is set to None")
def test_a_replay_equals_the_official_writer(toy, folder):
    env = CrystalSkeletonVectorEnv(4, collection=toy, split="train")
    recorder = EpisodeRecorder(env.table)
    recorded = RecordEpisodes(env, recorder)
    recorded.reset(seed=1)
    for step in range(30):
        recorded.step(np.full(4, step % 5))
    dataset, told = loaded(write_replay(recorder, toy, "train", "by turns", progress=False))
    single = CrystalSkeletonEnv(collection=toy)
    assert_same_episodes(dataset, official("crystal-gym/toy/official-v0", dataset, single, told))


def test_an_sb3_learner_is_recorded_through_its_adapter(toy):
    from crystal_agents.online.vec_env import SkeletonVecEnv

    native = CrystalSkeletonVectorEnv(3, collection=toy, autoreset_mode="SameStep")
    recorder = EpisodeRecorder(native.table)
    envs = SkeletonVecEnv(RecordEpisodes(native, recorder))
    envs.reset()
    returns = []
    for step in range(25):
        _, _, _, infos = envs.step(np.full(3, step % 5))
        returns += [info["episode"]["r"] for info in infos if "episode" in info]
    _, _, _, rewards = recorder.arrays()
    assert len(recorder) == len(returns) > 10
    assert np.allclose(rewards.sum(1), returns)


def test_recorded_episodes_survive_a_stop(toy, tmp_path):
    recorder = EpisodeRecorder(EpisodeTable(toy))
    path = tmp_path / "episodes.npz"
    recorder.save(path)
    again = EpisodeRecorder(recorder.table)
    again.load(path)
    assert len(again) == 0
    native = CrystalSkeletonVectorEnv(8, collection=toy, autoreset_mode="SameStep")
    env = RecordEpisodes(native, recorder)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(12):
        env.step(env.action_space.sample())
    recorder.save(path)
    again.load(path)
    assert len(again) == len(recorder) > 8
    for one, other in zip(again.arrays(), recorder.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedFileError, match="begin anew"):
        again.load(path)


def test_recorded_episodes_are_checked(toy, folder):
    table = EpisodeTable(toy)
    recorder = EpisodeRecorder(table)
    n = table.max_sites
    with pytest.raises(CrystalGymError, match="none has ended yet"):
        write_replay(recorder, toy, "train", "nobody", progress=False)
    zeros, order = np.zeros((1, n)), table.traversals[[5], 0]
    recorder.add(np.empty(0, np.int64), *[np.empty((0, n))] * 3)
    assert len(recorder) == 0
    with pytest.raises(CrystalGymError, match="of shape"):
        recorder.add(np.array([5]), order, zeros[:, :2], zeros)
    with pytest.raises(CrystalGymError, match="Rows are 0 to 11"):
        recorder.add(np.array([12]), order, zeros, zeros)
    with pytest.raises(CrystalGymError, match="Actions are integers from 0 to 4"):
        recorder.add(np.array([5]), order, zeros + 5, zeros)
    with pytest.raises(CrystalGymError, match="names each site"):
        recorder.add(np.array([5]), np.zeros((1, n), int), zeros, zeros)
    recorder.add(np.array([5]), order, zeros, zeros)
    split = str(toy.splits[5])
    other = next(name for name in ("train", "val", "test") if name != split)
    with pytest.raises(CrystalGymError, match="stand in other splits"):
        write_replay(recorder, toy, other, "somebody", progress=False)
    with pytest.raises(CrystalGymError, match="of other crystals"):
        write_replay(recorder, "goldschmidt", "train", "somebody", progress=False)


def test_bad_behaviours_are_told(toy, folder):
    with pytest.raises(CrystalGymError, match=r"'mixed' needs a policy.*--policy"):
        build_dataset(toy, "train", "mixed", progress=False)
    with pytest.raises(CrystalGymError, match="record its episodes"):
        build_dataset(toy, "train", "replay", progress=False)
    with pytest.raises(UnknownNameError, match="Did you mean 'random'"):
        build_dataset(toy, "train", "randm", progress=False)
    for mixture_weights in ((0, 0, 0), (1, -1, 1), (np.nan, 1, 1)):
        with pytest.raises(CrystalGymError, match="Shares of a mixture"):
            mixed(always(1, 5), "x", mixture_weights)
    with pytest.raises(CrystalGymError, match="A temperature is above 0"):
        mixed(always(1, 5), "x", temperature=0)
    for strange in (always(1, 4), lambda seen: np.full((len(seen["focus"]), 5), np.nan)):
        with pytest.raises(CrystalGymError, match="probabilities must be numbers of shape"):
            build_dataset(toy, "train", mixed(strange, "x"), progress=False)
    assert not list(folder.rglob("main_data.hdf5"))


def test_a_truncated_mixture_is_told_as_such(toy, folder):
    name = build_dataset(toy, "train", mixed(always(1, 5), "x"), progress=False)
    path = folder / name / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DamagedFileError, match=r"damaged.*overwrite=True"):
        load_transitions(name, progress=False)


def test_rewards_need_no_environment_to_be_those_of_the_environment(toy):
    table = EpisodeTable(toy)
    start_sites = choose_start_sites(toy.n_sites)
    for reward in (MatchReward(), ValidityReward()):
        (episodes,) = generate_episodes(table, start_sites, BEHAVIOR_POLICIES["random"], 3, reward)
        final = episodes.observations["element"][:, -1]
        last, _ = reward.on_finish(table, episodes.crystal, final)
        n = episodes.n_steps
        if isinstance(reward, ValidityReward):
            assert np.array_equal(episodes.returns, last)
            assert np.array_equal(episodes.rewards[np.arange(len(n)), n - 1], last)
        else:
            right = (final == table.true_elements[episodes.crystal]) & (final > 0)
            assert np.allclose(episodes.returns, right.sum(1) / n)


def test_the_command_builds_mixtures_and_goes_on(folder, capsys, tmp_path):
    build = ["build", "goldschmidt", "--splits", "val", "--trajectories", "1"]
    mixture = [*build, "--behavior", "mixed", "--policy", "goldschmidt/egnn", "--mixture-weights"]
    assert cli.main([*mixture, "1", "0", "3", "--reward", "validity"]) == 0
    name = "crystal-gym/goldschmidt/mixed-val-validity-v0"
    assert f"{name}: 209 episodes" in capsys.readouterr().out
    raw = json.loads((folder / name / "data" / "metadata.json").read_text())
    assert set(raw["crystal_gym"]["returns_by"]) == {"expert", "random"}
    assert cli.main([*mixture, "1", "0", "3", "--reward", "validity"]) == 0
    assert "built already" in capsys.readouterr().out
    assert cli.main([*mixture, "1", "1", "1", "--reward", "validity"]) == 2
    assert "was built with mixture" in capsys.readouterr().err
    assert cli.main([*build, "--behavior", "mixed"]) == 2
    assert "--policy" in capsys.readouterr().err
    assert cli.main([*build, "--policy", "goldschmidt/egnn"]) == 2
    assert "no policy plays" in capsys.readouterr().err
    for option in (("--mixture-weights", "1", "2", "1"), ("--temperature", "2")):
        assert cli.main([*build, "--behavior", "random", *option]) == 2
        assert f"{option[0]} is for --behavior mixed" in capsys.readouterr().err
    assert cli.main([*build, "--reward", "happiness"]) == 2
    assert "Unknown reward" in capsys.readouterr().err
    assert cli.main([*build, "--behavior", "mixed", "--policy", "perov-5/egnn"]) == 2
    assert "vocabulary" in capsys.readouterr().err

"""Offline RL: CQLConfig's loss and training, filtered cloning, and what goes wrong with them."""

import csv
import dataclasses
import json
import sys

import numpy as np
import pytest
import torch

from crystal_agents import load_policy
from crystal_agents.cli import main as cli
from crystal_agents.evaluation.returns import greedy_returns, nan_means
from crystal_agents.policies.policy import PolicyConfig, PolicyScorer, SkeletonPolicy
from crystal_agents.training import cql as offline
from crystal_agents.training.behavioral_cloning import train
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.cql import CQLConfig, RewardedStore, cql_loss, on_unit_scale, train_cql
from crystal_agents.training.recipes import RECIPES, Recipe, get_recipe, value_recipe
from crystal_datasets import (
    EpisodeRecorder,
    RecordEpisodes,
    best_episodes,
    build_dataset,
    load_transitions,
    write_replay,
)
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.rewards import MatchReward, Reward, ValidityReward

# What torchrl says when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SMALL = {
    "hidden": 16,
    "vectors": 4,
    "geometry_layers": 1,
    "crystal": 32,
    "crystal_layers": 1,
    "filling_layers": 1,
}
RECIPE = dataclasses.replace(
    value_recipe(Recipe("egnn", SMALL)), epochs=3, skeletons=8, states=3, learning_rate=3e-3
)


class OxygenShare(Reward):
    """At the end, the share of sites that carry oxygen."""

    def on_finish(self, table, crystal, elements):
        oxygen = table.vocabulary.symbols.index("O") + 1
        return (elements == oxygen).sum(1) / table.n_sites[crystal], {}


@pytest.fixture(scope="module")
def minari_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minari")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        yield folder


@pytest.fixture(scope="module")
def random(toy, minari_folder):
    return load_transitions(build_dataset(toy, "train", "random", progress=False), progress=False)


@pytest.fixture(scope="module")
def biased(toy, minari_folder):
    """600 episodes of one who mostly takes magnesium: what is frequent is not what is good."""
    env = CrystalSkeletonVectorEnv(40, collection=toy, split="all", reward=OxygenShare())
    recorder = EpisodeRecorder(env.table)
    recorded = RecordEpisodes(env, recorder)
    recorded.reset(seed=0)
    rng = np.random.default_rng(0)
    magnesium = toy.vocabulary.symbols.index("Mg")
    while len(recorder) < 600:
        often = rng.random(40) < 0.5
        recorded.step(np.where(often, magnesium, rng.integers(5, size=40)))
    reward = ("oxygen", OxygenShare())
    name = write_replay(recorder, toy, "all", "biased", reward=reward, progress=False)
    return load_transitions(name, progress=False)


def run(folder, data, settings=CQLConfig(), recipe=RECIPE, validation=None, **changes):  # noqa: B008 - frozen
    args = TrainingConfig(folder, recipe, **changes)
    return train_cql(args, settings, data, validation, progress=False)


def small_policy(data, seed=0):
    torch.manual_seed(seed)
    settings = PolicyConfig("egnn", data.vocabulary, data.frac_coords.shape[1], RECIPE.settings)
    return SkeletonPolicy(settings).eval()


def same_weights(first, second):
    return all(
        torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items()
    )


def q_values(policy, data, elements, focus):
    """Q of each transition's skeleton in a state, one by one, through the plain policy."""
    store = offline.SkeletonStore(
        {
            "n_sites": data.n_sites,
            "frac_coords": data.frac_coords,
            "parameters": data.lattice,
            "edges": data.edges,
        }
    )
    values = []
    for t, row in enumerate(data.skeleton.tolist()):
        batch = store.batch(torch.tensor([row]))
        codes = batch.flat(torch.as_tensor(elements[t], dtype=torch.int64)[None, None])
        site = torch.tensor([[int(focus[t])]])
        values.append(policy(batch, codes, site)[0, 0])
    return torch.stack(values).detach().double()


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_the_loss_is_the_one_of_the_paper(random, gamma):
    policy = small_policy(random)
    store = RewardedStore(random)
    loss = cql_loss(policy, store.skeletons, CQLConfig(gamma=gamma))
    groups = torch.arange(len(random))[:, None]
    policy.eval()
    found = loss(store.batch(groups))
    now = q_values(policy, random, random.elements, random.focus)
    following = random.elements.copy()
    following[np.arange(len(random)), random.focus] = random.action + 1
    next_focus = np.where(random.done, random.focus, np.roll(random.focus, -1))
    best = q_values(policy, random, following, next_focus).amax(-1)
    reward = torch.as_tensor(random.reward).double()
    target = torch.where(torch.as_tensor(random.done), reward, reward + gamma * best)
    chosen = now[torch.arange(len(now)), torch.as_tensor(random.action, dtype=torch.int64)]
    difference = 0.5 * (chosen - target).square().mean()
    conservative = (now.logsumexp(-1) - chosen).mean()
    assert found["loss_qvalue"].item() == pytest.approx(difference.item(), rel=1e-4)
    assert found["loss_cql"].item() == pytest.approx(conservative.item(), rel=1e-4)


def test_gradients_reach_the_policy_and_the_target_does_not_move_by_itself(random):
    from torchrl.objectives import SoftUpdate

    policy = small_policy(random)
    store = RewardedStore(random)
    loss = cql_loss(policy, store.skeletons, CQLConfig())
    target = SoftUpdate(loss, tau=0.25)
    before = {key: value.clone() for key, value in offline.TargetState(loss).state_dict().items()}
    found = loss(store.batch(torch.arange(8)[:, None]))
    (found["loss_qvalue"] + found["loss_cql"]).backward()
    assert all(parameter.grad is not None for parameter in policy.readout.parameters())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1)
    after = offline.TargetState(loss).state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    target.step()
    moved = offline.TargetState(loss).state_dict()
    # The network moved by 1 and the target by a quarter of it; buffers stay.
    learned = {name for name, _ in policy.named_parameters()}
    for key, value in before.items():
        shift = 0.25 if key.partition("policy.")[2] in learned else 0.0
        assert torch.allclose(moved[key], value + shift, atol=1e-5)


def test_the_state_after_an_action_is_the_next_one_of_the_trajectory(random):
    store = RewardedStore(random)
    batch = store.batch(torch.arange(len(random))[:, None])[0]
    going = np.flatnonzero(~random.done)
    following = batch["next"][torch.as_tensor(going)]
    assert np.array_equal(following["element"], random.elements[going + 1])
    assert np.array_equal(following["focus"], random.focus[going + 1])
    assert np.array_equal(batch["next", "terminated"].ravel(), random.done)
    assert np.array_equal(batch["next", "reward"].ravel(), random.reward)


LEARNING = dataclasses.replace(RECIPE, epochs=12, skeletons=60, learning_rate=5e-3)


def greedy_mean_return(policy, collection, split, reward):
    table = EpisodeTable(collection, policy.vocabulary)
    rows, score = collection.in_split(split), PolicyScorer(policy, table)
    episodes = greedy_returns(score, table, rows, reward, n_start_sites=5)
    return nan_means(episodes.metrics).means["return"]


def test_cql_beats_its_behaviour_and_cloning_where_the_frequent_action_is_not_the_good_one(
    toy, biased, tmp_path
):
    def earned(policy):
        return greedy_mean_return(policy, toy, "all", OxygenShare())

    def cloned(folder, data):
        return train(
            TrainingConfig(tmp_path / folder, LEARNING), data.vocabulary, data, progress=False
        )

    cql = earned(run(tmp_path / "cql", biased, CQLConfig(alpha=0.02, tau=0.1), LEARNING))
    all_, top = earned(cloned("all", biased)), earned(cloned("top", best_episodes(biased, 0.25)))
    assert cql > biased.returns.mean() + 0.25
    assert cql > all_ + 0.25
    assert top > all_ + 0.1, "the best quarter of the episodes teaches more than all of them"


def test_without_conservatism_at_discount_0_the_values_are_the_rewards(random, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=120, skeletons=60, learning_rate=1e-2)
    policy = run(tmp_path, random, CQLConfig(alpha=0.0, gamma=0.0, unit_scale=False), recipe)
    values = q_values(policy, random, random.elements, random.focus)
    chosen = values[torch.arange(len(random)), torch.as_tensor(random.action, dtype=torch.int64)]
    error = (chosen - torch.as_tensor(random.reward)).abs().mean()
    assert error < 0.1 * random.reward.max()


def test_returns_come_to_the_scale_from_0_to_1(biased):
    reward = 40 * biased.reward.astype(np.float64)
    reward[biased.done] -= 50
    scaled = on_unit_scale(dataclasses.replace(biased, reward=reward.astype(np.float32)))
    low, high = np.percentile(scaled.returns, (1, 99))
    assert (low, high) == pytest.approx((0, 1), abs=1e-5)
    assert np.corrcoef(scaled.returns, biased.returns)[0, 1] == pytest.approx(1)
    equal = dataclasses.replace(biased, reward=np.where(biased.done, -4.98, 0).astype(np.float32))
    assert not on_unit_scale(equal).reward.any()


def test_a_reward_on_another_scale_teaches_the_same(biased, tmp_path):
    # A power of two, so that rounding is the same.
    other = dataclasses.replace(biased, reward=8 * biased.reward)
    assert same_weights(run(tmp_path / "one", biased), run(tmp_path / "other", other))


class Stopped(Exception):  # noqa: N818 - a signal, no error
    pass


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_a_stopped_run_ends_with_the_weights_of_an_uninterrupted_one(
    random, tmp_path, monkeypatch, steps
):
    whole = run(tmp_path / "whole", random)
    adamw_step = torch.optim.AdamW.step
    taken = []

    def step(self, *args, **kwargs):
        taken.append(1)
        if len(taken) == steps:
            raise Stopped
        return adamw_step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(Stopped):
            run(tmp_path / "parts", random, checkpoint_seconds=0)
    assert same_weights(whole, run(tmp_path / "parts", random, checkpoint_seconds=0))
    histories = []
    for folder in ("whole", "parts"):
        with (tmp_path / folder / "metrics.csv").open() as file:
            rows = [
                {k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)
            ]
        histories.append(rows)
    assert histories[0] == histories[1]
    assert {"loss_qvalue", "loss_cql", "target_value"} <= set(histories[0][0])


def test_a_result_is_a_policy_that_remembers_how_it_was_made(random, tmp_path):
    policy = run(tmp_path, random, CQLConfig(alpha=0.3), validation=random, precision="bf16-mixed")
    loaded = load_policy(tmp_path)
    assert same_weights(policy, loaded)
    record = loaded.config.training
    assert record["algorithm"] == "cql"
    assert record["cql"] == dataclasses.asdict(CQLConfig(alpha=0.3))
    assert record["epochs"] == 3
    assert 0 <= record["val_accuracy"] <= 1


def test_the_mean_return_is_that_of_the_environment(toy, random):
    import gymnasium as gym

    policy = small_policy(random)
    for reward in (MatchReward(), ValidityReward()):
        env = gym.make("crystal_gym:CrystalSkeleton-v0", collection=toy, reward=reward)
        returns = []
        for row in toy.in_split("val").tolist():
            for start_site in range(int(toy.n_sites[row])):
                seen, _ = env.reset(options={"crystal": row, "start_site": start_site})
                total, done = 0.0, False
                while not done:
                    seen, earned, done, _, _ = env.step(policy.act(seen))
                    total += float(earned)
                returns.append(total)
        assert greedy_mean_return(policy, toy, "val", reward) == pytest.approx(np.mean(returns))


def test_the_best_episodes_are_whole_and_ties_go_by_lot(biased):
    returns = biased.returns
    for fraction in (0.01, 0.25, 0.5, 1.0):
        best = best_episodes(biased, fraction, seed=0)
        n = int(np.ceil(fraction * len(returns)))
        assert len(best.returns) == n
        assert np.allclose(np.sort(best.returns), np.sort(returns)[-n:])
        assert best.done.sum() == n
        assert (best.step[best.first] == 0).all()
    chosen = {tuple(best_episodes(biased, 0.1, seed).trajectory) for seed in range(5)}
    assert len(chosen) > 1
    for fraction in (0, -1, 1.5, np.nan):
        with pytest.raises(CrystalGymError, match="above 0 and at most 1"):
            best_episodes(biased, fraction)
    with pytest.raises(CrystalGymError, match="seed is 0 or more, not -1"):
        best_episodes(biased, 0.5, seed=-1)


def test_random_traversals_are_refused_for_data_of_several_fillings(random, tmp_path):
    recipe = dataclasses.replace(get_recipe("egnn"), settings=SMALL, epochs=1)
    with pytest.raises(CrystalGymError, match=r"Random traversals need an expert"):
        train(TrainingConfig(tmp_path, recipe), random.vocabulary, random, progress=False)


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        (CQLConfig(alpha=-1), {}, "alpha must be at least 0"),
        (CQLConfig(gamma=1.5), {}, "gamma from 0 to 1"),
        (CQLConfig(tau=0), {}, "tau above 0"),
        (CQLConfig(alpha=float("nan")), {}, "alpha must be"),
        (CQLConfig(alpha=float("inf")), {}, "alpha must be at least 0 and finite"),
        (CQLConfig(), {"devices": 2}, "devices must be 1"),
        (CQLConfig(), {"precision": "16-mixed"}, "not in 16-mixed"),
        (CQLConfig(), {"patience": 2}, "needs validation"),
    ],
)
def test_settings_that_cannot_be_are_told(random, tmp_path, settings, change, message):
    with pytest.raises(CrystalGymError, match=message):
        run(tmp_path, random, settings, **change)
    assert not list(tmp_path.iterdir())


def test_rewards_that_are_no_numbers_are_refused(random, tmp_path):
    reward = random.reward.copy()
    reward[3] = np.nan
    with pytest.raises(CrystalGymError, match=r"1 rewards of .* are NaN"):
        run(tmp_path, dataclasses.replace(random, reward=reward))


def test_a_checkpoint_of_other_settings_or_rewards_and_a_damaged_one_are_refused(random, tmp_path):
    run(tmp_path, random)
    with pytest.raises(CrystalGymError, match="other settings"):
        run(tmp_path, random, CQLConfig(alpha=0.7))
    with pytest.raises(CrystalGymError, match="other settings"):
        run(tmp_path, dataclasses.replace(random, reward=random.reward + 1))
    content = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFileError, match="Delete it to begin anew"):
        run(tmp_path, random)


@pytest.fixture
def tiny(monkeypatch):
    recipe = dataclasses.replace(RECIPES["egnn"], settings=SMALL, epochs=1)
    monkeypatch.setitem(RECIPES, "egnn", recipe)


def test_the_command_learns_and_evaluate_takes_the_result(
    tiny, tmp_path, monkeypatch, capsys, minari_folder
):
    monkeypatch.chdir(tmp_path)
    build = ["build", "goldschmidt", "--splits", "train", "--trajectories", "1"]
    assert cli.main([*build, "--behavior", "random", "--reward", "validity"]) == 0
    command = ["offline", "goldschmidt", "--behavior", "random", "--reward", "validity"]
    command += ["--accelerator", "cpu", "--epochs", "1"]
    assert cli.main(command) == 0
    assert cli.main([*command, "--algorithm", "bc", "--top", "0.1"]) == 0
    told = capsys.readouterr().out
    assert told.count("first choices on val") == 2
    assert "that were cloned: 1.0000" in told
    cql = "runs/goldschmidt-random-validity-cql-egnn-seed-0"
    bc = "runs/goldschmidt-random-validity-bc-top-0.1-egnn-seed-0"
    assert load_policy(bc).config.training["top"] == 0.1
    assert cli.main(["evaluate", cql, "--split", "val", "--sources", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert 0 <= rows["egnn"]["figures"]["validity_smact14"]["mean"] <= 1


def test_the_command_tells_what_is_amiss(tiny, capsys, minari_folder, monkeypatch):
    offline_ = ["offline", "goldschmidt", "--accelerator", "cpu"]
    for behavior, told in (
        ("replay", "finetune POLICY --collection goldschmidt --reward match --record"),
        ("mixed", "build goldschmidt --behavior mixed --reward match --splits train --policy"),
        ("nosuch", "Unknown behavior 'nosuch'"),
    ):
        by = ["--split-by", "composition"]
        assert cli.main([*offline_, "--behavior", behavior, *by]) == 2
        err = " ".join(capsys.readouterr().err.split())
        assert told in err
        assert behavior == "nosuch" or "--split-by composition` first" in err
    assert cli.main([*offline_, "--top", "0.5"]) == 2
    assert "--algorithm bc" in capsys.readouterr().err
    assert cli.main([*offline_, "--algorithm", "bc", "--alpha", "1"]) == 2
    assert "--algorithm cql" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torchrl", None)
    assert cli.main(offline_) == 1
    assert "pip install 'crystal-gym[offline]'" in capsys.readouterr().err

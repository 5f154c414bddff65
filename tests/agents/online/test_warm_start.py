"""Online learning from a cloned policy: the same actions at first, and what changes after."""

import csv
import itertools
import json
import re
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.utils import ConstantSchedule

from crystal_agents import (
    PolicyConfig,
    SkeletonPolicy,
    SkeletonVecEnv,
    extract_policy,
    from_scratch,
    load_policy,
    warm_start,
)
from crystal_agents.cli import main as cli
from crystal_agents.evaluation.returns import greedy_metrics
from crystal_agents.online import features_extractor as extractor
from crystal_agents.online.algorithms import ALGORITHMS, SkeletonPPO, get_features_extractor
from crystal_agents.online.fine_tuning import fine_tune
from crystal_agents.online.rollout_buffers import SkeletonRolloutBuffer
from crystal_agents.online.sb3_policies import SkeletonActorCritic
from crystal_datasets import load_transitions
from crystal_gym import CrystalSkeletonVectorEnv
from crystal_gym.envs.generator import InstanceGenerator
from crystal_gym.errors import CrystalGymError, DamagedFileError, UnknownNameError
from crystal_gym.rewards import Reward

SMALL = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1, "dropout": 0.3}
B = 8
# Rollouts of 96 steps.
SHORT = {"n_steps": 12, "batch_size": 48}


def policy_for(toy, network="egnn", settings=SMALL, *, symbols=None, max_sites=None):
    torch.manual_seed(0)
    config = PolicyConfig(
        network, symbols or toy.vocabulary.symbols, max_sites or toy.max_sites, settings
    )
    return SkeletonPolicy(config).eval()


def envs_for(toy, n=B, **keywords):
    return CrystalSkeletonVectorEnv(
        n, collection=toy, **{"split": "all", "autoreset_mode": "SameStep", **keywords}
    )


def states(envs, n, seed=0):
    """About n states of random play, in batches."""
    envs.seed(seed)
    observations, seen = envs.reset(), 0
    rng = np.random.default_rng(seed)
    while seen < n:
        yield observations
        seen += envs.num_envs
        actions = rng.integers(0, envs.action_space.n, envs.num_envs)
        observations = envs.step(actions)[0]


def short(algorithm):
    """Settings of short rollouts, for algorithms that have any."""
    known = {"ppo": SHORT, "maskable-ppo": SHORT, "a2c": {"n_steps": 12}}
    return known.get(algorithm, {})


def weights(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def equal(one, other):
    return all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.fixture(scope="module")
def gold():
    return load_policy("goldschmidt/egnn")


def agreement(model, policy, n):
    """Share of n states in which greedy actions are the policy's."""
    same = [
        model.predict(batch, deterministic=True)[0] == policy.act(batch)
        for batch in states(model.get_env(), n)
    ]
    return np.mean(np.concatenate(same)[:n])


def first_actions_are_the_policys(policy, envs):
    batches = list(states(SkeletonVecEnv(envs), 1000))
    wanted = np.concatenate([policy.act(batch) for batch in batches])
    assert len(wanted) == 1000
    for algorithm in ALGORITHMS:
        model = warm_start(policy, algorithm, envs)
        chosen = [model.predict(batch, deterministic=True)[0] for batch in batches]
        np.testing.assert_array_equal(np.concatenate(chosen), wanted)


def test_first_actions_are_the_policys_on_goldschmidt(gold):
    envs = CrystalSkeletonVectorEnv(250, collection="goldschmidt", autoreset_mode="SameStep")
    first_actions_are_the_policys(gold, envs)


@pytest.mark.real
def test_first_actions_are_the_policys_on_perov5(perov5):
    policy = load_policy("perov-5/egnn")
    envs = envs_for(perov5, 250, vocabulary=policy.config.symbols)
    first_actions_are_the_policys(policy, envs)


@pytest.mark.parametrize("network", ["egnn", "egnn-paper", "gcn"])
def test_actors_have_the_policys_very_probabilities(toy, network):
    settings = SMALL if network == "egnn" else {"hidden": 16}
    policy = policy_for(toy, network, settings)
    model = warm_start(policy, "ppo", envs_for(toy))
    for batch in states(model.get_env(), 40):
        tensors, _ = model.policy.obs_to_tensor(batch)
        with torch.no_grad():
            ours = model.policy.get_distribution(tensors).distribution.probs
            # No dropout while it learns.
            model.policy.set_training_mode(True)
            learning = model.policy.get_distribution(tensors).distribution.probs
        np.testing.assert_allclose(ours, policy.probabilities(batch), rtol=1e-4, atol=1e-6)
        assert torch.equal(ours, learning)


def test_observations_reach_the_network_unharmed(toy, monkeypatch):
    """Coordinates as they are; edges, elements and focus as the integers that they were."""
    model = warm_start(policy_for(toy), "ppo", envs_for(toy), critic_warm_up=0, **SHORT)
    model.learn(1)
    data = next(model.rollout_buffer.get(16)).observations
    seen = {}
    store = extractor.SkeletonStore
    monkeypatch.setattr(
        extractor, "SkeletonStore", lambda arrays, _: seen.update(arrays) or store(arrays)
    )
    model.policy.predict_values(data)
    assert torch.equal(seen["frac_coords"], data["frac_coords"])
    table = model.get_env().env.table
    for row in range(16):
        known = [
            crystal
            for crystal in range(len(toy))
            if np.array_equal(table.edges[crystal], seen["edges"][row].numpy())
            and np.array_equal(table.frac_coords[crystal], seen["frac_coords"][row].numpy())
        ]
        assert len(known) == 1


def test_states_of_one_skeleton_are_read_together_and_answered_apart(toy, monkeypatch):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy, 16), critic_warm_up=0, **SHORT)
    model.learn(1)
    data = next(model.rollout_buffer.get(96)).observations
    features = get_features_extractor(model.policy)

    def read():
        with torch.no_grad():
            return model.policy.extract_features(data)

    grids = []
    make = extractor._grid
    monkeypatch.setattr(extractor, "_grid", lambda keys: grids.append(make(keys)) or grids[-1])
    together = read()
    assert 1 < len(grids[0].states) < 96
    assert grids[0].states.shape[1] < 96 / 2
    each = torch.arange(96)
    monkeypatch.setattr(extractor, "_grid", lambda _: extractor._Grid(each[None], each))
    torch.testing.assert_close(together, read(), rtol=1e-4, atol=1e-5)
    assert together.shape[1] == features.features_dim


def test_a_rollout_is_cut_into_blocks_and_nothing_is_lost(toy):
    envs = SkeletonVecEnv(envs_for(toy, 3))
    buffer = SkeletonRolloutBuffer(7, envs.observation_space, envs.action_space, n_envs=3)
    observations = envs.reset()
    for step in range(7):
        number = 10 * np.arange(3) + step
        buffer.add(observations, np.zeros(3), number, np.zeros(3), torch.zeros(3), torch.zeros(3))
    buffer.returns = buffer.rewards.copy()
    parts = [part.returns.tolist() for part in buffer.get(6)]
    assert [len(part) for part in parts] == [6, 6, 6, 3]
    flat = [number for part in parts for number in part]
    assert sorted(flat) == sorted(10.0 * env + step for env in range(3) for step in range(7))
    together = sum(b - a == 1 for a, b in itertools.pairwise(flat))
    assert together >= 14


FRESH = """
import sys, json, numpy as np
from crystal_agents.online import algorithms
model = getattr(algorithms, sys.argv[1]).load(sys.argv[2])
batch = dict(np.load(sys.argv[3]))
print(json.dumps(model.predict(batch, deterministic=True)[0].tolist()))
"""


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_saved_acts_the_same_once_loaded(toy, tmp_path, algorithm):
    model = warm_start(
        policy_for(toy), algorithm, envs_for(toy), critic_warm_up=30, **short(algorithm)
    )
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.get_env())
    assert equal(weights(model.policy), weights(loaded.policy))
    assert loaded.critic_warm_up == 30
    if ALGORITHMS[algorithm].can_be_anchored:
        assert loaded.anchor(1.0) == model.anchor(1.0) > 0
    loaded.critic_warm_up = 0
    loaded.learn(60)
    assert loaded.num_timesteps >= 60


def test_what_is_saved_acts_the_same_in_another_process(toy, tmp_path):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy))
    batch = next(states(model.get_env(), 1))
    model.save(tmp_path / "model.zip")
    np.savez(tmp_path / "batch.npz", **batch)
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            FRESH,
            "SkeletonPPO",
            tmp_path / "model.zip",
            tmp_path / "batch.npz",
        ],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert json.loads(answer) == model.predict(batch, deterministic=True)[0].tolist()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_actor_rests_while_the_critic_warms_up(toy, algorithm):
    model = warm_start(
        policy_for(toy), algorithm, envs_for(toy), critic_warm_up=100_000, **short(algorithm)
    )
    network = get_features_extractor(model.policy).network
    before, whole = weights(network), weights(model.policy)
    with pytest.warns(UserWarning, match="only the critic learned"):
        model.learn(300)
    assert equal(before, weights(network))
    assert not equal(whole, weights(model.policy))
    model.critic_warm_up = 0
    model.learn(300)
    assert not equal(before, weights(network))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_actor_rests_in_one_update_however_long_the_rollout(toy, algorithm):
    model = warm_start(
        policy_for(toy), algorithm, envs_for(toy), critic_warm_up=1, **short(algorithm)
    )
    network = get_features_extractor(model.policy).network
    before, whole = weights(network), weights(model.policy)
    with pytest.warns(UserWarning, match="at least one update"):
        model.learn(1)
    assert model.num_timesteps > model.critic_warm_up
    assert equal(before, weights(network))
    assert not equal(whole, weights(model.policy))
    # DQN's actor is told nothing by its own greedy actions.
    model.learn(300, reset_num_timesteps=False)
    assert not equal(before, weights(network))


def test_a_training_within_the_warm_up_is_told(toy):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy), critic_warm_up=200, **SHORT)
    with pytest.warns(UserWarning, match=r"96 steps, in which only the critic.*critic_warm_up=200"):
        model.learn(96)
    # Without a warning from here on: they are errors.
    model.learn(192, reset_num_timesteps=False)
    from_scratch(policy_for(toy), "ppo", envs_for(toy), **SHORT).learn(96)


def test_dqn_explores_in_each_environment_by_itself(toy):
    """Stable-Baselines3 would explore in all of a vector or in none."""
    envs = envs_for(toy, 500)
    model = warm_start(policy_for(toy), "dqn", envs, seed=3)
    batch = next(states(model.get_env(), 1))
    greedy = model.predict(batch, deterministic=True)[0]
    n = envs.single_action_space.n
    model.exploration_rate = 0.2
    chosen = np.stack([model.predict(batch)[0] for _ in range(40)])
    shares = (chosen != greedy).mean(1)
    # 500 draws each: three standard deviations are 0.054.
    assert np.abs(shares - 0.2 * (1 - 1 / n)).max() < 0.07
    assert shares.mean() == pytest.approx(0.2 * (1 - 1 / n), abs=0.01)
    model.set_random_seed(3)
    again = model.predict(batch)[0]
    model.set_random_seed(3)
    np.testing.assert_array_equal(again, model.predict(batch)[0])
    model.exploration_rate = 0.0
    np.testing.assert_array_equal(model.predict(batch)[0], greedy)
    model.exploration_rate = 1.0
    counts = np.bincount(np.concatenate([model.predict(batch)[0] for _ in range(4)]), minlength=n)
    assert len(counts) == n
    assert counts.min() > 0.7 * counts.mean()
    one = {key: value[0] for key, value in batch.items()}
    assert {int(model.predict(one)[0]) for _ in range(20 * n)} == set(range(n))


def divergence(model, policy, n=100):
    """Mean KL divergence of the model from a policy."""
    total = []
    for batch in states(model.get_env(), n):
        tensors, _ = model.policy.obs_to_tensor(batch)
        with torch.no_grad():
            logits = model.policy.get_distribution(tensors).distribution.logits
        reference = torch.as_tensor(policy.probabilities(batch)).log()
        total.append((logits.exp() * (logits - reference)).sum(-1))
    return float(torch.cat(total).mean())


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "maskable-ppo"])
def test_an_anchor_holds_the_actor(toy, algorithm):
    policy = policy_for(toy)
    moved = {}
    for strength in (0.0, 1000.0):
        model = warm_start(
            policy,
            algorithm,
            envs_for(toy),
            critic_warm_up=0,
            anchor=ConstantSchedule(strength),
            learning_rate=3e-4,
            **short(algorithm),
        )
        before = model.ent_coef
        model.learn(700)
        assert model.ent_coef == before
        moved[strength] = divergence(model, policy)
    assert moved[1000.0] < 0.2 * moved[0.0]
    assert agreement(model, policy, 200) > 0.98


def test_the_anchor_is_the_divergence_from_the_first_policy(toy):
    """What the loss subtracts, against the formula."""
    policy = policy_for(toy)
    model = warm_start(policy, "ppo", envs_for(toy), critic_warm_up=0, anchor=0.0, **SHORT)
    model.learn(300)
    learned = extract_policy(model)
    anchored = warm_start(policy, "ppo", envs_for(toy), anchor=0.5)
    get_features_extractor(anchored.policy).network.load_state_dict(learned.state_dict())
    batch = next(states(anchored.get_env(), 1))
    tensors, _ = anchored.policy.obs_to_tensor(batch)
    actions = torch.zeros(B, dtype=torch.int64)
    _, _, entropy = anchored.policy.evaluate_actions(tensors, actions)
    anchored.policy.regularization = (0.3, 0.5)
    _, _, term = anchored.policy.evaluate_actions(tensors, actions)
    p, q = (torch.as_tensor(one.probabilities(batch)).double() for one in (learned, policy))
    wanted = 0.3 * entropy - 0.5 * (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(term.double(), wanted, rtol=1e-3, atol=1e-5)
    assert (wanted - 0.3 * entropy).abs().max() > 1e-4


def test_with_both_off_it_is_plain_ppo(toy):
    policy = policy_for(toy)
    ours = warm_start(policy, "ppo", envs_for(toy), critic_warm_up=0, anchor=0, **SHORT)
    settings = {**ALGORITHMS["ppo"].settings, **SHORT}
    plain = PPO(
        SkeletonActorCritic,
        SkeletonVecEnv(envs_for(toy)),
        seed=0,
        device="cpu",
        policy_kwargs=ours.policy_kwargs,
        **settings,
    )
    get_features_extractor(plain.policy).network.load_state_dict(policy.state_dict())
    plain.policy.value_net.load_state_dict(ours.policy.value_net.state_dict())
    for model in (ours, plain):
        model.set_random_seed(1)
        model.learn(180)
    assert type(plain) is PPO
    assert equal(weights(ours.policy), weights(plain.policy))
    assert not equal(policy.state_dict(), weights(get_features_extractor(ours.policy).network))


def test_models_are_those_of_stable_baselines3(toy):
    policy = policy_for(toy)
    for name, kind in (("ppo", PPO), ("a2c", A2C), ("dqn", DQN)):
        assert isinstance(warm_start(policy, name, envs_for(toy)), kind)


def test_single_environments_serve_as_well(toy):
    policy = policy_for(toy)
    env = gym.make("CrystalSkeleton-v0", collection=toy, split="all")
    model = warm_start(policy, "ppo", env, critic_warm_up=0, n_steps=30, batch_size=10)
    assert agreement(model, policy, 20) == 1
    model.learn(30)


def test_from_scratch_is_the_same_network_with_other_weights(toy):
    policy = policy_for(toy)
    model = from_scratch(policy, "ppo", envs_for(toy), seed=4, **SHORT)
    network = get_features_extractor(model.policy).network
    assert network.config.settings == policy.config.settings
    assert {k: v.shape for k, v in network.state_dict().items()} == {
        k: v.shape for k, v in policy.state_dict().items()
    }
    assert not equal(policy.state_dict(), network.state_dict())
    again = from_scratch(policy.config, "ppo", envs_for(toy), seed=4)
    assert equal(network.state_dict(), get_features_extractor(again.policy).network.state_dict())
    before = weights(network)
    model.learn(1)
    assert not equal(before, weights(network))


def test_a_short_run_does_not_collapse(gold):
    """From the shipped policy, on the reward that it was cloned for."""
    envs = CrystalSkeletonVectorEnv(64, collection="goldschmidt", autoreset_mode="SameStep")
    model = warm_start(gold, "ppo", envs, critic_warm_up=1280, n_steps=10, batch_size=320)
    model.learn(3200)
    learned = extract_policy(model, steps=3200)
    assert learned.config.training["finetuning"] == [{"steps": 3200}]
    assert not equal(gold.state_dict(), learned.state_dict())
    held_out = InstanceGenerator("goldschmidt", split="val")
    before, after = (greedy_metrics(policy, held_out) for policy in (gold, learned))
    assert before["return"] == pytest.approx(before["match"])
    assert after["match"] > before["match"] - 0.05


def test_a_run_goes_on_from_its_checkpoint(toy, tmp_path, monkeypatch):
    def model():
        return warm_start(policy_for(toy), "ppo", envs_for(toy), critic_warm_up=96, **SHORT)

    class StoppedError(Exception):
        pass

    real, calls = SkeletonPPO.train, []

    def train(self):
        calls.append(real(self))
        if len(calls) == 3:
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(SkeletonPPO, "train", train)
        with pytest.raises(StoppedError):
            fine_tune(model(), 480, tmp_path, {}, checkpoint_seconds=0, progress=False)
    assert not (tmp_path / "policy.json").exists()
    resumed = model()
    policy = fine_tune(resumed, 480, tmp_path, {}, progress=False)
    assert resumed.num_timesteps == 480
    # Two of five updates were kept.
    assert resumed._n_updates == 5 * resumed.n_epochs
    assert equal(policy.state_dict(), load_policy(tmp_path).state_dict())
    # A finished run only tells its result.
    again = fine_tune(model(), 480, tmp_path, {}, progress=False)
    assert equal(policy.state_dict(), again.state_dict())
    with pytest.raises(CrystalGymError, match=r"other settings \(steps\)"):
        fine_tune(model(), 500, tmp_path, {}, progress=False)
    checkpoint = tmp_path / "model.zip"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    with pytest.raises(DamagedFileError, match="Delete it to begin anew"):
        fine_tune(model(), 480, tmp_path, {}, progress=False)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(DamagedFileError, match=r"settings\.json is damaged"):
        fine_tune(model(), 480, tmp_path, {}, progress=False)


def test_the_command_line_finetunes(toy_folder, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    policy_for(toy).save(tmp_path / "cloned")
    line = ["finetune", "./cloned", "--collection", str(toy_folder), "--reward", "validity"]
    line += ["--steps", "5200", "--num-envs", "64", "--run-folder", "there", "--record"]
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert cli.main(line) == 0
    printed = capsys.readouterr().out
    replayed = load_transitions(re.search(r"Data set: (\S+)", printed)[1])
    assert len(replayed) >= 5200 - 64 * toy.max_sites
    assert 0 < replayed.returns.mean() < 1
    for word in ("before", "after", "return", "match", "validity", "Policy: there"):
        assert word in printed
    rows = (tmp_path / "there" / "curve.csv").read_text().splitlines()
    assert rows[0].split(",")[:3] == ["steps", "episodes", "return"]
    assert {"match", "validity"} <= set(rows[0].split(","))
    assert int(rows[1].split(",")[0]) >= 2560
    evaluate = ["evaluate", "there", "--collection", str(toy_folder), "--json", "--no-floors"]
    assert cli.main(evaluate) == 0
    assert cli.main([*line[:6], "--record", "--run-folder", "elsewhere"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["finetune", "./cloned"]) == 2
    assert "name it with --collection" in capsys.readouterr().err


def test_a_run_tells_the_steps_it_took_and_an_actor_that_never_moved(toy, tmp_path, caplog):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy), critic_warm_up=8, **SHORT)
    policy = fine_tune(model, 10, tmp_path, {}, progress=False)
    (stage,) = policy.config.training["finetuning"]
    assert stage["steps"] == model.num_timesteps > 10
    assert "The policy is what it was" in caplog.text


class Labelled(Reward):
    """Pays 1; of even rows a figure is known, which is 3, of others it is not."""

    def on_finish(self, table, crystal, elements):
        told = {"label": np.where(crystal % 2 == 0, 3.0, np.nan)}
        return np.ones(len(crystal)), told | {"failures": np.full(len(crystal), 7.0)}


def test_a_curve_leaves_out_what_is_unknown_and_ends_with_the_training(toy, tmp_path):
    model = warm_start(
        policy_for(toy), "ppo", envs_for(toy, reward=Labelled()), critic_warm_up=0, **SHORT
    )
    fine_tune(model, 192, tmp_path, {}, progress=False)
    with (tmp_path / "curve.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert int(row["steps"]) == 192
    assert int(row["episodes"]) > 192 / toy.max_sites - B
    assert (float(row["return"]), float(row["label"])) == (1, 3)
    assert 0 <= float(row["match"]) <= 1
    # A count that runs is not a figure of which there are means.
    assert "failures" not in row


def test_finetuned_policies_tell_which_crystals_they_have_seen(tmp_path, monkeypatch, capsys):
    def call(*line):
        code = cli.main([*line])
        printed = capsys.readouterr()
        return code, printed.out, " ".join(printed.err.split())

    monkeypatch.chdir(tmp_path)
    cheap = ("--steps", "400", "--num-envs", "16")
    spared = ("--critic-warm-up", "0")
    evaluate = ("--sources", "1", "--no-floors", "--json")
    start = ("finetune", "goldschmidt/egnn", "--from-scratch", *cheap)
    # Random weights have seen no crystals: any split will do.
    assert call(*start, "--split-by", "composition", "--run-folder", "anew")[0] == 0
    code, out, _ = call("evaluate", "anew", *evaluate)
    assert (code, json.loads(out)["collection"]) == (0, "goldschmidt-by-composition")
    code, _, err = call("evaluate", "anew", "--split-by", "origin", *evaluate)
    assert code == 2
    assert "anew was trained on goldschmidt split by composition" in err
    for policy, other in (("goldschmidt/egnn", "composition"), ("./anew", "start_site")):
        code, _, err = call("finetune", policy, *cheap, *spared, "--split-by", other)
        assert code == 2
        assert "no split would tell what it has learned" in err
    # What follows is appended, and the policy's own splits are taken.
    assert call("finetune", "./anew", *cheap, *spared, "--run-folder", "on")[0] == 0
    stages = load_policy(tmp_path / "on").config.training["finetuning"]
    assert [(stage["policy"], stage["split_by"]) for stage in stages] == [
        ("goldschmidt/egnn", "composition"),
        ("./anew", "composition"),
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--seed", "-1"), "seed is a whole number from 0"),
        (("--learning-rate", "-1"), "learning rate is a number above 0, not -1"),
        (("--learning-rate", "nan"), "learning rate is a number above 0, not nan"),
        (("--steps", "0"), "steps must be at least 1"),
        (("--num-envs", "0"), "needs at least one, not 0"),
        (("--anchor", "-1"), "coefficient is a number from 0"),
        (("--critic-warm-up", "-1"), "critic_warm_up"),
        (("--steps", "640", "--critic-warm-up", "640"), "for the first 640 only the critic"),
        (("--from-scratch", "--anchor", "0.5"), "--from-scratch begins with random weights"),
        (("--from-scratch", "--critic-warm-up", "9"), "--from-scratch begins with random weights"),
    ],
)
def test_numbers_that_cannot_be_end_with_2(tmp_path, monkeypatch, capsys, options, told):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["finetune", "goldschmidt/egnn", *options]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_algorithms_of_real_numbers_are_refused(toy, algorithm):
    with pytest.raises(CrystalGymError, match="chooses real numbers"):
        warm_start(policy_for(toy), algorithm, envs_for(toy))


def test_bad_input_is_told(toy):
    policy = policy_for(toy)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'ppo'\?"):
        warm_start(policy, "ppoo", envs_for(toy))
    with pytest.raises(CrystalGymError, match="must be CrystalSkeleton-v0"):
        warm_start(policy, "ppo", gym.make("CartPole-v1"))
    with pytest.raises(CrystalGymError, match="CrystalSkeletonVectorEnv is needed"):
        warm_start(policy, "ppo", gym.make_vec("CartPole-v1", 2))
    for algorithm in ("dqn", "ppo", "a2c"):
        with pytest.raises(CrystalGymError, match="take maskable-ppo"):
            warm_start(policy, algorithm, envs_for(toy, mask="charge-neutral"))
    with pytest.raises(CrystalGymError, match="nothing can anchor it"):
        warm_start(policy, "dqn", envs_for(toy), anchor=0.1)
    with pytest.raises(CrystalGymError, match="coefficient is a number from 0"):
        warm_start(policy, "ppo", envs_for(toy), anchor=-1)
    with pytest.raises(CrystalGymError, match="critic_warm_up"):
        warm_start(policy, "ppo", envs_for(toy), critic_warm_up=-1)


def test_another_vocabulary_or_too_many_sites_are_refused(toy):
    other = policy_for(toy, symbols=("H", "O"))
    for start in (warm_start, from_scratch):
        with pytest.raises(CrystalGymError, match="chooses from 2 elements"):
            start(other, "ppo", envs_for(toy))
        # Networks that are told the focus as a number have a limit.
        small = policy_for(toy, "egnn-paper", {"hidden": 16}, max_sites=4)
        with pytest.raises(CrystalGymError, match="up to 4 sites; these have up to 6"):
            start(small, "ppo", envs_for(toy))


def test_masks_are_heeded_and_one_that_leaves_nothing_is_told(toy):
    def first_two(table, state):
        allowed = np.zeros((len(state.crystal), table.n_elements), bool)
        allowed[:, :2] = True
        return allowed

    def nothing(table, state):
        return np.zeros((len(state.crystal), table.n_elements), bool)

    policy = policy_for(toy)
    model = warm_start(
        policy, "maskable-ppo", envs_for(toy, mask=first_two), critic_warm_up=0, **SHORT
    )
    model.learn(1)
    assert model.rollout_buffer.actions.max() <= 1
    empty = warm_start(policy, "maskable-ppo", envs_for(toy, mask=nothing))
    with pytest.raises(CrystalGymError, match="leaves no element"):
        empty.learn(100)


def test_a_damaged_file_is_refused(toy, tmp_path):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy))
    path = tmp_path / "model.zip"
    model.save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="zip"):
        SkeletonPPO.load(path)

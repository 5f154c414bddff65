"""Methods of the benchmark: baselines, the cloned policy, and online and offline learners."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_agents.evaluation import baselines
from crystal_agents.evaluation.returns import evenly_spaced
from crystal_agents.experiments.benchmark.config import BenchmarkConfig
from crystal_agents.experiments.benchmark.counted_reward import CountedReward
from crystal_agents.experiments.benchmark.task import BenchmarkTask, RunResult
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_gym.errors import MissingDataError, UnknownNameError

if TYPE_CHECKING:
    from crystal_agents.training.targets import SkeletonTargets
    from crystal_datasets.transitions import Transitions

# Fraction of the mixed episodes that `bc-top` clones: those with the highest returns.
_CLONED_FRACTION = 0.25
# Quantile of the returns that `bc-return` asks for.
_ASKED_QUANTILE = 0.99
# Fraction of the mixed episodes whose fillings `constant` tries, and the number of skeletons.
_CANDIDATE_FRACTION = 0.01
_TRIAL_SKELETONS = 100

RunMethod = Callable[[BenchmarkTask, int], RunResult]


@dataclass(frozen=True)
class Method:
    """A method of the benchmark, one row of the table.

    Attributes:
        title: Label of the row.
        run: Runs the method on a task with a seed.
        mask: Name of the action mask under which the method learns and is evaluated.
        seeded: Whether the result depends on the seed.
        online: Whether the method learns in the environment.
        scratch: For a warm start, the method that begins with random weights instead.
        expert_data: Whether the method learns from known crystals, also through a policy.
        needs: Package that must be installed, if it belongs to an extra.
    """

    title: str
    run: RunMethod
    mask: str = "none"
    seeded: bool = True
    online: bool = False
    scratch: str = ""
    expert_data: bool = True
    needs: str = ""


def check_methods(config: BenchmarkConfig) -> None:
    """Verify that all methods of a config exist.

    Raises:
        UnknownNameError: If a method is unknown.
    """
    for name in config.methods:
        if name not in METHODS:
            raise UnknownNameError("method", name, METHODS)


def require_packages(config: BenchmarkConfig) -> None:
    """Import the packages that the methods of a config need.

    Raises:
        ModuleNotFoundError: If a package is not installed.
    """
    for name in config.methods:
        if METHODS[name].needs:
            importlib.import_module(METHODS[name].needs)


def _run_uniform(task: BenchmarkTask, seed: int) -> RunResult:
    return RunResult(baselines.uniform(task.table.n_elements, seed))


def _run_most_frequent(task: BenchmarkTask, _seed: int) -> RunResult:
    train = task.collection.in_split("train")
    return RunResult(baselines.most_frequent_per_site(task.table, train))


def _run_best_constant(task: BenchmarkTask, seed: int) -> RunResult:
    from crystal_datasets import best_episodes

    data = _mixed_data(task)
    reward = _counted(task, data)
    candidates = _fillings(task, best_episodes(data, _CANDIDATE_FRACTION, seed))
    rows = evenly_spaced(task.collection.in_split("train"), _TRIAL_SKELETONS)
    score = baselines.best_constant(task.table, rows, candidates, reward)
    return RunResult(score, oracle_calls=[reward.oracle_calls])


def _fillings(task: BenchmarkTask, data: "Transitions") -> np.ndarray:
    """Return the fillings of a dataset, padded with -1 to the sites of the task, int32 (E, N)."""
    fillings = data.fillings
    padding = task.table.max_sites - fillings.shape[1]
    return np.pad(fillings, ((0, 0), (0, padding)), constant_values=-1)


def _counted(task: BenchmarkTask, data: "Transitions") -> CountedReward:
    """Return the task's reward, with the episodes of a dataset counted as evaluated."""
    reward = CountedReward(task.reward)
    crystals = np.array([task.collection.index(name) for name in data.skeleton_ids.tolist()])
    reward.count(task.table, crystals[data.skeleton[data.done]], _fillings(task, data))
    return reward


def _run_cloned(task: BenchmarkTask, _seed: int) -> RunResult:
    return RunResult(PolicyScorer(task.policy, task.table))


# Settings of risk-seeking PPO: the upper half of the advantages, with more exploration.
_RISK_SEEKING: dict[str, Any] = {
    "learning_rate": 5e-4,
    "batch_size": 640,
    "ent_coef": 0.1,
    "rollout_buffer_kwargs": {"advantage_floor": 0.5},
}


def _online(
    algorithm: str,
    *,
    warm: bool = False,
    anchored: bool = False,
    mask: str = "none",
    **settings: Any,
) -> RunMethod:
    def run(task: BenchmarkTask, seed: int) -> RunResult:
        from crystal_agents.experiments.benchmark.learning_curve import learn_with_curve
        from crystal_agents.online.warm_start import from_scratch, warm_start

        reward = CountedReward(task.reward)
        env = task.environment(mask, reward)
        if warm:
            anchor = None if anchored else 0.0
            model = warm_start(task.policy, algorithm, env, anchor=anchor, seed=seed, **settings)
        else:
            model = from_scratch(task.policy, algorithm, env, seed=seed, **settings)
        return learn_with_curve(task, model, reward, mask)

    return run


def _run_cql(task: BenchmarkTask, seed: int) -> RunResult:
    from crystal_agents.training.config import TrainingConfig
    from crystal_agents.training.cql import CQLConfig, train_cql
    from crystal_agents.training.recipes import get_recipe, value_recipe

    recipe = dataclasses.replace(
        value_recipe(get_recipe(task.policy.config.network)), epochs=task.config.offline_epochs
    )
    folder = task.folder / f"cql-{task.reward_name}-seed-{seed}"
    data = _mixed_data(task)
    policy = train_cql(TrainingConfig(folder, recipe, seed=seed), CQLConfig(), data)
    return _offline_result(task, policy, data)


def _run_best_cloned(task: BenchmarkTask, seed: int) -> RunResult:
    from crystal_datasets import best_episodes

    data = _mixed_data(task)
    policy = _clone(task, "bc-top", best_episodes(data, _CLONED_FRACTION, seed), seed)
    return _offline_result(task, policy, data)


def _run_return_conditioned(task: BenchmarkTask, seed: int) -> RunResult:
    from crystal_agents.policies.targets import PolicyTargets
    from crystal_agents.training.targets import SkeletonTargets

    data = _mixed_data(task)
    # The target of a skeleton is the mean return of its episodes; the benchmark has one of each.
    skeletons = data.skeleton[data.done]
    totals = np.bincount(skeletons, data.returns, minlength=len(data.skeleton_ids))
    returns = (totals / np.bincount(skeletons, minlength=len(totals)))[:, None]
    labels = PolicyTargets.from_labels(["return"], returns)
    targets = SkeletonTargets(labels, labels.standardize(returns))
    policy = _clone(task, "bc-return", data, seed, targets)
    asked = {"return": float(np.quantile(returns, _ASKED_QUANTILE))}
    return _offline_result(task, policy, data, asked)


def _clone(
    task: BenchmarkTask,
    name: str,
    data: "Transitions",
    seed: int,
    targets: "SkeletonTargets | None" = None,
) -> SkeletonPolicy:
    """Clone the episodes of a dataset with the network of the cloned policy."""
    from crystal_agents.training.behavioral_cloning import train
    from crystal_agents.training.config import TrainingConfig
    from crystal_agents.training.recipes import cloning_recipe, get_recipe

    recipe = dataclasses.replace(
        cloning_recipe(get_recipe(task.policy.config.network)),
        epochs=task.config.offline_epochs,
    )
    folder = task.folder / f"{name}-{task.reward_name}-seed-{seed}"
    return train(TrainingConfig(folder, recipe, seed=seed), data, targets=targets)


def _offline_result(
    task: BenchmarkTask,
    policy: SkeletonPolicy,
    data: "Transitions",
    asked: Mapping[str, float] | None = None,
) -> RunResult:
    """Return the result of a policy that learned from a dataset, with its target, if any."""
    score = PolicyScorer(policy, task.table, asked)
    return RunResult(score, oracle_calls=[_counted(task, data).oracle_calls])


def _mixed_data(task: BenchmarkTask) -> "Transitions":
    """Load the dataset of the mixed behavior policy; build it if it is missing or outdated.

    The expert, the cloned policy and the uniform policy each generate a third of the episodes.

    Raises:
        CollectionMismatchError: If the dataset was built from other crystals.
    """
    from crystal_datasets import build_dataset, dataset_id, load_transitions, mixed

    config = task.config
    name = dataset_id(task.collection.name, "train", "mixed", task.reward_name)
    behavior = mixed(task.policy.probabilities, config.policy)
    expected = {
        "labels_sha256": task.collection.labels_fingerprint(task.reward.labels),
        "trajectories": config.offline_trajectories,
        "mixture": behavior.settings(),
        "vocabulary": list(task.policy.vocabulary.symbols),
    }
    existing = _existing_settings(task, name)
    if existing is None or any(existing.get(key) != expected[key] for key in expected):
        build_dataset(
            config.collection,
            "train",
            behavior,
            reward=task.reward_name,
            vocabulary=task.policy.vocabulary,
            trajectories=config.offline_trajectories,
            overwrite=existing is not None,
        )
    return load_transitions(name)


def _existing_settings(task: BenchmarkTask, name: str) -> dict[str, Any] | None:
    """Return the settings of a dataset of these crystals; ``None`` if it does not exist.

    Raises:
        CollectionMismatchError: If it was built from other crystals.
    """
    from crystal_datasets.dataset_metadata import identify, read_metadata, require_collection
    from crystal_datasets.minari_writer import origin_of

    try:
        metadata = read_metadata(name)
    except MissingDataError:
        return None
    require_collection(
        name,
        identify(name, metadata).collections,
        origin_of(task.config.collection),
        task.collection,
        f"Choose another folder, or delete the dataset with `minari delete {name}`.",
    )
    return metadata.get("crystal_gym")


METHODS: dict[str, Method] = {
    "uniform": Method("uniform", _run_uniform, expert_data=False),
    "most-frequent": Method("most frequent per site", _run_most_frequent, seeded=False),
    "constant": Method("best constant filling", _run_best_constant),
    "bc": Method("BC", _run_cloned, seeded=False),
    "ppo": Method("PPO from scratch", _online("ppo"), online=True, expert_data=False),
    "maskable-ppo": Method(
        "MaskablePPO from scratch",
        _online("maskable-ppo", mask="charge-neutral"),
        mask="charge-neutral",
        online=True,
        expert_data=False,
    ),
    "ppo-warm": Method("PPO, warm start", _online("ppo", warm=True), online=True, scratch="ppo"),
    "ppo-warm-anchored": Method(
        "PPO, warm start, anchored",
        _online("ppo", warm=True, anchored=True),
        online=True,
        scratch="ppo",
    ),
    "ppo-warm-risk": Method(
        "PPO, warm start, risk-seeking",
        _online("ppo", warm=True, **_RISK_SEEKING),
        online=True,
        scratch="ppo",
    ),
    "dqn": Method("DQN from scratch", _online("dqn"), online=True, expert_data=False),
    "dqn-warm": Method("DQN, warm start", _online("dqn", warm=True), online=True, scratch="dqn"),
    "cql": Method("CQL, offline", _run_cql, needs="torchrl"),
    "bc-top": Method("BC on the best quarter, offline", _run_best_cloned),
    "bc-return": Method("BC conditioned on the return, offline", _run_return_conditioned),
}

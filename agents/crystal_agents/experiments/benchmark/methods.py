"""Methods of the benchmark: baselines, the cloned policy, and online and offline learners."""

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_agents.evaluation import baselines
from crystal_agents.evaluation.returns import evenly_spaced
from crystal_agents.experiments.benchmark.config import BenchmarkConfig
from crystal_agents.experiments.benchmark.task import BenchmarkTask, RunResult
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_gym.errors import MissingDataError, UnknownNameError

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions

# Fraction of the mixed episodes that `bc-top` clones: those with the highest returns.
_CLONED_FRACTION = 0.25
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

    best = best_episodes(_mixed_data(task), _CANDIDATE_FRACTION, seed)
    # The last transition of an episode has all elements but the one that its action assigns.
    fillings = best.elements[best.done].astype(np.int32)
    np.put_along_axis(fillings, best.focus[best.done, None], best.action[best.done, None] + 1, 1)
    padding = task.table.max_sites - fillings.shape[1]
    fillings = np.pad(fillings, ((0, 0), (0, padding)), constant_values=-1)
    rows = evenly_spaced(task.collection.in_split("train"), _TRIAL_SKELETONS)
    return RunResult(baselines.best_constant(task.table, rows, fillings, task.reward))


def _run_cloned(task: BenchmarkTask, _seed: int) -> RunResult:
    return _result(task, task.policy)


def _online(
    algorithm: str, *, warm: bool = False, anchored: bool = False, mask: str = "none"
) -> RunMethod:
    def run(task: BenchmarkTask, seed: int) -> RunResult:
        from crystal_agents.experiments.benchmark.learning_curve import learn_with_curve
        from crystal_agents.online.warm_start import from_scratch, warm_start

        env = task.environment(mask)
        if warm:
            anchor = None if anchored else 0.0
            model = warm_start(task.policy, algorithm, env, anchor=anchor, seed=seed)
        else:
            model = from_scratch(task.policy, algorithm, env, seed=seed)
        return learn_with_curve(task, model, mask)

    return run


def _run_cql(task: BenchmarkTask, seed: int) -> RunResult:
    from crystal_agents.training.config import TrainingConfig
    from crystal_agents.training.cql import CQLConfig, train_cql
    from crystal_agents.training.recipes import get_recipe, value_recipe

    recipe = dataclasses.replace(
        value_recipe(get_recipe(task.policy.config.network)), epochs=task.config.offline_epochs
    )
    folder = task.folder / f"cql-{task.reward_name}-seed-{seed}"
    policy = train_cql(TrainingConfig(folder, recipe, seed=seed), CQLConfig(), _mixed_data(task))
    return _result(task, policy)


def _run_best_cloned(task: BenchmarkTask, seed: int) -> RunResult:
    from crystal_agents.training.behavioral_cloning import train
    from crystal_agents.training.config import TrainingConfig
    from crystal_agents.training.recipes import cloning_recipe, get_recipe
    from crystal_datasets import best_episodes

    data = best_episodes(_mixed_data(task), _CLONED_FRACTION, seed)
    recipe = dataclasses.replace(
        cloning_recipe(get_recipe(task.policy.config.network)),
        epochs=task.config.offline_epochs,
    )
    folder = task.folder / f"bc-top-{task.reward_name}-seed-{seed}"
    policy = train(TrainingConfig(folder, recipe, seed=seed), data)
    return _result(task, policy)


def _result(task: BenchmarkTask, policy: SkeletonPolicy) -> RunResult:
    return RunResult(PolicyScorer(policy, task.table))


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
    "dqn": Method("DQN from scratch", _online("dqn"), online=True, expert_data=False),
    "dqn-warm": Method("DQN, warm start", _online("dqn", warm=True), online=True, scratch="dqn"),
    "cql": Method("CQL, offline", _run_cql, needs="torchrl"),
    "bc-top": Method("BC on the best quarter, offline", _run_best_cloned),
}

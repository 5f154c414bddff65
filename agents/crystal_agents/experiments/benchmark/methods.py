"""Who takes part: floors, cloned policies, and learners online and offline."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_agents.evaluation import baselines
from crystal_agents.evaluation.returns import evenly_spaced
from crystal_agents.experiments.benchmark.task import RunResult
from crystal_agents.policies.policy import PolicyScorer

if TYPE_CHECKING:
    from crystal_agents.experiments.benchmark.task import BenchmarkTask
    from crystal_agents.policies.policy import SkeletonPolicy
    from crystal_datasets.transitions import Transitions

# Of the episodes of a behavior, those that `bc-top` clones.
_TOP = 0.25
# Of them, those whose fillings `constant` tries, and on how many skeletons.
_CANDIDATES = 0.01
_TRIALS = 100


@dataclass(frozen=True)
class Method:
    """One line of the table.

    Attributes:
        title: for the reader.
        run: makes one, with a seed.
        mask: under which it learns and fills.
        seeded: whether the seed matters.
        online: whether it learns in the environment.
        scratch: of a warm start, the contestant that begins with random weights.
        needs: a package that an extra installs.
    """

    title: str
    run: "Callable[[BenchmarkTask, int], RunResult]"
    mask: str = "none"
    seeded: bool = True
    online: bool = False
    scratch: str = ""
    needs: str = ""


def _uniform(task: "BenchmarkTask", seed: int) -> RunResult:
    return RunResult(baselines.uniform(task.table.n_elements, seed))


def _most_frequent(task: "BenchmarkTask", _seed: int) -> RunResult:
    train = task.collection.in_split("train")
    return RunResult(baselines.most_frequent_per_site(task.table, train))


def _constant(task: "BenchmarkTask", seed: int) -> RunResult:
    from crystal_datasets import best_episodes

    best = best_episodes(_mixed_data(task), _CANDIDATES, seed)
    fillings = best.elements[best.done].astype(np.int32)
    np.put_along_axis(fillings, best.focus[best.done, None], best.action[best.done, None] + 1, 1)
    padding = task.table.max_sites - fillings.shape[1]
    fillings = np.pad(fillings, ((0, 0), (0, padding)), constant_values=-1)
    rows = evenly_spaced(task.collection.in_split("train"), _TRIALS)
    return RunResult(baselines.best_constant(task.table, rows, fillings, task.reward))


def _cloned(task: "BenchmarkTask", _seed: int) -> RunResult:
    return RunResult(PolicyScorer(task.policy, task.table))


def _online(
    algorithm: str, *, warm: bool = False, anchored: bool = False, mask: str = "none"
) -> "Callable[[BenchmarkTask, int], RunResult]":
    def run(task: "BenchmarkTask", seed: int) -> RunResult:
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


def _cql(task: "BenchmarkTask", seed: int) -> RunResult:
    from crystal_agents.training.config import TrainingConfig
    from crystal_agents.training.cql import CQLConfig, train_cql
    from crystal_agents.training.recipes import get_recipe, value_recipe

    recipe = dataclasses.replace(
        value_recipe(get_recipe(task.policy.config.network)), epochs=task.config.offline_epochs
    )
    folder = task.folder / f"cql-{task.reward_name}-seed-{seed}"
    policy = train_cql(TrainingConfig(folder, recipe, seed=seed), CQLConfig(), _mixed_data(task))
    return _filling(task, policy)


def _best_cloned(task: "BenchmarkTask", seed: int) -> RunResult:
    from crystal_agents.training.behavioral_cloning import train
    from crystal_agents.training.config import TrainingConfig
    from crystal_agents.training.recipes import cloning_recipe, get_recipe
    from crystal_datasets import best_episodes

    data = best_episodes(_mixed_data(task), _TOP, seed)
    recipe = dataclasses.replace(
        cloning_recipe(get_recipe(task.policy.config.network)),
        epochs=task.config.offline_epochs,
    )
    folder = task.folder / f"bc-top-{task.reward_name}-seed-{seed}"
    return _filling(task, train(TrainingConfig(folder, recipe, seed=seed), data.vocabulary, data))


def _filling(task: "BenchmarkTask", policy: "SkeletonPolicy") -> RunResult:
    return RunResult(PolicyScorer(policy, task.table))


def _mixed_data(task: "BenchmarkTask") -> "Transitions":
    """A third each by the expert, the cloned policy and uniformly at random; built when missing."""
    import minari

    from crystal_datasets import build_dataset, dataset_id, load_transitions, mixed

    config = task.config
    name = dataset_id(task.collection.name, "train", "mixed", task.reward_name)
    labels = task.collection.labels_fingerprint(task.reward.labels)
    before: Any = minari.list_local_datasets(prefix=name).get(name)
    if before is None or before["crystal_gym"].get("labels_sha256") != labels:
        build_dataset(
            config.collection,
            "train",
            mixed(task.policy.probabilities, config.policy),
            reward=task.reward_name,
            vocabulary=task.policy.vocabulary,
            trajectories=config.offline_trajectories,
            overwrite=before is not None,
        )
    return load_transitions(name)


METHODS: dict[str, Method] = {
    "uniform": Method("uniform", _uniform),
    "most-frequent": Method("most frequent per site", _most_frequent, seeded=False),
    "constant": Method("best constant filling", _constant),
    "bc": Method("BC", _cloned, seeded=False),
    "ppo": Method("PPO from scratch", _online("ppo"), online=True),
    "maskable-ppo": Method(
        "MaskablePPO from scratch",
        _online("maskable-ppo", mask="charge-neutral"),
        mask="charge-neutral",
        online=True,
    ),
    "ppo-warm": Method("PPO, warm start", _online("ppo", warm=True), online=True, scratch="ppo"),
    "ppo-warm-anchored": Method(
        "PPO, warm start, anchored",
        _online("ppo", warm=True, anchored=True),
        online=True,
        scratch="ppo",
    ),
    "dqn": Method("DQN from scratch", _online("dqn"), online=True),
    "dqn-warm": Method("DQN, warm start", _online("dqn", warm=True), online=True, scratch="dqn"),
    "cql": Method("CQL, offline", _cql, needs="torchrl"),
    "bc-top": Method("BC on the best quarter, offline", _best_cloned),
}

"""Who takes part: floors, cloned policies, and learners online and offline."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_agents import baselines
from crystal_agents.fillings import spread_over
from crystal_agents.rollouts import PolicyScorer, Scorer

if TYPE_CHECKING:
    from crystal_agents.benchmark.arena import Arena
    from crystal_agents.policy import SkeletonPolicy
    from crystal_datasets.transitions import Transitions

# Of the episodes of a behaviour, those that `bc-top` clones.
_TOP = 0.25
# Of them, those whose fillings `constant` tries, and on how many skeletons.
_CANDIDATES = 0.01
_TRIALS = 100

# (steps of the environment, mean return of val) while a contestant learns.
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        score: fills crystals.
        curve: empty where nothing was learned in the environment.
    """

    score: Scorer
    curve: Curve = field(default_factory=list)


@dataclass(frozen=True)
class Contestant:
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
    run: "Callable[[Arena, int], Outcome]"
    mask: str = "none"
    seeded: bool = True
    online: bool = False
    scratch: str = ""
    needs: str = ""


def _uniform(_arena: "Arena", seed: int) -> Outcome:
    return Outcome(baselines.uniform(seed))


def _most_frequent(arena: "Arena", _seed: int) -> Outcome:
    train = arena.collection.in_split("train")
    return Outcome(baselines.most_frequent_per_site(arena.table, train))


def _constant(arena: "Arena", seed: int) -> Outcome:
    from crystal_datasets import best_episodes

    best = best_episodes(_mixed_data(arena), _CANDIDATES, seed)
    fillings = best.elements[best.done].astype(np.int32)
    np.put_along_axis(fillings, best.focus[best.done, None], best.action[best.done, None] + 1, 1)
    padding = arena.table.max_sites - fillings.shape[1]
    fillings = np.pad(fillings, ((0, 0), (0, padding)), constant_values=-1)
    rows = spread_over(arena.collection.in_split("train"), _TRIALS)
    return Outcome(baselines.best_constant(arena.table, rows, fillings, arena.reward))


def _cloned(arena: "Arena", _seed: int) -> Outcome:
    return Outcome(PolicyScorer(arena.policy, arena.table))


def _online(
    algorithm: str, *, warm: bool = False, anchored: bool = False, mask: str = "none"
) -> "Callable[[Arena, int], Outcome]":
    def run(arena: "Arena", seed: int) -> Outcome:
        from crystal_agents.benchmark.curve import learn_with_curve
        from crystal_agents.online.warm_start import from_scratch, warm_start

        env = arena.environment(mask)
        if warm:
            anchor = None if anchored else 0.0
            model = warm_start(arena.policy, algorithm, env, anchor=anchor, seed=seed)
        else:
            model = from_scratch(arena.policy, algorithm, env, seed=seed)
        return learn_with_curve(arena, model, mask)

    return run


def _cql(arena: "Arena", seed: int) -> Outcome:
    from crystal_agents.offline import CQL, train_cql, value_recipe
    from crystal_agents.recipes import recipe_named
    from crystal_agents.training import Args

    recipe = dataclasses.replace(
        value_recipe(recipe_named(arena.policy.config.network)), epochs=arena.plan.offline_epochs
    )
    folder = arena.folder / f"cql-{arena.reward_name}-seed-{seed}"
    policy = train_cql(Args(folder, recipe, seed=seed), CQL(), _mixed_data(arena))
    return _filling(arena, policy)


def _best_cloned(arena: "Arena", seed: int) -> Outcome:
    from crystal_agents.behavioral_cloning import train
    from crystal_agents.offline import cloning_recipe
    from crystal_agents.recipes import recipe_named
    from crystal_agents.training import Args
    from crystal_datasets import best_episodes

    data = best_episodes(_mixed_data(arena), _TOP, seed)
    recipe = dataclasses.replace(
        cloning_recipe(recipe_named(arena.policy.config.network)),
        epochs=arena.plan.offline_epochs,
    )
    folder = arena.folder / f"bc-top-{arena.reward_name}-seed-{seed}"
    return _filling(arena, train(Args(folder, recipe, seed=seed), data.vocabulary, data))


def _filling(arena: "Arena", policy: "SkeletonPolicy") -> Outcome:
    return Outcome(PolicyScorer(policy, arena.table))


def _mixed_data(arena: "Arena") -> "Transitions":
    """A third each by the expert, the cloned policy and uniformly at random; built when missing."""
    import minari

    from crystal_datasets import build_dataset, dataset_id, load_transitions, mixed

    plan = arena.plan
    name = dataset_id(arena.collection.name, "train", "mixed", arena.reward_name)
    labels = arena.collection.labels_fingerprint(arena.reward.labels)
    before: Any = minari.list_local_datasets(prefix=name).get(name)
    if before is None or before["crystal_gym"].get("labels_sha256") != labels:
        build_dataset(
            plan.collection,
            "train",
            mixed(arena.policy.probabilities, plan.policy),
            reward=arena.reward_name,
            vocabulary=arena.policy.vocabulary,
            trajectories=plan.offline_trajectories,
            overwrite=before is not None,
        )
    return load_transitions(name)


CONTESTANTS: dict[str, Contestant] = {
    "uniform": Contestant("uniform", _uniform),
    "most-frequent": Contestant("most frequent per site", _most_frequent, seeded=False),
    "constant": Contestant("one filling, the best of mixed", _constant),
    "bc": Contestant("BC", _cloned, seeded=False),
    "ppo": Contestant("PPO from scratch", _online("ppo"), online=True),
    "maskable-ppo": Contestant(
        "MaskablePPO from scratch, charge-neutral",
        _online("maskable-ppo", mask="charge-neutral"),
        mask="charge-neutral",
        online=True,
    ),
    "ppo-warm": Contestant(
        "PPO, warm start", _online("ppo", warm=True), online=True, scratch="ppo"
    ),
    "ppo-warm-anchored": Contestant(
        "PPO, warm start, anchored",
        _online("ppo", warm=True, anchored=True),
        online=True,
        scratch="ppo",
    ),
    "dqn": Contestant("DQN from scratch", _online("dqn"), online=True),
    "dqn-warm": Contestant(
        "DQN, warm start", _online("dqn", warm=True), online=True, scratch="dqn"
    ),
    "cql": Contestant("CQL, offline from mixed", _cql, needs="torchrl"),
    "bc-top": Contestant("BC on the best quarter of mixed", _best_cloned),
}

"""``crystal-gym finetune POLICY``: improve a policy by online reinforcement learning."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from crystal_agents.cli.cluster_command import ClusterCommand
from crystal_agents.cli.command import RESUMES, console
from crystal_agents.cli.policy_collection import PolicyCollection
from crystal_agents.cli.target_values import parse_targets
from crystal_agents.training.loggers import LoggerName

if TYPE_CHECKING:
    from rich.table import Table
    from stable_baselines3.common.base_class import BaseAlgorithm

    from crystal_agents.online.vec_env import SkeletonVecEnv
    from crystal_agents.policies.policy import SkeletonPolicy
    from crystal_gym.collections.collection import CrystalCollection
    from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv


@dataclass
class Finetune(ClusterCommand):
    """Improve a trained policy by online reinforcement learning from a reward.

    The result is a policy like any other: pass the run's folder to `crystal-gym evaluate`. Rerun
    the same command to resume from the last checkpoint.
    """

    after_stop: ClassVar[str] = RESUMES

    policy: tyro.conf.Positional[str]
    """The initial policy: a name from `crystal-gym list`, or a folder."""

    collection: str | None = None
    """Collection of the skeletons (default: the one of the policy's last training stage)."""

    split_by: str | None = None
    """The splits: origin, composition, prototype, random:SEED or a file (default: those of the
    policy's training; others would train on crystals that are held out)."""

    on_error: Literal["raise", "skip"] = "raise"
    """Stop at crystals that cannot be read, or leave them out with a warning."""

    target: tuple[str, ...] = ()
    """Requested labels of a conditional policy in all episodes, such as heat_all=-0.2."""

    algorithm: str = "ppo"
    """ppo, maskable-ppo, a2c or dqn."""

    reward: str = "match"
    """The reward: match, validity, validity-strict, ... as in the environment."""

    mask: str = "none"
    """The action mask: none or charge-neutral; a mask needs maskable-ppo."""

    steps: int = 200_000
    """Environment steps in total, rounded up to whole rollouts."""

    num_envs: int = 128
    """Environments in the vector."""

    learning_rate: float | None = None
    """Learning rate (default: the algorithm's)."""

    critic_warm_up: int | None = None
    """Steps in which only the critic is trained; 0: none (default: the algorithm's)."""

    anchor: float | None = None
    """Coefficient of the KL divergence from the initial policy, which decays to 0 over the run; 0:
    no anchor (default: the algorithm's)."""

    train_geometry: bool = False
    """Also train the weights that only the geometry of the empty skeleton depends on, which takes
    longer. Training from scratch always trains them."""

    record: bool = False
    """Write all episodes as the behavior dataset `replay` for offline learners."""

    from_scratch: bool = False
    """Start from random weights in the same network, for comparison."""

    run_folder: Path | None = None
    """Folder of checkpoint, curve and policy (default:
    runs/COLLECTION-NETWORK-ALGORITHM-REWARD-seed-SEED, with -scratch before -seed for
    --from-scratch)."""

    seed: int = 0
    """Seed of the episodes, the actions and the minibatches."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints, in seconds."""

    logger: tuple[LoggerName, ...] = ()
    """Also log the learning curve with TensorBoard or Weights & Biases (package wandb)."""

    def run(self) -> None:
        """Train, and print the metrics before and after."""
        from crystal_agents.online.fine_tuning import fine_tune
        from crystal_agents.online.vec_env import SkeletonVecEnv
        from crystal_agents.policies.fixed_target import fix_target
        from crystal_agents.policies.policy import load_policy
        from crystal_datasets import EpisodeRecorder, RecordEpisodes, dataset_id, write_replay

        self._check()
        policy = load_policy(self.policy)
        target = parse_targets(self.target)
        if target is not None:
            policy = fix_target(policy, target)
        chosen = PolicyCollection.of(
            policy, self.policy, self.collection, self.split_by, self.on_error
        )
        if not self.from_scratch:
            chosen.require_same_splits(policy, self.policy)
        collection = chosen.load()
        note = None
        if not self.from_scratch:
            note = chosen.compare(policy, self.policy, collection)
        env = self._environment(policy, collection)
        dataset = dataset_id(collection.name, "train", "replay", self.reward)
        if self.record:
            _require_absent(dataset)
        recorder = EpisodeRecorder(env.table) if self.record else None
        envs = SkeletonVecEnv(env if recorder is None else RecordEpisodes(env, recorder))
        model = self._model(policy, envs)
        folder = self.run_folder or Path("runs") / self._run_name(collection.name, policy)
        learned = fine_tune(
            model,
            self.steps,
            folder,
            self._settings(chosen, collection, env),
            seed=self.seed,
            recorder=recorder,
            checkpoint_seconds=self.checkpoint_seconds,
            loggers=self.logger,
        )
        out = console()
        out.print(self._comparison(collection, env, policy, learned))
        if note is not None:
            out.print(f"Note: {note}")
        out.print(f"Policy: {folder}", soft_wrap=True)
        if recorder is not None:
            description = f"{self.algorithm}, {model.num_timesteps:,} steps, seed {self.seed}"
            write_replay(
                recorder,
                chosen.origin,
                "train",
                description,
                reward=self.reward,
                split_by=chosen.split_by,
                on_error=self.on_error,
            )
            out.print(f"Dataset: {dataset}", soft_wrap=True)

    def _check(self) -> None:
        """Raise an error for options of a warm start in training from scratch."""
        from crystal_gym.errors import CrystalGymError

        for name in ("anchor", "critic_warm_up"):
            if self.from_scratch and getattr(self, name) is not None:
                option = name.replace("_", "-")
                raise CrystalGymError(
                    f"Expected --{option} with a warm start, got --from-scratch, which has random "
                    f"weights and no initial policy. Leave --{option} out."
                )

    def _environment(
        self, policy: "SkeletonPolicy", collection: "CrystalCollection"
    ) -> "CrystalSkeletonVectorEnv":
        from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv

        symbols = policy.config.symbols
        return CrystalSkeletonVectorEnv(
            self.num_envs,
            autoreset_mode="SameStep",
            collection=collection,
            vocabulary=symbols if set(symbols) >= set(collection.vocabulary.symbols) else None,
            reward=self.reward,
            mask=self.mask,
        )

    def _model(self, policy: "SkeletonPolicy", envs: "SkeletonVecEnv") -> "BaseAlgorithm":
        from crystal_agents.online.warm_start import from_scratch, warm_start

        changes: dict[str, Any] = (
            {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        )
        if self.from_scratch:
            return from_scratch(policy, self.algorithm, envs, seed=self.seed, **changes)
        return warm_start(
            policy,
            self.algorithm,
            envs,
            critic_warm_up=self.critic_warm_up,
            anchor=self.anchor,
            frozen_geometry=not self.train_geometry,
            seed=self.seed,
            **changes,
        )

    def _settings(
        self,
        chosen: PolicyCollection,
        collection: "CrystalCollection",
        env: "CrystalSkeletonVectorEnv",
    ) -> dict[str, object]:
        """Return the settings that a resumed run must share."""
        settings = dataclasses.asdict(self)
        for name in ("steps", "run_folder", "checkpoint_seconds", "cluster", "logger"):
            del settings[name]
        return settings | {
            "collection": chosen.canonical,
            "split_by": chosen.split_by,
            "labels_sha256": collection.labels_fingerprint(env.reward.labels),
        }

    def _run_name(self, collection: str, policy: "SkeletonPolicy") -> str:
        start = "-scratch" if self.from_scratch else ""
        return (
            f"{collection}-{policy.config.network}-{self.algorithm}-{self.reward}"
            f"{start}-seed-{self.seed}"
        )

    def _comparison(
        self,
        collection: "CrystalCollection",
        env: "CrystalSkeletonVectorEnv",
        policy: "SkeletonPolicy",
        learned: "SkeletonPolicy",
    ) -> "Table":
        """Return a table of greedy metrics before and after, on val if there is one."""
        from rich.table import Table

        from crystal_agents.evaluation.returns import evenly_spaced, greedy_returns, nan_means
        from crystal_agents.policies.policy import PolicyScorer
        from crystal_gym.masks import resolve_mask
        from crystal_gym.rewards import resolve_reward

        split = "val" if len(collection.in_split("val")) else "train"
        rows = evenly_spaced(collection.in_split(split), 500)
        reward, mask = resolve_reward(self.reward), resolve_mask(self.mask)
        before, after = (
            nan_means(
                greedy_returns(
                    PolicyScorer(measured, env.table), env.table, rows, reward, mask=mask
                ).metrics
            )
            for measured in (policy, learned)
        )
        heading = "cloned" if self.from_scratch else "before"
        title = f"Greedy actions, means over {len(rows):,} crystals"
        table = Table(split, heading, "after", title=title, caption=reward.definition)
        for name, value in before.means.items():
            table.add_row(name, f"{value:.4f}", f"{after.means[name]:.4f}")
        for name in {**before.n_missing, **after.n_missing}:
            counts = (str(means.n_missing.get(name, 0)) for means in (before, after))
            table.add_row(f"crystals without {name}", *counts)
        return table


def _require_absent(dataset: str) -> None:
    """Verify that a dataset does not exist yet.

    Raises:
        CrystalGymError: If the dataset exists.
    """
    from crystal_datasets.dataset_folder import dataset_path
    from crystal_gym.errors import CrystalGymError

    if dataset_path(dataset).is_dir():
        raise CrystalGymError(
            f"Expected no dataset {dataset}, but it exists. Delete it first (minari delete "
            f"{dataset})."
        )

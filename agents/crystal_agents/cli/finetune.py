"""``crystal-gym finetune POLICY``: let a policy learn on from a reward."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console

if TYPE_CHECKING:
    from rich.table import Table


@dataclass
class Finetune(Command):
    """Let a trained policy learn on by reinforcement learning, from a reward.

    A stopped run goes on from its last checkpoint when the same command is given again. The result
    is a policy like any other: `crystal-gym evaluate` takes the run's folder.
    """

    after_stop: ClassVar[str] = (
        "The same command goes on from the last checkpoint, if there is one yet."
    )

    policy: tyro.conf.Positional[str]
    """The policy to begin from: a name from `crystal-gym list`, or a folder."""

    collection: str | None = None
    """Whose skeletons are filled (default: the collection that the policy learned from last)."""

    split_by: Literal["origin", "composition"] | None = None
    """The source's own splits, or those by composition (default: those that the policy learned
    from, which alone keep its held-out crystals apart)."""

    algorithm: str = "ppo"
    """ppo, maskable-ppo, a2c or dqn."""

    reward: str = "match"
    """What is to be learned: match, validity, validity-strict, ... as in the environment."""

    mask: str = "none"
    """Which elements are allowed: none or charge-neutral; others than none need maskable-ppo."""

    steps: int = 200_000
    """Sites to fill, in all, rounded up to whole rollouts."""

    num_envs: int = 128
    """Crystals filled side by side."""

    learning_rate: float | None = None
    """Of the optimizer (default: the algorithm's)."""

    critic_warm_up: int | None = None
    """Steps in which only the critic learns; 0: none (default: the algorithm's)."""

    anchor: float | None = None
    """Coefficient of the KL divergence from the first policy, which falls to 0 over the run; 0: no
    anchor (default: the algorithm's)."""

    record: bool = False
    """Write all episodes as the behavior data set `replay`, for offline learners."""

    from_scratch: bool = False
    """Begin with random weights in the same network, for comparison."""

    run_folder: Path | None = None
    """Folder of checkpoint, curve and policy (default:
    runs/COLLECTION-NETWORK-ALGORITHM-REWARD-seed-SEED; from scratch, -scratch before -seed)."""

    seed: int = 0
    """Of the episodes, the choices and the minibatches."""

    checkpoint_seconds: float = 60.0
    """Time between checkpoints."""

    def run(self) -> None:
        """Learn, and print the figures before and after."""
        from minari.storage import get_dataset_path

        from crystal_agents.evaluation.returns import greedy_metrics
        from crystal_agents.online.fine_tuning import fine_tune
        from crystal_agents.online.vec_env import SkeletonVecEnv
        from crystal_agents.online.warm_start import from_scratch, warm_start
        from crystal_agents.policies.policy import load_policy
        from crystal_datasets import EpisodeRecorder, RecordEpisodes, dataset_id, write_replay
        from crystal_gym.collections import canonical_origin, load_collection
        from crystal_gym.envs.generator import InstanceGenerator
        from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
        from crystal_gym.errors import CrystalGymError

        self._check()
        policy = load_policy(self.policy)
        learned_from = policy.config.learned_from
        origin = self.collection or next(reversed(learned_from), None)
        if origin is None:
            raise CrystalGymError(
                f"{self.policy} does not tell its collection; name it with --collection."
            )
        address = canonical_origin(origin)
        before = learned_from.get(address, "origin")
        split_by = self.split_by or before
        if split_by != before and address in learned_from and not self.from_scratch:
            raise CrystalGymError(
                f"{self.policy} was trained on {address} split by {before}; split by {split_by}, "
                "it would learn from crystals that are held out from it, and no split would tell "
                f"what it has learned. Leave --split-by away, or begin with a policy trained with "
                f"--split-by {split_by}."
            )
        collection = load_collection(origin, split_by=split_by)
        symbols = policy.config.symbols
        env = CrystalSkeletonVectorEnv(
            self.num_envs,
            autoreset_mode="SameStep",
            collection=collection,
            vocabulary=symbols if set(symbols) >= set(collection.vocabulary.symbols) else None,
            reward=self.reward,
            mask=self.mask,
        )
        name = dataset_id(collection.name, "train", "replay", self.reward)
        if self.record and get_dataset_path(name).is_dir():
            raise CrystalGymError(
                f"The data set {name} exists already; remove it first (minari delete {name})."
            )
        recorder = EpisodeRecorder(env.table) if self.record else None
        envs = SkeletonVecEnv(env if recorder is None else RecordEpisodes(env, recorder))
        settings = {
            "policy": self.policy,
            "collection": address,
            "labels_sha256": collection.labels_fingerprint(env.reward.labels),
            "split_by": split_by,
            "algorithm": self.algorithm,
            "reward": self.reward,
            "mask": self.mask,
            "num_envs": self.num_envs,
            "learning_rate": self.learning_rate,
            "critic_warm_up": self.critic_warm_up,
            "anchor": self.anchor,
            "from_scratch": self.from_scratch,
            "record": self.record,
            "seed": self.seed,
        }
        changes: dict[str, Any] = {}
        if self.learning_rate is not None:
            changes["learning_rate"] = self.learning_rate
        if self.from_scratch:
            model = from_scratch(policy, self.algorithm, envs, seed=self.seed, **changes)
        else:
            model = warm_start(
                policy,
                self.algorithm,
                envs,
                critic_warm_up=self.critic_warm_up,
                anchor=self.anchor,
                seed=self.seed,
                **changes,
            )
        begin = "-scratch" if self.from_scratch else ""
        folder = self.run_folder or Path("runs") / (
            f"{collection.name}-{policy.config.network}-{self.algorithm}-{self.reward}"
            f"{begin}-seed-{self.seed}"
        )
        learned = fine_tune(
            model,
            self.steps,
            folder,
            settings,
            seed=self.seed,
            recorder=recorder,
            checkpoint_seconds=self.checkpoint_seconds,
        )
        held_out = "val" if len(collection.in_split("val")) else "train"
        generator = InstanceGenerator(collection, split=held_out, vocabulary=env.table.vocabulary)
        metrics = [
            greedy_metrics(one, generator, reward=self.reward, mask=self.mask)
            for one in (policy, learned)
        ]
        out = console()
        out.print(_table(held_out, "cloned" if self.from_scratch else "before", *metrics))
        out.print(f"Policy: {folder}", soft_wrap=True)
        if recorder is not None:
            told = f"{self.algorithm}, {model.num_timesteps:,} steps, seed {self.seed}"
            write_replay(recorder, origin, "train", told, reward=self.reward, split_by=split_by)
            out.print(f"Data set: {name}", soft_wrap=True)

    def _check(self) -> None:
        """Refuse what spares a policy that is not there."""
        from crystal_gym.errors import CrystalGymError

        for name in ("anchor", "critic_warm_up"):
            if self.from_scratch and getattr(self, name) is not None:
                raise CrystalGymError(
                    f"--{name.replace('_', '-')} keeps to the policy that a run begins from; "
                    "--from-scratch begins with random weights."
                )


def _table(split: str, first: str, before: dict[str, float], after: dict[str, float]) -> "Table":
    from rich.table import Table

    table = Table(split, first, "after", title="Greedy, means over up to 500 crystals")
    for name, value in before.items():
        table.add_row(name, f"{value:.4f}", f"{after[name]:.4f}")
    return table

"""The collection and the splits on which a trained policy is evaluated or fine-tuned."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_agents.policies.policy import SkeletonPolicy
    from crystal_gym.collections.collection import CrystalCollection


@dataclass(frozen=True)
class PolicyCollection:
    """A collection and its splits, chosen by the user or read from a policy's training record.

    Attributes:
        origin: Name or path, as given by the user or the training record.
        canonical: The name, or the absolute path.
        split_by: Kind of its splits, as ``canonical_split_by`` returns it.
        on_error: ``raise`` or ``skip``, see ``crystal_gym.load_collection``.
    """

    origin: str
    canonical: str
    split_by: str
    on_error: str = "raise"

    @classmethod
    def of(
        cls,
        policy: "SkeletonPolicy",
        name: str,
        collection: str | None = None,
        split_by: str | None = None,
        on_error: str = "raise",
    ) -> "PolicyCollection":
        """Resolve the collection of a policy.

        Args:
            policy: The policy, whose training record names its collections.
            name: Name or folder of the policy, for error messages.
            collection: The user's choice (default: the collection of the last training stage).
            split_by: The user's choice (default: the splits of the training on this collection, or
                else of the last training stage).
            on_error: ``raise`` or ``skip``, see ``crystal_gym.load_collection``.

        Raises:
            CrystalGymError: If neither the user nor the policy names a collection, or there is no
                such kind of splits.
        """
        from crystal_gym.collections import canonical_origin, canonical_split_by

        learned_from = policy.config.learned_from
        last = next(reversed(learned_from), None)
        origin = collection or last
        if origin is None:
            raise CrystalGymError(
                f"Expected a collection in the training record of {name}, got none. Name it with "
                "--collection."
            )
        canonical = canonical_origin(origin)
        # The file of the training may have been moved.
        default = learned_from.get(canonical, learned_from.get(last or "", "origin"))
        return cls(origin, canonical, canonical_split_by(split_by or default), on_error)

    def load(self, split_by: str | None = None) -> "CrystalCollection":
        """Load the collection, with these or other splits."""
        from crystal_gym.collections import load_collection

        return load_collection(
            self.origin, split_by=split_by or self.split_by, on_error=self.on_error
        )

    def compare(
        self,
        policy: "SkeletonPolicy",
        name: str,
        collection: "CrystalCollection",
        *,
        any_splits: bool = False,
    ) -> str | None:
        """Compare the crystals of a policy's training with the loaded collection.

        Args:
            policy: The policy.
            name: Name or folder of the policy, for messages.
            collection: The collection, as ``load`` returns it.
            any_splits: Whether the policy may have been trained on other splits of the collection.

        Returns:
            A sentence on the training on other crystals; ``None`` if there is none.

        Raises:
            CollectionMismatchError: If the crystals have changed since the training, or are those
                of the training in other splits.
        """
        from crystal_agents.training.training_stages import compare_crystals

        return compare_crystals(
            policy.config,
            name,
            collection,
            origin=self.canonical,
            split_by=self.split_by,
            load=self.load,
            any_splits=any_splits,
        )

    def require_same_splits(self, policy: "SkeletonPolicy", name: str) -> None:
        """Verify that a policy was not trained on other splits of this collection.

        Crystals that one kind of splits holds out can be training crystals of the other. Two split
        files are compared by ``compare``, because a file can have been moved.

        Raises:
            CrystalGymError: If the policy learned from this collection, split in another way.
        """
        from crystal_gym.collections import is_split_file

        trained_by = policy.config.learned_from.get(self.canonical, self.split_by)
        if is_split_file(trained_by) and is_split_file(self.split_by):
            return
        if trained_by != self.split_by:
            raise CrystalGymError(
                f"Expected splits by {trained_by}, got splits by {self.split_by}: {name} was "
                f"trained on {self.canonical} split by {trained_by} and has seen crystals that "
                f"splits by {self.split_by} hold out. Pass --split-by {trained_by}, or use a "
                f"policy trained with --split-by {self.split_by}."
            )

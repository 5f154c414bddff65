"""Training recipes by name: the network, the optimizer and the data of behavioral cloning."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from crystal_agents.synthetic.config import DensityConfig, SyntheticConfig
from crystal_gym.errors import UnknownNameError


@dataclass(frozen=True)
class Recipe:
    """A network and its settings for behavioral cloning.

    Attributes:
        network: Name of the network, one of ``crystal_agents.networks.registry.ENCODERS``.
        settings: Keyword arguments of the encoder.
        epochs: Number of passes over the transitions or synthetic crystals.
        skeletons: S, number of skeletons in a batch; a skeleton can occur more than once.
        states: K, number of states of each skeleton in a batch; a batch has S x K states.
        learning_rate: Peak learning rate.
        schedule: ``constant``, or ``cosine`` with a short linear warm-up.
        weight_decay: Weight decay of the optimizer.
        optimizer: ``adam``; ``adamw``, without weight decay for biases, norms and embeddings; or
            ``muon`` (K. Jordan et al., 2024) for the weights of all linear layers except the last,
            with AdamW at a third of the learning rate for all other parameters.
        traversals: ``expert`` trains on the action at the focus, as in Algorithm 1 of the paper.
            ``random`` trains on all empty sites at once. Its states also include random subsets of
            the expert's filling and of the policy's own predictions. ``masked`` does the same, but
            each epoch passes once over the crystals instead of the transitions: the first state of
            each crystal is empty, the others are random subsets. It suits crystals with many sites,
            because its cost is linear in their number.
        clip: Norm to which gradients are clipped; 0 disables clipping.
        average: Decay of the running average of the weights, which the trained policy has; 0 keeps
            the last weights.
        synthetic: Settings of the synthetic crystals of the collection's prototype to train on,
            sampled from a density that is fitted to the training crystals; ``None`` trains on the
            transitions.
    """

    network: str
    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int = 10
    skeletons: int = 64
    states: int = 5
    learning_rate: float = 4e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = 0.05
    optimizer: Literal["adam", "adamw", "muon"] = "adamw"
    traversals: Literal["expert", "random", "masked"] = "random"
    clip: float = 1.0
    average: float = 0.999
    synthetic: SyntheticConfig | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the recipe in the training record of a policy.

        Args:
            record: Fields of the recipe, JSON values.

        Raises:
            TypeError: If the record has fields of another version.
        """
        synthetic = record.get("synthetic")
        if isinstance(synthetic, Mapping):
            density = DensityConfig(**synthetic["density"])
            synthetic = SyntheticConfig(**{**synthetic, "density": density})
        # Earlier versions recorded only whether there were synthetic crystals.
        return cls(**{**record, "synthetic": synthetic or None})


def _paper(network: str) -> Recipe:
    """Return the recipe of the paper's appendix.

    It uses Adam with learning rate 1e-3 and weight decay 1e-5, batch size 2048, 1000 epochs and the
    last weights.
    """
    return Recipe(
        network=network,
        epochs=1000,
        skeletons=2048,
        states=1,
        learning_rate=1e-3,
        schedule="constant",
        weight_decay=1e-5,
        optimizer="adam",
        traversals="expert",
        clip=0.0,
        average=0.0,
    )


def _transitions_only(network: str) -> Recipe:
    """Return a recipe without synthetic crystals.

    Compared to ``_augmented``, strong dropout and half the learning rate reduce overfitting to the
    few training crystals.
    """
    return Recipe(
        network,
        {"dropout": 0.35},
        epochs=10,
        skeletons=128,
        learning_rate=6e-3,
        optimizer="muon",
    )


def _augmented(network: str) -> Recipe:
    """Return a recipe with synthetic crystals, whose large number makes dropout unnecessary."""
    return Recipe(
        network,
        {"dropout": 0.0},
        epochs=15,
        skeletons=256,
        learning_rate=1.2e-2,
        optimizer="muon",
        synthetic=SyntheticConfig(
            members=2, density=DensityConfig(8, 0.15, weight_decay=0.2), per_filling=3
        ),
    )


def _large(network: str) -> Recipe:
    """Return a recipe with more synthetic crystals from a better density, and a larger network.

    The blocks on each site after the last message learn a sharp posterior in far fewer steps.
    """
    return Recipe(
        network,
        {"dropout": 0.0, "crystal": 512, "site_blocks": 3, "site": 256},
        epochs=10,
        skeletons=512,
        learning_rate=6e-3,
        optimizer="muon",
        synthetic=SyntheticConfig(),
    )


def _masked(network: str) -> Recipe:
    """Return a recipe for crystals with many sites, trained on one pass per crystal."""
    return Recipe(
        network,
        {"dropout": 0.2},
        epochs=40,
        skeletons=256,
        states=2,
        learning_rate=6e-3,
        optimizer="muon",
        traversals="masked",
    )


RECIPES: dict[str, Recipe] = {
    "egnn": _transitions_only("egnn"),
    "egnn-indexed": _transitions_only("egnn-indexed"),
    "egnn-augmented": _augmented("egnn"),
    "egnn-indexed-augmented": _augmented("egnn-indexed"),
    "egnn-large": _large("egnn"),
    "egnn-indexed-large": _large("egnn-indexed"),
    "egnn-paper": _paper("egnn-paper"),
    "gcn": _paper("gcn"),
    "dimenet": Recipe("dimenet", learning_rate=1e-3),
    "mpnn": _masked("mpnn"),
}


def get_recipe(name: str) -> Recipe:
    """Return the recipe with this name.

    Raises:
        UnknownNameError: If there is no such recipe.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]


def value_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe for learning Q-values with the same network, batches and optimizer.

    It has no dropout, which would add noise to every bootstrapped value, and no synthetic crystals,
    which have no rewards. It has at least 10 epochs, because bootstrapping propagates
    values from the end of an episode to its start one step at a time.

    Args:
        recipe: A recipe of behavioral cloning.
    """
    settings = recipe.settings | ({"dropout": 0.0} if "dropout" in recipe.settings else {})
    return dataclasses.replace(
        recipe,
        settings=settings,
        epochs=max(recipe.epochs, 10),
        traversals="expert",
        average=0.0,
        synthetic=None,
    )


def cloning_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe for cloning any behavior policy.

    It trains on the action at the focus. Training on all empty sites of random traversals is valid
    only for an expert with one filling for each crystal.

    Args:
        recipe: A recipe for cloning the expert.
    """
    return dataclasses.replace(recipe, traversals="expert", synthetic=None)

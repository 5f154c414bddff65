"""How each network is trained by default: one recipe a name."""

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from crystal_gym.errors import UnknownNameError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Recipe:
    """Settings of behavioral cloning that belong to a network.

    Attributes:
        network: a name of ``crystal_agents.networks.registry.ENCODERS``.
        settings: keyword arguments of the encoder.
        epochs: passes over the transitions.
        skeletons: S, groups in a batch.
        states: K, states in a group, all of one skeleton; a batch holds S x K transitions.
        learning_rate: its highest value.
        schedule: ``constant``, or ``cosine`` with a short linear warm-up.
        weight_decay: of the optimizer.
        optimizer: ``adam``; ``adamw``, which spares biases, norms and embeddings the decay; or
            ``muon`` (K. Jordan et al., 2024) for the inner matrices with AdamW at a third of the
            learning rate for the rest.
        traversals: ``expert`` learns the action at the focus, the paper's Algorithm 1; ``random``
            also visits random subsets of the expert's fillings, and of the policy's own guesses,
            and learns the expert's elements on all empty sites at once.
        clip: largest norm of the gradient; 0 does not clip.
        average: decay of the running average of weights that is kept as the policy; 0 keeps the
            last weights.
        synthetic: learn from synthetic crystals of the collection's prototype, whose density is
            fitted to the expert's.
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
    traversals: Literal["expert", "random"] = "random"
    clip: float = 1.0
    average: float = 0.999
    synthetic: bool = False


def _paper(network: str) -> Recipe:
    """The paper's appendix: Adam 1e-3, weight decay 1e-5, batch 2048, 1000 epochs, last weights."""
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


def _ours(network: str) -> Recipe:
    """The crystals alone: much dropout and half the rate, for they are soon known by heart."""
    return Recipe(
        network,
        {"dropout": 0.35},
        epochs=10,
        skeletons=128,
        learning_rate=6e-3,
        optimizer="muon",
    )


def _augmented(network: str) -> Recipe:
    """Synthetic crystals of one prototype, so many that nothing else need regularise."""
    return Recipe(
        network,
        {"dropout": 0.0},
        epochs=15,
        skeletons=256,
        learning_rate=1.2e-2,
        optimizer="muon",
        synthetic=True,
    )


RECIPES: dict[str, Recipe] = {
    "egnn": _ours("egnn"),
    "egnn-indexed": _ours("egnn-indexed"),
    "egnn-augmented": _augmented("egnn"),
    "egnn-indexed-augmented": _augmented("egnn-indexed"),
    "egnn-paper": _paper("egnn-paper"),
    "gcn": _paper("gcn"),
    "dimenet": Recipe("dimenet", learning_rate=1e-3),
}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]


def value_recipe(recipe: Recipe) -> Recipe:
    """A recipe of behavioral cloning as one for Q-values: same network, batches and optimizer.

    Dropout would add noise to every bootstrapped value, and synthetic crystals have no rewards.
    Values come back from an episode's end step by step, so a few passes are not enough.
    """
    settings = recipe.settings | ({"dropout": 0.0} if "dropout" in recipe.settings else {})
    return dataclasses.replace(
        recipe,
        settings=settings,
        epochs=max(recipe.epochs, 10),
        traversals="expert",
        average=0.0,
        synthetic=False,
    )


def cloning_recipe(recipe: Recipe) -> Recipe:
    """A recipe of behavioral cloning as one for data of any behavior.

    It learns the action at the focus: that all empty sites can be learned at once, on any
    traversal, is true of an expert alone, who fills a crystal in one way only.
    """
    return dataclasses.replace(recipe, traversals="expert", synthetic=False)

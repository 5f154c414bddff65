"""Configuration of synthetic crystals."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DensityConfig:
    """Settings of the density networks.

    Attributes:
        embedding: Channels of the embedding of an element.
        dropout: Dropout rate.
        weight_decay: Weight decay of the linear layers.
    """

    embedding: int = 16
    dropout: float = 0.2
    weight_decay: float = 0.3


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings of synthetic crystals.

    Attributes:
        members: Number of density networks with different seeds, whose densities are averaged.
        density: Settings of each network.
        steps: Number of training steps of each network.
        per_filling: Number of crystals for each filling of the design space.
        candidates: Number of most probable fillings that are stored with each crystal.
        seed: Seed of the networks and of the crystals.
    """

    members: int = 4
    density: DensityConfig = field(default_factory=DensityConfig)
    steps: int = 8000
    per_filling: int = 8
    candidates: int = 256
    seed: int = 0

"""The networks by name: one file each, every one an encoder of sites with its readout."""

import inspect
from typing import Any

from crystal_agents.networks.dimenet import DimeNet
from crystal_agents.networks.egnn import EGNN
from crystal_agents.networks.egnn_indexed import EGNNIndexed
from crystal_agents.networks.egnn_paper import EGNNPaper
from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.gcn import GCN
from crystal_gym.errors import CrystalGymError, UnknownNameError

ENCODERS: dict[str, type[Encoder]] = {
    "egnn": EGNN,
    "egnn-indexed": EGNNIndexed,
    "egnn-paper": EGNNPaper,
    "gcn": GCN,
    "dimenet": DimeNet,
}


def encoder_settings(name: str) -> dict[str, Any]:
    """The settings of a network with their default values.

    Raises:
        UnknownNameError: no such network.
    """
    if name not in ENCODERS:
        raise UnknownNameError("network", name, ENCODERS)
    parameters = inspect.signature(ENCODERS[name].__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def make_encoder(name: str, n_elements: int, settings: dict[str, Any]) -> Encoder:
    """A network with fresh weights.

    Raises:
        UnknownNameError: no such network.
        CrystalGymError: a setting that the network does not have.
    """
    known = encoder_settings(name)
    for setting in settings:
        if setting not in known:
            raise CrystalGymError(
                f"The network {name!r} has no setting {setting!r}; it has {', '.join(known)}."
            )
    return ENCODERS[name](n_elements, **settings)

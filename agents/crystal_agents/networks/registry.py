"""Networks by name. Each network has its own module, with an encoder of sites and its readout."""

import inspect
from typing import Any

from crystal_agents.networks.dimenet import DimeNet
from crystal_agents.networks.egnn import EGNN
from crystal_agents.networks.egnn_indexed import EGNNIndexed
from crystal_agents.networks.egnn_paper import EGNNPaper
from crystal_agents.networks.encoder import Encoder
from crystal_agents.networks.gcn import GCN
from crystal_agents.networks.mpnn import MPNN
from crystal_gym.errors import CrystalGymError, UnknownNameError

ENCODERS: dict[str, type[Encoder]] = {
    "egnn": EGNN,
    "egnn-indexed": EGNNIndexed,
    "egnn-paper": EGNNPaper,
    "gcn": GCN,
    "dimenet": DimeNet,
    "mpnn": MPNN,
}


def encoder_settings(name: str) -> dict[str, Any]:
    """Return the settings of a network with their default values.

    Args:
        name: A name of ``ENCODERS``.

    Raises:
        UnknownNameError: If there is no network with this name.
    """
    if name not in ENCODERS:
        raise UnknownNameError("network", name, ENCODERS)
    parameters = inspect.signature(ENCODERS[name].__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def make_encoder(name: str, n_elements: int, settings: dict[str, Any]) -> Encoder:
    """Return a network with random weights.

    Args:
        name: A name of ``ENCODERS``.
        n_elements: V, the number of elements of the vocabulary.
        settings: Settings that differ from their defaults.

    Raises:
        UnknownNameError: If there is no network with this name.
        CrystalGymError: If the network has no setting with a given name.
    """
    defaults = encoder_settings(name)
    for setting in settings:
        if setting not in defaults:
            raise CrystalGymError(
                f"Expected settings of the network {name!r} ({', '.join(defaults)}), got "
                f"{setting!r}. Remove the setting."
            )
    return ENCODERS[name](n_elements, **settings)

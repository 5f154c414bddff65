"""Temperature scaling (Guo et al., ICML 2017): calibrated probabilities of a trained policy."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.networks.encoder import attach_graphs
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.transition_batches import TransitionStore
from crystal_agents.training.validation import expert_logits
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions

# Key of the temperature in the training record of a policy.
TEMPERATURE = "temperature"
# Range in which the temperature is searched.
_RANGE = (0.2, 5.0)


class Calibration(NamedTuple):
    """A calibrated policy.

    Attributes:
        policy: A copy of the policy whose logits are divided by the temperature.
        temperature: The temperature; above 1, the policy was too confident.
        before: Mean negative log-likelihood of the expert's actions before the scaling.
        after: The same after it.
    """

    policy: SkeletonPolicy
    temperature: float
    before: float
    after: float


def calibrate(policy: SkeletonPolicy, data: "Transitions") -> Calibration:
    """Divide the logits of a policy by the temperature with the largest likelihood of the data.

    The most probable elements do not change. The temperature becomes a part of the weights of the
    last layer.

    Args:
        policy: An unconditional policy.
        data: Expert transitions that were not used in the training.

    Raises:
        CrystalGymError: If the policy is conditional or already calibrated, or the vocabularies
            differ.
    """
    training = policy.config.training
    if TEMPERATURE in training:
        raise CrystalGymError(
            "Expected a policy that is not calibrated, got one with the temperature "
            f"{training[TEMPERATURE]}. Calibrate the policy of the training."
        )
    if policy.targets is not None:
        raise CrystalGymError(
            "Expected an unconditional policy, got one for values of labels. Calibration is "
            "implemented for unconditional policies."
        )
    if policy.vocabulary.symbols != tuple(data.vocabulary):
        raise CrystalGymError(
            "Expected transitions with the vocabulary of the policy, got another one. Use the "
            "collection of its training."
        )
    logits, actions = _expert_logits(policy, data)

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), actions).item()

    bounds = [math.log(bound) for bound in _RANGE]
    found: Any = minimize_scalar(loss, bounds=bounds, method="bounded")
    temperature = math.exp(found.x)
    record = {**training, TEMPERATURE: round(temperature, 4)}
    calibrated = SkeletonPolicy(dataclasses.replace(policy.config, training=record))
    calibrated.load_state_dict(policy.state_dict())
    with torch.no_grad():
        last = [layer for layer in calibrated.readout.modules() if isinstance(layer, nn.Linear)][-1]
        last.weight.div_(temperature)
        last.bias.div_(temperature)
    return Calibration(calibrated.eval(), temperature, loss(0.0), float(found.fun))


def _expert_logits(policy: SkeletonPolicy, data: "Transitions") -> tuple[Tensor, Tensor]:
    """Return the logits (T, V) and the expert's actions (T,) of all transitions."""
    policy.eval()
    store = TransitionStore(data)
    attach_graphs(store.skeletons, policy.encoder)
    logits = torch.empty(len(store), len(policy.vocabulary))
    for groups, found, _ in expert_logits(policy, store):
        logits[groups] = found.transpose(0, 1).float()
    return logits, store.action

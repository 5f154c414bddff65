"""Conditional policies with one target for all crystals, as unconditional policies."""

import dataclasses
from collections.abc import Mapping

import torch

from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.policies.targets import require_conditional


@torch.no_grad()
def fix_target(policy: SkeletonPolicy, target: Mapping[str, float]) -> SkeletonPolicy:
    """Return the unconditional policy with the probabilities of a conditional one for a target.

    It has the same network without the embedding of targets, and can be the initial policy of
    online learning. Guidance needs two passes of the network and is not included.

    Args:
        policy: A conditional policy.
        target: Requested labels by name, such as ``{"heat_all": -0.2}``; ``{}``: no request.

    Returns:
        A copy in evaluation mode. The item ``target`` of its training record has the values.

    Raises:
        CrystalGymError: If the policy is unconditional, a label is unknown, or a value is outside
            the range of the training labels.
    """
    values = require_conditional(policy.targets).standardize(target)
    device = next(policy.parameters()).device
    encoder = policy.encoder.weights_for_target(torch.as_tensor(values, device=device))
    training = {**policy.config.training, "target": dict(target)}
    fixed = SkeletonPolicy(dataclasses.replace(policy.config, targets=None, training=training))
    fixed.encoder.load_state_dict(encoder)
    fixed.readout.load_state_dict(policy.readout.state_dict())
    return fixed.to(device).eval()

"""Validation of a policy on transitions."""

import torch

from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.seeding import make_generator
from crystal_agents.training.transition_batches import TransitionStore


def teacher_forced_accuracy(policy: SkeletonPolicy, store: TransitionStore) -> float:
    """Return the fraction of transitions in which the most probable action is the expert's.

    Args:
        policy: The policy, which is evaluated without dropout; its mode is restored.
        store: The transitions, on the policy's device.
    """
    was_training = policy.training
    policy.eval()
    correct = torch.zeros(len(store), dtype=torch.bool)
    # As many states of a skeleton as it has sites share its geometry. A repeated transition counts
    # once.
    states = store.skeletons.max_sites
    with torch.no_grad():
        for groups in store.groups(states, make_generator(0)).split(max(1, 2560 // states)):
            batch = store.batch(groups)
            logits = policy(batch.skeletons, batch.elements, batch.focus, target=batch.target)
            correct[groups] = (logits.argmax(-1) == batch.action).T.cpu()
    policy.train(was_training)
    return correct.double().mean().item()

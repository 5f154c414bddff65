"""Validation of a policy on transitions."""

from collections.abc import Iterator

import torch
from torch import Tensor

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
    for groups, logits, action in expert_logits(policy, store):
        correct[groups] = (logits.argmax(-1) == action).T.cpu()
    policy.train(was_training)
    return correct.double().mean().item()


def expert_logits(
    policy: SkeletonPolicy, store: TransitionStore
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the logits of a policy in the states of all transitions, in batches.

    Args:
        policy: The policy, in evaluation mode.
        store: The transitions, on the policy's device.

    Yields:
        Indices of transitions (S, K), some of which can occur twice, their logits (K, S, V) and
        the expert's actions (K, S).
    """
    # As many states of a skeleton as it has sites share its geometry. A repeated transition counts
    # once.
    states = store.skeletons.max_sites
    for groups in store.groups(states, make_generator(0)).split(max(1, 2560 // states)):
        batch = store.batch(groups)
        with torch.no_grad():
            logits = policy(batch.skeletons, batch.elements, batch.focus, target=batch.target)
        yield groups, logits, batch.action

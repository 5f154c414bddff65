"""Teacher-forced accuracy."""

import pytest
import torch
from torch import nn

from crystal_agents.training.transition_batches import TransitionStore
from crystal_agents.training.validation import teacher_forced_accuracy


class OneElement(nn.Module):
    """A policy that always predicts the same action and records its mode."""

    def __init__(self, action):
        super().__init__()
        self.action = action
        self.modes = set()

    def forward(self, skeletons, elements, focus, target=None):
        self.modes.add(self.training)
        return torch.nn.functional.one_hot(torch.full_like(focus, self.action), 5).float()


@pytest.mark.parametrize("action", range(5))
@pytest.mark.parametrize("training", [True, False])
def test_accuracy_is_the_fraction_of_predicted_actions(expert, action, training):
    policy = OneElement(action).train(training)
    accuracy = teacher_forced_accuracy(policy, TransitionStore(expert))
    assert accuracy == pytest.approx((expert.action == action).mean())
    assert policy.modes == {False}
    assert policy.training == training

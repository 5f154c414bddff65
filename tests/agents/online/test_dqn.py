"""DQN: double Q-learning, and the conservative term."""

import pytest
import torch
from online_models import envs_for, policy_for
from torch.nn import functional as F

from crystal_agents import warm_start

COMMON = {"critic_warm_up": 0, "learning_starts": 0, "batch_size": 32, "buffer_size": 400}


def filled(toy, **settings):
    """Return a model with transitions in its buffer that has not learned from them."""
    model = warm_start(policy_for(toy), "dqn", envs_for(toy), **{**COMMON, **settings})
    train, model.train = model.train, lambda *_, **__: None
    model.learn(200)
    model.train = train
    # Two networks, of which one chooses and the other one evaluates.
    with torch.no_grad():
        for weight in model.q_net_target.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("conservative", [0.0, 2.0])
def test_loss_has_double_q_targets_and_the_conservative_term(toy, conservative):
    model = filled(toy, conservative=conservative)
    batch = model.replay_buffer.sample(32)
    model.replay_buffer.sample = lambda *_, **__: batch
    with torch.no_grad():
        values = model.q_net(batch.observations)
        chosen = values.gather(1, batch.actions)
        best = model.q_net(batch.next_observations).argmax(1, keepdim=True)
        next_values = model.q_net_target(batch.next_observations).gather(1, best)
        targets = batch.rewards + (1 - batch.dones) * next_values
        tau = model.policy.temperature
        excess = (tau * (values / tau).logsumexp(1, keepdim=True) - chosen).mean()
        expected = F.smooth_l1_loss(chosen, targets) + conservative * excess
    assert not torch.equal(next_values[:, 0], model.q_net_target(batch.next_observations).amax(1))
    model.train(gradient_steps=1, batch_size=32)
    assert model.logger.name_to_value["train/loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_conservative_term_lowers_values_of_actions_outside_the_buffer(toy):
    def gap(conservative):
        model = filled(toy, conservative=conservative)
        model.train(gradient_steps=20, batch_size=32)
        batch = model.replay_buffer.sample(128)
        with torch.no_grad():
            values = model.q_net(batch.observations)
        return float((values.gather(1, batch.actions) - values.mean(1, keepdim=True)).mean())

    assert gap(5.0) > gap(0.0)

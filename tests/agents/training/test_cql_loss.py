"""The CQL loss: its equation, its gradients and its target network."""

import numpy as np
import pytest
import torch
from q_values import q_values
from training_runs import SMALL_CQL

from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.training.cql_loss import TargetState, make_cql_loss
from crystal_agents.training.rewarded_transitions import RewardedStore

# torchrl warns when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def policy(random):
    torch.manual_seed(0)
    max_sites = random.frac_coords.shape[1]
    config = PolicyConfig("egnn", random.vocabulary, max_sites, SMALL_CQL.settings)
    return SkeletonPolicy(config).eval()


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_the_loss_is_that_of_the_paper(policy, random, gamma):
    store = RewardedStore(random)
    loss = make_cql_loss(policy, store.skeletons, gamma)
    groups = torch.arange(len(random))[:, None]
    policy.eval()
    found = loss(store.batch(groups))
    values = q_values(policy, random, random.elements, random.focus)
    next_elements = random.elements.copy()
    next_elements[np.arange(len(random)), random.focus] = random.action + 1
    next_focus = np.where(random.done, random.focus, np.roll(random.focus, -1))
    best = q_values(policy, random, next_elements, next_focus).amax(-1)
    reward = torch.as_tensor(random.reward).double()
    target = torch.where(torch.as_tensor(random.done), reward, reward + gamma * best)
    chosen = values[torch.arange(len(values)), torch.as_tensor(random.action, dtype=torch.int64)]
    difference = 0.5 * (chosen - target).square().mean()
    conservative = (values.logsumexp(-1) - chosen).mean()
    assert found["loss_qvalue"].item() == pytest.approx(difference.item(), rel=1e-4)
    assert found["loss_cql"].item() == pytest.approx(conservative.item(), rel=1e-4)


def test_gradients_reach_the_policy_but_not_the_target_network(policy, random):
    from torchrl.objectives import SoftUpdate

    store = RewardedStore(random)
    loss = make_cql_loss(policy, store.skeletons, 1.0)
    update = SoftUpdate(loss, tau=0.25)
    before = {key: value.clone() for key, value in TargetState(loss).state_dict().items()}
    found = loss(store.batch(torch.arange(8)[:, None]))
    (found["loss_qvalue"] + found["loss_cql"]).backward()
    assert all(parameter.grad is not None for parameter in policy.readout.parameters())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1)
    after = TargetState(loss).state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    update.step()
    moved = TargetState(loss).state_dict()
    # The network moved by 1, the target network by a quarter of that; buffers do not move.
    learned = {name for name, _ in policy.named_parameters()}
    for key, value in before.items():
        shift = 0.25 if key.partition("policy.")[2] in learned else 0.0
        assert torch.allclose(moved[key], value + shift, atol=1e-5)


def test_the_target_network_is_restored_from_its_state(policy, random):
    loss = make_cql_loss(policy, RewardedStore(random).skeletons, 1.0)
    target = TargetState(loss)
    saved = {key: value.clone() for key, value in target.state_dict().items()}
    for value in target.state_dict().values():
        value.add_(1)
    target.load_state_dict(saved)
    assert all(torch.equal(value, saved[key]) for key, value in target.state_dict().items())

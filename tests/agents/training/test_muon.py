"""Muon in batches, compared with ``torch.optim.Muon``."""

import copy

import pytest
import torch
from torch import nn

from crystal_agents.training.muon import BatchedMuon, orthogonalize

# Equal shapes, transposed shapes, and small and large matrices of different widths.
SHAPES = [(16, 16), (16, 16), (16, 40), (24, 16), (16, 24), (3, 16), (130, 300), (320, 130)]


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator) / 8) for shape in SHAPES]


def set_gradients(parameters, step, skip=()):
    generator = torch.Generator().manual_seed(100 + step)
    for i, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if i in skip else gradient


@pytest.fixture
def both():
    """The weights and the optimizer of PyTorch and of the package."""
    settings = {"lr": 0.01, "weight_decay": 0.1}
    first, second = weights(), weights()
    reference = torch.optim.Muon(first, adjust_lr_fn="match_rms_adamw", **settings)
    return (first, reference), (second, BatchedMuon(second, **settings))


def test_updates_equal_those_of_pytorch_up_to_16_bits(both):
    initial = weights()
    for step in range(3):
        for parameters, optimizer in both:
            # Weights without a gradient do not change.
            set_gradients(parameters, step, skip=[1])
            optimizer.step()
    (expected, _), (found, _) = both
    for before, a, b in zip(initial, expected, found, strict=True):
        assert (a - b).norm() <= 0.02 * (a - before).norm()
    assert torch.equal(found[1], initial[1])


def test_states_of_pytorch_continue(both):
    (first, reference), (second, batched) = both
    set_gradients(first, 0)
    reference.step()
    for a, b in zip(first, second, strict=True):
        b.data.copy_(a.data)
    batched.load_state_dict(copy.deepcopy(reference.state_dict()))
    for parameters, optimizer in both:
        set_gradients(parameters, 1)
        optimizer.step()
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(
            reference.state[a]["momentum_buffer"], batched.state[b]["momentum_buffer"]
        )
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


def test_the_singular_values_of_every_matrix_move_toward_one():
    torch.manual_seed(0)
    found = orthogonalize(torch.randn(2, 8, 20), (3.4445, -4.7750, 2.0315), 5)
    values = torch.linalg.svdvals(found.float())
    assert (values > 0.6).all()
    assert (values < 1.3).all()


def test_the_closure_is_evaluated_with_gradients():
    (weight, *_) = parameters = weights()[:1]
    optimizer = BatchedMuon(parameters, lr=0.01, weight_decay=0.0)

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    before = weight.detach().clone()
    assert optimizer.step(closure).item() == pytest.approx(before.square().sum().item())
    assert not torch.equal(weight, before)

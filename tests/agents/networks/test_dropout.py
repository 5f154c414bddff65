"""Dropout with 16 bits per entry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_agents.networks.dropout import Dropout


@settings(max_examples=20)
@given(st.floats(0, 0.9), st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_entries_are_dropped_or_scaled(rate, shape):
    x = torch.ones(shape)
    found = Dropout(rate)(x)
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    kept = found[found != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - rate)), rtol=2e-4)


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.8])
def test_the_fraction_of_dropped_entries_is_the_rate(rate):
    torch.manual_seed(0)
    dropped = (Dropout(rate)(torch.ones(400, 500)) == 0).double()
    # Five standard errors.
    tolerance = 5 * (rate * (1 - rate) / dropped.numel()) ** 0.5
    assert dropped.mean().item() == pytest.approx(rate, abs=tolerance)
    assert (dropped[:, :-1] * dropped[:, 1:]).mean().item() == pytest.approx(rate**2, abs=0.01)


def test_gradients_have_the_mask_of_the_output():
    x = torch.ones(50, requires_grad=True)
    found = Dropout(0.5)(x)
    found.sum().backward()
    assert torch.equal(x.grad, found.detach())


def test_evaluation_and_a_rate_of_zero_return_the_input():
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_the_mask_depends_on_the_seed_only():
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(Dropout(0.5)(torch.ones(100)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_16_bit_inputs_keep_their_type():
    assert Dropout(0.5)(torch.ones(4, dtype=torch.bfloat16)).dtype == torch.bfloat16

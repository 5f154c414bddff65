"""Seeds and generators."""

import pytest
import torch

from crystal_agents.training.seeding import check_seed, derive_seed, make_generator
from crystal_gym.errors import CrystalGymError


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds_of_32_bits_are_valid(seed):
    check_seed(seed)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_other_seeds_are_rejected(seed):
    with pytest.raises(
        CrystalGymError, match=rf"Expected a seed from 0 to 2\*\*32 - 1, got {seed}"
    ):
        check_seed(seed)


def test_derived_seeds_do_not_change_between_versions():
    # Changing them would change every training run.
    assert derive_seed(0, 0) == 44253017341425759
    assert derive_seed(3, 17, 1) == 2321230540739203


def test_derived_seeds_depend_on_every_number_and_their_order():
    numbers = [(seed, step) for seed in range(30) for step in range(30)]
    assert len({derive_seed(*pair) for pair in numbers}) == len(numbers)
    assert derive_seed(1) != derive_seed(1, 0)


def test_equal_numbers_give_equal_random_numbers():
    first, second = (torch.rand(5, generator=make_generator(1, 2)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.rand(5, generator=make_generator(2, 1)))

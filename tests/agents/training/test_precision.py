"""Precision of matrix products during training."""

import pytest
import torch
from training_runs import SMALL

from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.fabric import make_fabric
from crystal_agents.training.precision import matrix_products


@pytest.mark.parametrize(
    ("precision", "expected"), [("32-true", "highest"), ("tf32", "high"), ("bf16-mixed", "highest")]
)
def test_products_are_rounded_with_tf32_only(precision, expected):
    with matrix_products(precision):
        assert torch.get_float32_matmul_precision() == expected
    assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_keeps_weights_and_activations_in_32_bits(tmp_path):
    fabric = make_fabric(TrainingConfig(tmp_path, SMALL, precision="tf32"))
    layer = fabric.setup_module(torch.nn.Linear(2, 2))
    assert layer(torch.ones(1, 2)).dtype == layer.weight.dtype == torch.float32

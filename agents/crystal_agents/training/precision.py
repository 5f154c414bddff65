"""Floating-point precision of training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["32-true", "tf32", "bf16-mixed", "16-mixed"]


@contextmanager
def matrix_products(precision: Precision) -> Iterator[None]:
    """Set the precision of float32 matrix products on GPUs, and restore it at the end.

    Args:
        precision: ``tf32`` rounds the inputs of matrix products to 10 bits of mantissa on GPUs that
            support it. All others keep PyTorch's setting.
    """
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

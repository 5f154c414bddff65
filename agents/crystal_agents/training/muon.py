"""Muon with one Newton–Schulz iteration for all weights of equal shape."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Largest number of entries of a small matrix.
_SMALL = 2**15
# The types of PyTorch do not include its functions of lists of tensors.
_torch: Any = torch


class BatchedMuon(torch.optim.Muon):
    """``torch.optim.Muon`` with ``match_rms_adamw``, computed in batches.

    Weights of equal shape, also transposed, share their matrix products. The updates and the states
    are those of ``torch.optim.Muon`` up to the rounding to 16 bits.

    Args:
        params: Weights of linear layers.
        lr: Learning rate.
        weight_decay: Weight decay.
    """

    def __init__(self, params: Sequence[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all weights that have gradients.

        Args:
            closure: Computes the loss again and returns it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradients: list[Any] = [weight.grad for weight in weights]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        buffers = [self.state[weight]["momentum_buffer"] for weight in weights]
        rate, momentum = group["lr"], group["momentum"]
        _torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        updates = list(_torch._foreach_lerp(gradients, buffers, momentum))  # noqa: SLF001 - see `_torch`
        _torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        for rows, columns, places in _batches([weight.shape for weight in weights]):
            # Columns of zeros do not change the other columns.
            wide = updates[0].new_zeros(len(places), rows, columns, dtype=torch.bfloat16)
            for matrix, i in zip(wide, places, strict=True):
                update = _wide(updates[i])
                matrix[:, : update.shape[1]] = update
            orthogonal = orthogonalize(wide, group["ns_coefficients"], group["ns_steps"])
            for matrix, i in zip(orthogonal, places, strict=True):
                weight = _wide(weights[i])
                scale = 0.2 * math.sqrt(weight.shape[1])
                weight.add_(matrix[:, : weight.shape[1]], alpha=-rate * scale)


def _wide(matrix: Tensor) -> Tensor:
    """Return the matrix, transposed if it has more rows than columns."""
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def _batches(shapes: Sequence[torch.Size]) -> list[tuple[int, int, list[int]]]:
    """Divide matrices into batches for one matrix product each.

    Matrices of one shape are a batch. Small matrices with the same number of rows, for which the
    time of a product is mostly overhead, form one batch, padded to the widest of them.

    Args:
        shapes: Shapes of the matrices; a matrix and its transpose are equivalent.

    Returns:
        For each batch, the numbers of rows and columns and the places of its matrices.
    """
    batches: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, shape in enumerate(shapes):
        rows, columns = sorted(shape)
        is_small = columns > rows and rows * columns <= _SMALL
        batches[rows, 0 if is_small else columns].append(i)
    return [
        (rows, max(max(shapes[i]) for i in places), places) for (rows, _), places in batches.items()
    ]


def orthogonalize(matrices: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    r"""Move the singular values of matrices toward 1 in 16 bits.

    .. math:: X \leftarrow a X + (b A + c A^2) X, \qquad A = X X^T

    Args:
        matrices: (B, m, n) with m ≤ n.
        coefficients: a, b and c.
        steps: Number of iterations.

    Returns:
        bfloat16 (B, m, n).
    """
    a, b, c = coefficients
    x = matrices.bfloat16()
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x

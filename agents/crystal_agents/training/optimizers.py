"""Optimizers, the learning-rate schedule and the running average of weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from crystal_agents.training.muon import BatchedMuon
from crystal_agents.training.recipes import Recipe

# Number of steps over which the learning rate of the cosine schedule increases.
_WARM_UP = 200
# The types of PyTorch do not include its functions of lists of tensors.
_torch: Any = torch


def make_optimizers(
    policy: nn.Module, recipe: Recipe, *, fused: bool | None = None
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a recipe.

    With ``muon``, Muon optimizes the weights of all linear layers except the last, and AdamW all
    other parameters.

    Args:
        policy: The module whose parameters are optimized.
        recipe: The recipe, with the optimizer, the learning rate and the weight decay.
        fused: Whether Adam and AdamW update all parameters in one call, which gradient scaling
            does not support (default: PyTorch's choice).
    """
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adam":
        return [torch.optim.Adam(policy.parameters(), lr=rate, weight_decay=decay, fused=fused)]
    linear = [module for module in policy.modules() if isinstance(module, nn.Linear)]
    weights = [module.weight for module in linear]
    if recipe.optimizer == "adamw":
        groups = [
            {"params": weights, "weight_decay": decay},
            {"params": _other_parameters(policy, weights), "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=fused)]
    # Each row of the last layer belongs to one element, so Muon must not mix them.
    inner = weights[:-1]
    others = _other_parameters(policy, inner)
    return [
        BatchedMuon(inner, lr=rate, weight_decay=decay),
        torch.optim.AdamW(others, lr=rate / 3, weight_decay=0.0, betas=(0.9, 0.98), fused=fused),
    ]


def _other_parameters(policy: nn.Module, chosen: list[Tensor]) -> list[nn.Parameter]:
    ids = {id(parameter) for parameter in chosen}
    return [parameter for parameter in policy.parameters() if id(parameter) not in ids]


def learning_rate_factor(recipe: Recipe, step: int, last_step: int) -> float:
    """Return the learning rate of a step as a fraction of its peak.

    Args:
        recipe: The recipe, with the schedule ``constant`` or ``cosine``. The latter has a linear
            warm-up over 200 steps, or over a tenth of all steps if that is shorter. Its cosine
            factor does not decrease below 0.01.
        step: Index of the step, from 0.
        last_step: Total number of steps.
    """
    if recipe.schedule == "constant":
        return 1.0
    warm_up = min(_WARM_UP, max(1, last_step // 10))
    cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / last_step)).item())
    return min(1.0, (step + 1) / warm_up) * max(cosine, 0.01)


def peak_learning_rates(optimizers: Sequence[torch.optim.Optimizer]) -> list[list[float]]:
    """Return the learning rates of new optimizers, by optimizer and parameter group."""
    return [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]


def set_learning_rates(
    optimizers: Sequence[torch.optim.Optimizer], peak_rates: list[list[float]], factor: float
) -> None:
    """Set all learning rates to a fraction of their peaks.

    Args:
        optimizers: The optimizers.
        peak_rates: Peak rates by optimizer and parameter group.
        factor: Fraction of the peak rates.
    """
    for optimizer, rates in zip(optimizers, peak_rates, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = factor * rate


class RunningAverage(AveragedModel):
    """The exponential moving average of the weights of a policy.

    Args:
        policy: The module whose weights are averaged.
        decay: Weight of the previous average; it is smaller in the first steps, so that the
            initial weights lose their influence quickly.
    """

    def __init__(self, policy: nn.Module, decay: float) -> None:
        super().__init__(policy)
        self._decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Include the current weights of the policy, all of them in one call."""
        count = int(self.n_averaged)
        # The first update copies the weights.
        kept = min(self._decay, (1 + count) / (10 + count)) if count else 0.0
        averaged, current = list(self.module.parameters()), list(model.parameters())
        _torch._foreach_lerp_(averaged, current, 1 - kept)
        for buffer, value in zip(self.module.buffers(), model.buffers(), strict=True):
            buffer.copy_(value)
        self.n_averaged += 1

"""FIXDOC."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crystal_agents.training.recipes import Recipe

if TYPE_CHECKING:
    pass


# Steps over which the learning rate of the cosine schedule rises.
_WARM_UP = 200


def make_optimizers(policy: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The recipe's optimizer; Muon takes the inner matrices and leaves the rest to AdamW."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adam":
        return [torch.optim.Adam(policy.parameters(), lr=rate, weight_decay=decay)]
    linear = [module for module in policy.modules() if isinstance(module, nn.Linear)]
    weights = [module.weight for module in linear]
    if recipe.optimizer == "adamw":
        groups = [
            {"params": weights, "weight_decay": decay},
            {"params": _others(policy, weights), "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]
    # The last layer is the elements' own: each row is learned for itself.
    inner = weights[:-1]
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(_others(policy, inner), lr=rate / 3, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def _others(policy: nn.Module, chosen: list[Tensor]) -> list[nn.Parameter]:
    ids = {id(parameter) for parameter in chosen}
    return [parameter for parameter in policy.parameters() if id(parameter) not in ids]


def learning_rate_factor(recipe: Recipe, step: int, last_step: int) -> float:
    """The learning rate as a share of its highest value."""
    if recipe.schedule == "constant":
        return 1.0
    warm_up = min(_WARM_UP, max(1, last_step // 10))
    cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / last_step)).item())
    return min(1.0, (step + 1) / warm_up) * max(cosine, 0.01)


def base_learning_rates(optimizers: Sequence[torch.optim.Optimizer]) -> list[list[float]]:
    """The learning rates with which optimizers were made, by optimizer and group."""
    return [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]


def set_learning_rates(
    optimizers: Sequence[torch.optim.Optimizer], highest: list[list[float]], share: float
) -> None:
    """Set all learning rates to a share of their highest values."""
    for optimizer, rates in zip(optimizers, highest, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = share * rate


def running_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """How an ``AveragedModel`` takes in new weights."""

    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        # Early weights are forgotten sooner.
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return averaged.lerp(current, 1 - kept)

    return update

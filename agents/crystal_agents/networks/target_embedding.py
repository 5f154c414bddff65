"""The embedding of requested labels, which makes a network conditional."""

import torch
from torch import Tensor, nn

from crystal_agents.networks.egnn_layers import FourierFeatures, mlp


class TargetEmbedding(nn.Module):
    r"""An embedding of the requested values of T labels, zero if none is requested.

    .. math::
        e = k\, \text{MLP}([k_1 \gamma(t_1), k_1, \ldots, k_T \gamma(t_T), k_T]), \qquad
        k = \max_i k_i

    where :math:`\gamma` are Fourier features of the standardized value :math:`t_i`, and
    :math:`k_i` is 1 if label i is requested, else 0. As the embedding is zero without a request,
    the same network serves conditional and unconditional policies.

    Args:
        n_targets: T.
        hidden: Channels of the hidden layers.
        sizes: Channels of each of several outputs, such as those of sites and of crystals.

    Shapes:
        - **input:** standardized values (..., T), NaN where a label is not requested
        - **output:** one embedding (..., size) for each size
    """

    def __init__(self, n_targets: int, hidden: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.waves = FourierFeatures(8.0, 0.5, 8)
        self.sizes = sizes
        self.layers = mlp(n_targets * (self.waves.size + 1), hidden, hidden, sum(sizes))

    def forward(self, target: Tensor) -> tuple[Tensor, ...]:
        known = torch.isfinite(target)
        features = self.waves(torch.where(known, target, 0.0))
        weight = known[..., None].to(features.dtype)
        inputs = torch.cat([features * weight, weight], -1).flatten(-2)
        any_known = known.any(-1, keepdim=True).to(features.dtype)
        return (self.layers(inputs) * any_known).split(self.sizes, -1)

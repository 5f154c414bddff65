"""Mixture density networks for p(geometry | elements) of a prototype."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crystal_agents.networks.dropout import Dropout
from crystal_agents.synthetic.config import DensityConfig

# Number of fillings whose densities are computed together, which bounds the memory.
_BLOCK = 512
# Number of fillings whose forms are computed together, a multiple of _BLOCK.
_FORM_BLOCK = 32768
# Log densities of a geometry that are lower than the largest by more than _RANGE are raised to this
# difference.
_RANGE = 80.0
# Limits of the logarithm of a component's width in each coordinate.
_MIN_LOG_WIDTH, _MAX_LOG_WIDTH = -6.0, 3.0


class GaussianMixture(NamedTuple):
    """Mixtures of M Gaussians over d coordinates, one mixture for each of B fillings.

    Attributes:
        log_weight: Logarithms of the normalized weights, (B, M).
        mean: Means, (B, M, d).
        whiten: Lower triangular matrices W for which W (g - mean) has a standard normal
            distribution, (B, M, d, d).
    """

    log_weight: Tensor
    mean: Tensor
    whiten: Tensor

    def log_density(self, coordinates: Tensor) -> Tensor:
        """Compute the log density up to a constant.

        Args:
            coordinates: One geometry g for each filling, (B, d).

        Returns:
            Log densities, (B,).
        """
        z = (self.whiten @ (coordinates[:, None] - self.mean)[..., None])[..., 0]
        log_volume = self.whiten.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return torch.logsumexp(self.log_weight + log_volume - 0.5 * z.square().sum(-1), -1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Sample one geometry for each filling, (B, d)."""
        component = torch.multinomial(self.log_weight.exp(), 1, generator=generator)[:, 0]
        row = torch.arange(len(component))
        noise = torch.randn(self.mean[:, 0].shape, generator=generator)[..., None]
        whiten = self.whiten[row, component]
        return (
            self.mean[row, component]
            + torch.linalg.solve_triangular(whiten, noise, upper=False)[..., 0]
        )


class GeometryDensity(nn.Module):
    r"""A mixture density network for the geometry given a filling.

    .. math::
        p(g \mid z) = \sum_m \pi_m(z)\, \mathcal N\big(g;\ \mu_m(z),\ (L_m^\top L_m)^{-1}(z)\big)

    Each site has its own embeddings of elements. They are small and enter one shared network, so
    that the density generalizes to unseen combinations of the elements.

    Args:
        elements: Numbers of possible elements of the n sites.
        size: Number of coordinates d.
        mirror: Factors (d,) that convert a geometry to its inversion, which then has the same
            density; ``None`` if the inversion is not equivalent.
        hidden: Channels of the hidden layers.
        layers: Number of hidden layers.
        components: Number of Gaussians M.
        embedding: Channels of the embedding of an element, at most its number of elements.
        dropout: Dropout rate between the layers.

    Shapes:
        - **input:** choices (B, n), indices among the possible elements of each site
        - **output:** mixtures of B fillings
    """

    def __init__(
        self,
        elements: Sequence[int],
        size: int,
        mirror: Tensor | None,
        *,
        hidden: int = 384,
        layers: int = 4,
        components: int = 8,
        embedding: int = DensityConfig.embedding,
        dropout: float = DensityConfig.dropout,
    ) -> None:
        super().__init__()
        self.size, self.components = size, components
        self.mirror: Tensor | None
        self.register_buffer("mirror", mirror, persistent=False)
        self.embed = nn.ModuleList([nn.Embedding(n, min(embedding, n)) for n in elements])
        first = sum(min(embedding, n) for n in elements)
        body: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise([first, *[hidden] * layers])):
            body += [Dropout(dropout)] * (i > 0) + [nn.Linear(a, b), nn.SiLU()]
        self.body = nn.Sequential(*body)
        self.below = size * (size - 1) // 2
        self.last = nn.Linear(hidden, components * (1 + 2 * size + self.below))

    def forward(self, choices: Tensor) -> GaussianMixture:
        """Compute the mixture of each filling.

        Args:
            choices: Indices among the possible elements of each site, int64 (B, n).
        """
        embedded = [e(column) for e, column in zip(self.embed, choices.T, strict=True)]
        raw = self.last(self.body(torch.cat(embedded, -1))).unflatten(-1, (self.components, -1))
        weight, mean, log_scale, below = raw.split([1, self.size, self.size, self.below], -1)
        log_scale = log_scale.clamp(_MIN_LOG_WIDTH, _MAX_LOG_WIDTH)
        unit = torch.diag_embed(torch.ones_like(log_scale))
        row, column = torch.tril_indices(self.size, self.size, -1)
        unit[..., row, column] = below
        # Off-diagonal entries are in units of the scales of the coordinates.
        whiten = unit * (-log_scale).exp()[..., None, :]
        return GaussianMixture(weight[..., 0].log_softmax(-1), mean, whiten)

    def log_density(self, choices: Tensor, coordinates: Tensor) -> Tensor:
        """Compute the log density up to a constant.

        With ``mirror``, it is that of the geometry or its inversion.

        Args:
            choices: Indices among the possible elements of each site, int64 (B, n).
            coordinates: One geometry g for each filling, (B, d).

        Returns:
            Log densities, (B,).
        """
        mixture = self(choices)
        density = mixture.log_density(coordinates)
        if self.mirror is None:
            return density
        return torch.logaddexp(density, mixture.log_density(coordinates * self.mirror))


def fit_density(
    density: GeometryDensity,
    choices: Tensor,
    coordinates: Tensor,
    *,
    seed: int = 0,
    steps: int = 8000,
    batch_size: int = 512,
    learning_rate: float = 3e-3,
    weight_decay: float = DensityConfig.weight_decay,
    embedding_decay: float = 0.05,
    noise: float = 0.01,
    average: float = 0.998,
    advance: Callable[[int], None] = lambda _: None,
) -> GeometryDensity:
    """Fit a density to known crystals by maximum likelihood, in place.

    Args:
        density: The density with random weights.
        choices: Fillings of C crystals, as indices among the possible elements, int64 (C, n).
        coordinates: Geometries of the crystals, (C, d).
        seed: Seed of batches, noise and dropout.
        steps: Number of steps of AdamW, with a linear warm-up over 200 steps and a cosine schedule.
        batch_size: Number of crystals per step.
        learning_rate: Maximum learning rate.
        weight_decay: Weight decay of the linear layers.
        embedding_decay: Weight decay of the embeddings.
        noise: Standard deviation of the noise that is added to the coordinates. It prevents
            components from collapsing onto single crystals.
        average: Decay of the running average of the weights; it is smaller in the first steps.
        advance: Called with 1 after each step.

    Returns:
        The density with the running average of its weights, in evaluation mode.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    embeddings = list(density.embed.parameters())
    linear = [m.weight for m in density.modules() if isinstance(m, nn.Linear)]
    biases = [m.bias for m in density.modules() if isinstance(m, nn.Linear)]
    optimizer = torch.optim.AdamW(
        [
            {"params": linear, "weight_decay": weight_decay},
            {"params": biases, "weight_decay": 0.0},
            {"params": embeddings, "weight_decay": embedding_decay},
        ],
        fused=True,
    )
    averaged = [p.detach().clone() for p in density.parameters()]
    density.train()
    for step in range(steps):
        rate = learning_rate * min(1, (step + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = rate * (0.5 + 0.5 * math.cos(math.pi * step / steps) + 0.003)
        rows = torch.randint(len(choices), (batch_size,), generator=generator)
        noisy = coordinates[rows] + noise * torch.randn(
            (batch_size, coordinates.shape[1]), generator=generator
        )
        loss = -density.log_density(choices[rows], noisy).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(density.parameters(), 1.0)
        optimizer.step()
        kept = min(average, (1 + step) / (50 + step))
        with torch.no_grad():
            for mean, current in zip(averaged, density.parameters(), strict=True):
                mean.lerp_(current, 1 - kept)
        advance(1)
    with torch.no_grad():
        for mean, current in zip(averaged, density.parameters(), strict=True):
            current.copy_(mean)
    return density.eval()


class Posterior:
    """The posterior p(filling | geometry) over a design space, by Bayes' rule with a uniform prior.

    Args:
        densities: The densities to average.
        choices: The G fillings of the design space, as indices among the possible elements,
            int64 (G, n).
    """

    def __init__(self, densities: Sequence[GeometryDensity], choices: Tensor) -> None:
        self.mirror = densities[0].mirror
        self._n_fillings = len(choices)
        self._n_components = sum(density.components for density in densities)
        # Coefficients of all components of a block of fillings, one matrix for each block.
        self._blocks: list[Tensor] = []
        for some in choices.split(_FORM_BLOCK):
            forms = torch.cat([_quadratic_form(density, some) for density in densities], 1)
            self._blocks += [form.flatten(1) for form in forms.split(_BLOCK, -1)]

    def log_probability(self, coordinates: Tensor) -> Tensor:
        """Compute the normalized log-probabilities of all fillings.

        Args:
            coordinates: Geometries, (B, d).

        Returns:
            Log-probabilities, (B, G).
        """
        return self.log_density(coordinates).log_softmax(1)

    @torch.no_grad()
    def log_density(self, coordinates: Tensor) -> Tensor:
        """Compute the log densities given each filling, up to a constant.

        Densities below e^-80 of the largest are raised to it.

        Args:
            coordinates: Geometries, (B, d).

        Returns:
            Log densities, (B, G).
        """
        images = [coordinates]
        if self.mirror is not None:
            images.append(coordinates * self.mirror)
        monomials = _monomials(torch.cat(images))
        log_density = torch.empty(len(coordinates), self._n_fillings)
        columns = log_density.split(_BLOCK, 1)
        for form, column in zip(self._blocks, columns, strict=True):
            logs = (monomials @ form).float()
            logs = logs.view(len(images), len(coordinates), self._n_components, -1)
            largest = logs.amax((0, 2, 3), keepdim=True)
            # Exponentials below the normal range of 32 bits take a hundred times as long.
            total = logs.sub_(largest).clamp_min_(-_RANGE).exp_().sum((0, 2))
            torch.add(total.log_(), largest.view(-1, 1), out=column)
        return log_density.clamp_min_(log_density.amax(1, keepdim=True) - _RANGE)


@torch.no_grad()
def _quadratic_form(density: GeometryDensity, choices: Tensor) -> Tensor:
    """Compute the coefficients of ``_monomials`` in the log densities of all components.

    One matrix product with the coefficients gives the log densities of a geometry under every
    filling and component. Large terms cancel in the product, so it needs 64 bits.

    Returns:
        Coefficients, float64 (q, M, G).
    """
    log_weight, mean, whiten = (part.double() for part in density(choices))
    precision = whiten.mT @ whiten
    linear = (precision @ mean[..., None])[..., 0]
    log_volume = whiten.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = log_weight + log_volume - 0.5 * (mean * linear).sum(-1)
    row, column = torch.triu_indices(mean.shape[-1], mean.shape[-1])
    square = -precision[..., row, column] * torch.where(row == column, 0.5, 1.0)
    form = torch.cat([constant[..., None], linear, square], -1)
    return form.permute(2, 1, 0)


def _monomials(coordinates: Tensor) -> Tensor:
    """Compute 1, g_i and g_i g_j with i <= j of coordinates (B, d), float64 (B, q)."""
    g = coordinates.double()
    row, column = torch.triu_indices(g.shape[1], g.shape[1])
    return torch.cat([torch.ones_like(g[:, :1]), g, g[:, row] * g[:, column]], 1)

"""Mixture density networks and their posterior."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from crystal_agents.synthetic.mixture_density import GeometryDensity, Posterior, fit_density


@pytest.fixture
def density():
    torch.manual_seed(0)
    mirror = torch.tensor([1.0, -1.0, -1.0])
    return GeometryDensity([3, 4], 3, mirror, hidden=16, layers=2, components=4).eval()


def test_mixture_equals_that_of_torch_distributions(density):
    choices = torch.tensor([[0, 1], [2, 3], [1, 0]])
    mixture = density(choices)
    whiten = mixture.whiten.double()
    gaussians = MultivariateNormal(mixture.mean.double(), precision_matrix=whiten.mT @ whiten)
    reference = MixtureSameFamily(Categorical(logits=mixture.log_weight.double()), gaussians)
    g = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    constant = 1.5 * np.log(2 * np.pi)
    torch.testing.assert_close(
        mixture.log_density(g).double() - constant,
        reference.log_prob(g.double()),
        rtol=1e-4,
        atol=1e-4,
    )
    repeated = density(choices[:1].expand(20000, 2))
    samples = repeated.sample(torch.Generator().manual_seed(0))
    spread = reference.variance[0].sqrt()
    assert ((samples.mean(0) - reference.mean[0]).abs() < 0.05 * spread).all()


def test_a_crystal_and_its_inversion_have_equal_densities_with_a_mirror(density):
    choices, g = torch.tensor([[0, 1], [2, 3]]), torch.randn(2, 3)
    torch.testing.assert_close(
        density.log_density(choices, g), density.log_density(choices, g * density.mirror)
    )


def test_posterior_equals_bayes_rule_over_all_fillings(density):
    torch.manual_seed(1)
    other = GeometryDensity([3, 4], 3, density.mirror, hidden=16, layers=2, components=4).eval()
    fillings = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    g = torch.randn(5, 3)
    found = Posterior([density, other], fillings).log_probability(g)
    with torch.no_grad():
        logs = torch.stack(
            [
                torch.logaddexp(
                    *(d.log_density(fillings, row.expand(12, 3)) for d in (density, other))
                )
                for row in g
            ]
        )
    torch.testing.assert_close(found, logs.log_softmax(1), rtol=1e-4, atol=1e-3)


def test_a_fitted_density_generalizes_to_unseen_fillings():
    # One coordinate, a weighted sum of two radii; 40 % of the pairs are held out.
    generator = torch.Generator().manual_seed(0)
    pairs = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    first, second = torch.rand(2, 10, generator=generator)
    size = (first[pairs[:, 0]] + 3 * second[pairs[:, 1]])[:, None]
    order = torch.randperm(100, generator=generator)
    seen, unseen = order[:60], order[60:]
    torch.manual_seed(0)
    density = GeometryDensity([10, 10], 1, None, hidden=32, layers=2, components=2, dropout=0.0)
    fit_density(density, pairs[seen], size[seen], steps=400, batch_size=60)
    with torch.no_grad():
        mixture = density(pairs[unseen])
    mean = (mixture.log_weight.exp()[..., None] * mixture.mean).sum(1)
    assert (mean - size[unseen]).std() < 0.5 * size[unseen].std()

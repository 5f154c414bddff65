"""Prototypes, densities of their geometry, and synthetic crystals."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from crystal_agents.synthetic import (
    NoPrototypeError,
    Prototype,
    SyntheticConfig,
    SyntheticGenerator,
    generation,
)
from crystal_agents.synthetic.design_space import DesignSpace
from crystal_agents.synthetic.mixture_density import GeometryDensity, Posterior, fit_density
from crystal_agents.synthetic.posterior_batches import SyntheticStore
from crystal_agents.synthetic.posterior_scorer import PosteriorScorer
from crystal_agents.training.behavioral_cloning import train
from crystal_agents.training.checkpoint import Checkpoint
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.recipes import RECIPES
from crystal_datasets import build_dataset, load_transitions
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable, fill, start
from crystal_gym.errors import DamagedFileError

IDEAL = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]]) / 2
TINY = SyntheticConfig(members=1, steps=30, per_filling=1, candidates=20)


def family(rng, n=40):
    """Return cubic perovskites with random origins, half of them with displacements along x."""
    edge = rng.uniform(3.5, 5, n)
    moved = rng.normal(0, 0.05, (n, 5)) * rng.integers(0, 2, (n, 1))
    frac = np.tile(IDEAL, (n, 1, 1))
    frac[..., 0] += moved / edge[:, None]
    parameters = np.concatenate([np.tile(edge[:, None], 3), np.full((n, 3), 90.0)], 1)
    return np.full(n, 5), (frac + rng.uniform(size=(n, 1, 3))) % 1, parameters


@given(st.integers(0, 2**16))
def test_coordinates_determine_the_geometry_except_the_origin(seed):
    n_sites, frac, parameters = family(np.random.default_rng(seed))
    prototype = Prototype.of(n_sites, frac, parameters)
    rebuilt, cells = prototype.geometry(prototype.coordinates(frac, parameters))
    np.testing.assert_allclose(cells, parameters, atol=1e-9)
    difference = rebuilt - rebuilt[:, :1] - (frac - frac[:, :1])
    np.testing.assert_allclose((difference + 0.5) % 1 - 0.5, 0, atol=1e-9)
    assert len(prototype.free) == 5  # a, and four displacements along x
    np.testing.assert_allclose(prototype.reference, (IDEAL - IDEAL[prototype.anchor]) % 1)


@given(st.integers(0, 2**16))
def test_an_inverted_crystal_has_mirrored_coordinates(seed):
    n_sites, frac, parameters = family(np.random.default_rng(seed))
    prototype = Prototype.of(n_sites, frac, parameters)
    assert prototype.inverts
    inverted = prototype.coordinates(-frac % 1, parameters)
    original = prototype.coordinates(frac, parameters)
    np.testing.assert_allclose(inverted, original * prototype.mirror, atol=1e-6)


def test_different_sites_or_positions_have_no_prototype(toy):
    with pytest.raises(NoPrototypeError, match="1 to 6 sites"):
        Prototype.of(toy.n_sites, toy.frac_coords, toy.parameters)
    rng = np.random.default_rng(0)
    n_sites, frac, parameters = family(rng)
    with pytest.raises(NoPrototypeError, match=r"similar positions of site \d in all crystals"):
        Prototype.of(n_sites, rng.permuted(frac, axis=1), parameters)


def test_design_space_combines_independent_sites_and_keeps_other_combinations():
    rng = np.random.default_rng(0)
    triples = np.array([[1, 1, 1], [2, 2, 2], [3, 1, 1], [3, 2, 2]])
    codes = np.column_stack([rng.integers(4, 7, (300, 2)), triples[rng.integers(0, 4, 300)]])
    space = DesignSpace.of(codes)
    assert len(space) == 3 * 3 * 4
    assert {tuple(row) for row in codes} <= {tuple(row) for row in space.fillings}
    rebuilt = [e[column] for e, column in zip(space.elements, space.choices.T, strict=True)]
    np.testing.assert_array_equal(np.stack(rebuilt, 1), space.fillings)
    np.testing.assert_array_equal(space.choices_of(space.fillings), space.choices)


def test_a_design_space_that_is_too_large_raises():
    codes = np.stack(np.meshgrid(np.arange(1, 500), np.arange(1, 500)), -1).reshape(-1, 2)
    with pytest.raises(NoPrototypeError, match=r"at most 200,000 combinations .* got 249,001"):
        DesignSpace.of(codes)


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


def test_a_density_with_a_mirror_is_equal_for_a_crystal_and_its_inversion(density):
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
    # One coordinate, the weighted sum of two radii; 40 % of the pairs are held out.
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


@pytest.fixture(scope="module")
def data(perov5, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        name = build_dataset(perov5, "train", trajectories=2, progress=False)
        return load_transitions(name, progress=False)


@pytest.fixture(scope="module")
def few(data):
    """Return transitions of crystals with few cations, for a design space of a few hundred."""
    codes = np.zeros((len(data.n_sites), 5), np.int64)
    codes[data.skeleton, data.focus] = data.action + 1
    smallest = [np.isin(codes[:, site], np.unique(codes[:, site])[:12]) for site in (0, 1)]
    kept = np.isin(data.skeleton, np.flatnonzero(smallest[0] | smallest[1]))
    columns = ("skeleton", "trajectory", "start_site", "step", "elements", "focus", "action")
    return dataclasses.replace(
        data, **{name: getattr(data, name)[kept] for name in (*columns, "reward", "done")}
    )


@pytest.mark.real
def test_perovskites_have_one_prototype_with_five_coordinates(perov5):
    prototype = Prototype.of(perov5.n_sites, perov5.frac_coords, perov5.parameters)
    assert prototype.inverts
    assert prototype.free.tolist()[0] < 3
    assert prototype.moves.sum() == 4


@pytest.mark.real
def test_synthetic_crystals_have_fillings_and_are_cached(few, cache, monkeypatch):
    generator = SyntheticGenerator(few, TINY)
    made = generator.crystals(progress=False)
    assert 0.2 * len(generator.space) < len(made) <= len(generator.space)
    assert made.candidates.shape == made.probability.shape == (len(made), 20)
    sums = made.probability.astype(np.float64).sum(1)
    assert (sums <= 1.01).all()
    assert (np.diff(made.probability.astype(np.float64), axis=1) <= 0).all()
    possible = {filling.tobytes() for filling in made.fillings}
    vocabulary = Vocabulary(few.vocabulary)
    codes = vocabulary.encode(made.collection.atomic_numbers)
    assert all(row.astype(np.int64).tobytes() in possible for row in codes)
    monkeypatch.setattr(generation, "fit_density", None)
    cached = SyntheticGenerator(few, TINY).crystals(progress=False)
    np.testing.assert_array_equal(cached.probability, made.probability)
    assert cached.collection.fingerprint() == made.collection.fingerprint()
    damaged = next(generator.folder.glob("density-*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match="is damaged"):
        SyntheticGenerator(few, TINY).members(progress=False)


def expected_target(made, row, state, n_elements):
    """Return p(element) of each site among the candidates that agree with a state."""
    fillings = made.fillings[made.candidates[row]]
    weight = made.probability[row].astype(np.float64)
    weight = weight * ((state == 0) | (state == fillings)).all(1)
    assert weight.sum() > 0
    weight /= weight.sum()
    return np.stack([np.bincount(site - 1, weight, n_elements) for site in fillings.T])


@pytest.mark.real
def test_batches_have_parts_of_probable_fillings_or_guesses_with_their_posterior(few, cache):
    made = SyntheticGenerator(few, TINY).crystals(progress=False)
    n_elements = len(few.vocabulary)
    store = SyntheticStore(made, n_elements)
    draws = torch.rand(5, 40, store.n_draws, generator=torch.Generator().manual_seed(0))
    batch = store.batch(torch.arange(40), draws)
    elements = batch.elements.view(5, 40, 5).numpy()
    target = batch.target.view(5, 40, 5, n_elements).numpy()
    filled = (elements > 0).sum(-1)
    assert (filled[0] == 0).all()
    for first, second in (filled[1:3], filled[3:5]):
        assert set(first) == {1, 2}
        assert set(second) == {3, 4}
    n_most_probable = 0
    for row in range(40):
        by_geometry = expected_target(made, row, np.zeros(5, int), n_elements)
        for k in range(5):
            state = elements[k, row]
            expected = expected_target(made, row, state, n_elements) if k > 2 else by_geometry
            np.testing.assert_allclose(target[k, row], expected, atol=1e-4)
        for state in elements[1:3, row]:
            (sites,) = state.nonzero()
            assert (by_geometry[sites, state[sites] - 1] > 0).all()
            n_most_probable += (by_geometry.argmax(-1) + 1 == state).sum()
    assert 0.7 < n_most_probable / filled[1:3].sum() < 1


@pytest.mark.real
def test_a_policy_learns_from_synthetic_crystals_and_resumes(few, cache, tmp_path):
    made = SyntheticGenerator(few, TINY).crystals(progress=False)
    small = {"hidden": 8, "vectors": 2, "geometry_layers": 1, "filling_layers": 1}
    recipe = dataclasses.replace(
        RECIPES["egnn-indexed-augmented"], settings=small, epochs=2, skeletons=16
    )

    def run(folder):
        args = TrainingConfig(tmp_path / folder, recipe, checkpoint_seconds=0)
        return train(args, few, synthetic=made, progress=False)

    whole = run("whole")
    steps = whole.config.training["steps"]
    assert steps == 2 * -(-len(made) // 16)
    with pytest.MonkeyPatch.context() as patch:
        save = Checkpoint.save

        def save_until_half(self, progress):
            save(self, progress)
            if progress.step > steps // 2:
                raise KeyboardInterrupt

        patch.setattr(Checkpoint, "save", save_until_half)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    resumed = run("stopped")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.real
def test_posterior_scorer_equals_bayes_rule_given_the_filled_sites(few, perov5, cache):
    generator = SyntheticGenerator(few, TINY)
    table = EpisodeTable(perov5, Vocabulary(few.vocabulary))
    scorer = PosteriorScorer(generator, table)
    possible = [
        code[:5].tolist() in generator.space.fillings.tolist() for code in table.true_elements
    ]
    crystals = np.flatnonzero(possible)[:4]
    order = table.traversals[np.tile(crystals, 2), np.repeat([0, 3], 4)]
    state = start(table, np.tile(crystals, 2), order)
    coordinates = generator.prototype.coordinates(
        table.frac_coords[crystals], table.lattice[crystals]
    )
    joint = generator.posterior().log_probability(torch.tensor(coordinates).float()).exp().numpy()
    for _ in range(3):
        probability = softmax(scorer(state), axis=1)
        for row in range(8):
            filled = state.elements[row]
            weight = joint[row % 4] * ((filled == 0) | (filled == generator.space.fillings)).all(1)
            element = generator.space.fillings[:, state.focus[row]] - 1
            expected = np.bincount(element, weight, len(few.vocabulary)) / weight.sum()
            np.testing.assert_allclose(probability[row], expected, atol=1e-4)
        fill(state, table.true_elements[state.crystal, state.focus] - 1)

"""Synthetic crystals of Perov-5: generation, batches, training and the posterior scorer."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import softmax

from crystal_agents.synthetic import SyntheticConfig, SyntheticGenerator, generation
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

TINY = SyntheticConfig(members=1, steps=30, per_filling=1, candidates=20)


@pytest.fixture(scope="module")
def data(perov5, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        name = build_dataset(perov5, "train", trajectories=2, progress=False)
        return load_transitions(name, progress=False)


@pytest.fixture(scope="module")
def small_data(data):
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
def test_synthetic_crystals_have_fillings_of_the_design_space_and_are_cached(
    small_data, cache, monkeypatch
):
    generator = SyntheticGenerator(small_data, TINY)
    synthetic = generator.crystals(progress=False)
    assert 0.2 * len(generator.space) < len(synthetic) <= len(generator.space)
    assert synthetic.candidates.shape == synthetic.probability.shape == (len(synthetic), 20)
    sums = synthetic.probability.astype(np.float64).sum(1)
    assert (sums <= 1.01).all()
    assert (np.diff(synthetic.probability.astype(np.float64), axis=1) <= 0).all()
    possible = {filling.tobytes() for filling in synthetic.fillings}
    vocabulary = Vocabulary(small_data.vocabulary)
    codes = vocabulary.encode(synthetic.collection.atomic_numbers)
    assert all(row.astype(np.int64).tobytes() in possible for row in codes)
    monkeypatch.setattr(generation, "fit_density", None)
    cached = SyntheticGenerator(small_data, TINY).crystals(progress=False)
    np.testing.assert_array_equal(cached.probability, synthetic.probability)
    assert cached.collection.fingerprint() == synthetic.collection.fingerprint()
    damaged = next(generator.folder.glob("density-*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match="is damaged"):
        SyntheticGenerator(small_data, TINY).members(progress=False)


def expected_target(synthetic, row, state, n_elements):
    """Return p(element) of each site among the candidates that agree with a state."""
    fillings = synthetic.fillings[synthetic.candidates[row]]
    weight = synthetic.probability[row].astype(np.float64)
    weight = weight * ((state == 0) | (state == fillings)).all(1)
    assert weight.sum() > 0
    weight /= weight.sum()
    return np.stack([np.bincount(site - 1, weight, n_elements) for site in fillings.T])


@pytest.mark.real
def test_batches_have_parts_of_probable_fillings_or_guesses_with_their_posterior(small_data, cache):
    synthetic = SyntheticGenerator(small_data, TINY).crystals(progress=False)
    n_elements = len(small_data.vocabulary)
    store = SyntheticStore(synthetic, n_elements)
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
        by_geometry = expected_target(synthetic, row, np.zeros(5, int), n_elements)
        for k in range(5):
            state = elements[k, row]
            expected = expected_target(synthetic, row, state, n_elements) if k > 2 else by_geometry
            np.testing.assert_allclose(target[k, row], expected, atol=1e-4)
        for state in elements[1:3, row]:
            (sites,) = state.nonzero()
            assert (by_geometry[sites, state[sites] - 1] > 0).all()
            n_most_probable += (by_geometry.argmax(-1) + 1 == state).sum()
    assert 0.7 < n_most_probable / filled[1:3].sum() < 1


@pytest.mark.real
def test_a_policy_learns_from_synthetic_crystals_and_resumes(small_data, cache, tmp_path):
    synthetic = SyntheticGenerator(small_data, TINY).crystals(progress=False)
    small = {"hidden": 8, "vectors": 2, "geometry_layers": 1, "filling_layers": 1}
    recipe = dataclasses.replace(
        RECIPES["egnn-indexed-augmented"], settings=small, epochs=2, skeletons=16
    )

    def run(folder):
        args = TrainingConfig(tmp_path / folder, recipe, checkpoint_seconds=0)
        return train(args, small_data, synthetic=synthetic, progress=False)

    uninterrupted = run("uninterrupted")
    steps = uninterrupted.config.training["steps"]
    assert steps == 2 * -(-len(synthetic) // 16)
    with pytest.MonkeyPatch.context() as patch:
        save = Checkpoint.save

        def save_and_interrupt(self, progress):
            save(self, progress)
            if progress.step > steps // 2:
                raise KeyboardInterrupt

        patch.setattr(Checkpoint, "save", save_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    resumed = run("stopped")
    for key, value in uninterrupted.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.real
def test_scores_without_site_numbers_do_not_depend_on_the_numbering(small_data, perov5, cache):
    generator = SyntheticGenerator(small_data, TINY)
    crystals = np.arange(12)
    some = perov5.take(crystals)
    vocabulary = Vocabulary(small_data.vocabulary)
    renumberings = generator.prototype.renumberings()
    reference = generator.prototype.reference
    assert len(renumberings) == 6
    table = EpisodeTable(some, vocabulary)
    first = np.zeros((len(crystals), 5), np.int16)
    numbered = PosteriorScorer(generator, table)
    unnumbered = PosteriorScorer(generator, table, numbered=False)
    depends = False
    for axes, sites in renumberings:
        np.testing.assert_allclose(reference[sites], reference[:, axes], atol=1e-9)
        inverse = np.argsort(sites)
        other = EpisodeTable(
            dataclasses.replace(
                some,
                frac_coords=some.frac_coords[:, inverse][..., axes],
                parameters=np.concatenate(
                    [some.parameters[:, axes], some.parameters[:, 3 + axes]], axis=1
                ),
            ),
            vocabulary,
        )
        renumbered = PosteriorScorer(generator, other, numbered=False)
        for site in range(5):
            expected = unnumbered(start(table, crystals, first + site))
            found = renumbered(start(other, crystals, first + int(sites[site])))
            np.testing.assert_allclose(softmax(found, 1), softmax(expected, 1), atol=1e-3)
            depends |= not np.allclose(
                softmax(numbered(start(table, crystals, first + site)), 1),
                softmax(expected, 1),
                atol=0.1,
            )
    assert depends


@pytest.mark.real
def test_posterior_scorer_equals_bayes_rule_given_the_filled_sites(small_data, perov5, cache):
    generator = SyntheticGenerator(small_data, TINY)
    table = EpisodeTable(perov5, Vocabulary(small_data.vocabulary))
    scorer = PosteriorScorer(generator, table)
    site_by_site = PosteriorScorer(generator, table, evidence=False)
    possible = [
        code[:5].tolist() in generator.space.fillings.tolist() for code in table.true_elements
    ]
    crystals = np.flatnonzero(possible)[:4]
    order = table.breadth_first(np.tile(crystals, 2), np.repeat([0, 3], 4))
    state = start(table, np.tile(crystals, 2), order)
    coordinates = generator.prototype.coordinates(
        table.frac_coords[crystals], table.lattice[crystals]
    )
    joint = generator.posterior().log_probability(torch.tensor(coordinates).float()).exp().numpy()
    for _ in range(3):
        probability = softmax(scorer(state), axis=1)
        marginal = softmax(site_by_site(state), axis=1)
        for row in range(8):
            filled = state.elements[row]
            weight = joint[row % 4] * ((filled == 0) | (filled == generator.space.fillings)).all(1)
            element = generator.space.fillings[:, state.focus[row]] - 1
            expected = np.bincount(element, weight, len(small_data.vocabulary)) / weight.sum()
            np.testing.assert_allclose(probability[row], expected, atol=1e-4)
            by_geometry = np.bincount(element, joint[row % 4], len(small_data.vocabulary))
            np.testing.assert_allclose(marginal[row], by_geometry, atol=1e-4)
        fill(state, table.true_elements[state.crystal, state.focus] - 1)

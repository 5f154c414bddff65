"""Settings of the paper's network that the ablations change."""

import numpy as np
import pytest
import torch

from crystal_agents import load_policy
from crystal_agents.experiments.reproduction.ablations import VARIANTS
from crystal_agents.experiments.reproduction.table_1 import TABLE_1
from crystal_agents.networks.graph_batch import SkeletonStore
from crystal_agents.networks.registry import encoder_settings, make_encoder
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_gym.collections.collection import ARRAYS

SMALL = {"hidden": 12, "size_h": 7, "layers": 3}
SYMBOLS = ("Na", "Mg", "Ti", "O", "F")


def store_of(collection, dtype=torch.float64):
    return SkeletonStore(
        {name: getattr(collection, name) for name in (*ARRAYS, "edges")}, dtype=dtype
    )


def policy_of(**settings):
    """Return a float64 policy with large random weights."""
    torch.manual_seed(0)
    policy = SkeletonPolicy(PolicyConfig("egnn-paper", SYMBOLS, 6, {**SMALL, **settings})).double()
    for weight in policy.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return policy


def states(collection):
    """Return a batch of all crystals with two fillings (2, s) and two foci (2, C) of each."""
    batch = store_of(collection).batch()
    rng = torch.Generator().manual_seed(0)
    elements = torch.randint(len(SYMBOLS) + 1, (2, len(batch.owner)), generator=rng)
    focus = torch.stack([torch.zeros_like(batch.n_sites), batch.n_sites - 1])
    return batch, elements, focus


def test_default_settings_are_those_of_the_paper():
    changed = {"periodic": False, "coordinates": True, "focus_as_index": False}
    assert encoder_settings("egnn-paper").items() >= changed.items()
    explicit, default = policy_of(**changed), policy_of()
    assert {key: value.shape for key, value in explicit.state_dict().items()} == {
        key: value.shape for key, value in default.state_dict().items()
    }
    assert VARIANTS["base"].training_recipe(None) == TABLE_1.variants["egnn-5"].training_recipe(
        None
    )


def test_only_periodic_messages_give_a_supercell_the_same_embeddings(toy):
    batch, elements, _ = states(toy.take([5]))
    n = len(batch.owner)
    twice, image = [], batch.edge_image.to(torch.int64)
    for copy in range(2):
        cell, half = (image[:, 0] + copy) // 2, (image[:, 0] + copy) % 2
        variants = [batch.edge_source + copy * n, batch.edge_target + half * n, cell]
        twice.append(torch.stack([*variants, image[:, 1], image[:, 2]], -1))
    edges = torch.cat(twice)
    coords = torch.cat([batch.frac_coords, batch.frac_coords + torch.eye(3)[0]])
    coords[:, 0] /= 2
    parameters = batch.parameters.clone()
    parameters[:, 0] *= 2
    supercell = SkeletonStore(
        {
            "n_sites": np.array([2 * n]),
            "frac_coords": coords[None],
            "parameters": parameters,
            "edges": edges[None],
        },
        dtype=torch.float64,
    ).batch()
    # In the standard orientation a is in the plane of x and z, so doubling it rotates nothing.
    assert torch.allclose(supercell.positions[:n], batch.positions)
    for periodic in (True, False):
        encoder = policy_of(periodic=periodic).encoder
        with torch.no_grad():
            small, large = encoder(batch, elements), encoder(supercell, elements.repeat(1, 2))
        equal = torch.allclose(large[:, :n], small)
        assert equal == periodic
        if periodic:
            moved = small[..., -3:] + batch.lattice[0, 0]
            torch.testing.assert_close(large[:, n:], torch.cat([small[..., :-3], moved], -1))


def test_readout_without_coordinates_uses_h_alone(toy):
    batch, elements, focus = states(toy)
    base, variant = policy_of(), policy_of(coordinates=False)
    weights = base.state_dict()
    h, x, rest = weights["readout.action.weight"].split([SMALL["size_h"], 3, 8], -1)
    variant.load_state_dict(weights | {"readout.action.weight": torch.cat([h, rest], -1)})
    assert not torch.allclose(base(batch, elements, focus), variant(batch, elements, focus))
    x.zero_()
    torch.testing.assert_close(base(batch, elements, focus), variant(batch, elements, focus))


def test_focus_as_index_is_one_number(toy):
    batch, elements, focus = states(toy)
    base, variant = policy_of(), policy_of(focus_as_index=True)
    weights = base.state_dict()
    cell, one_hot = weights["readout.graph.weight"].split([6, 6], -1)
    variant.load_state_dict(
        weights | {"readout.graph.weight": torch.cat([cell, one_hot[:, 5:]], -1)}
    )
    assert not torch.allclose(base(batch, elements, focus), variant(batch, elements, focus))
    one_hot.copy_(one_hot[:, 5:].clone() * torch.arange(6) / 6)
    torch.testing.assert_close(base(batch, elements, focus), variant(batch, elements, focus))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_saved_and_loaded(name, toy, tmp_path):
    recipe = VARIANTS[name].training_recipe(3)
    assert recipe is not None
    assert (recipe.network, recipe.epochs) == ("egnn-paper", 3)
    make_encoder(recipe.network, len(SYMBOLS), recipe.settings)
    policy = policy_of(**recipe.settings).float()
    loaded = load_policy(policy.save(tmp_path))
    assert loaded.config == policy.config
    batch, elements, focus = states(toy)
    batch = store_of(toy, torch.float32).batch()
    assert torch.equal(loaded(batch, elements, focus), policy(batch, elements, focus))

"""What the paper's figures hang on: each variant changes one thing, and is set against the base."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_agents import load_policy
from crystal_agents.cli import main as cli
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.reproduction import ablations as differences
from crystal_agents.experiments.reproduction import runner as runs
from crystal_agents.experiments.reproduction.ablations import ABLATIONS, VARIANTS
from crystal_agents.experiments.reproduction.results import Curve, Record, load_records
from crystal_agents.experiments.reproduction.runner import RunContext
from crystal_agents.experiments.reproduction.site_order import shuffled_sites
from crystal_agents.experiments.reproduction.table_1 import TABLE_1
from crystal_agents.networks.graph_batch import SkeletonStore
from crystal_agents.networks.registry import encoder_settings, make_encoder
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_gym.collections.collection import ARRAYS
from crystal_gym.crystals.neighbors import breadth_first_from_all, neighbor_edges
from crystal_gym.crystals.skeleton import lattice_matrix

SMALL = {"hidden": 12, "size_h": 7, "layers": 3}
SYMBOLS = ("Na", "Mg", "Ti", "O", "F")


def record(variant, seed=0, accuracy=0.5, val=0.6, **changes):
    """A finished run on crystals that claim to be Perov-5."""
    values = {
        "epochs": 1000,
        "network": "egnn-paper",
        "trajectories": 5,
        "transitions": 100,
        "precision": "32-true",
        "collection": "perov-5",
        "collection_sha256": "ab" * 32,
        "n_crystals": 3785,
        "figures": {
            "accuracy": MeanWithCI(accuracy, accuracy - 0.03, accuracy + 0.03),
            "validity_smact14": MeanWithCI(0.9, 0.9, 0.9),
        },
        "curve": Curve([1, 2], [0.1, 0.2], [0.1, val]),
        "seconds": 600.0,
        "transitions_per_second": 10.0,
        "hardware": "a processor, 1 thread",
        "versions": {"torch": "2"},
        "date": "2026-01-01T00:00:00+00:00",
    }
    return Record(variant=variant, seed=seed, **{**values, **changes})


# The order of the sites


def sites(collection, row):
    """Elements and coordinates of a crystal, whatever their order."""
    n = collection.n_sites[row]
    return sorted(
        zip(
            collection.atomic_numbers[row, :n].tolist(),
            collection.frac_coords[row, :n].tolist(),
            strict=True,
        )
    )


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_a_shuffled_crystal_is_the_same_crystal(toy, seed):
    shuffled = shuffled_sites(toy, seed)
    for name in ("ids", "splits", "n_sites", "parameters"):
        assert np.array_equal(getattr(shuffled, name), getattr(toy, name))
    for row, n in enumerate(toy.n_sites.tolist()):
        assert sites(shuffled, row) == sites(toy, row)
        # All the rest follows from these, as if the crystal had been prepared in this order.
        edges = shuffled.edges[row, shuffled.edges[row, :, 0] >= 0]
        lattice = lattice_matrix(shuffled.parameters[row])
        assert np.array_equal(edges, neighbor_edges(lattice, shuffled.frac_coords[row, :n]))
        orders = breadth_first_from_all(edges, n)
        assert np.array_equal(shuffled.traversals[row, :n, :n], orders)
        # What pads is as it was.
        assert (shuffled.edges[row, len(edges) :] == -1).all()
        assert (shuffled.traversals[row, n:] == -1).all()
        assert (shuffled.traversals[row, :, n:] == -1).all()
        assert not shuffled.atomic_numbers[row, n:].any()


def test_every_crystal_has_an_order_of_its_own_and_the_seed_decides_it(toy):
    many = toy.take([5] * 600)
    shuffled = shuffled_sites(many)
    same = (shuffled.frac_coords[:, :, None] == many.frac_coords[:, None]).all(-1)
    # Each site stands on each number alike: 100 times of 600, give or take.
    assert ((same.sum(0) > 60) & (same.sum(0) < 140)).all()
    again, other = shuffled_sites(many), shuffled_sites(many, 1)
    assert (again.name, again.fingerprint()) == (shuffled.name, shuffled.fingerprint())
    assert len({many.name, shuffled.name, other.name}) == 3
    assert many.fingerprint() == toy.take([5] * 600).fingerprint()


# The settings of the network


def store_of(collection, dtype=torch.float64):
    return SkeletonStore({name: getattr(collection, name) for name in ARRAYS}, dtype=dtype)


def policy_of(**settings):
    """Float64, with weights that are not small."""
    torch.manual_seed(0)
    policy = SkeletonPolicy(PolicyConfig("egnn-paper", SYMBOLS, 6, {**SMALL, **settings})).double()
    for weight in policy.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return policy


def states(collection):
    """All crystals with two fillings (2, s) and foci (2, C) each."""
    batch = store_of(collection).batch()
    rng = torch.Generator().manual_seed(0)
    elements = torch.randint(len(SYMBOLS) + 1, (2, len(batch.owner)), generator=rng)
    focus = torch.stack([torch.zeros_like(batch.n_sites), batch.n_sites - 1])
    return batch, elements, focus


def test_without_settings_it_is_the_network_of_the_paper():
    changed = {"periodic": False, "coordinates": True, "focus_as_index": False}
    assert encoder_settings("egnn-paper").items() >= changed.items()
    told, untold = policy_of(**changed), policy_of()
    assert {key: value.shape for key, value in told.state_dict().items()} == {
        key: value.shape for key, value in untold.state_dict().items()
    }
    assert VARIANTS["base"].trained(None) == TABLE_1.variants["egnn-5"].trained(None)


def test_only_periodic_messages_see_the_same_crystal_in_a_cell_of_twice_the_size(toy):
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
    # In the standard orientation a stands in the plane of x and z, twice as long: nothing turns.
    assert torch.allclose(supercell.positions[:n], batch.positions)
    for periodic in (True, False):
        encoder = policy_of(periodic=periodic).encoder
        with torch.no_grad():
            small, large = encoder(batch, elements), encoder(supercell, elements.repeat(1, 2))
        alike = torch.allclose(large[:, :n], small)
        assert alike == periodic
        if periodic:
            moved = small[..., -3:] + batch.lattice[0, 0]
            torch.testing.assert_close(large[:, n:], torch.cat([small[..., :-3], moved], -1))


def test_without_coordinates_h_is_read_out_alone(toy):
    batch, elements, focus = states(toy)
    base, variant = policy_of(), policy_of(coordinates=False)
    weights = base.state_dict()
    h, x, rest = weights["readout.action.weight"].split([SMALL["size_h"], 3, 8], -1)
    variant.load_state_dict(weights | {"readout.action.weight": torch.cat([h, rest], -1)})
    assert not torch.allclose(base(batch, elements, focus), variant(batch, elements, focus))
    x.zero_()
    torch.testing.assert_close(base(batch, elements, focus), variant(batch, elements, focus))


def test_the_focus_as_an_index_is_one_number(toy):
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
def test_every_variant_is_a_policy_that_is_saved_and_loaded(name, toy, tmp_path):
    recipe = VARIANTS[name].trained(3)
    assert recipe is not None
    assert (recipe.network, recipe.epochs) == ("egnn-paper", 3)
    make_encoder(recipe.network, len(SYMBOLS), recipe.settings)
    policy = policy_of(**recipe.settings).float()
    loaded = load_policy(policy.save(tmp_path))
    assert loaded.config == policy.config
    batch, elements, focus = states(toy)
    batch = store_of(toy, torch.float32).batch()
    assert torch.equal(loaded(batch, elements, focus), policy(batch, elements, focus))


# The experiment


def test_variants_differ_from_the_base_in_one_thing():
    def all_of(name):
        variant = VARIANTS[name]
        return {**encoder_settings("egnn-paper"), **variant.settings, "shuffled": variant.shuffled}

    base = all_of("base")
    for name in VARIANTS:
        changed = [key for key, value in all_of(name).items() if value != base[key]]
        assert len(changed) == (name != "base")


@pytest.fixture
def reproduce(toy_folder, tmp_path, monkeypatch, capsys):
    """Run `reproduce ablations` in this process on the toy crystals, whose data are built."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["build-dataset", str(toy_folder), "--splits", "train", "val"]) == 0

    def run(*argv):
        arguments = ("--collection", toy_folder, "--accelerator", "cpu", *argv)
        code = cli.main(["reproduce", "ablations", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, " ".join(captured.err.split())

    return run


def test_all_variants_are_trained_once_and_the_base_is_table_1_s(reproduce, tmp_path, monkeypatch):
    trained = []

    def train(args, data, validation, **options):
        trained.append((args.run.name, data.dataset_id, validation.dataset_id))
        return original(args, data, validation, **options)

    original = runs.train
    monkeypatch.setattr(runs, "train", train)
    code, out, _ = reproduce("--seeds", 0, "--epochs", 1)
    assert code == 0
    folder = tmp_path / "reproduction"
    records = load_records(folder / "ablations.json")
    assert [r.variant for r in records] == list(VARIANTS)
    assert len({r.collection_sha256 for r in records}) == 1
    assert [name for name, *_ in trained] == [
        f"{'egnn-5' if name == 'base' else name}-seed-0-epochs-1" for name in VARIANTS
    ]
    for name, train_id, val_id in trained:
        assert ("-shuffled-" in train_id) == ("-shuffled-" in val_id) == ("node-order" in name)
    table = (folder / "ablations.md").read_text()
    for title in (variant.title for variant in VARIANTS.values()):
        assert title in table
        assert title in out

    before = (folder / "ablations.json").read_bytes()
    assert reproduce("--seeds", 0, "--epochs", 1)[0] == 0
    assert reproduce("--report-only")[0] == 0
    assert len(trained) == len(VARIANTS)
    assert (folder / "ablations.json").read_bytes() == before

    # Table 1 finds its run finished, and the shuffled crystals are built once.
    context = RunContext(folder, records[0].collection, "cpu", progress=False)
    (shared,) = TABLE_1.reproduce(context, ("egnn-5",), seeds=(0,), epochs=1)
    assert (shared.seconds, shared.metrics) == (records[0].seconds, records[0].metrics)
    shuffled = RunContext(folder, records[0].collection, "cpu", progress=False, shuffled=True)
    assert shuffled.sha256 == context.sha256 == records[0].collection_sha256
    assert shuffled.collection.fingerprint() != context.sha256
    assert shuffled.validation.dataset_id == trained[1][2]


def test_mistakes_end_with_2(reproduce):
    code, _, err = reproduce("--variants", "nodeorder")
    assert code == 2
    assert "Did you mean 'node-order'?" in err
    code, _, err = reproduce("--report-only")
    assert code == 2
    assert "no results" in err


def test_differences_are_to_the_base_s_run_of_the_same_seed():
    # Seeds differ far more than the variants do.
    level = {0: 0.3, 1: 0.5, 2: 0.7}
    base = [record("base", seed, level[seed]) for seed in (0, 1, 2)]
    other = [record("no-coordinates", seed, level[seed] - 0.02) for seed in (2, 1)]
    lines = ABLATIONS.lines([*other, *base])
    found = differences.difference(lines[1], lines[0], differences.METRICS["accuracy"])
    assert found is not None
    assert found.mean == pytest.approx(-0.02)
    assert found.high - found.low < 1e-9
    table = differences.build_table([*other, *base])
    assert [row[0] for row in table.rows] == ["to the letter", "readout without coordinates"]
    assert table.rows[0][1:3] == ("1,000", "3")
    assert table.rows[0][4] == ""
    assert table.rows[1][4].startswith("-2.00")


def test_of_one_seed_the_intervals_of_both_runs_are_added():
    table = differences.build_table(
        [record("base"), record("node-order", accuracy=0.54, val=0.55), record("base", 1, epochs=3)]
    )
    rows = {row[0]: row for row in table.rows[:2]}
    assert rows["to the letter"][3:9] == ("50.00 ± 3.00", "", "60.00", "", "90.00", "")
    changed = rows["sites numbered at random"]
    assert changed[3:9] == ("54.00 ± 3.00", "+4.00 ± 4.24", "55.00", "-5.00", "90.00", "+0.00")
    assert any("49.53" in note for note in table.notes)


def test_there_is_no_difference_without_a_common_seed_and_setting():
    records = [
        record("base", 0),
        record("base", 1, epochs=3),
        record("node-order", 1),
        record("periodic-edges", 0, precision="bf16-mixed"),
    ]
    rows = differences.build_table(records).rows
    assert len(rows) == 4
    assert {row[4] for row in rows} == {""}
    assert "all periodic edges, bf16-mixed" in [row[0] for row in rows]
    lines = [
        line for line in differences.build_table(records).markdown().splitlines() if "|" in line
    ]
    assert len({line.count("|") for line in lines}) == 1

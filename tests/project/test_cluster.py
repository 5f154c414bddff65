"""Computations on a Dask cluster of two worker processes equal those of this process."""

import logging
import os
import pickle
import signal

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from solids import ROCK_SALT

from crystal_agents.cli import main as cli
from crystal_agents.evaluation import structure_match
from crystal_datasets import build_dataset
from crystal_gym.collections import chunked_cache, preparation, symmetries
from crystal_gym.collections.preparation import prepared_collection
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.collections.structures import collection_from_structures
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import BadCrystalError, ClusterError, ClusterWarning
from crystal_gym.rewards import FormationEnergyReward
from crystal_gym.rewards.energy.chgnet import ChgnetEnergy
from crystal_gym.utils import parallel
from crystal_gym.utils.parallel import map_in_order, n_workers, on_cluster, use_cluster

pytestmark = pytest.mark.slow

METALS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Start a scheduler and two worker processes on the loopback interface."""
    from dask.distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        local_directory=str(tmp_path_factory.mktemp("dask")),
        silence_logs=logging.CRITICAL,
    ) as made:
        yield made


@pytest.fixture
def address(cluster):
    return cluster.scheduler_address


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Make small computations use worker processes."""
    monkeypatch.setattr(preparation, "SERIAL_LIMIT", 0)
    monkeypatch.setattr(preparation, "CHUNK", 8)
    monkeypatch.setattr(chunked_cache, "SERIAL_LIMIT", 0)
    monkeypatch.setattr(chunked_cache, "CHUNK", 4)
    monkeypatch.setattr(symmetries, "UNCACHED_LIMIT", 0)
    monkeypatch.setattr(structure_match, "SERIAL_LIMIT", 0)


def alloys(count):
    """Return cells of two different metals as POSCAR texts."""
    rng = np.random.default_rng(0)
    crystals = []
    for row in range(count):
        structure = Structure(
            Lattice.tetragonal(*rng.uniform(2.7, 3.3, 2)),
            list(rng.choice(METALS, 2, replace=False)),
            ROCK_SALT,
        )
        text = structure.to(fmt="poscar")
        crystals.append(RawCrystal(f"c{row}", "train", text, "poscar", f"row {row}"))
    return crystals


def files(folder):
    """Return the content of every file of a folder by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def cache_of(tmp_path, monkeypatch):
    """Choose the cache folder by a name, and return it."""

    def choose(name):
        monkeypatch.setenv("CRYSTAL_GYM_CACHE", str(tmp_path / name))
        return tmp_path / name

    return choose


def prepare_and_describe():
    """Prepare a collection, and compute the symmetries of its skeletons."""
    collection = prepared_collection("alloys", "sum", lambda: alloys(40), progress=False)
    symmetries.skeleton_symmetries(collection, np.arange(len(collection)), progress=False)


def test_cached_files_have_the_same_bytes(address, cache_of):
    local = cache_of("local")
    prepare_and_describe()
    remote = cache_of("remote")
    with use_cluster(address):
        assert on_cluster()
        assert n_workers() == 2
        (pid,) = map_in_order(os.getpid, [()])
        assert pid != os.getpid()
        prepare_and_describe()
    assert not on_cluster()
    assert files(local) == files(remote)
    assert len(files(local)) == 11


def test_current_client_of_python_is_used(address, cache_of):
    from dask.distributed import Client

    local = cache_of("local")
    prepare_and_describe()
    remote = cache_of("remote")
    with Client(address) as client:
        pids = set(client.run(os.getpid).values())
        assert set(map_in_order(os.getpid, [()] * 8)) <= pids
        prepare_and_describe()
    assert files(local) == files(remote)


def test_killed_worker_leaves_the_result_complete_and_identical(address, cache_of, monkeypatch):
    from dask.distributed import Client

    local = cache_of("local")
    prepare_and_describe()
    remote = cache_of("remote")
    with Client(address) as client:
        pids = list(client.run(os.getpid).values())
        stored = []
        real = preparation.save_arrays

        def kill_after_the_second_part(path, arrays):
            stored.append(path.name)
            if len(stored) == 2:
                os.kill(pids[0], signal.SIGKILL)
            real(path, arrays)

        monkeypatch.setattr(preparation, "save_arrays", kill_after_the_second_part)
        prepare_and_describe()
        assert stored[:5] == [f"{i:05}.npz" for i in range(5)]
        client.wait_for_workers(2, timeout=120)
        assert pids[0] not in client.run(os.getpid).values()
    assert files(local) == files(remote)


def test_first_bad_crystal_is_reported_and_finished_parts_are_kept(address, tmp_path):
    bad = RawCrystal("bad", "train", "not a crystal", "poscar", "row 20")
    raw = [*alloys(20), bad, *alloys(19)]
    messages = []
    for cluster_address in (None, address):
        with use_cluster(cluster_address), pytest.raises(BadCrystalError) as raised:
            preparation.prepare(raw, progress=False)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    with use_cluster(address), pytest.raises(BadCrystalError):
        preparation.prepare(raw, parts=tmp_path / "parts", progress=False)
    assert set(files(tmp_path / "parts")) == {"00000.npz", "00001.npz"}


def test_datasets_with_energies_have_the_same_bytes(address, tmp_path, monkeypatch):
    structures = [crystal.structure() for crystal in alloys(30)]
    collection = collection_from_structures(structures, name="alloys")
    content = []
    for cluster_address in (None, address):
        folder = tmp_path / f"minari-{len(content)}"
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
        with use_cluster(cluster_address):
            build_dataset(
                collection,
                "train",
                "random",
                reward=("emt", FormationEnergyReward("emt")),
                trajectories=2,
                progress=False,
            )
        content.append(files(folder))
    assert content[0] == content[1]
    assert any(name.endswith("main_data.hdf5") for name in content[0])


def test_structure_matches_are_equal(address):
    table = EpisodeTable(collection_from_structures([c.structure() for c in alloys(40)]))
    crystals = np.arange(40)
    exchanged = table.true_elements[:, ::-1][None]
    local = structure_match.structure_matches(table, crystals, exchanged)
    with use_cluster(address):
        remote = structure_match.structure_matches(table, crystals, exchanged)
    assert np.array_equal(local, remote)


def test_workers_with_other_versions_are_rejected(address, monkeypatch):
    monkeypatch.setattr(parallel, "_versions", lambda: {"crystal-gym": "99", "absent": "1"})
    with (
        use_cluster(address),
        pytest.raises(
            ClusterError,
            match=r"Expected crystal-gym 99, absent 1 on the workers, got crystal-gym .*, absent "
            r"\(not installed\) on .*\. Install the same versions",
        ),
    ):
        list(map_in_order(os.getpid, [()]))


def test_input_that_stops_every_worker_is_reported(cluster, address, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    with (
        use_cluster(address),
        pytest.raises(ClusterError, match=r"got 1 that stopped during the same one \(_exit"),
    ):
        list(map_in_order(os._exit, [(1,)]))
    cluster.wait_for_workers(2, timeout=120)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "tcp://127.0.0.1", "smoke://a:1", "a.json"]
)
def test_addresses_without_a_scheduler_are_reported(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(ClusterError, match=rf"Expected .*{address}.*, got no .*tart"),
        use_cluster(address),
    ):
        pass


def test_cluster_without_workers_is_reported():
    from dask.distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.warns(ClusterWarning, match="Expected workers at .*, got none yet"),
        use_cluster(empty.scheduler_address),
    ):
        assert n_workers() == 1


def test_commands_print_the_same(address, toy_folder, cache_of, tmp_path, capsys):
    from dask.distributed import Client

    file = tmp_path / "scheduler.json"
    with Client(address, set_as_default=False) as client:
        client.write_scheduler_file(str(file))
    outputs = []
    for name, options in {"local": (), "remote": ("--cluster", str(file))}.items():
        cache_of(name)
        assert cli.main(["prepare", str(toy_folder), *options]) == cli.OK
        outputs.append(capsys.readouterr().out.partition("Ready in")[0])
    assert outputs[0] == outputs[1]
    assert files(tmp_path / "local") == files(tmp_path / "remote")


def test_command_ends_with_code_1_without_a_scheduler(capsys):
    assert cli.main(["prepare", "goldschmidt", "--cluster", "tcp://127.0.0.1:1"]) == cli.FAILURE
    assert "Expected a Dask scheduler at tcp://127.0.0.1:1" in capsys.readouterr().err


def test_energy_models_are_pickled_without_their_state(toy):
    model = ChgnetEnergy()
    crystal = toy.skeleton(3), toy.atomic_numbers[3, : toy.n_sites[3]]
    model.energies([crystal])
    content = pickle.dumps(model)
    assert len(content) < 1000
    copy = pickle.loads(content)  # noqa: S301 - bytes of this test
    assert copy.energies([crystal]) == model.energies([crystal])

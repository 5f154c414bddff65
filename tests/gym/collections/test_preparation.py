"""Preparation: parallel as serial, stopped and resumed, cached, and clear about bad crystals."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystal_gym.collections import preparation
from crystal_gym.collections.collection import ARRAYS
from crystal_gym.collections.preparation import (
    RawCrystal,
    file_order,
    load_arrays,
    prepare,
    prepared_collection,
    save_arrays,
)
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, StorageError


def raw_crystals(count):
    """Small cells of one and two sites that all differ."""
    rng = np.random.default_rng(1)
    crystals = []
    for row in range(count):
        n = 1 + row % 2
        structure = Structure(
            Lattice.tetragonal(*rng.uniform(3, 4, 2)),
            ["Na", "Cl"][:n],
            [[0, 0, 0], [0.5, 0.5, 0.45]][:n],
        )
        labels = {"energy": float(row)} if row % 3 else {}
        crystals.append(
            RawCrystal(f"c{row}", "train", structure, "structure", f"row {row}", labels)
        )
    return crystals


def broken(row):
    structure = Structure(Lattice.cubic(4), [{"Na": 0.5}], [[0, 0, 0]])
    return RawCrystal("bad", "train", structure, "structure", f"row {row}")


def assert_same(some, others):
    assert set(some) == set(others) == set(ARRAYS)
    for name in ARRAYS:
        assert some[name].dtype == others[name].dtype
        assert np.array_equal(some[name], others[name]), name


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(preparation, "CHUNK", 4)


def test_worker_processes_give_the_same_arrays_as_a_plain_loop(monkeypatch):
    raw = raw_crystals(20)
    plain = prepare(raw)
    monkeypatch.setattr(preparation, "SERIAL_LIMIT", 0)
    assert_same(prepare(raw, progress=False), plain)
    monkeypatch.setattr(preparation, "CHUNK", 3)
    assert_same(prepare(raw, progress=False), plain)


def test_a_stopped_preparation_goes_on_where_it_was(tmp_path, small_chunks, monkeypatch):
    raw = raw_crystals(10)
    parts = tmp_path / "parts"
    with pytest.raises(BadCrystalError, match=r"row 9 \(crystal 'bad'\): Site 0 is disordered"):
        prepare([*raw[:9], broken(9)], parts=parts)
    assert sorted(path.name for path in parts.iterdir()) == ["00000.npz", "00001.npz"]
    done = []
    real = preparation._prepare_chunk
    monkeypatch.setattr(
        preparation, "_prepare_chunk", lambda i, *rest: (done.append(i), real(i, *rest))[1]
    )
    resumed = prepare(raw, parts=parts)
    assert done == [2]
    assert_same(resumed, prepare(raw))


def test_a_damaged_part_is_made_again(tmp_path, small_chunks):
    raw = raw_crystals(10)
    expected = prepare(raw, parts=tmp_path)
    part = tmp_path / "00001.npz"
    part.write_bytes(part.read_bytes()[:-30])
    assert_same(prepare(raw, parts=tmp_path), expected)


def test_a_killed_process_leaves_whole_parts_that_the_next_one_uses(cache, small_chunks):
    """SIGKILL in the third chunk: two chunks stay, nothing stands under the final name."""
    script = textwrap.dedent(
        """
        import sys, time
        sys.path.insert(0, sys.argv[1])
        from crystal_gym import preparation
        from test_preparation import raw_crystals
        preparation.CHUNK = 4
        real = preparation._prepare_chunk
        def slow(i, *rest):
            if i == 2:
                time.sleep(60)
            return real(i, *rest)
        preparation._prepare_chunk = slow
        preparation.prepared_collection("made", "sum", lambda: raw_crystals(12))
        """
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(Path(__file__).parent)])
    try:
        deadline = time.monotonic() + 60
        while len(list(cache.rglob("0000?.npz"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    parts = sorted(cache.rglob("0000?.npz"))
    assert [path.name for path in parts] == ["00000.npz", "00001.npz"]
    assert not list(cache.rglob("made-*.npz"))
    before = [path.stat().st_mtime_ns for path in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation.shutil, "rmtree", lambda *_, **__: None)
        collection = prepared_collection("made", "sum", lambda: raw_crystals(12))
    assert [path.stat().st_mtime_ns for path in parts] == before
    expected = prepare(raw_crystals(12))
    assert_same({name: getattr(collection, name) for name in ARRAYS}, expected)


def test_the_cache_is_used_until_an_input_changes(cache):
    raw, reads = raw_crystals(6), []

    def read():
        reads.append(1)
        return raw

    first = prepared_collection("made", "sum", read)
    again = prepared_collection("made", "sum", read)
    assert len(reads) == 1
    assert_same(*({name: getattr(c, name) for name in ARRAYS} for c in (first, again)))
    assert np.array_equal(again.labels["energy"], [np.nan, 1, 2, np.nan, 4, 5], equal_nan=True)
    assert not list(cache.rglob("*.parts"))
    prepared_collection("made", "other sum", read)
    prepared_collection("made", "sum", read, order=file_order)
    prepared_collection("made", "sum", read, max_sites=2)
    assert len(reads) == 4
    assert len(list(cache.rglob("made-*.npz"))) == 4


def cached_file(cache):
    prepared_collection("made", "sum", lambda: raw_crystals(6))
    (path,) = cache.rglob("made-*.npz")
    return path


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_cache_is_told_and_can_be_made_again(cache, keep):
    path = cached_file(cache)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(DamagedFileError, match=r"made-\w+\.npz is damaged .* Delete it"):
        prepared_collection("made", "sum", lambda: raw_crystals(6))
    path.unlink()
    assert len(prepared_collection("made", "sum", lambda: raw_crystals(6))) == 6


def test_no_altered_byte_of_the_cache_changes_an_array_unnoticed(cache):
    path = cached_file(cache)
    content, expected = path.read_bytes(), load_arrays(path)
    rng = np.random.default_rng(0)
    damaged = 0
    for position in rng.integers(0, len(content), 300).tolist():
        altered = bytearray(content)
        altered[position] ^= 0xFF
        path.write_bytes(altered)
        try:
            arrays = load_arrays(path)
        except DamagedFileError:
            damaged += 1
            continue
        # Bytes that carry no content, like dates and fill, may change.
        for name, array in arrays.items():
            assert name not in expected or array.tobytes() == expected[name].tobytes()
    assert damaged > 200


def test_a_file_that_holds_something_else_is_told(cache):
    path = cached_file(cache)
    save_arrays(path, {"numbers": np.arange(3)})
    with pytest.raises(DamagedFileError, match="it holds numbers"):
        prepared_collection("made", "sum", lambda: raw_crystals(6))


def test_a_full_disk_keeps_the_finished_parts(cache, small_chunks, monkeypatch):
    real, calls = Path.replace, []

    def replace(self, target):
        calls.append(target)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(StorageError, match=r"No space left on device.*CRYSTAL_GYM_CACHE"):
            prepared_collection("made", "sum", lambda: raw_crystals(12))
    left = sorted(path.name for path in cache.rglob("*") if path.is_file())
    assert left == ["00000.npz", "00001.npz"]
    assert len(prepared_collection("made", "sum", lambda: raw_crystals(12))) == 12


def test_bad_text_and_too_many_sites_are_told_with_their_place():
    with pytest.raises(BadCrystalError, match=r"a\.csv, row 3 \(crystal 'x'\): no readable CIF"):
        prepare([RawCrystal("x", "train", "no CIF at all", "cif", "a.csv, row 3")])
    with pytest.raises(BadCrystalError, match=r"row 1 \(crystal 'c1'\): The crystal has 2 sites"):
        prepare(raw_crystals(3), max_sites=1)
    with pytest.raises(CrystalGymError, match="no crystals"):
        prepare([])


def test_a_bad_crystal_in_a_worker_process_is_told_as_well(monkeypatch):
    monkeypatch.setattr(preparation, "SERIAL_LIMIT", 0)
    with pytest.raises(BadCrystalError, match="row 5"):
        prepare([*raw_crystals(5), broken(5)], progress=False)

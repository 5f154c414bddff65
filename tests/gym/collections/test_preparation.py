"""Test preparation: worker processes, interruption, cache, and reports of bad crystals."""

import errno
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystal_gym.collections import preparation
from crystal_gym.collections.collection import ARRAYS
from crystal_gym.collections.preparation import (
    file_order,
    load_arrays,
    prepare,
    prepared_collection,
    save_arrays,
)
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.collections.reading_report import warn_of_changes
from crystal_gym.errors import (
    BadCrystalError,
    CrystalGymError,
    DamagedFileError,
    ParserWarning,
    StorageError,
)


def raw_crystals(count):
    """Return distinct small cells with one or two sites."""
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


def disordered(row):
    structure = Structure(Lattice.cubic(4), [{"Na": 0.5}], [[0, 0, 0]])
    return RawCrystal("bad", "train", structure, "structure", f"row {row}")


def assert_same(arrays, expected):
    assert set(arrays) == set(expected) == set(ARRAYS)
    for name in ARRAYS:
        assert arrays[name].dtype == expected[name].dtype
        assert np.array_equal(arrays[name], expected[name]), name


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(preparation, "CHUNK", 4)


def test_worker_processes_compute_the_same_arrays_as_one_process(monkeypatch):
    raw = raw_crystals(20)
    expected = prepare(raw)
    monkeypatch.setattr(preparation, "SERIAL_LIMIT", 0)
    assert_same(prepare(raw, progress=False), expected)
    monkeypatch.setattr(preparation, "CHUNK", 3)
    assert_same(prepare(raw, progress=False), expected)


def test_interrupted_preparation_resumes_from_the_finished_parts(
    tmp_path, small_chunks, monkeypatch
):
    raw = raw_crystals(10)
    parts = tmp_path / "parts"
    with pytest.raises(BadCrystalError, match=r"row 9 \(crystal 'bad'\): Site 0 is disordered"):
        prepare([*raw[:9], disordered(9)], parts=parts)
    assert sorted(path.name for path in parts.iterdir()) == ["00000.npz", "00001.npz"]
    done = []
    real = preparation._prepare_chunk
    monkeypatch.setattr(
        preparation, "_prepare_chunk", lambda i, *rest: (done.append(i), real(i, *rest))[1]
    )
    resumed = prepare(raw, parts=parts)
    assert done == [2]
    assert_same(resumed, prepare(raw))


def test_damaged_parts_are_prepared_again(tmp_path, small_chunks):
    raw = raw_crystals(10)
    expected = prepare(raw, parts=tmp_path)
    part = tmp_path / "00001.npz"
    part.write_bytes(part.read_bytes()[:-30])
    assert_same(prepare(raw, parts=tmp_path), expected)


def test_killed_process_leaves_whole_parts_that_the_next_process_uses(cache, small_chunks):
    """Kill a process in its third chunk: two parts remain, and no file has the final name."""
    script = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        from crystal_gym.collections import preparation
        from test_preparation import raw_crystals
        preparation.CHUNK = 4
        real = preparation._prepare_chunk
        def block_in_third_chunk(i, *rest):
            if i == 2:
                print("third chunk", flush=True)
                sys.stdin.read()
            return real(i, *rest)
        preparation._prepare_chunk = block_in_third_chunk
        preparation.prepared_collection("made", "sum", lambda: raw_crystals(12))
        """
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "third chunk\n"
        child.send_signal(signal.SIGKILL)
    parts = sorted(cache.rglob("0000?.npz"))
    assert [path.name for path in parts] == ["00000.npz", "00001.npz"]
    assert not list(cache.rglob("made-*.npz"))
    times = [path.stat().st_mtime_ns for path in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation.shutil, "rmtree", lambda *_, **__: None)
        collection = prepared_collection("made", "sum", lambda: raw_crystals(12))
    assert [path.stat().st_mtime_ns for path in parts] == times
    expected = prepare(raw_crystals(12))
    assert_same({name: getattr(collection, name) for name in ARRAYS}, expected)


def test_cache_is_used_until_an_input_changes(cache):
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
def test_truncated_cache_is_reported_and_can_be_prepared_again(cache, keep):
    path = cached_file(cache)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(DamagedFileError, match=r"made-\w+\.npz is damaged .* Delete it"):
        prepared_collection("made", "sum", lambda: raw_crystals(6))
    path.unlink()
    assert len(prepared_collection("made", "sum", lambda: raw_crystals(6))) == 6


def test_altered_bytes_of_the_cache_are_detected(cache):
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
        # Bytes without content, such as dates and padding, may change.
        for name, array in arrays.items():
            assert name not in expected or array.tobytes() == expected[name].tobytes()
    assert damaged > 200


def test_cached_file_with_other_arrays_is_reported(cache):
    path = cached_file(cache)
    save_arrays(path, {"numbers": np.arange(3)})
    with pytest.raises(DamagedFileError, match="got numbers"):
        prepared_collection("made", "sum", lambda: raw_crystals(6))


def test_full_disk_keeps_the_finished_parts(cache, small_chunks, monkeypatch):
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


def test_errors_include_the_place_of_the_crystal():
    with pytest.raises(
        BadCrystalError, match=r"a\.csv, row 3 \(crystal 'x'\): Expected a readable CIF"
    ):
        prepare([RawCrystal("x", "train", "no CIF at all", "cif", "a.csv, row 3")])
    with pytest.raises(
        BadCrystalError, match=r"row 1 \(crystal 'c1'\): Expected at most 1 sites, got 2"
    ):
        prepare(raw_crystals(3), max_sites=1)
    with pytest.raises(CrystalGymError, match="no crystals"):
        prepare([])


def test_errors_in_worker_processes_include_the_place_of_the_crystal(monkeypatch):
    monkeypatch.setattr(preparation, "SERIAL_LIMIT", 0)
    with pytest.raises(BadCrystalError, match="row 5"):
        prepare([*raw_crystals(5), disordered(5)], progress=False)


def nearly_full(row):
    """Return a crystal whose occupancy the reader changes to 1."""
    structure = Structure(Lattice.cubic(3 + row / 100), [{"Na": 0.9995}], [[0, 0, 0]])
    return RawCrystal(f"c{row}", "train", structure, "object", f"a.csv, row {row}")


def test_structure_issues_one_warning_with_the_place_and_the_notices_of_the_reader():
    with pytest.warns(ParserWarning, match=r"a\.csv, row 3 \(crystal 'c3'\): .*0\.9995") as caught:
        structure = nearly_full(3).structure()
    assert len(caught) == 1
    assert structure.is_ordered


@pytest.mark.parametrize("serial_limit", [0, 100])
def test_prepare_issues_one_warning_with_the_number_and_first_place_of_each_notice(
    monkeypatch, serial_limit, small_chunks
):
    monkeypatch.setattr(preparation, "SERIAL_LIMIT", serial_limit)
    crystals = [*raw_crystals(5), *map(nearly_full, range(7))]
    with pytest.warns(ParserWarning) as caught:
        prepare(crystals, progress=False)
    (warning,) = caught
    summary, line = str(warning.message).splitlines()
    assert summary.startswith("The readers changed 7 of 12 crystals.")
    assert line.startswith("  7 crystals, first a.csv, row 0 (crystal 'c0'): Occupancy 0.9995")


def test_resumed_preparation_reports_the_notices_of_the_finished_parts(tmp_path, small_chunks):
    crystals = [nearly_full(row) for row in range(8)]
    with pytest.raises(BadCrystalError):
        prepare([*crystals, disordered(8)], parts=tmp_path)
    with pytest.warns(ParserWarning, match="changed 8 of 8 crystals"):
        prepare(crystals, parts=tmp_path)


def test_parts_of_an_earlier_version_are_prepared_again(tmp_path, small_chunks):
    raw = raw_crystals(4)
    expected = prepare(raw, parts=tmp_path)
    part = load_arrays(tmp_path / "00000.npz")
    save_arrays(tmp_path / "00000.npz", {k: v for k, v in part.items() if k != "kept"})
    assert_same(prepare(raw, parts=tmp_path), expected)


@pytest.mark.parametrize("serial_limit", [0, 100])
def test_skipped_crystals_do_not_change_the_others(monkeypatch, serial_limit, small_chunks, cache):
    monkeypatch.setattr(preparation, "SERIAL_LIMIT", serial_limit)
    raw = raw_crystals(10)
    # The second chunk has no readable crystal.
    mixed = [*raw[:4], *(disordered(row) for row in range(4, 8)), *raw[4:], disordered(14)]
    with pytest.warns(ParserWarning, match="5 of 15 crystals cannot be read"):
        collection = prepared_collection(
            "made", "sum", lambda: mixed, on_error="skip", progress=False
        )
    expected = prepared_collection("other", "other", lambda: raw, progress=False)
    assert collection.fingerprint() == expected.fingerprint()
    assert np.array_equal(collection.labels["energy"], expected.labels["energy"], equal_nan=True)
    assert len(collection.excluded) == 5
    assert collection.excluded[0].startswith("row 4 (crystal 'bad'): Site 0 is disordered")
    # Worker processes finish in any order.
    with pytest.raises(BadCrystalError, match=r'row [4-7] .*on_error="skip"'):
        prepared_collection("made", "sum", lambda: mixed, progress=False)


def test_warning_lists_at_most_ten_kinds_of_problems():
    changes = [f"{letter} differs" for letter in "abcdefghijkl"]
    places = [f"row {row}" for row in range(12)]
    with pytest.warns(ParserWarning, match="12 of 20 crystals") as caught:
        warn_of_changes(changes, places, 20)
    lines = str(caught[0].message).splitlines()
    assert lines[1] == "  1 crystal, first row 0: a differs"
    assert lines[-1] == "  2 other kinds of problems"
    assert len(lines) == 12

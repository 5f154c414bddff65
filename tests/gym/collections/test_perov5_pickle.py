"""Safe reading of pickled labels: plain containers and numbers, no other globals."""

import io
import pickle
import pickletools
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.collections.perov5_pickle import ANION_SETS, COLUMNS, read_label_grid
from crystal_gym.errors import DamagedFileError

PATH = Path("labels.p")

VALUES = (1.5, 1.25, -0.5, 6.0, 4.5, 6.25, 5.0)
# A pickle of protocol 0 with the globals of the original file.
PYTHON_2 = (
    b"(dp0\nI38\nccollections\ndefaultdict\np1\n(c__builtin__\ndict\np2\ntp3\nRp4\n"
    b"I22\n(dp5\nI4\n(F1.5\nF1.25\nF-0.5\nF6\nF4.5\nF6.25\nI5\ntp6\nsss."
)


def dumps(data, protocol=0):
    return pickle.dumps(data, protocol)


def test_dictionaries_of_python_2_are_read():
    elements, values = read_label_grid(PYTHON_2, PATH)
    assert elements.tolist() == [[38, 22, 8, 8, 9]]
    assert values.tolist() == [list(VALUES)]


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 118), st.integers(1, 118), st.integers(0, 6)),
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * len(COLUMNS)),
        min_size=1,
    )
)
def test_all_values_are_read_unchanged(cells):
    data = {}
    for (a, b, anions), values in cells.items():
        data.setdefault(a, {}).setdefault(b, {})[anions] = values
    elements, values = read_label_grid(dumps(data), PATH)
    read = {tuple(row): tuple(labels) for row, labels in zip(elements, values, strict=True)}
    assert read == {(a, b, *ANION_SETS[anions]): labels for (a, b, anions), labels in cells.items()}
    assert all(list(anions) == sorted(anions) for anions in ANION_SETS)


class Attack:
    """An object whose unpickling calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_of_a_malicious_file_does_not_run(tmp_path, protocol):
    target = tmp_path / "created"
    attacks = {
        "pathlib": Attack(Path.touch, target),
        "eval": Attack(eval, f"open({str(target)!r}, 'w')"),
        "exec": Attack(exec, f"open({str(target)!r}, 'w')"),
        "open": Attack(open, str(target), "w"),
        "OrderedDict": OrderedDict(a=1),
        "defaultdict": defaultdict(Attack(Path.touch, target).call[0]),
        "array": np.ones(3),
    }
    for attack in attacks.values():
        for data in (attack, {38: {22: {0: attack}}}, {38: {22: {0: (attack,) * 7}}}):
            with pytest.raises(
                DamagedFileError, match=r"plain dictionaries.*(refers to|has other)"
            ):
                read_label_grid(dumps(data, protocol), PATH)
    assert not target.exists()


@pytest.mark.parametrize(
    "module_and_name",
    [
        "os\nsystem",
        "posix\nsystem",
        "builtins\neval",
        "__builtin__\neval",
        "__builtin__\ngetattr",
        "builtins\ndict",
        "collections\ndefaultdict.fromkeys",
        "collections\nnamedtuple",
        "copy_reg\n_reconstructor",
        "subprocess\nPopen",
    ],
)
def test_no_other_global_is_resolved(module_and_name):
    content = f"c{module_and_name}\n(S'true'\ntR.".encode()
    with pytest.raises(
        DamagedFileError, match=f"refers to {module_and_name.replace(chr(10), '.')}"
    ):
        read_label_grid(content, PATH)


def test_other_values_are_rejected():
    labels = {38: {22: {0: VALUES}}}
    read_label_grid(dumps(labels), PATH)
    for data in (
        {},
        [],
        1.5,
        {38: 1},
        {38: {22: {}}},
        {38: {22: {7: VALUES}}},
        {38: {22: {-1: VALUES}}},
        {38: {22: {True: VALUES}}},
        {"Sr": {22: {0: VALUES}}},
        {0: {22: {0: VALUES}}},
        {38: {119: {0: VALUES}}},
        {38: {22: {0: VALUES[:6]}}},
        {38: {22: {0: list(VALUES)}}},
        {38: {22: {0: (*VALUES[:6], "1.0")}}},
        {38: {22: {0: (*VALUES[:6], float("nan"))}}},
        {38: {22: {0: (*VALUES[:6], float("inf"))}}},
        {38: {22: {0: (*VALUES[:6], None)}}},
    ):
        with pytest.raises(DamagedFileError, match=r"another file labels\.p"):
            read_label_grid(dumps(data), PATH)


def test_truncated_files_are_rejected():
    for length in range(len(PYTHON_2)):
        with pytest.raises(DamagedFileError, match=r"Delete it and download it again"):
            read_label_grid(PYTHON_2[:length], PATH)


@given(st.integers(0, len(PYTHON_2) - 1), st.binary(min_size=1, max_size=3))
def test_altered_files_are_read_or_rejected(position, inserted):
    content = PYTHON_2[:position] + inserted + PYTHON_2[position + 1 :]
    try:
        elements, values = read_label_grid(content, PATH)
    except DamagedFileError:
        return
    assert elements.shape[1:] == (5,)
    assert np.isfinite(values).all()


def test_the_example_has_the_globals_of_the_original_file():
    found = [
        argument for code, argument, _ in pickletools.genops(PYTHON_2) if code.name == "GLOBAL"
    ]
    assert found == ["collections defaultdict", "__builtin__ dict"]
    assert io.BytesIO(PYTHON_2).read(2) == b"(d"

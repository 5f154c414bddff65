"""Symbols of space groups against the tables of spglib and pymatgen."""

import gemmi
import numpy as np
import pytest
import spglib

from crystal_gym.formats.space_group_names import (
    number_of_keys,
    setting_of_hall,
    settings_of_name,
    settings_of_number,
)

HALL_NUMBERS = range(1, 531)


def spglib_keys(hall_number: int) -> frozenset:
    found = spglib.get_symmetry_from_database(hall_number)
    translations = np.rint(found["translations"] * 24).astype(int) % 24
    return frozenset(
        (*rotation.ravel().tolist(), *translation.tolist())
        for rotation, translation in zip(found["rotations"], translations, strict=True)
    )


def names(symbol: str) -> list[str]:
    found = settings_of_name(symbol)
    return [setting.name for setting in found.settings] if found else []


def test_hall_symbols_of_all_settings_give_the_operators_of_spglib():
    for hall_number in HALL_NUMBERS:
        kind = spglib.get_spacegroup_type(hall_number)
        setting = setting_of_hall(kind.hall_symbol)
        assert setting is not None, kind.hall_symbol
        assert setting.keys == spglib_keys(hall_number), kind.hall_symbol
        assert setting.number == kind.number


def test_full_symbols_of_all_settings_name_one_setting():
    for group in gemmi.spacegroup_table_itb():
        for symbol in (group.xhm(), group.xhm().replace(" ", ""), group.xhm().replace(":", " :")):
            found = settings_of_name(symbol)
            assert found is not None, symbol
            assert [s.hall for s in found.settings] == [group.hall], symbol


def test_short_symbols_of_spglib_include_their_standard_setting():
    kinds = {h: spglib.get_spacegroup_type(h) for h in reversed(HALL_NUMBERS)}
    standard = {kind.number: hall_number for hall_number, kind in kinds.items()}
    for number, hall_number in standard.items():
        found = settings_of_name(kinds[hall_number].international_short)
        assert found is not None
        assert any(setting.keys == spglib_keys(hall_number) for setting in found.settings)
        assert {setting.number for setting in found.settings} == {number}


def test_numbers_list_the_settings_of_the_tables():
    counts = [len(settings_of_number(number)) for number in range(1, 231)]
    assert sum(counts) == 530
    assert counts[13] == 9  # P 21/c
    assert counts[224] == 1  # F m -3 m


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("R -3 m :R", ["R -3 m:R"]),
        ("R-3m:H", ["R -3 m:H"]),
        ("R -3 m H", ["R -3 m:H"]),
        ("R-3mR", ["R -3 m:R"]),
        ("H -3 m", ["R -3 m:H"]),
        ("R -3 m", ["R -3 m:H", "R -3 m:R"]),
        ("R -3 m HR", ["R -3 m:H", "R -3 m:R"]),
        ("F d -3 m", ["F d -3 m:1", "F d -3 m:2"]),
        ("F d -3 m :2", ["F d -3 m:2"]),
        ("F d -3 m S", ["F d -3 m:1"]),
        ("Fd-3mZ", ["F d -3 m:2"]),
        ("F D -3 M Z", ["F d -3 m:2"]),
        ("F d -3 m (origin choice 2)", ["F d -3 m:2"]),
        ("F d 3 m", ["F d -3 m:1", "F d -3 m:2"]),
        ("P a 3", ["P a -3"]),
        ("P 1 21/c 1", ["P 1 21/c 1"]),
        ("P2_1/c", ["P 1 21/c 1", "P 21/c 1 1"]),
        ("P 21/b", ["P 1 1 21/b", "P 21/b 1 1"]),
        ("P 21/c :b1", ["P 1 21/c 1"]),
        ("P 63/m m c", ["P 63/m m c"]),
        ("C m c e", ["C m c a"]),
        ("C m m e", ["C m m a"]),
        ("B m a b", ["B m a b"]),
        ("P m -3 m :1", ["P m -3 m"]),
        ("P m -3 m :2", []),
        ("P 1 21/c 1:b2", []),
        ("P 21/m 21/q", []),
        ("", []),
    ],
)
def test_spellings(symbol: str, expected: list[str]):
    assert names(symbol) == expected


def test_number_is_found_in_settings_outside_of_the_tables():
    primitive = {  # the primitive cell of F m -3 m
        key for key in settings_of_number(225)[0].keys if key[9:] == (0, 0, 0)
    }
    to_primitive = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    inverse = np.linalg.inv(to_primitive)
    keys = frozenset(
        (
            *np.rint(inverse @ np.reshape(key[:9], (3, 3)) @ to_primitive)
            .astype(int)
            .ravel()
            .tolist(),
            0,
            0,
            0,
        )
        for key in primitive
    )
    assert len(keys) == 48
    assert number_of_keys(keys) == 225
    assert setting_of_hall("no symbol") is None


@pytest.mark.parametrize(
    ("symbol", "plain"),
    [
        ("P2(1)/c", "P21/c"),
        ("P2(1)2(1)2(1)", "P212121"),
        ("P6(3)mc", "P63mc"),
        ("P 4(1) 3 2", "P4132"),
    ],
)
def test_screw_axes_in_parentheses(symbol: str, plain: str):
    named = settings_of_name(symbol)
    assert named is not None
    assert named == settings_of_name(plain)


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("P 21/n 21/m 21/a", "P n m a"),
        ("F 41/d -3 2/m :2", "F d -3 m :2"),
        ("R -3 2/c H", "R -3 c H"),
        ("P 63/m 2/m 2/c", "P 63/m m c"),
    ],
)
def test_full_symbols_name_the_settings_of_their_short_symbols(full: str, short: str):
    named = settings_of_name(full)
    assert named is not None
    assert named == settings_of_name(short)

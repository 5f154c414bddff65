"""The block of a CIF that describes its crystal."""

import math
import re
from dataclasses import dataclass

from crystal_gym.errors import BadCrystalError

# Categories of tags that describe a crystal; loops of other categories are not read.
_CATEGORIES = ("_atom_", "_cell_", "_chemical_", "_space_group_", "_symmetry_", "_magnetic_")
# Tags of a block with sites, and of a block with a cell.
_SITE_TAGS = ("_atom_site_fract_x", "_atom_site_cartn_x", "_atom_site_label")
_CELL_TAGS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
# Starts of tags of measured data, whose blocks can repeat the cell.
_DATA_TAGS = ("_refln_", "_diffrn_", "_pd_", "_exptl_", "_reflns_", "_shelx_", "_publ_")
# Starts of tags of crystals that are more than elements on sites in a cell.
_UNSUPPORTED = {
    "_space_group_magn": "a magnetic structure",
    "_space_group_symop_magn": "a magnetic structure",
    "_magnetic_": "a magnetic structure",
    "_atom_site_moment": "a magnetic structure",
    "_atom_site_fourier": "a modulated structure",
    "_atom_site_displace": "a modulated structure",
    "_cell_modulation": "a modulated structure",
    "_cell_wave_vector": "a modulated structure",
    "_space_group_ssg": "a modulated structure",
    "_space_group_symop_ssg": "a modulated structure",
}


@dataclass(frozen=True)
class CifBlock:
    """The values of one block of a CIF.

    Attributes:
        name: The name of the block.
        columns: Unquoted values by tag in lower case with ``_`` for ``.``; one value for a tag
            outside of a loop. The unknown values ``?`` and ``.`` are ``None``.
        tags: All tags of the block, including those whose values were not read.
    """

    name: str
    columns: dict[str, list[str | None]]
    tags: frozenset[str]

    def value(self, *tags: str) -> str | None:
        """Return the only value of the first of the tags that has one, or ``None``.

        Raises:
            BadCrystalError: If the tag has several values.
        """
        for tag in tags:
            known = [value for value in self.columns.get(tag, []) if value is not None]
            if len(known) > 1:
                raise BadCrystalError(f"Expected one value of {tag}, got {len(known)}.")
            if known:
                return known[0]
        return None

    def has_any(self, *tags: str) -> bool:
        """Return whether one of the tags is present."""
        return any(tag in self.tags for tag in tags)


def crystal_blocks(text: str) -> list[CifBlock]:
    """Return the blocks of a CIF that have a cell or sites.

    Blocks with only metadata or measured data are left out.

    Raises:
        BadCrystalError: If the text is not a valid CIF.
    """
    from gemmi import cif

    try:
        document = cif.read_string(text.encode("utf-8", "backslashreplace"))
    except (RuntimeError, ValueError) as error:
        raise BadCrystalError(
            f"Expected a readable CIF, got invalid syntax{_block_of(text, str(error))}: "
            f"{str(error).removeprefix('data:')}. Correct the CIF."
        ) from error
    return [block for block in map(_read_block, document) if _has_crystal(block)]


def reject_unsupported(block: CifBlock) -> None:
    """Raise a ``BadCrystalError`` for magnetic and modulated structures."""
    for tag in sorted(block.tags):
        for start, kind in _UNSUPPORTED.items():
            if tag.startswith(start):
                raise BadCrystalError(
                    f"Expected an ordinary crystal, got {kind} (the CIF has {tag}). Use a CIF "
                    "without it."
                )


def number(value: str) -> float:
    """Return a number without its standard uncertainty, or NaN if the value is not a number."""
    from gemmi import cif

    try:
        found = float(value)
    except ValueError:
        found = cif.as_number(value)
    return found if math.isfinite(found) else math.nan


def _read_block(block) -> CifBlock:  # noqa: ANN001 - a gemmi.cif.Block
    """Read the values of a block, except of loops that do not concern a crystal."""
    from gemmi import cif

    columns: dict[str, list[str | None]] = {}
    tags: list[str] = []
    for item in block:
        if item.pair is not None:
            names, width, values = [item.pair[0]], 1, [item.pair[1]]
        elif item.loop is not None:
            names, width, values = item.loop.tags, item.loop.width(), None
        else:
            continue
        names = [name.lower().replace(".", "_") for name in names]
        tags += names
        if values is None:
            if not any(name.startswith(_CATEGORIES) for name in names):
                continue
            values = item.loop.values
        for column, name in enumerate(names):
            columns[name] = [
                None if value in {"?", "."} else cif.as_string(value)
                for value in values[column::width]
            ]
    if len(set(tags)) != len(tags):
        repeated = next(tag for tag in tags if tags.count(tag) > 1)
        raise BadCrystalError(
            f"Expected each tag once in block {block.name!r}, got {repeated} more than once."
        )
    return CifBlock(block.name.strip(), columns, frozenset(tags))


def _has_crystal(block: CifBlock) -> bool:
    """Return whether a block has sites, or a cell that is not an addition to measured data."""
    if block.has_any(*_SITE_TAGS):
        return True
    return block.has_any(*_CELL_TAGS) and not any(tag.startswith(_DATA_TAGS) for tag in block.tags)


def _block_of(text: str, message: str) -> str:
    """Return the place of a syntax error: the last block that starts before its line."""
    found = re.match(r"data:(\d+)", message)
    if not found:
        return ""
    lines = text.splitlines()[: int(found[1])]
    names = [line.split()[0][5:] for line in lines if line.lower().startswith("data_")]
    return f" in block {names[-1]!r}, line" if names else ", line"

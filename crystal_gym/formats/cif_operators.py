"""Symmetry operators that a CIF lists."""

from functools import lru_cache

import numpy as np

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.cif_block import CifBlock
from crystal_gym.formats.orbits import Operators

# Denominator of the translations of gemmi's operators.
DENOMINATOR = 24
_TAGS = (
    "_space_group_symop_operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop_operation_xyz_",
    "_symmetry_equiv_pos_as_xyz_",
)
_CHARACTERS = frozenset("xyz0123456789+-*/., \t")
# An operator as nine integers of its rotation and three numerators of its translation.
OperatorKey = tuple[int, ...]


def operator_keys(operators) -> frozenset[OperatorKey]:  # noqa: ANN001 - gemmi.Op objects
    """Return gemmi's operators as a set of integers, modulo lattice translations."""
    return frozenset(
        (
            *(entry // DENOMINATOR for row in operator.rot for entry in row),
            *(entry % DENOMINATOR for entry in operator.tran),
        )
        for operator in operators
    )


def to_operators(operators) -> Operators:  # noqa: ANN001 - gemmi.Op objects
    """Return gemmi's operators as arrays, in their order."""
    operators = list(operators)
    return Operators(
        np.array([operator.rot for operator in operators], np.float64) / DENOMINATOR,
        np.array([operator.tran for operator in operators], np.float64) / DENOMINATOR,
    )


def listed_operators(block: CifBlock) -> tuple[str, ...]:
    """Return the operators that the CIF lists, such as ``-x,y+1/2,z``; none if it lists none.

    Raises:
        BadCrystalError: If two lists differ.
    """
    lists = []
    for tag in _TAGS:
        values = [value for value in block.columns.get(tag, []) if value is not None]
        lines = [line for value in values for line in value.replace(";", "\n").splitlines()]
        lines = [line.strip().strip("'\"") for line in lines]
        if found := tuple(line for line in lines if line):
            lists.append(found)
    if len(lists) > 1 and len({parse_operators(found)[0] for found in lists}) > 1:
        raise BadCrystalError(
            "Expected one list of symmetry operators, got two different ones. Remove one."
        )
    return lists[0] if lists else ()


@lru_cache(maxsize=256)
def parse_operators(listed: tuple[str, ...]) -> tuple[frozenset[OperatorKey], Operators]:
    """Parse listed operators, which must form a group.

    Raises:
        BadCrystalError: If an operator is not readable, repeated, or missing from the group.
    """
    import gemmi

    operators = []
    for text in listed:
        if not set(text.lower()) <= _CHARACTERS:
            raise BadCrystalError(
                f"Expected a symmetry operator in x, y and z, got {text!r}. Correct it."
            )
        try:
            operators.append(gemmi.Op(text.lower()))
        except RuntimeError as error:
            raise BadCrystalError(
                f"Expected a symmetry operator such as '-x,y+1/2,z', got {text!r} ({error})."
            ) from error
    keys = operator_keys(operators)
    if len(keys) != len(operators):
        raise BadCrystalError(
            f"Expected distinct symmetry operators, got {len(operators) - len(keys)} of "
            f"{len(operators)} twice. Remove the repeated ones."
        )
    if not _is_group(keys):
        raise BadCrystalError(
            f"Expected the operators of a space group, got {len(keys)} operators of which some "
            "products are missing. List all operators."
        )
    return keys, to_operators(operators)


def _is_group(keys: frozenset[OperatorKey]) -> bool:
    """Return whether a set of operators contains its products."""
    table = np.array(sorted(keys), np.int64)
    rotations, translations = table[:, :9].reshape(-1, 3, 3), table[:, 9:]
    if np.abs(rotations).max() > 1:  # not a rotation in a cell with lattice vectors as its edges
        return False
    moved = np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]
    products = np.concatenate(
        [
            np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 9),
            moved.reshape(-1, 3) % DENOMINATOR,
        ],
        axis=1,
    )
    # One integer for each operator; the entries of products of rotations are -3 to 3.
    weights = np.array([7**i for i in range(9)] + [7**9 * DENOMINATOR**i for i in range(3)])
    return bool(np.isin(products @ weights, table @ weights).all())

"""Extended XYZ, which ASE and many machine-learned potentials write."""

import io
from typing import TYPE_CHECKING

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.parser_errors import parser_errors

if TYPE_CHECKING:
    from ase import Atoms


def read_extxyz(text: str) -> "list[Atoms]":
    """Read all frames of an extended XYZ file as ``ase.Atoms``.

    Raises:
        BadCrystalError: If the text is not an extended XYZ, is truncated, or a frame has no
            lattice.
    """
    from ase.io.extxyz import read_xyz

    frames = []
    for number, frame in enumerate(_split_frames(text)):
        if "lattice" not in frame.split("\n", 2)[1].lower():
            raise BadCrystalError(
                f"Expected a Lattice in the comment line of frame {number}, got none: an XYZ file "
                "without a lattice describes a molecule. Use extended XYZ."
            )
        with parser_errors("extended XYZ", "ASE"):
            frames += list(read_xyz(io.StringIO(frame), 0))
    return frames


def _split_frames(text: str) -> list[str]:
    """Return the lines of each frame.

    ASE would stop at an empty line and leave out the frames after it.
    """
    lines = text.split("\n")
    frames = []
    row = 0
    while row < len(lines):
        if not lines[row].strip():
            row += 1
            continue
        try:
            n_sites = int(lines[row])
        except ValueError as error:
            raise BadCrystalError(
                f"Expected the number of sites of a frame in line {row + 1} of the extended XYZ, "
                f"got {lines[row][:60]!r}."
            ) from error
        frame = lines[row : row + 2 + n_sites]
        if n_sites < 1 or len(frame) < 2 + n_sites or not all(line.strip() for line in frame[2:]):
            raise BadCrystalError(
                f"Expected {n_sites} sites below line {row + 1} of the extended XYZ, got fewer. "
                "The file is truncated or the number is wrong."
            )
        frames.append("\n".join(frame) + "\n")
        row += 2 + n_sites
    if not frames:
        raise BadCrystalError("Expected an extended XYZ with at least one frame, got none.")
    return frames

"""Files and objects of other packages, read as pymatgen structures."""

from crystal_gym.formats.structure_file import read_structure

__all__ = ["read_structure"]

"""Conversion between crystal structures and arrays: elements, skeletons, neighbors, symmetry."""

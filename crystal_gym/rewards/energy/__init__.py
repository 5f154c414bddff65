"""Energies of crystals by CHGNet or any ASE calculator, and the reward that uses them."""

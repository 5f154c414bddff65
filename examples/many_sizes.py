"""Write 288 prototypes with 1 to 105 sites as a folder of CIF files.

    python examples/many_sizes.py prototypes
    crystal-gym build-dataset prototypes
    crystal-gym train prototypes --epochs 100
    crystal-gym evaluate runs/prototypes-egnn-seed-0

The crystals are those after which the AFLOW library of crystallographic prototypes (Mehl et al.,
Comput. Mater. Sci. 136, S1, 2017) names its structure types; pymatgen includes them. The same
commands accept any other folder of CIF files.
"""

import argparse
from pathlib import Path

from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
from pymatgen.io.cif import CifWriter

from crystal_gym import load_collection
from crystal_gym.collections.collection import SPLITS, hash_splits

parser = argparse.ArgumentParser(description="Write the crystals and describe them.")
parser.add_argument("folder", type=Path, help="folder of the CIF files")
parser.add_argument("--every", type=int, default=1, help="take every n-th crystal")
args = parser.parse_args()

# Several compounds have the same structure type, so the names include the formula.
crystals = {
    f"{entry['tags']['aflow']}-{entry['snl'].structure.composition.reduced_formula}": entry[
        "snl"
    ].structure
    for entry in AFLOW_PROTOTYPE_LIBRARY[:: args.every]
}
for split in SPLITS:
    (args.folder / split).mkdir(parents=True, exist_ok=True)
for (name, structure), split in zip(crystals.items(), hash_splits(list(crystals)), strict=True):
    CifWriter(structure).write_file(args.folder / split / f"{name}.cif")

collection = load_collection(args.folder)
print(collection)
sizes = collection.n_sites
print(f"{len(collection)} crystals of {sizes.min()} to {sizes.max()} sites, {sizes.sum():,} in all")
print(f"{len(collection.vocabulary)} elements")

"""Collections in CSV files by split."""

import csv

from crystal_gym.collections.collection import SPLITS


def write_csv_folder(folder, collection, per_split=None):
    """Write the crystals of each split, or the first ones, as CIF texts in a CSV file."""
    folder.mkdir()
    for split in SPLITS:
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["material_id", "cif"])
            for row in collection.in_split(split)[:per_split]:
                writer.writerow([collection.ids[row], collection.structure(int(row)).to(fmt="cif")])
    return folder

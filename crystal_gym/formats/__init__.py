"""Files and objects of other packages, read as pymatgen structures."""

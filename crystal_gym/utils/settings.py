"""Folders on disk, set by two environment variables that are read at each use.

- ``CRYSTAL_GYM_DATA``: Folders, separated as in ``PATH``, with local copies of data files. They are
  searched before a file is downloaded.
- ``CRYSTAL_GYM_CACHE``: Folder for downloads and prepared arrays (default: the cache folder of the
  user).
"""

import os
from pathlib import Path

DATA_VARIABLE = "CRYSTAL_GYM_DATA"
CACHE_VARIABLE = "CRYSTAL_GYM_CACHE"


def data_folders() -> list[Path]:
    """Return the folders of ``CRYSTAL_GYM_DATA`` in order; none if it is not set."""
    value = os.environ.get(DATA_VARIABLE, "")
    return [Path(part).expanduser() for part in value.split(os.pathsep) if part]


def cache_folder() -> Path:
    """Return the folder for downloads and prepared arrays, which may not exist yet."""
    value = os.environ.get(CACHE_VARIABLE)
    if value:
        return Path(value).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("crystal-gym", appauthor=False))

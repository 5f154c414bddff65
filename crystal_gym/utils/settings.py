"""Where things lie on disk: two environment variables, read whenever they are needed.

``CRYSTAL_GYM_DATA``: folders (separated like ``PATH``) searched for local copies of source files
before anything is downloaded. ``CRYSTAL_GYM_CACHE``: the folder for downloads and prepared arrays
(default: the user's cache folder).
"""

import os
from pathlib import Path

DATA_VARIABLE = "CRYSTAL_GYM_DATA"
CACHE_VARIABLE = "CRYSTAL_GYM_CACHE"


def data_folders() -> list[Path]:
    """The folders of ``CRYSTAL_GYM_DATA``, in order; empty when it is unset."""
    value = os.environ.get(DATA_VARIABLE, "")
    return [Path(part).expanduser() for part in value.split(os.pathsep) if part]


def cache_folder() -> Path:
    """The folder for downloads and prepared arrays; it may not exist yet."""
    value = os.environ.get(CACHE_VARIABLE)
    if value:
        return Path(value).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("crystal-gym", appauthor=False))

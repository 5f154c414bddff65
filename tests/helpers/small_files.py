"""A limit on the size of written files, as on a full disk."""

import contextlib
import resource


@contextlib.contextmanager
def small_files(size):
    """Let every write beyond this size in bytes fail."""
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, previous[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)

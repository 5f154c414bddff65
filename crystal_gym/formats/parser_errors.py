"""Errors and warnings of other packages while they read a crystal."""

import contextlib
import warnings
from collections.abc import Iterator

from crystal_gym.errors import BadCrystalError, CrystalGymError

# Locations of warnings that do not concern a crystal and were already issued.
_issued: dict = {}


@contextlib.contextmanager
def parser_errors(kind: str, package: str) -> Iterator[None]:
    """Replace errors and warnings of a parser inside the block by ``BadCrystalError``.

    A parser that warns has doubts about what it has read. Warnings that do not concern the
    crystal, such as deprecations, are issued unchanged.

    Args:
        kind: What is read, such as ``POSCAR``.
        package: The package whose parser is used.

    Raises:
        BadCrystalError: If the parser raises an error or issues a ``UserWarning``.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    except CrystalGymError:
        raise
    except Exception as error:  # parsers raise errors of any class
        text = (str(error) or type(error).__name__).rstrip(". \n")
        raise BadCrystalError(
            f"Expected a readable {kind}; {package} reports: {text}. Correct it."
        ) from error
    doubts = [w for w in caught if issubclass(w.category, UserWarning)]
    for warning in caught:
        if warning not in doubts:
            warnings.warn_explicit(
                warning.message,
                warning.category,
                warning.filename,
                warning.lineno,
                registry=_issued,
            )
    if doubts:
        texts = " ".join(dict.fromkeys(" ".join(str(w.message).split()) for w in doubts))
        raise BadCrystalError(
            f"Expected a {kind} without doubts; {package} reports: {texts.rstrip('.')}. Correct it."
        )

"""The option ``--keep`` of several commands: fractions and site numbers."""


def parse_keep(text: str | None) -> "float | list[int] | None":
    """Return a fraction of the sites (``0.5``) or site numbers (``0,3``).

    Args:
        text: The value of the option, or ``None``.

    Raises:
        CrystalGymError: If it is neither.
    """
    from crystal_gym.errors import CrystalGymError

    if text is None:
        return None
    try:
        if "." in text:
            return float(text)
        return [int(site) for site in text.split(",")]
    except ValueError:
        raise CrystalGymError(
            "Expected --keep with a fraction of the sites, such as 0.5, or site numbers, such as "
            f"0,3, got {text!r}."
        ) from None


def parse_sites(text: str, option: str) -> list[int]:
    """Return site numbers given as ``0,2,5`` or with ranges, as in ``0-3,7``.

    Args:
        text: The value of the option; empty: no sites.
        option: Name of the option, for the message.

    Raises:
        CrystalGymError: If it is something else.
    """
    from crystal_gym.errors import CrystalGymError

    sites: list[int] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise CrystalGymError(
                f"Expected {option} with site numbers, such as 0-3 or 0,2,5, got {text!r}."
            )
        sites += range(int(first), int(last if dash else first) + 1)
    return sites

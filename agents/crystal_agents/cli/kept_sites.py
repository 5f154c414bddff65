"""The option ``--keep`` of several commands."""


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

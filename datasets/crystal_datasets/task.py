"""The task of a dataset: its start states, its mask and its targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crystal_gym.episode.kept_sites import KeptSites
from crystal_gym.errors import CrystalGymError
from crystal_gym.masks import resolve_mask


@dataclass(frozen=True)
class DatasetTask:
    """The arguments of the environment that distinguish a task from filling empty skeletons.

    Attributes:
        start: ``empty`` or ``partial``.
        keep: The kept sites of a partial start: a fraction (float) or site numbers.
        mask: A name of ``crystal_gym.masks.MASKS``.
        target: Names of the labels that observations contain as ``target``.
    """

    start: str = "empty"
    keep: float | tuple[int, ...] | None = None
    mask: str = "none"
    target: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        start: str = "empty",
        keep: float | Sequence[int] | None = None,
        mask: str = "none",
        target: str | Sequence[str] = (),
    ) -> "DatasetTask":
        """Return the task with these arguments of the environment.

        Raises:
            CrystalGymError: If ``keep`` is invalid, or the mask is not a name.
            UnknownNameError: If the start or the mask does not exist.
        """
        kept = KeptSites(start, keep)
        if not isinstance(mask, str):
            raise CrystalGymError(
                f"Expected the name of a mask, which a dataset can record, got {mask!r}."
            )
        resolve_mask(mask)
        sites = kept.fraction if kept.drawn else tuple(kept.sites.tolist())
        names = (target,) if isinstance(target, str) else tuple(target)
        return cls(start, sites if start == "partial" else None, mask, names)

    @property
    def name(self) -> str:
        """The part of a dataset's id, such as ``-partial-0_5``; empty for empty skeletons."""
        parts = []
        if isinstance(self.keep, float):
            # The ids of Minari allow no dots.
            parts.append(f"partial-{self.keep}".replace(".", "_"))
        elif isinstance(self.keep, tuple):
            parts.append("-".join(["partial-sites", *map(str, self.keep)]))
        if self.mask != "none":
            parts.append(self.mask)
        if self.target:
            parts.append("-".join(["target", *self.target]))
        return "".join(f"-{part}" for part in parts)

    def settings(self) -> dict[str, Any]:
        """Return the arguments that differ from those of empty skeletons, as in JSON."""
        settings: dict[str, Any] = {}
        if self.start != "empty":
            settings |= {"start": self.start, "keep": _as_json(self.keep)}
        if self.mask != "none":
            settings["mask"] = self.mask
        if self.target:
            settings["target"] = list(self.target)
        return settings


EMPTY_SKELETONS = DatasetTask()


def _as_json(keep: float | tuple[int, ...] | None) -> float | list[int] | None:
    return list(keep) if isinstance(keep, tuple) else keep


def describe_task(settings: dict[str, Any]) -> str:
    """Describe a task in sentences, from ``DatasetTask.settings`` or a dataset's metadata."""
    keep = settings.get("keep")
    if "start" not in settings:
        sentences = ["Every episode starts from an empty skeleton."]
    elif isinstance(keep, float):
        sites = f"a fraction {keep} of the sites, drawn at random,"
        sentences = [f"In every episode, {sites} has its true elements from the start."]
    else:
        sites = ", ".join(map(str, settings["keep"]))
        sentences = [f"In every episode, the sites {sites} have their true elements at the start."]
    if "mask" in settings:
        sentences.append(f"The action mask of the environment is `{settings['mask']}`.")
    if "target" in settings:
        sentences.append(
            f"The observation `target` has the crystal's own labels {', '.join(settings['target'])}"
            f"; {settings['crystals_without_labels']:,} crystals without these labels are left out."
        )
    return " ".join(sentences)

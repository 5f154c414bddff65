"""A submission to the leaderboard: one method on one task, stored as a JSON file."""

import datetime as dt
import json
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from crystal_agents.experiments.leaderboard.tasks import TASKS
from crystal_gym.utils.files import atomic_write

# Value of ``code`` for the methods of this package.
OWN_CODE = "crystal-gym"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError
    return seeds


_Text = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$"), AfterValidator(_printable)
]
_LongText = Annotated[
    str, Field(min_length=1, max_length=300, pattern=r"^\S(.*\S)?$"), AfterValidator(_printable)
]
# Printable ASCII without quotes, backslashes, bars and angle brackets.
_URL = r"https?://[!#-;=?-\[\]-{}~]+"
_Count = Annotated[int, Field(ge=0)]
_Seed = Annotated[int, Field(ge=0, lt=2**32)]
_Seeds = Annotated[
    tuple[_Seed, ...], Field(min_length=1, max_length=1000), AfterValidator(_distinct)
]
_SHA256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Submission(BaseModel):
    """One row of the leaderboard."""

    # Docstrings of fields are descriptions in the JSON schema, and what error messages expect.
    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    task: Annotated[str, Field(json_schema_extra={"enum": list(TASKS)})]
    """The name of a task."""

    method: _Text
    """A name of the method in one line of at most 100 characters."""

    authors: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=20)]
    """A list of 1 to 20 names, each in one line of at most 100 characters."""

    code: Annotated[str, Field(pattern=rf"^({OWN_CODE}|{_URL})$")]
    """The URL of the code, or "crystal-gym" for a method of this package."""

    paper: Annotated[str, Field(pattern=f"^{_URL}$")] | None
    """The URL of a publication, or null."""

    date: dt.date
    """The date of the measurement as YYYY-MM-DD."""

    expert_data: bool
    """True if the method learned from known crystals, also through a policy, else false."""

    environment_steps: _Count | None
    """The environment steps of the training in one run, or null if they were not counted."""

    oracle_calls: _Count | None
    """The evaluations of the reward in one run, at most, or null if they were not counted."""

    seeds: _Seeds
    """A list of 1 to 1000 different integers from 0, one for each run."""

    values: Annotated[dict[str, tuple[float, ...]], Field(min_length=1)]
    """Lists of finite numbers by metric of the task, one number for each seed."""

    collection_sha256: _SHA256
    """The SHA-256 of the collection on which the values were measured."""

    labels_sha256: _SHA256 | None
    """The SHA-256 of the labels that the reward looks up, or null for a task without labels."""

    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+\S{0,40}$")]
    """The version of crystal-gym, such as "0.1.0"."""

    hardware: _LongText
    """The hardware of the runs in one line of at most 300 characters."""

    @property
    def file_name(self) -> str:
        """Path of the file in the folder of submissions: the task, and a name from the method."""
        ascii_name = unicodedata.normalize("NFKD", self.method).encode("ascii", "ignore").decode()
        stem = re.sub(r"[^a-z0-9]+", "-", ascii_name.lower()).strip("-")
        return f"{self.task}/{stem or 'method'}.json"

    def text(self) -> str:
        """Return the content of the file, with one line for each key and each metric."""
        return json_object(self.model_dump(mode="json"))

    def save(self, folder: Path) -> Path:
        """Write the file in the folder of submissions and return its path.

        Raises:
            StorageError: If the file cannot be written.
        """
        path = folder / self.file_name
        with atomic_write(path) as temporary:
            temporary.write_text(self.text(), "utf-8")
        return path


def json_object(entries: dict[str, Any]) -> str:
    """Return the content of a submission as JSON, with one line for each key and metric."""
    lines = []
    for key, value in entries.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"    {_json(k)}: {_json(v)}" for k, v in value.items())
            lines.append(f"  {_json(key)}: {{\n{inner}\n  }}")
        else:
            lines.append(f"  {_json(key)}: {_json(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def schema_text() -> str:
    """Return the JSON schema of submissions as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(schema | Submission.model_json_schema(), indent=2) + "\n"

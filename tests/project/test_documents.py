"""The documents keep their promises: their code runs and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from crystal_agents.cli import main as cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Lines with these need a download or take minutes.
LONG = (
    *("perov-5", "mp-20", "make ", "pip "),
    *("crystal-gym train", "crystal-gym demo", "crystal-gym reproduce"),
    *("crystal-gym finetune", "crystal-gym benchmark"),
)


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    names = {"__name__": "page"}
    for language, code in re.findall(
        r"^```(python|sh)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        if language == "python":
            exec(compile(code, str(page), "exec"), names)  # noqa: S102 - our own code
            continue
        for line in code.splitlines():
            if line.startswith("crystal-gym ") and not any(part in line for part in LONG):
                assert cli.main(shlex.split(line, comments=True)[1:]) == 0, line


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("*/README.md")], ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_commands_named_in_the_documents_exist():
    for page in PAGES:
        for command in re.findall(r"(?:^|`)crystal-gym ([a-z]+)", page.read_text(), re.MULTILINE):
            assert command in cli.COMMANDS, f"{name_of(page)}: crystal-gym {command}"

"""Fixtures of the command-line tests."""

from dataclasses import dataclass

import pytest

from crystal_agents.cli import main as cli
from crystal_agents.cli.command import Command


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*argv):
        code = cli.main([str(arg) for arg in argv])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture
def failing(monkeypatch):
    """A command `fail` that ends with the given exception."""

    def register(error):
        @dataclass
        class Fail(Command):
            """Fail."""

            after_stop = "Run it again."

            def run(self):
                raise error

        monkeypatch.setitem(cli.COMMANDS, "fail", Fail)

    return register


@pytest.fixture
def cif_folder(tmp_path, toy):
    folder = tmp_path / "cifs"
    folder.mkdir()
    for row in (2, 3, 4):
        toy.structure(row).to(filename=str(folder / f"crystal-{row}.cif"))
    return folder


@pytest.fixture
def minari_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"

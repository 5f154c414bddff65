"""The command line: usage, exit codes and interrupts."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from crystal_agents.cli import main as cli
from crystal_agents.cli.command import Command
from crystal_gym.errors import DownloadError, StorageError


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for name in cli.COMMANDS:
        assert f"• {name}" in out


def test_version_is_that_of_the_package(run):
    code, out, err = run("--version")
    assert (code, out, err) == (0, f"crystal-gym {version('crystal-gym')}\n", "")


def test_the_module_is_the_command_line():
    process = subprocess.run(
        [sys.executable, "-m", "crystal_agents", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout == f"crystal-gym {version('crystal-gym')}\n"


def test_completions_know_all_commands(run, tmp_path):
    code, _, _ = run("--tyro-write-completion", "bash", tmp_path / "completion.bash")
    assert code == 0
    script = (tmp_path / "completion.bash").read_text()
    for name in cli.COMMANDS:
        assert name in script


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_shows_the_docstring_of_each_command(run, name):
    code, out, _ = run(name, "--help")
    assert code == 0
    first_line = cli.COMMANDS[name].__doc__.splitlines()[0]
    assert first_line in " ".join(out.split())


@pytest.mark.parametrize(
    "argv",
    [(), ("craystals",), ("prepare",), ("prepare", "perov-5", "--nonsense"), ("list", "x")],
)
def test_invalid_usage_exits_with_2(run, argv):
    code, _, err = run(*argv)
    assert code == 2
    assert "crystal-gym" in err


def test_unknown_collection_exits_with_2_and_suggests_a_name(run):
    code, out, err = run("prepare", "perov5")
    assert code == 2
    assert not out
    assert "Did you mean 'perov-5'?" in err


def test_missing_package_names_its_extra(run, failing):
    failing(ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))
    code, _, err = run("fail")
    assert code == 1
    assert "crystal-gym[agents]" in err


@pytest.mark.parametrize(
    ("module", "argv", "extra"),
    [
        ("torch", ("train", "goldschmidt"), "agents"),
        ("torch", ("evaluate", "somewhere"), "agents"),
        ("minari", ("build-dataset", "goldschmidt"), "datasets"),
    ],
)
def test_commands_without_their_extra_print_the_install_command(module, argv, extra):
    code = f"""
import sys
from crystal_agents.cli.main import main

class Absent:
    def find_spec(name, *_):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent)
sys.exit(main({list(argv)}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'crystal-gym[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_module_of_this_package_raises(failing):
    failing(ModuleNotFoundError("No module named 'crystal_gym.x'", name="crystal_gym.x"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["fail"])


def test_interrupted_command_prints_how_to_resume(run, failing):
    failing(KeyboardInterrupt())
    code, _, err = run("fail")
    assert code == 130
    assert "Run it again." in err


def test_interrupt_raised_in_a_destructor_stops_the_command(run, monkeypatch):
    class Dropping:
        def __del__(self):
            raise KeyboardInterrupt

    @dataclass
    class Wait(Command):
        """Wait."""

        def run(self):
            dropping = Dropping()
            del dropping
            for _ in range(1000):
                time.sleep(0.01)
            raise AssertionError("not interrupted")

    monkeypatch.setitem(cli.COMMANDS, "wait", Wait)
    # Shells start background processes with interrupts ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("wait")[0] == 130
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("kind", [StorageError, DownloadError])
def test_storage_and_download_errors_exit_with_1(run, failing, kind):
    failing(kind("Disk full."))
    code, _, err = run("fail")
    assert code == 1
    assert "Disk full." in err


def test_system_errors_exit_with_1(run, failing):
    failing(PermissionError(13, "Permission denied", "/some/file"))
    code, _, err = run("fail")
    assert code == 1
    assert "/some/file: Permission denied" in err


def test_closed_pipe_prints_no_error():
    command = [str(Path(sys.executable).with_name("crystal-gym")), "prepare", "goldschmidt"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 1
    assert not done.stderr

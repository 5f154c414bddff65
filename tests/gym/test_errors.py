"""Test the errors and warnings of the package."""

import ast
import inspect
import pickle
from pathlib import Path

import crystal_gym
from crystal_gym import errors
from crystal_gym.errors import CrystalGymError, UnknownNameError

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and value.__module__ == errors.__name__
]


def test_docstrings_state_the_occasion():
    assert len(CLASSES) > 10
    for kind in CLASSES:
        occasion = "Issued when " if issubclass(kind, Warning) else "Raised when "
        assert kind.__doc__.startswith(occasion), kind


def test_errors_are_subclasses_of_crystal_gym_error():
    for kind in CLASSES:
        assert issubclass(kind, CrystalGymError | UserWarning), kind


def test_other_modules_define_no_errors_or_warnings():
    for path in Path(crystal_gym.__file__).parent.rglob("*.py"):
        if path == Path(errors.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base) for base in node.bases]
                assert not any(base.endswith(("Error", "Exception", "Warning")) for base in bases)


def test_unknown_name_error_suggests_the_closest_name():
    message = str(UnknownNameError("split", "tran", ("val", "train")))
    assert message == "Unknown split 'tran'. Did you mean 'train'? Known: train, val."
    assert str(UnknownNameError("split", "x", ("val",))) == "Unknown split 'x'. Known: val."


def test_errors_can_be_pickled_by_worker_processes():
    error = UnknownNameError("split", "tran", ("train", "val", "test"))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - bytes of this test
    assert type(copy) is UnknownNameError
    assert str(copy) == str(error)
    assert "Did you mean 'train'?" in str(copy)

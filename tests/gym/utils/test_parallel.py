"""Functions of many inputs without a cluster; see ``tests/project/test_cluster.py``."""

import operator
import os
import sys

import pytest

from crystal_gym.errors import ClusterError
from crystal_gym.utils import parallel
from crystal_gym.utils.parallel import map_in_order, n_workers, on_cluster, use_cluster


def test_local_processes_return_the_results_in_order():
    with use_cluster(None):
        assert not on_cluster()
        assert list(map_in_order(operator.neg, ((i,) for i in range(20)))) == [
            -i for i in range(20)
        ]
        assert n_workers() >= 1


def test_no_inputs_have_no_results():
    assert list(map_in_order(os.getpid, [])) == []


def test_missing_package_is_reported_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with (
        pytest.raises(ClusterError, match=r"Expected the package .* 'crystal-gym\[cluster\]'"),
        use_cluster("tcp://127.0.0.1:8786"),
    ):
        pass


def test_versions_of_a_worker_must_equal_those_of_the_client():
    expected = {"crystal-gym": "0.1.0", "numpy": "2.4.6", "scipy": "1.17"}
    parallel._require_versions(expected, {**expected, "host": "n1"})
    found = {**expected, "host": "n1", "crystal-gym": "0.2.0", "scipy": "(not installed)"}
    with pytest.raises(ClusterError) as raised:
        parallel._require_versions(expected, found)
    assert str(raised.value) == (
        "Expected crystal-gym 0.1.0, scipy 1.17 on the workers, got crystal-gym 0.2.0, scipy "
        "(not installed) on n1. Install the same versions there, and start the workers again."
    )

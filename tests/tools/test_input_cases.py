"""The CIFs that earlier versions read wrongly give the right crystal or are refused."""

import re

import input_cases
import pytest
from repository import ROOT

FILES = [case for case in input_cases.CASES if isinstance(case.run, str)]


@pytest.mark.real
@pytest.mark.parametrize("case", FILES, ids=lambda case: case.run)
def test_files_give_the_expected_result(case, tmp_path, cache):
    cases = (ROOT.parent / "shared" / "cases").resolve()
    assert re.search(case.expected, input_cases.outcome(case, cases, tmp_path))

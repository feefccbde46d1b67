"""Every case of `python -m tests.cases`."""

import pytest

from tests.cases import every


@pytest.mark.parametrize("case", every.cases(), ids=str)
def test_case(case, tmp_path):
    assert case.build(tmp_path)

"""Each life-cycle test runs over the fake sandbox and, where one can be had, over a real one."""

import pytest

from tests.cli.rig import Rig


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.sandbox)])
def rig(request, tmp_path):
    made = Rig(tmp_path, real=request.param == "real")
    yield made
    made.close()

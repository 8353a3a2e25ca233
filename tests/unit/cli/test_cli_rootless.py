"""Maps of the user namespace."""

import pytest

from runsc_py import rootless
from runsc_py.errors import RuntimeFault


def test_ranges_of_a_user(tmp_path):
    path = tmp_path / "subuid"
    path.write_text("other:1:2\nme:100000:65536\n1000:300000:10\nme:bad:1\n# x\nme:5:0\n")
    assert rootless._ranges(str(path), {"me", "1000"}) == [(100000, 65536), (300000, 10)]
    assert rootless._ranges(str(tmp_path / "none"), {"me"}) == []


def test_ranges_follow_the_users_own_id():
    assert rootless._lay_out([(100000, 65536), (300000, 10)]) == [(1, 100000, 65536), (65537, 300000, 10)]


@pytest.mark.parametrize(("flag", "uid", "answer"), [("auto", 0, False), ("auto", 5, True), ("true", 0, True),
                                                     ("false", 5, False)])  # fmt: skip
def test_when_it_is_rootless(flag, uid, answer, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert rootless.is_rootless(flag) is answer


def test_a_bad_flag():
    with pytest.raises(RuntimeFault, match="invalid --rootless"):
        rootless.is_rootless("perhaps")

"""What is refused before anything is made."""

import json

import pytest

from runsc_py import spec
from runsc_py.errors import RuntimeFault


@pytest.fixture
def config(tmp_path):
    (tmp_path / "rootfs").mkdir()

    def load(**changes):
        values = {
            "ociVersion": "1.0.2",
            "process": {"args": ["true"], "cwd": "/"},
            "root": {"path": "rootfs"},
            **changes,
        }
        (tmp_path / "config.json").write_text(json.dumps(values))
        return spec.load_bundle(str(tmp_path))

    return load


def test_a_small_config_is_accepted(config):
    assert config().process.args == ["true"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"process": None}, "process property must not be empty"),
        ({"process": {"args": [], "cwd": "/"}}, "args must not be empty"),
        ({"process": {"args": ["a"], "cwd": "tmp"}}, "Cwd must be an absolute path"),
        ({"process": {"args": ["a"]}}, "Cwd property must not be empty"),
        ({"process": {"args": ["a\0b"], "cwd": "/"}}, "process: a string holds a NUL byte"),
        (
            {"process": {"args": ["a"], "cwd": "/", "user": {"uid": -1}}},
            "process.user.uid: -1 is out of range",
        ),
        ({"root": None}, "root must be specified"),
        (
            {"ociVersion": "2.0"},
            "config.json: ociVersion: 2.0: only version 1.x of the runtime-spec is supported",
        ),
        ({"mounts": [{"type": "proc"}]}, "config.json: mounts[0].destination must not be empty"),
        (
            {"hooks": {"poststop": [{"path": "x"}]}},
            "config.json: hooks.poststop[0].path must be an absolute path",
        ),
        ({"hooks": {"poststop": [{"path": "/x", "timeout": 0}]}},
         "config.json: hooks.poststop[0].timeout must be positive"),
    ],
)  # fmt: skip
def test_refusals_in_runcs_words(config, changes, message):
    with pytest.raises(RuntimeFault) as caught:
        config(**changes)
    assert str(caught.value) == message


def test_a_missing_rootfs_is_named(config, tmp_path):
    with pytest.raises(RuntimeFault, match=r"invalid rootfs: stat .*/nope: no such file or directory"):
        config(root={"path": "nope"})
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeFault, match="not a directory"):
        config(root={"path": "file"})


def test_a_missing_config(tmp_path):
    with pytest.raises(RuntimeFault, match=r"^JSON specification file config.json not found$"):
        spec.load_bundle(str(tmp_path))

"""The state directory."""

import os

import pytest

from runsc_py import state
from runsc_py.errors import IdExists, NoSuchContainer, RuntimeFault
from runsc_py.processes import Identity


@pytest.fixture
def made(tmp_path):
    container = state.create(str(tmp_path), "c1")
    me = Identity(os.getpid())
    container.init_pid, container.init_start = me.pid, me.start
    container.save()
    yield container
    container.unlock()


def test_a_saved_container_loads(made, tmp_path):
    made.annotations = {"a": "b"}
    made.save()
    loaded = state.load(str(tmp_path), "c1")
    assert loaded.annotations == {"a": "b"}
    assert loaded.status() == "created"
    assert [c.id for c in state.load_all(str(tmp_path))] == ["c1"]


def test_status(made):
    made.started = True
    assert made.status() == "running"
    made.paused = True
    assert made.status() == "paused"
    made.init_start += 1  # the pid was used again
    assert made.status() == "stopped"
    assert made.describe()["pid"] == 0


def test_a_zombie_is_stopped(made):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    made.init_pid, made.init_start = child, Identity(child).start
    assert made.status() == "stopped"
    os.waitpid(child, 0)


def test_an_id_is_taken_once(made, tmp_path):
    with pytest.raises(IdExists):
        state.create(str(tmp_path), "c1")


def test_a_directory_whose_maker_died_is_taken_over(tmp_path):
    container = state.create(str(tmp_path), "c1")
    container.unlock()  # as its death would, with no state.json written
    again = state.create(str(tmp_path), "c1")
    again.remove()
    assert os.listdir(tmp_path) == []


def test_a_directory_that_is_being_made_is_not_taken_over(tmp_path):
    container = state.create(str(tmp_path), "c1")
    with pytest.raises(IdExists):
        state.create(str(tmp_path), "c1")
    container.remove()


def test_no_such_container(tmp_path):
    for lock in (False, True):
        with pytest.raises(NoSuchContainer):
            state.load(str(tmp_path), "nope", lock=lock)
    assert os.listdir(tmp_path) == []
    assert state.load_all(str(tmp_path / "nothing")) == []


@pytest.mark.parametrize("bad", ["", "a/b", "..", ".", "a b", "é", "a\n", "x" * 2000])
def test_ids_that_are_none(bad, tmp_path):
    with pytest.raises(RuntimeFault):
        state.create(str(tmp_path), bad)
    with pytest.raises(RuntimeFault):
        state.load(str(tmp_path), bad)


def test_write_aside_leaves_nothing_beside(tmp_path):
    state.write_aside(str(tmp_path / "f"), b"1")
    state.write_aside(str(tmp_path / "f"), b"22")
    assert (tmp_path / "f").read_bytes() == b"22"
    assert os.listdir(tmp_path) == ["f"]


def test_a_broken_state_file_is_one_line(made, tmp_path):
    (tmp_path / "c1" / "state.json").write_text("{")
    with pytest.raises(RuntimeFault, match=r"state.json cannot be read"):
        state.load(str(tmp_path), "c1")

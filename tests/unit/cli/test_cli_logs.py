"""Log records as containerd and podman parse them."""

import json
import re

from runsc_py.logs import Log


def test_one_json_record_and_the_text_on_stderr(tmp_path, capfd):
    path = tmp_path / "log.json"
    log = Log(str(path), json_format=True)
    log.error('exec: "x": no such file')
    (line,) = path.read_text().splitlines()
    record = json.loads(line)
    assert record["level"] == "error"
    assert record["msg"] == 'exec: "x": no such file'
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["time"])
    assert capfd.readouterr().err == 'exec: "x": no such file\n'


def test_records_are_appended(tmp_path):
    path = tmp_path / "log"
    path.write_text("before\n")
    Log(str(path), json_format=True).warning("later")
    assert path.read_text().startswith("before\n{")


def test_without_a_file_records_go_to_stderr(capfd):
    Log().error("told\nonce")
    err = capfd.readouterr().err
    assert err.count("told") == 1
    assert err.count("\n") == 1


def test_debug_is_silent_unless_asked(capfd):
    Log().debug("x")
    assert capfd.readouterr().err == ""
    Log(debug=True).debug("x")
    assert "level=debug" in capfd.readouterr().err


def test_a_log_file_that_cannot_be_opened_does_not_hide_the_error(capfd):
    Log("/nonexistent/log", json_format=True).error("told")
    assert capfd.readouterr().err == "told\n"


def test_bytes_that_are_no_text_do_not_break_the_record(tmp_path):
    path = tmp_path / "log"
    Log(str(path), json_format=True).error("bad \udcff name")
    json.loads(path.read_text())

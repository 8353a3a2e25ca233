"""The sentry's log: records for machines and for people, and where an error came from."""

import json
import os

from sentry.log import Log, describe


def written(**how: bool) -> str:
    read, write = os.pipe()
    log = Log(write, **how)
    log.debug("small")
    log.warning("odd")
    log.error("wrong\nindeed")
    os.close(write)
    with open(read) as text:
        return text.read()


def test_a_json_record_is_one_line() -> None:
    records = [json.loads(line) for line in written().splitlines()]
    assert [(record["level"], record["msg"]) for record in records] == [("warning", "odd"), ("error", "wrong\nindeed")]


def test_a_text_record_is_one_line() -> None:
    lines = written(json=False).splitlines()
    assert len(lines) == 2
    assert lines[1].endswith('level=error msg="wrong\\nindeed"')


def test_a_person_is_told_of_errors() -> None:
    assert written(plain=True) == "runsc-py: error: wrong\nindeed\n"


def test_a_person_who_debugs_is_told_everything() -> None:
    assert written(plain=True, debug=True).startswith("runsc-py: debug: small\nrunsc-py: warning: odd\n")


def test_a_closed_log_stops_nobody() -> None:
    Log(-1).error("unheard")
    Log(1 << 20).error("unheard")


def test_an_error_is_described_with_its_places_and_causes() -> None:
    def fail() -> None:
        try:
            raise KeyError("cause")
        except KeyError:
            raise ValueError("effect")

    try:
        fail()
    except ValueError as error:
        first, *places, after, _ = describe(error).splitlines()
    assert first == "ValueError: effect"
    assert "test_log.py:" in places[-1] and places[-1].endswith("fail")
    assert after == "after KeyError: 'cause'"

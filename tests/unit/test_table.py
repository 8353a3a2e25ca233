"""sentry/syscalls/table.py: the support table says what is declared."""

from pathlib import Path

from sentry.abi.x86_64 import NUMBERS
from sentry.syscalls.declare import TABLE
from sentry.syscalls.table import counts, main, markdown, support_rows


def test_every_call_has_a_row():
    rows = support_rows()
    assert [row.number for row in rows] == sorted(NUMBERS.values())
    assert sum(counts(rows).values()) == len(NUMBERS)


def test_rows_say_lane_and_reason():
    rows = {row.name: row for row in support_rows()}
    assert rows["munmap"].support == "native"
    assert rows["munmap"].lane == "native"
    assert "address space" in rows["munmap"].note
    assert rows["clone3"] == (435, "clone3", "refused", "filter", "native", rows["clone3"].note)
    assert rows["clone3"].note.startswith("ENOSYS: ")
    assert "MAP_ANONYMOUS" in rows["mmap"].note


def test_the_document_is_made_from_the_rows(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert (tmp_path / "docs/syscalls.md").read_text() == markdown(support_rows())
    assert main(["--check"]) == 0
    (tmp_path / "docs/syscalls.md").write_text("old")
    assert main(["--check"]) == 1


def test_the_document_is_up_to_date(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["--check"]) == 0


def test_every_declared_signature_compiles():
    for entry in TABLE.values():
        assert len(entry.kinds) <= 6
        entry._compile()

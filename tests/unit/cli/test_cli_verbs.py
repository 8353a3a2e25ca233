"""The verbs as a table: each is there, explains itself, and refuses what nobody can want; and the small parts under them."""

import json
import pathlib
import signal

import pytest

import runsc_py
from runsc_py import cli, errors, interruption, settings, usage
from runsc_py.verbs import checkpoint, create, restore, syscalls

VERBS = pathlib.Path(runsc_py.__file__).with_name("verbs")


def test_each_file_of_verbs_is_one():
    assert {path.stem for path in VERBS.glob("[a-z]*.py")} == set(cli.VERBS)


@pytest.mark.parametrize("name", sorted(set(cli.VERBS) - {"checkpoint", "restore"}))
def test_a_verb_explains_itself_and_needs_its_arguments(name, capsys):
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: runsc-py {name}")
    assert cli.main([name, "--no-such-option"]) != 0
    assert capsys.readouterr().err


@pytest.mark.parametrize("words", [["--version"], ["-v"], ["--debug", "--version"]])
def test_version(words, capsys):
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"runsc-py version {runsc_py.VERSION}\nspec: {runsc_py.SPEC_VERSION}\n"


def test_help_lists_the_verbs_that_are_for_people(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert " create " in shown and " checkpoint" not in shown


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
@pytest.mark.parametrize("words", [["--image-path", "x", "c"], ["--help"]])  # podman takes a --help for support
def test_checkpoints_are_refused_with_their_options_unread(verb, words, capfd):
    assert cli.main([verb, *words]) == 1
    assert f"{verb} is not supported" in capfd.readouterr().err
    assert checkpoint.VERB.hidden and restore.VERB.hidden


def test_an_unknown_verb(capsys):
    assert cli.main(["frobnicate"]) == 3


def test_syscalls_prints_the_table_for_people_and_for_programs(capsys):
    assert cli.main(["syscalls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(" munmap " in line for line in lines)
    assert cli.main(["syscalls", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(lines)
    assert cli.main(["syscalls", "-f", "xml"]) == 1
    assert syscalls.VERB.options


def test_click_knows_the_same_options():
    assert callable(usage.run)
    names = {flag for option in create.VERB.options for flag in option.flags}
    assert {"--bundle", "--console-socket", "--pid-file", "--preserve-fds"} <= names


def test_settings_have_a_value_each():
    made = settings.Settings()
    assert {name: getattr(made, name) for name in made.__slots__}["platform"] == "seccomp"


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in interruption._SIGNALS}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interruption_is_raised_where_the_work_is(signals):
    interruption.begin()
    with pytest.raises(errors.Interruption):
        signal.raise_signal(signal.SIGTERM)
    interruption.ignore()
    signal.raise_signal(signal.SIGTERM)


def test_a_held_interruption_is_raised_at_the_release(signals):
    interruption.begin()
    interruption.hold()
    signal.raise_signal(signal.SIGHUP)
    with pytest.raises(errors.Interruption):
        interruption.release()
    interruption.release()  # once only
    interruption.end()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_nohup_ignores_stays_ignored(signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interruption.begin()
    signal.raise_signal(signal.SIGHUP)
    interruption.end()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

"""The quick parser, and that click's (for help and errors) agrees with it."""

import pytest

from runsc_py import cli
from runsc_py.command import Option, bind_arguments, parse_options

OPTIONS = [
    Option("--all", "-a", kind="flag", to="everybody", help="x"),
    Option("--root", "-r", help="x"),
    Option("--number", kind="int", help="x"),
    Option("--env", "-e", kind="list", help="x"),
]


@pytest.mark.parametrize(
    ("words", "values", "rest"),
    [
        ([], {}, []),
        (["--root", "a", "x", "-a"], {"root": "a", "everybody": True}, ["x"]),
        (["--root=a=b", "--number=-3"], {"root": "a=b", "number": -3}, []),
        (["-e", "A=1", "--env=B", "--", "-a"], {"env": ("A=1", "B")}, ["-a"]),
        (["-"], {}, ["-"]),
    ],
)
def test_parse(words, values, rest):
    defaults = {"everybody": False, "root": "", "number": 0, "env": ()}
    assert parse_options(words, OPTIONS, False) == ({**defaults, **values}, rest)


def test_what_follows_the_first_argument_is_left_alone():
    assert parse_options(["-a", "id", "-a", "--", "x"], OPTIONS, True)[1] == ["id", "-a", "--", "x"]


@pytest.mark.parametrize("words", [["--bogus"], ["--root"], ["--all=1"], ["--number=x"], ["--help"], ["-ax"]])
def test_anything_unusual_is_left_to_click(words):
    assert parse_options(words, OPTIONS, False) is None


def test_arguments():
    assert bind_arguments(["a"], ("id", "[signal]")) == {"id": "a", "signal": ""}
    assert bind_arguments(["a", "b", "c"], ("id", "[args]...")) == {"id": "a", "args": ("b", "c")}
    assert bind_arguments([], ("id",)) is None
    assert bind_arguments(["a", "b"], ("id",)) is None
    assert bind_arguments([], ("args...",)) is None


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_declares_what_its_function_takes(name):
    import inspect

    verb = cli.load_verb(name)
    given = {option.name for option in verb.options} | {
        a.removesuffix("...").strip("[]") for a in verb.arguments
    }
    parameters = list(inspect.signature(verb.run).parameters.values())[1:]
    named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    assert named <= given
    assert given == named or any(p.kind is p.VAR_KEYWORD for p in parameters)


@pytest.mark.parametrize("name", [name for name in cli.VERBS if name not in ("checkpoint", "restore")])
def test_help_of_every_verb(name, capsys):
    assert cli.main([name, "--help"]) == 0
    assert f"runsc-py {name}" in capsys.readouterr().out


def test_click_runs_what_the_quick_parser_does_not_know(tmp_path, capfd):
    """A combined short option is one of the things that only click understands."""
    assert cli.main(["--root", str(tmp_path), "list", "-qfjson"]) == 0
    assert cli.main(["--root", str(tmp_path), "list", "-fjson"]) == 0
    assert capfd.readouterr().out == "null\n"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["state"], 1, "Missing argument 'CONTAINER_ID'"),
        (["state", "a", "b"], 1, "unexpected extra argument"),
        (["run", "--bogus", "x"], 1, "No such option"),
        (["exec"], 255, "Missing argument"),
        (["bogus"], 3, "No help topic for 'bogus'"),
        (["checkpoint", "--help"], 1, "checkpoint is not supported"),
        (["--log-format=foo", "list"], 1, "invalid log-format: foo"),
        (["--overlay-size=x", "list"], 1, "invalid size: x"),
        (["list", "--format", "foo"], 1, "invalid format option"),
    ],
)
def test_usage_errors(words, code, text, tmp_path, capfd):
    assert cli.main(["--root", str(tmp_path), *words]) == code
    captured = capfd.readouterr()
    assert text in captured.err
    assert captured.out == ""


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("runsc-py version ")


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("17", 17), ("64M", 64 << 20), ("2gb", 2 << 30), ("1k", 1024)]
)
def test_sizes(text, size):
    assert cli.parse_size(text) == size

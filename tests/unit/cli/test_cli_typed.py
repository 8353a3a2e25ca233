"""JSON into the spec's classes: what is accepted, and how each refusal names its field."""

import json
import pathlib

import pytest

from runsc_py import spec
from runsc_py.errors import RuntimeFault
from runsc_py.typed import convert, decode, plain


def refused(text: str) -> str:
    with pytest.raises(RuntimeFault) as caught:
        decode(text.encode(), spec.Spec, "config.json")
    return str(caught.value)


def test_fields_go_by_their_camel_case_and_unknown_ones_are_ignored():
    made = decode(
        b'{"ociVersion":"1.0.2","process":{"user":{"additionalGids":[1]},"consoleSize":{"height":3}},"new":{}}',
        spec.Spec,
        "config.json",
    )
    assert made.oci_version == "1.0.2"
    assert made.process.user.additional_gids == [1]
    assert made.process.console_size.height == 3
    assert made.process.console_size.width == 0


def test_null_means_absent():
    made = decode(b'{"process":{"args":null,"capabilities":null},"mounts":null}', spec.Spec, "x")
    assert made.process.args is None
    assert made.mounts is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"process":{"user":{"uid":"a"}}}', "config.json: process.user.uid: expected integer, got string"),
        ('{"process":{"user":{"uid":true}}}', "config.json: process.user.uid: expected integer, got boolean"),
        ('{"process":{"user":{"uid":1.5}}}', "config.json: process.user.uid: expected integer, got number"),
        ('{"process":{"args":["a",1]}}', "config.json: process.args[1]: expected string, got integer"),
        ('{"mounts":{}}', "config.json: mounts: expected array, got object"),
        ('{"mounts":[{"options":"ro"}]}', "config.json: mounts[0].options: expected array, got string"),
        ('{"annotations":{"a":1}}', "config.json: annotations.a: expected string, got integer"),
        ('{"ociVersion":null}', "config.json: ociVersion: expected string, got null"),
        ("[]", "config.json: expected object, got array"),
        ('{"root":{"path":"\\ud800"}}', "config.json: root.path: string holds half of a surrogate pair"),
        ('{"linux":{"resources":{"memory":{"limit":99999999999999999999}}}}',
         "config.json: linux.resources.memory.limit: 99999999999999999999 is out of range"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_one_line_that_names_the_field(text, message):
    assert refused(text) == message


@pytest.mark.parametrize("text", ["", "{ bad", '{"a":1', "\xff", "[" * 100000])
def test_bad_json_is_one_line(text):
    message = refused(text)
    assert message.startswith("config.json: ")
    assert "\n" not in message


def test_plain_and_convert_are_inverse():
    process = spec.Process(args=["sh"], user=spec.User(uid=3, additional_gids=[4]), no_new_privileges=True)
    values = plain(process)
    assert values == {"args": ["sh"], "user": {"uid": 3, "additionalGids": [4]}, "noNewPrivileges": True}
    assert convert(json.loads(json.dumps(values)), spec.Process, "process") == process


def test_the_configs_of_real_clients_decode():
    directory = pathlib.Path(__file__).parent / "configs"
    for path in directory.glob("*.json"):
        decode(path.read_bytes(), spec.Spec, path.name)

"""JSON into classes by their annotations: `decode(data, Kind, "config.json")`, and back: `plain(part)`.

A class below `Part` declares its fields as `name: type = default`; types are int, str, bool, another Part,
and list[X], dict[str, X] of them, with `| None` where null may stand. The JSON name is the camelCase of the
field's. What a class accepts is worked out when it is first decoded. (msgspec does the same, but takes longer
to import than a bare interpreter takes to start.)
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from runsc_py.errors import RuntimeFault

# Fields whose JSON name is not their camelCase.
_JSON_NAMES = {
    "container_id": "containerID",
    "host_id": "hostID",
    "kernel_tcp": "kernelTCP",
    "class_id": "classID",
    "disable_oom_killer": "disableOOMKiller",
    "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice",
    "block_io": "blockIO",
}


class Part:
    """A JSON object. Made by keyword or, in the order of the fields, by position."""

    def __init__(self, *values: Any, **fields: Any) -> None:
        names = self.__class__.__annotations__
        self.__dict__.update(zip(names, values, strict=False))
        self.__dict__.update(fields)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and plain(self) == plain(other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({plain(self)})"

    __hash__ = None  # type: ignore[assignment]


_Kind = TypeVar("_Kind", bound=Part)
_Decoder = Callable[[Any, str], Any]


class _Wrong(Exception):
    """(what was expected or found, at which field)"""


def decode(data: bytes, kind: type[_Kind], where: str) -> _Kind:
    """Decode JSON into `kind`. RuntimeFault says in one line what is wrong, and at which field."""
    import json

    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        text = str(error)
        raise RuntimeFault(f"{where}: {text[:1].lower()}{text[1:]}") from None
    return convert(value, kind, where)


def convert(value: Any, kind: type[_Kind], where: str) -> _Kind:
    """Plain values (of json) as `kind`."""
    try:
        made: _Kind = _decode_part(kind, value, "")
    except _Wrong as wrong:
        what, at = wrong.args
        raise RuntimeFault(f"{where}: {at.lstrip('.')}: {what}" if at else f"{where}: {what}") from None
    return made


def plain(part: Any) -> Any:
    """A part as values json can write, under their JSON names; absent fields are left out."""
    if isinstance(part, Part):
        return {_json_name(name): plain(value) for name, value in part.__dict__.items() if value is not None}
    if isinstance(part, (list, tuple)):
        return [plain(item) for item in part]
    if isinstance(part, dict):
        return {name: plain(item) for name, item in part.items()}
    return part


def _decode_part(kind: type[Part], value: Any, at: str) -> Any:
    if type(value) is not dict:
        raise _Wrong(f"expected object, got {_name_of(value)}", at)
    fields = kind.__dict__.get("_fields") or _compile(kind)
    made = kind.__new__(kind)
    values = made.__dict__
    for key, item in value.items():
        field = fields.get(key)
        if field is not None:
            name, decoder = field
            values[name] = decoder(item, f"{at}.{key}")
    return made


def _compile(kind: type[Part]) -> dict[str, tuple[str, _Decoder]]:
    fields = {_json_name(name): (name, _decoder(hint)) for name, hint in kind.__annotations__.items()}
    kind._fields = fields  # type: ignore[attr-defined]
    return fields


def _decoder(hint: Any) -> _Decoder:
    """A function for one annotation."""
    arguments: tuple[Any, ...] = getattr(hint, "__args__", ())
    if type(None) in arguments:
        inner = _decoder(arguments[0])
        return lambda value, at: None if value is None else inner(value, at)
    origin = getattr(hint, "__origin__", None)
    if origin is list:
        return _list(_decoder(arguments[0]))
    if origin is dict:
        return _dict(_decoder(arguments[1]))
    if isinstance(hint, type) and issubclass(hint, Part):
        return lambda value, at: _decode_part(hint, value, at)
    if hint is str:
        return _text
    return _scalar(hint)


def _list(inner: _Decoder) -> _Decoder:
    def decode_list(value: Any, at: str) -> list[Any]:
        if type(value) is not list:
            raise _Wrong(f"expected array, got {_name_of(value)}", at)
        return [inner(item, f"{at}[{index}]") for index, item in enumerate(value)]

    return decode_list


def _dict(inner: _Decoder) -> _Decoder:
    def decode_dict(value: Any, at: str) -> dict[str, Any]:
        if type(value) is not dict:
            raise _Wrong(f"expected object, got {_name_of(value)}", at)
        return {_text(key, at): inner(item, f"{at}.{key}") for key, item in value.items()}

    return decode_dict


def _text(value: Any, at: str) -> str:
    if type(value) is not str:
        raise _Wrong(f"expected string, got {_name_of(value)}", at)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Wrong("string holds half of a surrogate pair", at) from None
    return value


def _scalar(kind: Any) -> _Decoder:
    def decode_scalar(value: Any, at: str) -> Any:
        if type(value) is not kind:
            raise _Wrong(f"expected {_NAMES[kind]}, got {_name_of(value)}", at)
        if kind is int and not -(2**63) <= value < 2**64:
            raise _Wrong(f"{value} is out of range", at)
        return value

    return decode_scalar


_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}


def _name_of(value: Any) -> str:
    return "null" if value is None else _NAMES[type(value)]


def _json_name(name: str) -> str:
    given = _JSON_NAMES.get(name)
    if given is None:
        first, *rest = name.split("_")
        given = first + "".join(word.capitalize() for word in rest)
        given = _JSON_NAMES[name] = sys.intern(given)
    return given

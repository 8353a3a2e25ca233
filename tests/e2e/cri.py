"""A small client of the Kubernetes container runtime interface: unary gRPC calls, made by curl.

    cri = Cri(socket_path)
    pod = cri("RunPodSandbox", config={...}, runtime_handler="runsc-py")["pod_sandbox_id"]

A call takes and gives plain dictionaries; `MESSAGES` holds the numbers of the fields we use, as the interface's
api.proto (version v1) has them. What is not in it is skipped when it is received.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

TIMEOUT_S = 60
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's wire types

# message -> field -> (number, type): a scalar, another message's name, [of many] or {} for a map of texts.
MESSAGES: dict[str, dict[str, tuple[int, Any]]] = {
    "VersionRequest": {"version": (1, str)},
    "VersionResponse": {"runtime_name": (2, str), "runtime_api_version": (4, str)},
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig"), "runtime_handler": (2, str)},
    "RunPodSandboxResponse": {"pod_sandbox_id": (1, str)},
    "PodSandboxConfig": {
        "metadata": (1, "PodSandboxMetadata"),
        "hostname": (2, str),
        "log_directory": (3, str),
        "port_mappings": (5, ["PortMapping"]),
        "annotations": (7, {}),
        "linux": (8, "LinuxPodSandboxConfig"),
    },
    "PodSandboxMetadata": {"name": (1, str), "uid": (2, str), "namespace": (3, str)},
    "PortMapping": {"container_port": (2, int), "host_port": (3, int), "host_ip": (4, str)},
    "LinuxPodSandboxConfig": {"cgroup_parent": (1, str), "sysctls": (3, {})},
    "StopPodSandboxRequest": {"pod_sandbox_id": (1, str)},
    "RemovePodSandboxRequest": {"pod_sandbox_id": (1, str)},
    "PodSandboxStatusRequest": {"pod_sandbox_id": (1, str)},
    "PodSandboxStatusResponse": {"status": (1, "PodSandboxStatus")},
    "PodSandboxStatus": {"id": (1, str), "state": (3, int), "network": (5, "PodSandboxNetworkStatus")},
    "PodSandboxNetworkStatus": {"ip": (1, str)},
    "ListPodSandboxRequest": {},
    "ListPodSandboxResponse": {"items": (1, ["PodSandbox"])},
    "PodSandbox": {"id": (1, str)},
    "CreateContainerRequest": {
        "pod_sandbox_id": (1, str),
        "config": (2, "ContainerConfig"),
        "sandbox_config": (3, "PodSandboxConfig"),
    },
    "CreateContainerResponse": {"container_id": (1, str)},
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"),
        "image": (2, "ImageSpec"),
        "command": (3, [str]),
        "working_dir": (5, str),
        "envs": (6, ["KeyValue"]),
        "mounts": (7, ["Mount"]),
        "log_path": (11, str),
        "stdin": (12, bool),
        "tty": (14, bool),
        "linux": (15, "LinuxContainerConfig"),
    },
    "ContainerMetadata": {"name": (1, str)},
    "ImageSpec": {"image": (1, str)},
    "KeyValue": {"key": (1, str), "value": (2, str)},
    "Mount": {"container_path": (1, str), "host_path": (2, str), "readonly": (3, bool)},
    "LinuxContainerConfig": {
        "resources": (1, "LinuxContainerResources"),
        "security_context": (2, "LinuxContainerSecurityContext"),
    },
    "LinuxContainerResources": {"cpu_period": (1, int), "cpu_quota": (2, int), "memory_limit_in_bytes": (4, int)},
    "LinuxContainerSecurityContext": {
        "namespace_options": (3, "NamespaceOption"),
        "run_as_user": (5, "Int64Value"),
        "readonly_rootfs": (7, bool),
    },
    "NamespaceOption": {"pid": (2, int)},
    "Int64Value": {"value": (1, int)},
    "StartContainerRequest": {"container_id": (1, str)},
    "StartContainerResponse": {},
    "StopContainerRequest": {"container_id": (1, str), "timeout": (2, int)},
    "StopContainerResponse": {},
    "RemoveContainerRequest": {"container_id": (1, str)},
    "RemoveContainerResponse": {},
    "StopPodSandboxResponse": {},
    "RemovePodSandboxResponse": {},
    "ContainerStatusRequest": {"container_id": (1, str)},
    "ContainerStatusResponse": {"status": (1, "ContainerStatus")},
    "ContainerStatus": {"state": (3, int), "exit_code": (7, int), "reason": (10, str), "message": (11, str)},
    "UpdateContainerResourcesRequest": {"container_id": (1, str), "linux": (2, "LinuxContainerResources")},
    "UpdateContainerResourcesResponse": {},
    "ContainerStatsRequest": {"container_id": (1, str)},
    "ContainerStatsResponse": {"stats": (1, "ContainerStats")},
    "ContainerStats": {"cpu": (2, "CpuUsage"), "memory": (3, "MemoryUsage")},
    "CpuUsage": {"usage_core_nano_seconds": (2, "Int64Value")},
    "MemoryUsage": {"working_set_bytes": (2, "Int64Value")},
    "ExecSyncRequest": {"container_id": (1, str), "cmd": (2, [str]), "timeout": (3, int)},
    "ExecSyncResponse": {"stdout": (1, bytes), "stderr": (2, bytes), "exit_code": (3, int)},
    "ExecRequest": {
        "container_id": (1, str),
        "cmd": (2, [str]),
        "tty": (3, bool),
        "stdin": (4, bool),
        "stdout": (5, bool),
        "stderr": (6, bool),
    },
    "ExecResponse": {"url": (1, str)},
}


class CriError(Exception):
    """The runtime answered with an error; the text is its own."""


class Cri:
    """Calls of the RuntimeService behind a socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, method: str, **fields: Any) -> dict[str, Any]:
        """One call and its answer. CriError when it fails, TimeoutExpired when it does not end."""
        request = encode(f"{method}Request", fields)
        ran = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--http2-prior-knowledge", "--unix-socket", self.path),
                *("--header", "content-type: application/grpc", "--header", "te: trailers"),
                *("--dump-header", "/dev/stderr", "--data-binary", "@-"),
                f"http://localhost/runtime.v1.RuntimeService/{method}",
            ],
            input=b"\0" + struct.pack(">I", len(request)) + request,  # not compressed; its length
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        said = ran.stderr.decode(errors="replace")
        status = re.search(r"^grpc-status: (\d+)", said, re.MULTILINE)
        if ran.returncode or status is None or status[1] != "0":
            message = re.search(r"^grpc-message: (.*)", said, re.MULTILINE)
            raise CriError(unquote(message[1].strip()) if message else said)
        return decode(f"{method}Response", ran.stdout[5:])


def encode(kind: str, values: dict[str, Any]) -> bytes:
    out = bytearray()
    for name, value in values.items():
        number, of = MESSAGES[kind][name]
        if isinstance(of, list):
            for item in value:
                out += _field(number, of[0], item)
        elif isinstance(of, dict):
            for key, text in value.items():
                out += _field(number, bytes, _field(1, str, key) + _field(2, str, text))
        else:
            out += _field(number, of, value)
    return bytes(out)


def _field(number: int, of: Any, value: Any) -> bytes:
    if of in (int, bool):
        return _varint(number << 3 | VARINT) + _varint(int(value) % 2**64)
    data = value if of is bytes else value.encode() if of is str else encode(of, value)
    return _varint(number << 3 | BYTES) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def decode(kind: str, data: bytes) -> dict[str, Any]:
    """The fields that were sent; those that were not have their empty value."""
    names = {number: (name, of) for name, (number, of) in MESSAGES[kind].items()}
    found = {name: _empty(of) for name, (_, of) in MESSAGES[kind].items()}
    for number, value in _fields(data):
        name, of = names.get(number, ("", None))
        if isinstance(of, list):
            found[name].append(_value(of[0], value))
        elif of is not None:
            found[name] = _value(of, value)
    return found


def _empty(of: Any) -> Any:
    return {} if isinstance(of, str) else type(of)() if isinstance(of, (list, dict)) else of()


def _value(of: Any, value: Any) -> Any:
    if of is str:
        return value.decode(errors="replace")
    return decode(of, value) if isinstance(of, str) else value


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value: Any
        if tag & 7 == VARINT:
            value, at = _read_varint(data, at)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(tag & 7)
            if size is None:
                size, at = _read_varint(data, at)
            value, at = data[at : at + size], at + size
        yield tag >> 3, value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 0x80:
            return value, at

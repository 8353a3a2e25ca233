"""A systemd that knows scopes, behind a bus of its own: enough D-Bus for `runsc_py.cgroups.dbus` to talk to.

    with FakeSystemd(folder) as systemd:
        ... systemd.address, systemd.units, systemd.calls, systemd.refuse["StartTransientUnit"] = "a.b.Error" ...
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, Header, HeaderFields, Message, MessageType, Parser, new_signal
from jeepney.low_level import Endianness

MANAGER = DBusAddress("/org/freedesktop/systemd1", None, "org.freedesktop.systemd1.Manager")


class FakeSystemd:
    def __init__(self, folder: Path) -> None:
        self.units: dict[str, dict[str, Any]] = {}  # name -> properties
        self.failed: set[str] = set()
        self.calls: list[str] = []  # methods of the manager, in order
        self.refuse: dict[str, str] = {}  # method -> the D-Bus error it gives
        self.result = "done"  # of jobs
        self.identity = b""  # who the client said it was
        self.address = f"unix:path={folder}/bus"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/bus")
        self._listener.listen()
        self._jobs = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeSystemd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._authenticate(client)
                parser = Parser()
                while data := client.recv(4096):
                    parser.add_data(data)
                    while (message := parser.get_next_message()) is not None:
                        self._answer(client, message)

    def _authenticate(self, client: socket.socket) -> None:
        """`\\0AUTH EXTERNAL <uid in hex>`, then BEGIN; read byte by byte, as messages may follow at once."""
        for answer in (b"OK 0123456789abcdef0123456789abcdef\r\n", b""):
            line = b""
            while not line.endswith(b"\r\n"):
                line += client.recv(1)
            if answer:
                self.identity = bytes.fromhex(line.split()[2].decode())
            client.sendall(answer)

    def _answer(self, client: socket.socket, message: Message) -> None:
        fields = message.header.fields
        method = fields[HeaderFields.member]
        if fields.get(HeaderFields.interface) == MANAGER.interface:
            self.calls.append(method)
        try:
            signature, body, then = self._run(method, fields.get(HeaderFields.path), message.body)
        except LookupError as error:
            name = str(error.args[0])
            _send(client, message, MessageType.error, "s", (f"{method} failed",), {HeaderFields.error_name: name})
            return
        _send(client, message, MessageType.method_return, signature, body, {})
        if then is not None:
            client.sendall(then.serialise(serial=7))

    def _run(self, method: str, path: str | None, body: tuple[Any, ...]) -> tuple[str, tuple[Any, ...], Message | None]:
        if method in self.refuse:
            raise LookupError(self.refuse[method])
        if method == "Hello":
            return "s", (":1.1",), None
        if method == "AddMatch":
            return "", (), None
        if method == "GetUnit":
            return "o", (f"/unit/{self._known(body[0]).encode().hex()}",), None
        if method == "Get":
            assert path is not None
            unit = self.units[bytes.fromhex(path.rpartition("/")[2]).decode()]
            return "v", (("s", f"/{unit['Slice'][1]}/{unit['Id'][1]}"),), None
        if method == "ResetFailedUnit":
            self.failed.remove(body[0])
            return "", (), None
        if method == "SetUnitProperties":
            self.units[self._known(body[0])].update(dict(body[2]))
            return "", (), None
        if method == "StartTransientUnit":
            if body[0] in self.units or body[0] in self.failed:
                raise LookupError("org.freedesktop.systemd1.UnitExists")
            self.units[body[0]] = {"Id": ("s", body[0]), **dict(body[2])}
        elif method == "StopUnit":
            del self.units[self._known(body[0])]
        else:
            raise LookupError("org.freedesktop.DBus.Error.UnknownMethod")
        self._jobs += 1
        job = f"/job/{self._jobs}"
        return "o", (job,), new_signal(MANAGER, "JobRemoved", "uoss", (self._jobs, job, body[0], self.result))

    def _known(self, name: str) -> str:
        if name not in self.units:
            raise LookupError("org.freedesktop.systemd1.NoSuchUnit")
        return name


def _send(
    client: socket.socket, to: Message, kind: MessageType, signature: str, body: tuple[Any, ...], more: dict[Any, Any]
) -> None:
    fields = {HeaderFields.reply_serial: to.header.serial, **more}
    if signature:
        fields[HeaderFields.signature] = signature
    header = Header(Endianness.little, kind, 0, 1, -1, -1, fields)
    client.sendall(Message(header, body).serialise(serial=7))

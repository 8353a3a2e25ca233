"""Talking to systemd over D-Bus (jeepney): `with Systemd(address) as systemd: systemd.job("StopUnit", "ss", (...))`.

`address` is a bus address as `DBUS_SESSION_BUS_ADDRESS` has it; `system_address()` and `user_address()` give those of
root's and of a user's systemd. See org.freedesktop.systemd1(5).
"""

import os
import time
from typing import Any

from runsc_py.errors import RuntimeFault

SERVICE = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
TIMEOUT_S = 30.0

# A property as it goes into a message: its name, and (D-Bus type, value).
Property = tuple[str, tuple[str, Any]]


class BusError(RuntimeFault):
    """systemd or the bus refused, or nobody answered. `name` is the D-Bus error's, "" where there is none."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"systemd: {text}")
        self.name = name


def booted() -> bool:
    """Is systemd the init of this host? (sd_booted(3))"""
    return os.path.isdir("/run/systemd/system")


def system_address() -> str:
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or "unix:path=/run/dbus/system_bus_socket"


def user_address() -> str:
    """Of the caller's own systemd. BusError where the environment names none."""
    if address := os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return address
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{host_uid()}"
    if os.path.exists(f"{runtime}/bus"):
        return f"unix:path={runtime}/bus"
    raise BusError("", "no user session: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR leads to a bus")


def host_uid() -> int:
    """Our user as the bus sees it: another than ours when we are root of a user namespace, as under podman."""
    own = os.geteuid()
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            for line in file:
                inside, outside, count = map(int, line.split())
                if inside <= own < inside + count:
                    return outside + own - inside
    except (OSError, ValueError):
        pass
    return own


class Systemd:
    """A connection to systemd's manager."""

    def __init__(self, address: str) -> None:
        from jeepney import DBusAddress

        self._manager = DBusAddress(PATH, SERVICE, f"{SERVICE}.Manager")
        try:
            self._connection = _connect(address)
        except (OSError, ValueError, RuntimeError) as error:
            raise BusError("", f"cannot connect to {address}: {error}") from None

    def __enter__(self) -> "Systemd":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(self, method: str, signature: str = "", body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Call a method of the manager; what it returns."""
        from jeepney import new_method_call

        return self._reply(new_method_call(self._manager, method, signature or None, body))

    def get(self, unit: str, interface: str, name: str) -> Any:
        """A property of a unit, such as ("x.scope", "Scope", "ControlGroup")."""
        from jeepney import DBusAddress, Properties

        (path,) = self.call("GetUnit", "s", (unit,))
        address = DBusAddress(path, SERVICE, f"{SERVICE}.{interface}")
        ((_, value),) = self._reply(Properties(address).get(name))
        return value

    def job(self, method: str, signature: str, body: tuple[Any, ...]) -> None:
        """Call a method that queues a job, and wait until it is done. BusError when it fails."""
        from jeepney import MatchRule, message_bus

        rule = MatchRule(type="signal", interface=f"{SERVICE}.Manager", member="JobRemoved", path=PATH)
        self._reply(message_bus.AddMatch(rule))
        end = time.monotonic() + TIMEOUT_S
        with self._connection.filter(rule, bufsize=256) as removed:
            (job,) = self.call(method, signature, body)
            while True:
                try:
                    signal = self._connection.recv_until_filtered(removed, timeout=max(end - time.monotonic(), 0))
                except (TimeoutError, OSError) as error:
                    raise BusError("", f"{method} {body[0]}: {error or 'no end of it in time'}") from None
                _, path, _, result = signal.body
                if path == job:
                    break
        if result != "done":
            raise BusError("", f"{method} {body[0]}: {result}")

    def _reply(self, message: Any) -> tuple[Any, ...]:
        from jeepney import HeaderFields, MessageType

        try:
            reply = self._connection.send_and_get_reply(message, timeout=TIMEOUT_S)
        except (TimeoutError, OSError) as error:
            raise BusError("", f"no answer: {error}") from None
        if reply.header.message_type == MessageType.error:
            name = reply.header.fields.get(HeaderFields.error_name, "")
            raise BusError(name, str(reply.body[0] if reply.body else name))
        return tuple(reply.body)


def _connect(address: str) -> Any:
    """jeepney's own opening says who we are by geteuid(2), which in a user namespace is not who the bus sees."""
    import socket

    from jeepney.auth import BEGIN, Authenticator
    from jeepney.bus import get_bus
    from jeepney.io.blocking import DBusConnection

    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(TIMEOUT_S)
        sock.connect(get_bus(address))
        sock.sendall(b"\0")
        conversation = Authenticator(inc_null_byte=False)
        for line in conversation:
            if line.startswith(b"AUTH EXTERNAL "):
                line = b"AUTH EXTERNAL %s\r\n" % str(host_uid()).encode().hex().encode()
            sock.sendall(line)
            answer = sock.recv(1024)
            if not answer:
                raise ConnectionResetError("the bus hung up")
            conversation.feed(answer)
        sock.sendall(BEGIN)
        sock.settimeout(None)
        return DBusConnection(sock)
    except BaseException:
        sock.close()
        raise

"""The streams of a CRI exec: a WebSocket whose first byte of each message names the channel (v4.channel.k8s.io).

    with Stream(url) as stream: stream.send("ls\\n"); stream.expect("bin"); stream.wait()   # the exit code
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import struct
import time
from typing import Any
from urllib.parse import urlsplit

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
BINARY, CLOSE, FINAL = 2, 8, 0x80  # of the first two bytes of a frame
PATIENCE_S = 10.0


class Stream:
    """One exec. What it prints is kept by channel; its end comes as a status on the channel of errors."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port), PATIENCE_S)
        self.said: dict[int, bytes] = {STDOUT: b"", STDERR: b"", ERROR: b""}
        self.pending = b""
        key = base64.b64encode(os.urandom(16)).decode()
        request = [
            f"GET {where.path} HTTP/1.1",
            f"Host: {where.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Protocol: v4.channel.k8s.io",
            f"Origin: http://{where.netloc}",
        ]
        self.socket.sendall("\r\n".join([*request, "", ""]).encode())
        while b"\r\n\r\n" not in self.pending:
            piece = self.socket.recv(65536)
            assert piece, self.pending
            self.pending += piece
        answer, _, self.pending = self.pending.partition(b"\r\n\r\n")
        assert b" 101 " in answer.split(b"\r\n")[0], answer

    def send(self, text: str) -> None:
        self._send(STDIN, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        self._send(RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Read until `pattern` shows up in what stdout said and was not yet matched."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(pattern, self.said[STDOUT].decode(errors="replace"))):
            assert self._read(deadline), f"no {pattern!r} in {self.said}"
        self.said[STDOUT] = self.said[STDOUT].decode(errors="replace")[found.end() :].encode()
        return found

    def wait(self) -> int:
        """The exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        status: dict[str, Any] = json.loads(self.said[ERROR] or b"{}")
        if status.get("status") == "Success":
            return 0
        causes = (status.get("details") or {}).get("causes") or []
        codes = [int(cause["message"]) for cause in causes if cause.get("reason") == "ExitCode"]
        assert codes, f"no exit code: {self.said}"
        return codes[0]

    def _send(self, channel: int, data: bytes) -> None:
        data = bytes([channel]) + data
        mask = os.urandom(4)
        assert len(data) < 126
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self.socket.sendall(bytes([FINAL | BINARY, 0x80 | len(data)]) + mask + masked)

    def _read(self, deadline: float) -> bool:
        """Take one message; False at the end."""
        first, size = self._take(2, deadline) or (CLOSE, 0)
        if size == 126:
            size = struct.unpack(">H", self._take(2, deadline))[0]
        elif size == 127:
            size = struct.unpack(">Q", self._take(8, deadline))[0]
        data = self._take(size, deadline)
        if first & 0x0F == CLOSE:
            return False
        if data:
            self.said[data[0]] += data[1:]
        return True

    def _take(self, count: int, deadline: float) -> bytes:
        """So many bytes; fewer at the end of the stream."""
        while len(self.pending) < count:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            piece = self.socket.recv(65536)
            if not piece:
                break
            self.pending += piece
        taken, self.pending = self.pending[:count], self.pending[count:]
        return taken if len(taken) == count else b""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

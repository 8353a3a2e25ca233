"""Servers and clients in one container: Python's servers and event loops, netcat, iproute2."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

PYTHON = {
    "http": """
        import http.server, threading, urllib.request
        class Answer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                text = f"{self.path} {len(body)}".encode()
                self.send_response(200); self.send_header("Content-Length", str(len(text))); self.end_headers()
                self.wfile.write(text)
            def log_message(self, *what): pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        got = []
        def ask(i): got.append(urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/{i}", bytes(i * 50000)).read())
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        [t.start() for t in threads]; [t.join() for t in threads]
        print(sorted(got)); server.shutdown()
        """,
    "asyncio": """
        import asyncio, errno, os, signal, socket
        async def echo(reader, writer):
            while line := await reader.readline(): writer.write(line.upper()); await writer.drain()
            writer.close()
        async def ask(connect, i):
            reader, writer = await connect
            got = []
            for j in range(20): writer.write(b"%d %d x\\n" % (i, j)); got.append(await reader.readline())
            writer.close(); await writer.wait_closed()
            return b"".join(got)[-10:]
        class Reversed(asyncio.DatagramProtocol):
            def connection_made(self, transport): self.transport = transport
            def datagram_received(self, data, source): self.transport.sendto(data[::-1], source)
        async def main():
            loop = asyncio.get_running_loop()
            tcp = await asyncio.start_server(echo, "127.0.0.1", 0); port = tcp.sockets[0].getsockname()[1]
            print(await asyncio.gather(*[ask(asyncio.open_connection("127.0.0.1", port), i) for i in range(20)]))
            await asyncio.start_unix_server(echo, "/tmp/echo"); print(await ask(asyncio.open_unix_connection("/tmp/echo"), 7))
            transport, _ = await loop.create_datagram_endpoint(Reversed, local_addr=("127.0.0.1", 0))
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.setblocking(False); udp.connect(transport.get_extra_info("sockname"))
            await loop.sock_sendall(udp, b"abc"); print(await loop.sock_recv(udp, 10))
            child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1); print(len((await child.communicate(b"x" * 300000))[0]))
            reader, writer = os.pipe(); queue = asyncio.Queue()
            loop.add_reader(reader, lambda: queue.put_nowait(os.read(reader, 10))); os.write(writer, b"pipe"); print(await queue.get())
            told = asyncio.Event(); loop.add_signal_handler(signal.SIGUSR1, told.set); os.kill(os.getpid(), signal.SIGUSR1); await told.wait()
            try: await asyncio.open_connection("127.0.0.1", 1)
            except OSError as error: print(errno.errorcode[error.errno])
            print(sorted({info[4][0] for info in await loop.getaddrinfo("localhost", 80)}))
        asyncio.run(main())
        """,
    "selectors": """
        import selectors, socket
        for kind in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
            with kind() as selector:
                a, b = socket.socketpair(); selector.register(a, selectors.EVENT_READ | selectors.EVENT_WRITE, "a")
                seen = lambda: [(key.data, events) for key, events in selector.select(0)]
                print(seen()); b.send(b"x"); print(seen()); b.close(); print(seen()); a.close()
        """,
    "servers": """
        import socket, socketserver, struct, threading
        class Echo(socketserver.StreamRequestHandler):
            def handle(self): self.wfile.write(self.rfile.readline())
        for kind, name in ((socketserver.ForkingTCPServer, ("127.0.0.1", 0)), (socketserver.ThreadingUnixStreamServer, "/tmp/served")):
            with kind(name, Echo) as server:
                threading.Thread(target=server.serve_forever, daemon=True).start()
                client = socket.socket(server.address_family); client.connect(server.server_address)
                client.sendall(b"line\\n"); print(client.recv(10)); client.close(); server.shutdown()
        both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        for host in ("127.0.0.1", "::1"):
            client = socket.create_connection((host, both.getsockname()[1])); server, name = both.accept(); print(name[0]); client.close()
        a, b = socket.socketpair(); socket.send_fds(a, [b"x"], [0, 1, 2]); print(len(socket.recv_fds(b, 10, 5)[1]))
        print(struct.unpack("iII", a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:])
        """,
    "processes": """
        import errno, multiprocessing, os, pty
        def square(x): return x * x
        if __name__ == "__main__":
            with multiprocessing.Pool(3) as pool: print(sum(pool.map(square, range(100))))
            with multiprocessing.Manager() as manager: shared = manager.dict(); shared["a"] = 1; print(dict(shared))
            pid, fd = pty.fork()
            if pid == 0: os.execvp("sh", ["sh", "-c", "stty size; tty > /dev/null && echo tty; read x; echo got $x"])
            os.write(fd, b"typed\\n"); out = b""
            try:
                while part := os.read(fd, 1000): out += part
            except OSError as error: print(errno.errorcode[error.errno])
            print(sorted(out.split()), os.waitpid(pid, 0)[1])
        """,
}

TOOLS = {
    "addresses": "ip -o addr show lo | tr -s ' '; ip -o link show lo | tr -s ' ' | cut -d' ' -f1-5; ip -6 route show table local | head -1; ip route get 127.0.0.1 | head -1 | cut -d' ' -f1-6; ip rule; ip neigh; ip maddr show dev lo | head -2",
    "changes": "ip link set lo down; echo $?; ip addr add 192.0.2.1/32 dev lo; echo $?; ip route add default via 127.0.0.1; echo $?",
    "sockets": "nc -l -k -p 5560 & nc -lkU /tmp/listening & sleep 0.4; ss -ltn | tail -n +2 | tr -s ' '; ss -lx | tail -n +2 | tr -s ' ' | cut -d' ' -f1-5; ss -ltnp | grep -c nc; ss -tan state established | wc -l; kill %1 %2",
    "netcat": "nc -l -N -p 5561 > got & sleep 0.4; seq 20000 | nc -N 127.0.0.1 5561; wait; md5sum got; nc -lU /tmp/n > got & sleep 0.4; echo unix | nc -NU /tmp/n; wait; cat got; nc -u -l -p 5562 > got & sleep 0.4; echo udp | nc -u -w1 127.0.0.1 5562; sleep 0.3; cat got; kill %%; nc -z 127.0.0.1 5563; echo $?",
    "names": "getent hosts localhost; getent ahosts localhost | sort; getent services ssh; hostname",
}


@pytest.mark.parametrize("name", PYTHON)
def test_python(name: str, same: Callable[..., object], debian_root: Path) -> None:
    program = textwrap.dedent(PYTHON[name])
    same("cat > program.py; python3 program.py; echo code $?", debian_root, stdin=program.encode())


def without_what_varies(text: str) -> str:
    """Inode numbers, and how long an address is valid."""
    return re.sub(r"\b\d{3,}$|\d+sec", "N", text, flags=re.M)


@pytest.mark.parametrize("name", TOOLS)
def test_tools(name: str, same: Callable[..., object], debian_root: Path) -> None:
    same(TOOLS[name], debian_root, shell="/bin/bash", only=without_what_varies)

"""The control socket: both ends in one process, the server driven by hand."""

import gc
import os
import socket
import threading

import pytest

from sentry import control
from sentry.control import Client, ControlError, ControlGone, ControlServer


class Rig:
    """A server whose loop is `step`, in a thread of its own while a client blocks."""

    def __init__(self, directory):
        self.listener = control.make_listener(str(directory))
        self.path = str(directory / "control.sock")
        self.watched = {}
        self.replies = []
        self.server = ControlServer(
            self.listener,
            {
                "echo": lambda message, fds, reply: reply.send({"message": message, "fds": len(fds)}),
                "refuse": self.refuse,
                "bug": lambda message, fds, reply: 1 / 0,
                "later": lambda message, fds, reply: self.replies.append(reply),
                "read": self.read,
                "long": lambda message, fds, reply: reply.send({"text": "x" * 1000000}),
            },
        )
        self.bugs = []
        self.server.on_bug = self.bugs.append
        self.server.attach(self.watch, self.watched.pop)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()

    def watch(self, descriptor, events, callback):
        self.watched[descriptor] = (events, callback)

    def refuse(self, message, fds, reply):
        raise ControlError("no such process")

    def read(self, message, fds, reply):
        reply.send({"data": [os.read(fd, 100).decode() for fd in fds]})
        control.close_all(fds)

    def loop(self):
        import select

        while not self.stop.is_set():
            poller = select.poll()
            for descriptor, (events, _) in list(self.watched.items()):
                poller.register(descriptor, events)
            for descriptor, events in poller.poll(5):
                if descriptor in self.watched:
                    self.watched[descriptor][1](events)

    def close(self):
        self.stop.set()
        self.thread.join()
        self.server.close()


@pytest.fixture
def rig(tmp_path):
    gc.collect()  # what other tests have left open
    before = sorted(os.listdir("/proc/self/fd"))
    rig = Rig(tmp_path)
    yield rig
    rig.close()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_request_and_its_answer(rig):
    with Client(rig.path) as client:
        answer = client.call("echo", pid=3, text="é\udcff")
        assert answer["message"] == {"op": "echo", "pid": 3, "text": "é\udcff"}
        assert client.call("echo")["fds"] == 0


def test_descriptors_travel(rig):
    read_end, write_end = os.pipe()
    os.write(write_end, b"hello")
    with Client(rig.path) as client:
        assert client.call("read", fds=[read_end])["data"] == ["hello"]
    os.close(read_end)
    os.close(write_end)


def test_messages_larger_than_a_packet(rig):
    big = "é" * 300000
    with Client(rig.path) as client:
        assert client.call("echo", big=big)["message"]["big"] == big
        assert len(client.call("long")["text"]) == 1000000


def test_a_refusal_is_an_error_with_its_text(rig):
    with Client(rig.path) as client:
        with pytest.raises(ControlError, match="no such process"):
            client.call("refuse")
        with pytest.raises(ControlError, match="unknown request 'nope'"):
            client.call("nope")
        with pytest.raises(ControlError, match="ZeroDivisionError"):
            client.call("bug")
        assert client.call("echo")["ok"]
    assert "ZeroDivisionError" in rig.bugs[0]


def test_an_answer_may_come_later_and_others_are_served_meanwhile(rig):
    with Client(rig.path) as waiting, Client(rig.path) as other:
        waiting.send("later")
        assert other.call("echo")["ok"]
        (reply,) = rig.replies
        reply.send({"status": 9})
        reply.send({"status": 10})  # only the first counts
        assert waiting.receive()["status"] == 9


def test_a_client_that_leaves_is_noticed(rig):
    left = threading.Event()
    with Client(rig.path) as waiting, Client(rig.path) as other:
        waiting.send("later")
        other.call("echo")
        rig.replies[0].on_close = left.set
    assert left.wait(5)
    rig.replies[0].send({"status": 0})  # nobody is there: no harm


def test_a_silent_sandbox_times_out(rig):
    with Client(rig.path) as client, pytest.raises(ControlGone, match="does not answer"):
        client.call("later", timeout=0.01)


def test_no_sandbox_at_all(tmp_path):
    with pytest.raises(ControlGone, match="cannot reach the sandbox"):
        Client(str(tmp_path / "control.sock"))
    control.make_listener(str(tmp_path)).close()
    with pytest.raises(ControlGone):
        Client(str(tmp_path / "control.sock"))


def test_a_sandbox_that_ends(rig):
    with Client(rig.path) as client:
        client.send("later")
        with Client(rig.path) as other:
            other.call("echo")
        rig.close()
        with pytest.raises(ControlGone, match="ended"):
            client.receive()
        rig.close = lambda: None


@pytest.mark.parametrize(
    "packets",
    [[b""], [b"x"], [b"."], [b".{"], [b".[]"], [b".null"], [b'.{"op":["a"]}'], [b"." + b"[" * 30000],
     [b"+" + b"x" * 32768] * 130, [b"." + b"x" * 60000]],
)  # fmt: skip
def test_hostile_packets_harm_nobody_else(rig, packets):
    with Client(rig.path) as good:
        bad = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bad.connect(rig.path)
        bad.settimeout(5)
        try:
            for packet in packets:
                bad.send(packet)
        except OSError:
            pass
        assert good.call("echo")["ok"]
        bad.close()
        assert good.call("echo")["ok"]
    assert rig.bugs == []


def test_descriptors_of_a_bad_request_are_closed(rig):
    """rig checks that none is left."""
    null = os.open("/dev/null", os.O_RDONLY)
    with Client(rig.path) as client, pytest.raises(ControlError):
        client.call("nope", fds=[null] * 20)
    with Client(rig.path) as client, pytest.raises(ControlError):
        client.call("bug", fds=[null] * 20)
    os.close(null)


def test_too_many_clients_are_turned_away(rig):
    clients = [Client(rig.path) for _ in range(ControlServer.MAX_CONNECTIONS)]
    for client in clients:
        client.call("echo")
    with Client(rig.path) as late, pytest.raises(ControlGone):
        late.call("echo")
    for client in clients:
        client.close()


def test_a_long_directory_name(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    listener = control.make_listener(str(deep))
    client = Client(str(deep / "control.sock"))
    client.close()
    listener.close()


def test_the_process_of_an_exec_request():
    fields = {"args": ["a\udcff"], "env": [], "cwd": "/", "groups": [1], "caps": {"effective": 3},
              "rlimits": {"7": [1, 2]}, "uid": 0, "gid": 0, "fds": [0, 1, 2], "terminal": False}  # fmt: skip
    made = control.process_arguments(fields)
    assert made["args"] == [b"a\xff"]
    assert made["rlimits"] == {7: (1, 2)}
    assert "fds" not in made
    for broken in (None, [], {}, {**fields, "args": [1]}, {**fields, "rlimits": {"x": [1, 2]}}):
        with pytest.raises(ControlError):
            control.process_arguments(broken)

"""The zygote's orders and its sleep, over a platform that notes what is asked of it."""

from __future__ import annotations

from sentry.abi.linux import ERESTARTSYS
from sentry.kernel.zygote import Zygote
from tests.unit.kernel_rig import FakePlatform

TID = 8_500_000


def made() -> tuple[FakePlatform, Zygote]:
    platform = FakePlatform()
    zygote = Zygote(platform)
    zygote.tid = TID
    return platform, zygote


def test_it_forks_once_for_each_order() -> None:
    platform, zygote = made()
    zygote.fork()
    zygote.fork()
    assert platform.notes == []
    zygote.waits(1)
    zygote.waits(2)
    zygote.waits(3)
    assert platform.notes == [("reply", 1, 1), ("reply", 2, 1)]


def test_it_is_parked_and_forks_when_it_is_asked_to() -> None:
    platform, zygote = made()
    assert zygote.park()  # it is busy, so it has no call open
    zygote.waits(1)
    assert not zygote.park()
    assert not zygote.park()  # on its way
    assert platform.notes == [("interrupt", TID), ("reply", 1, -ERESTARTSYS)]
    assert zygote.stopped()
    assert zygote.park()
    assert platform.notes[2:] == [("park", TID, 0)]
    zygote.fork()
    assert platform.notes[3:] == [("interrupt", TID)]
    assert zygote.stopped()
    assert platform.notes[4:] == [("finish", TID, -1, 1, 0)]
    assert not zygote.stopped()  # a stop that nobody asked for is not its


def test_an_order_on_the_way_to_its_sleep_wakes_it_there() -> None:
    platform, zygote = made()
    zygote.waits(1)
    zygote.park()
    zygote.fork()
    assert zygote.stopped()
    assert platform.notes[2:] == [("park", TID, 0), ("interrupt", TID)]


def test_a_dead_one_holds_nobody_up() -> None:
    platform, zygote = made()
    zygote.waits(1)
    platform.gone.add(TID)
    assert not zygote.park()
    zygote.tid = 0
    assert zygote.park()

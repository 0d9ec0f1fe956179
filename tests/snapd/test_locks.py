from __future__ import annotations

import time

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from virtsnap_protocol.errors import DomainBusy, DomainNotFound, StorageError
from virtsnapd.locks import DomainLock


async def test_a_change_behind_a_long_operation_is_told_at_once_what_holds_the_domain() -> None:
    lock = DomainLock("web")
    began = int(time.time())
    async with lock.hold("snapshot.revert", who="uid 7, process 8", long=True):
        with pytest.raises(DomainBusy) as caught:
            async with lock.hold("domain.define", who="me", long=False):
                pass
    error = caught.value
    assert str(error).endswith("cannot acquire state change lock (held by snapshot.revert)")
    assert error.domain == "web"
    assert error.retryable
    assert error.details["job"] == "snapshot.revert"
    assert error.details["holder"] == "uid 7, process 8"
    since = error.details["since"]
    assert isinstance(since, int)
    assert began <= since <= time.time()


async def test_changes_of_metadata_take_their_turns_in_the_order_they_came() -> None:
    lock, order = DomainLock("web"), list[str]()

    async def change(name: str) -> None:
        async with lock.hold(name, who="me", long=False):
            order.append(name)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery, lock.hold("first", who="me", long=False):
        for name in ("second", "third", "fourth"):
            nursery.start_soon(change, name)
            await wait_all_tasks_blocked()
        assert order == []
    assert order == ["second", "third", "fourth"]


async def test_a_long_operation_waits_for_a_change_of_metadata() -> None:
    lock, reached = DomainLock("web"), trio.Event()

    async def revert() -> None:
        async with lock.hold("snapshot.revert", who="me", long=True):
            reached.set()

    async with trio.open_nursery() as nursery, lock.hold("domain.define", who="me", long=False):
        nursery.start_soon(revert)
        await wait_all_tasks_blocked()
        assert not reached.is_set()
    assert reached.is_set()


async def test_a_change_behind_a_long_operation_that_waits_its_turn_is_refused_too() -> None:
    lock = DomainLock("web")

    async def revert() -> None:
        async with lock.hold("snapshot.revert", who="me", long=True):
            pass

    async with trio.open_nursery() as nursery, lock.hold("domain.define", who="me", long=False):
        nursery.start_soon(revert)
        await wait_all_tasks_blocked()
        with pytest.raises(DomainBusy, match=r"held by snapshot\.revert"):
            async with lock.hold("domain.define", who="me", long=False):
                pass


async def test_the_next_change_finds_the_domain_free_after_a_long_one_failed() -> None:
    lock = DomainLock("web")
    with pytest.raises(ZeroDivisionError):
        async with lock.hold("snapshot.revert", who="me", long=True):
            raise ZeroDivisionError
    async with lock.hold("snapshot.revert", who="me", long=True):
        assert lock.holder is not None
    assert lock.holder is None


async def test_a_long_operation_that_gave_up_waiting_holds_nothing() -> None:
    lock = DomainLock("web")
    async with lock.hold("domain.define", who="me", long=False):
        with trio.move_on_after(0) as scope:
            async with lock.hold("snapshot.revert", who="me", long=True):
                pass
        assert scope.cancelled_caught
    async with lock.hold("domain.define", who="me", long=False):
        pass


async def test_the_daemon_s_own_bookkeeping_waits_for_a_long_operation() -> None:
    lock, reached = DomainLock("web"), trio.Event()

    async def note() -> None:
        async with lock.wait("guest ended"):
            reached.set()

    async with trio.open_nursery() as nursery, lock.hold("snapshot.revert", who="me", long=True):
        nursery.start_soon(note)
        await wait_all_tasks_blocked()
        assert not reached.is_set()
    assert reached.is_set()


async def test_who_waited_for_a_domain_that_went_is_told_so() -> None:
    lock, errors = DomainLock("web"), list[Exception]()

    async def change() -> None:
        try:
            async with lock.hold("snapshot.create", who="me", long=False):
                pass
        except DomainNotFound as error:
            errors.append(error)

    async with trio.open_nursery() as nursery, lock.hold("domain.undefine", who="me", long=False):
        nursery.start_soon(change)
        await wait_all_tasks_blocked()
        lock.gone = True
    assert [str(error) for error in errors] == ["Domain not found: no domain with matching name 'web'"]


async def test_a_domain_that_goes_as_an_earlier_outcome_is_recorded_is_not_changed_any_more() -> None:
    lock = DomainLock("web")

    async def record_its_end() -> None:
        lock.gone = True

    lock.debt = record_its_end
    with pytest.raises(DomainNotFound):
        async with lock.hold("snapshot.create", who="me", long=True):
            pytest.fail("it was changed")


async def test_what_was_made_good_in_part_is_not_made_good_again() -> None:
    lock, done = DomainLock("web"), list[str]()

    async def rest() -> None:
        done.append("record")

    async def whole() -> None:
        done.append("revert")
        lock.debt = lock.debt or rest
        raise StorageError("the disk is full")

    lock.debt = whole
    with pytest.raises(StorageError):
        async with lock.hold("domain.start", who="me", long=True):
            pass
    async with lock.hold("domain.start", who="me", long=True):
        assert done == ["revert", "record"]
    assert lock.debt is None


async def test_what_cannot_be_made_good_is_tried_again() -> None:
    lock, tried = DomainLock("web"), list[str]()

    async def record() -> None:
        tried.append("record")
        if len(tried) == 1:
            raise StorageError("the disk is full")

    lock.debt = record
    with pytest.raises(StorageError):
        async with lock.wait("the guest's own end"):
            pass
    async with lock.wait("the guest's own end"):
        assert tried == ["record", "record"]

from __future__ import annotations

import random
import threading
import time

from edge.messaging.retry import Backoff, Rate, Waker


def test_waits_double_to_the_cap_and_vary_by_half_at_most():
    backoff = Backoff(1.0, 60.0, random.Random(7))
    waits = [backoff.next_s() for _ in range(10)]
    for wait, longest in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True):
        assert longest / 2 <= wait <= longest
    assert len(set(waits[6:])) == 4
    backoff.reset()
    assert backoff.next_s() <= 1


def test_a_wait_ends_when_another_thread_wakes_it():
    waker = Waker()
    thread = threading.Thread(target=waker.wake)
    begin = time.monotonic()
    thread.start()
    waker.wait(30)
    assert time.monotonic() - begin < 10
    thread.join()
    waker.close()


def test_wake_ups_pile_up_without_blocking_and_count_once():
    waker = Waker()
    for _ in range(100_000):
        waker.wake()
    waker.wait(30)
    begin = time.monotonic()
    waker.wait(0.02)
    assert time.monotonic() - begin >= 0.015
    waker.close()
    waker.wake()


def test_a_rate_allows_a_second_at_once_and_then_its_share():
    now_s = [0.0]
    rate = Rate(20, lambda: now_s[0])
    assert rate.allowed() == 20
    rate.use(20)
    assert (rate.allowed(), rate.wait_s()) == (0, 0.1)
    now_s[0] = 0.5
    assert (rate.allowed(), rate.wait_s()) == (10, 0)
    now_s[0] = 1000
    assert rate.allowed() == 20


def test_less_than_one_a_second_goes_too():
    now_s = [0.0]
    rate = Rate(0.5, lambda: now_s[0])
    rate.use(rate.allowed())
    assert rate.allowed() == 0
    assert rate.wait_s() == 2
    now_s[0] = 2
    assert rate.allowed() == 1

import threading
import time

from phiedge.runtime.watchdog import Watchdog
from timed_engines import LogicalClock


def test_it_stops_what_is_due_and_only_once() -> None:
    clock, stops = LogicalClock(), []
    watchdog = Watchdog(clock_ns=clock)
    assert watchdog.check() is None
    watchdog.arm(clock() + 5_000_000_000, lambda: stops.append(clock()))
    clock.pass_ms(3000)
    assert (watchdog.check(), stops, watchdog.fired) == (2.0, [], False)
    clock.pass_ms(2000)
    assert watchdog.check() is None
    assert (len(stops), watchdog.fired, watchdog.check()) == (1, True, None)
    watchdog.close()


def test_what_was_disarmed_is_not_stopped() -> None:
    clock, stops = LogicalClock(), []
    watchdog = Watchdog(clock_ns=clock)
    watchdog.arm(clock() + 1_000_000_000, lambda: stops.append(1))
    watchdog.disarm()
    clock.pass_ms(2000)
    assert (watchdog.check(), stops, watchdog.fired) == (None, [], False)
    watchdog.close()


def test_its_thread_stops_what_hangs_and_ends_when_it_is_closed() -> None:
    watchdog, stopped = Watchdog(clock_ns=time.perf_counter_ns), threading.Event()
    for _ in range(2):
        stopped.clear()
        watchdog.arm(time.perf_counter_ns() + 1_000_000, stopped.set)
        assert stopped.wait(30)
    thread = watchdog._thread
    assert thread is not None
    watchdog.close()
    thread.join(30)
    assert not thread.is_alive()
    watchdog.arm(time.perf_counter_ns(), stopped.set)
    assert watchdog._thread is thread, "none is started any more"

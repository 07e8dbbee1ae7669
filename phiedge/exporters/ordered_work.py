"""Work on a sequence in several threads, with the results in the order of the sequence.

One thread makes the items, `threads` work on them, and whoever iterates takes the results: in order, so that what is
made of them does not depend on the number of threads. No more than `in_flight` items exist at a time.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    items: Iterator[Item],
    work: Callable[[Item], Result],
    *,
    release: Callable[[Item], None],
    threads: int,
    in_flight: int,
) -> Generator[tuple[Item, Result], None, None]:
    """Each item with `work(item)`, in the order of `items`.

    `release` is called once for every item: when the next one is asked for, or when the iteration ends, however it
    does. An error of `items` or of `work` comes out here, where its item would have come. Closing the iterator waits
    for what is being worked on, and for no more.
    """
    assert threads >= 1, threads
    assert in_flight > threads, "every thread has something to do while a result is waited for"
    made: SimpleQueue[tuple[Item, Future[Result]] | BaseException | None] = SimpleQueue()
    places, stop = threading.Semaphore(in_flight), threading.Event()

    def make(pool: ThreadPoolExecutor) -> None:
        try:
            while True:
                places.acquire()
                if stop.is_set():
                    return
                item = next(items, None)
                if item is None:
                    break
                made.put((item, pool.submit(work, item)))
            made.put(None)
        except BaseException as error:
            made.put(error)

    def let_go(item: Item) -> None:
        release(item)
        places.release()

    with ThreadPoolExecutor(threads, thread_name_prefix="weights") as pool:
        maker = threading.Thread(target=make, args=(pool,), name="weights-reader", daemon=True)
        maker.start()
        try:
            while (found := made.get()) is not None:
                if isinstance(found, BaseException):
                    raise found
                item, future = found
                try:
                    yield item, future.result()
                finally:
                    _settle(future)
                    let_go(item)
        finally:
            stop.set()
            places.release()
            maker.join()
            while not made.empty():
                left = made.get()
                if isinstance(left, tuple):
                    _settle(left[1])
                    let_go(left[0])


def _settle(future: "Future[Result]") -> None:
    """Wait until nobody works on it any more, whatever came of it."""
    if not future.cancel():
        future.exception()

import pytest

from phiedge.runtime.stopwatch import Stopwatch


def test_a_phase_counts_also_when_it_fails_and_others_stay_zero() -> None:
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.measure("vision"):
        raise KeyError
    timings = watch.timings(load_ns=2_000_000)
    assert timings.load == 2.0
    assert timings.vision > 0.0
    assert timings.preprocess == timings.prefill == timings.decode == 0.0
    assert timings.first_token is None
    assert timings.total >= timings.vision


def test_the_first_token_parts_the_request_from_its_decoding() -> None:
    watch = Stopwatch()
    watch.mark_first_token()
    timings = watch.timings(load_ns=0)
    assert timings.first_token is not None
    assert timings.total == pytest.approx(timings.first_token + timings.decode)

"""`docs/soak.md` and `docs/server.md` say what the committed half hour found; slopes are those of lines."""

import pytest

from tests.soak.measure import slope
from tests.soak.page import PAGE, ROOT, committed, committed_caches, page, summary, verdicts


def test_pages_are_those_of_the_committed_half_hour():
    data = committed()
    assert data["minutes"] >= 30
    assert PAGE.read_text() == page(data, committed_caches())
    assert summary(data) in " ".join((ROOT / "docs" / "server.md").read_text().split())


def test_memory_descriptors_and_latency_stayed_as_they_were():
    assert verdicts(committed()) == []


def test_a_slope_is_that_of_its_line_and_noise_widens_its_interval():
    assert slope(range(5), [1, 3, 5, 7, 9]) == pytest.approx((2, 2, 2))
    found, low, high = slope(range(6), [0, 1, 0, 1, 0, 1])
    assert low < 0 < found < high
    assert slope(range(3), [1, 2, 3]) is None


def test_growth_and_drift_are_found():
    reading = {"pss": 100e6, "descriptors": 20, "rooms": 2}
    flat = {"minutes": 30, "start": reading, "end": reading, "faults": [], "counts": {}}
    flat["readings"] = [reading | {"at_s": 60.0 * minute} for minute in range(30)]
    flat["ack_ms"] = [{"p50": 1.0, "p99": 5.0 + minute % 2, "max": 9.0} for minute in range(30)]
    assert verdicts(flat) == []
    leaking = [r | {"pss": 100e6 + 2e6 * n, "descriptors": 20 + n} for n, r in enumerate(flat["readings"])]
    slower = [part | {"p99": 5.0 + 0.5 * n} for n, part in enumerate(flat["ack_ms"])]
    assert len(verdicts(flat | {"readings": leaking, "ack_ms": slower, "end": reading | {"rooms": 5}})) == 4

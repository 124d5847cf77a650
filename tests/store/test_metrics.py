"""The guide's figures, as a notebook and as Prometheus read them."""

import threading
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harmonia_lab.store.metrics import LATENCY_BUCKETS_S, Metrics, Readings
from tests.events.stories import told_live


def samples(metrics):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }


def test_nothing_has_happened_yet():
    readings = Metrics().readings()
    assert (readings.connections, readings.messages_sent, readings.average_latency_s, readings.errors) == (0, 0, 0, 0)
    assert samples(Metrics())[("harmonia_connections",)] == 0


def test_connections_come_and_go():
    metrics = Metrics()
    for _ in range(3):
        metrics.connected()
    metrics.disconnected()
    metrics.set_rooms(5)
    readings = metrics.readings()
    assert (readings.connections, readings.connections_opened, readings.rooms) == (2, 3, 5)


def test_latency_is_averaged_over_messages():
    metrics = Metrics()
    metrics.sent(3, 0.002)
    metrics.sent(1, 0.010)
    metrics.dropped(2)
    assert metrics.readings().messages_sent == 4
    assert metrics.readings().average_latency_s == pytest.approx(0.004)
    read = samples(metrics)
    buckets = [read[("harmonia_message_latency_seconds_bucket", str(bound))] for bound in LATENCY_BUCKETS_S]
    assert buckets == [0, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4]
    assert read[("harmonia_message_latency_seconds_bucket", "+Inf")] == 4
    assert read[("harmonia_message_latency_seconds_count",)] == read[("harmonia_messages_sent_total",)] == 4
    assert read[("harmonia_messages_dropped_total",)] == 2


def test_generations_are_counted_by_how_they_ended():
    metrics = Metrics()
    for i, ending in enumerate(("completed", "completed", "failed", "cancelled", "in stage 1")):
        for event in told_live(f"g{i}", ending, recovered=i == 0):
            metrics(event)
    readings = metrics.readings()
    assert readings.generations == {"completed": 2, "failed": 1, "cancelled": 1}
    assert (readings.active_generations, readings.errors) == (1, 2)
    assert readings.errors_by_code == {"METADATA_INVALID": 1, "AUDIO_ERROR": 1}
    read = samples(metrics)
    assert read[("harmonia_generations_total", "completed")] == 2
    assert read[("harmonia_errors_total", "AUDIO_ERROR")] == 1
    assert read[("harmonia_generation_seconds_count",)] == 4


def test_no_word_from_outside_becomes_a_label():
    metrics = Metrics()
    metrics.failed('x"} evil 1\n')
    assert metrics.readings().errors_by_code == {"INTERNAL": 1}
    for event in told_live():
        metrics(event)
    assert not any(word in metrics.text() for word in ("evil", "ann", "A story", "la la", '"g"'))


def test_counts_are_whole_when_several_threads_count():
    metrics = Metrics()
    threads = [threading.Thread(target=lambda: [metrics.sent(1, 0.001) for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.readings().messages_sent == 8000


def test_another_process_reads_the_same_from_the_text():
    metrics = Metrics()
    assert Readings.of_text(metrics.text()) == metrics.readings()
    metrics.connected()
    metrics.set_rooms(3)
    metrics.sent(3, 0.002)
    metrics.dropped()
    metrics.failed("NOT_FOUND")
    metrics.failed("QUEUE_FULL")
    for event in told_live():
        metrics(event)
    assert metrics.readings().generations
    assert Readings.of_text(metrics.text()) == metrics.readings()
    with pytest.raises(KeyError):
        Readings.of_text("<!DOCTYPE html>")


def test_a_jump_of_the_wall_clock_is_no_duration():
    metrics = Metrics()
    for event in told_live("g", "completed"):
        metrics(event.model_copy(update={"emitted_at": event.emitted_at + timedelta(days=event.seq)}))
    assert metrics.readings().generations == {"completed": 1}
    assert 0 <= metrics.readings().generation_seconds < 60

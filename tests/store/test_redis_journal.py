"""What a journal in Redis promises beside what every journal does: fences, leases, Redis away, no credentials told."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused, StorageError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import new_state
from harmonia_lab.generation.interrupted import end_interrupted
from harmonia_lab.store.run_log import RunLog
from harmonia_lab.store.shared import lease
from harmonia_lab.store.shared.connection import RedisConnection, check_redis_url, describe_redis_url
from harmonia_lab.store.shared.redis_journal import RedisJournal
from tests.events.stories import job, request, story, told_live
from tests.redis_server import needs_redis, running_redis
from tests.server.test_server_thread import make_certificate
from tests.waiting import until

pytestmark = needs_redis

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Leases of a second, so that no test waits for longer."""
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    monkeypatch.setattr(lease, "AWAY_S", 0.05)


@pytest.fixture
def open_one(tmp_path):
    """Return what opens a journal with a home of its own."""
    with contextlib.ExitStack() as stack:
        yield lambda url, name: stack.enter_context(contextlib.closing(RedisJournal(url, tmp_path / name)))


@pytest.fixture
def own_redis(tmp_path):
    """A redis-server that a test may kill."""
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis", fsync="no") as server:
        yield server


def numbers(events):
    return sorted((event.family, event.seq, event.name) for event in events)


def numbers_of(events):
    return [(event.generation_id, event.family, event.seq) for event in lifecycle(events)]


def lifecycle(events):
    return [event for event in events if event.delivery == "lifecycle"]


def replayed(journal, generation_id="g"):
    return [event for family in ("generation", "job") for event in journal.replay(generation_id, family)]


def tell(journal, ending="completed", generation_id="g"):
    """Publish a whole generation; return the lifecycle events as its listeners had them."""
    heard = []
    log = EventLog(new_state(job(generation_id), request()), journal, heard.append)
    log.queued(0, 1.0)
    for event in story(generation_id, ending):
        log(event)
    return lifecycle(heard)


def fail_interrupted(journal):
    return end_interrupted(journal, RunLog(journal.path.with_name("runs.jsonl")))


def test_what_one_server_writes_the_other_hears_once_and_in_order(redis_url, open_one):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    heard = []
    other.elsewhere_events.subscribe(heard.append)
    one.elsewhere_events.subscribe(lambda event: pytest.fail(f"its own {event.name}"))
    one.begin(job(), request())
    told = tell(one)
    until(lambda: numbers(lifecycle(heard)) == numbers(told), "all events at the other server")
    for family in ("generation", "job"):
        assert [e for e in lifecycle(heard) if e.family == family] == [e for e in told if e.family == family]
    assert other.state("g") == replace(one.state("g"), writing=None)  # of progress, the row has the latest alone
    assert other.is_at_hand("g")


def test_what_somebody_has_read_meanwhile_is_passed_on_all_the_same(redis_url, open_one):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    heard = []
    other.elsewhere_events.subscribe(heard.append)
    one.begin(job(), request())
    for event in told_live("g"):
        one.record(event)
        other.load("g")  # as a client's join does, before the feed has looked
    until(lambda: numbers(lifecycle(heard)) == numbers(replayed(one)), "all events")


def test_progress_comes_over_as_the_latest_and_never_after_what_followed_it(redis_url, open_one):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    heard = []
    other.elsewhere_events.subscribe(heard.append)
    one.begin(job(), request())
    events = told_live("g", "in stage 2", ticks=5)
    for event in events:
        one.record(event)
        time.sleep(0.03)
    last = [event for event in events if event.delivery == "progress" and event.family == "generation"][-1]
    until(lambda: last in heard, "the latest progress")
    for family in ("generation", "job"):
        places = [(e.seq, getattr(e, "tick", 0)) for e in heard if e.family == family and e.delivery == "progress"]
        assert places == sorted(places)
    until(lambda: other.state("g").rendering == last)


def published(shared_redis):
    """Return how many messages were published so far, hints apart, which the script publishes."""
    with shared_redis.client() as client:
        return client.info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"] - hints_of(client)


def hints_of(client):
    return int(client.get("harmonia:change") or 0)


def test_a_server_that_is_alone_tells_nobody_of_progress(redis_url, open_one, shared_redis):
    one = open_one(redis_url, "a")
    until(lambda: not one.feed._others, "the servers of earlier tests to be gone")
    one.begin(job(), request())
    before = published(shared_redis)
    for event in told_live("g", "in stage 2", ticks=5):
        one.record(event)
        time.sleep(0.03)
    assert published(shared_redis) == before


def test_a_server_where_nobody_follows_a_song_is_told_of_it_once_a_second(redis_url, open_one):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    heard, followed = [], False
    other.elsewhere_events.subscribe(heard.append)
    other.wanted = lambda event, owner: followed and (event.generation_id, owner) == ("g", "ann")
    one.begin(job(), request())
    begun = time.monotonic()
    *events, last = told_live("g", "in stage 2", ticks=30)
    for event in events:
        one.record(event)
        time.sleep(0.03)
    seconds = time.monotonic() - begun
    until(lambda: numbers(lifecycle(heard)) == numbers(lifecycle(events)), "lifecycle events come all the same")
    told = [event for event in events if event.delivery == "progress"]
    some = [event for event in heard if event.delivery == "progress"]
    assert len(told) >= 30
    assert 1 <= len(some) <= 6 * (seconds + 1)  # two channels, and what was on its way meanwhile
    followed = True
    until(lambda: all(moment <= time.monotonic() for moment in one.feed._quiet.values()), "the end of the silence")
    one.record(last)
    until(lambda: last in heard, "progress, now that somebody follows")
    assert all(moment <= time.monotonic() for moment in one.feed._quiet.values())


def test_a_server_that_was_cut_off_from_the_hints_reads_what_it_missed(redis_url, open_one, shared_redis):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    heard = []
    other.elsewhere_events.subscribe(heard.append)
    one.begin(job(), request())
    with shared_redis.client() as client:
        for event in told_live("g"):
            client.client_kill_filter(_type="pubsub")
            one.record(event)
    until(lambda: numbers(lifecycle(heard)) == numbers(replayed(one)), "all events")


def test_while_redis_is_away_a_song_goes_on_and_its_events_come_later_in_order(own_redis, open_one, caplog):
    one, other = open_one(own_redis.url, "a"), open_one(own_redis.url, "b")
    one.begin(job(), request())
    own_redis.stop()
    told = tell(one)  # its listeners hear everything
    assert [event for event in told if event.family == "job"] == one.replay("g", "job")
    with pytest.raises(StorageError) as caught:
        one.begin(job("h"), request())
    assert caught.value.code == ErrorCode.NETWORK_TEMPORARY
    own_redis.start()
    until(lambda: numbers(replayed(other)) == numbers(told), "all events at the other server")
    assert other.state("g").status == "completed"
    until(lambda: not one.unwritten.has_events)
    assert "does not answer" in caplog.text
    assert "is back" in caplog.text


def test_what_redis_had_acknowledged_and_lost_is_handed_in_again_whole_until_2_s_after_the_end(tmp_path, open_one):
    (tmp_path / "forgetful").mkdir()
    with running_redis(tmp_path / "forgetful", "--appendonly", "no") as forgetful:
        one = open_one(forgetful.url, "a")
        watching, heard = open_one(forgetful.url, "c"), []
        watching.elsewhere_events.subscribe(heard.append)
        one.begin(job("ended"), request())
        ended = tell(one, generation_id="ended")
        one.begin(job("runs"), request())
        running = tell(one, "in stage 2", generation_id="runs")
        until(lambda: len(lifecycle(heard)) == len([*ended, *running]))
        forgetful.kill()
        forgetful.start()  # with nothing in it
        other = open_one(forgetful.url, "b")
        until(lambda: numbers(replayed(other, "ended")) == numbers(ended), "the song that had ended")
        until(lambda: numbers(replayed(other, "runs")) == numbers(running), "the song that runs")
        assert {each.id: each.status for each in other.jobs("ann")} == {"ended": "completed", "runs": "processing"}
        assert other.request("runs") == request()
        one.record(*told_live("runs", ticks=0)[len(running) :])
        until(lambda: watching.state("runs").status == "completed")
        until(lambda: len(lifecycle(heard)) == 16)
        assert len(set(numbers_of(heard))) == 16  # nobody heard anything twice


def test_what_ended_long_ago_is_not_kept_in_memory(redis_url, open_one, monkeypatch):
    monkeypatch.setattr("harmonia_lab.store.shared.redis_journal.KEPT_AFTER_END_S", 0.1)
    one = open_one(redis_url, "a")
    one.begin(job(), request())
    one.begin(job("h"), request())
    tell(one)
    until(lambda: "g" not in one._own)
    assert "h" in one._own  # it has not ended


def test_a_server_whose_song_was_taken_over_is_told_so_and_adds_nothing(redis_url, open_one, shared_redis):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    lost, heard = threading.Event(), []
    one.on_lost = lambda generation_id: generation_id == "g" and lost.set()
    one.begin(job(), request())
    log = EventLog(new_state(job(), request()), one, heard.append)
    first, *rest = story()
    log.queued(0, 1.0)
    log(first)
    shared_redis.age(2)
    before = lifecycle(heard)
    one.lease._stopping.set()  # as a process that is paused
    until(lambda: fail_interrupted(other) == ["g"], "the end by the other server")
    for event in rest:
        log(event)
    until(lost.is_set)
    assert lifecycle(heard) == before  # nobody heard what isn't in the journal
    assert other.state("g").status == "failed"
    until(lambda: one.state("g").status == "failed")
    names = [event.name for event in replayed(other)]
    assert names.count("generation-error") == 1
    assert "audio-generation-complete" not in names


@pytest.mark.parametrize("first", ["one", "other"])
def test_of_two_that_end_a_generation_the_first_one_wins(redis_url, open_one, shared_redis, first):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    one.begin(job(), request())
    *begun, end, completed, status = told_live("g", ticks=0)
    for event in begun:
        one.record(event)
    shared_redis.age(2)
    if first == "one":
        one.record(end, completed, status)
    one.lease.stop()  # the other one may take over
    until(lambda: other.lease.exit_of(one.process) is not None)
    fail_interrupted(other)
    if first == "other":
        with pytest.raises(StorageError) as told:
            one.record(end, completed, status)
        assert told.value.code == ErrorCode.INTERRUPTED
        until(lambda: one.state("g").status == "failed", "the feed to have heard of it")
        with pytest.raises(StorageError) as told:
            one.record(end, completed, status)
        assert told.value.code == ErrorCode.INTERRUPTED
    ends = [event.name for event in other.replay("g", "generation") if event.ends]
    assert ends == (["audio-generation-complete"] if first == "one" else ["generation-error"])


def test_nobody_takes_over_before_redis_has_been_up_for_a_lease(own_redis, open_one, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 3.0)
    one, other = open_one(own_redis.url, "a"), open_one(own_redis.url, "b")
    one.begin(job(), request())
    own_redis.stop()
    one.lease._stopping.set()  # it exits meanwhile
    own_redis.start()
    started = time.monotonic()
    until(lambda: not other.lease.away)
    with own_redis.client() as client:
        client.delete(*client.keys("harmonia:lease:*"))  # as all leases run out while Redis is away for long
        while time.monotonic() < started + 1.5:
            ended = fail_interrupted(other)
            if time.monotonic() < started + 2.0:  # else this machine stood still meanwhile
                assert ended == []
            time.sleep(0.1)
        until(lambda: fail_interrupted(other) == ["g"], "the end by the other server")
        assert client.info("server")["uptime_in_seconds"] >= 3


WRITER = """
import sys, json, time
from pathlib import Path
from harmonia_lab.store.shared import lease
lease.LEASE_S, lease.BEAT_S = 1.0, 0.2
from harmonia_lab.store.shared.redis_journal import RedisJournal
from tests.events.stories import job, request
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import new_state
from tests.events.stories import story
journal = RedisJournal(sys.argv[1], Path(sys.argv[2]))
journal.begin(job(), request())
say = lambda event: print(event.family, event.seq, event.name, flush=True)
log = EventLog(new_state(job(), request()), journal, say)
log.queued(0, 1.0)
for event in story("g", "in stage 2"):
    log(event)
    print("next", flush=True)
    sys.stdin.readline()
time.sleep(600)
"""


def writer(url, home):
    command = [sys.executable, "-c", WRITER, url, str(home)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.stress
def test_another_machines_server_ends_what_a_killed_one_left_and_nothing_heard_is_missing(
    redis_url, open_one, shared_redis, tmp_path
):
    process = writer(redis_url, tmp_path / "elsewhere")
    told = []
    for line in process.stdout:
        if line == "next\n":
            if len(told) >= 4:
                break
            process.stdin.write("\n")
            process.stdin.flush()
        else:
            told.append(line.split())
    other = open_one(redis_url, "b")
    assert fail_interrupted(other) == []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    shared_redis.age(2)
    until(lambda: fail_interrupted(other) == ["g"], "the end by the other server")
    found = [[event.family, str(event.seq), event.name] for event in replayed(other)]
    assert all(each in found for each in told if not each[2].endswith("progress"))
    assert other.state("g").failure.error.code == "INTERRUPTED"
    assert other.submissions.deaths("g") == 0  # the attempt's row was never kept: nobody knows that it ran there


def test_what_a_killed_process_kept_while_redis_was_away_its_home_hands_in(own_redis, open_one, tmp_path):
    process = writer(own_redis.url, tmp_path / "a")
    told = []
    away = False
    for line in process.stdout:
        if line != "next\n":
            told.append(tuple(line.split()))
            continue
        if not away:
            own_redis.stop()
            away = True
        if "audio-generation-started" in told[-1]:
            break
        process.stdin.write("\n")
        process.stdin.flush()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    own_redis.start()
    after = open_one(own_redis.url, "a")  # the same home
    assert fail_interrupted(after) == ["g"]
    found = [(event.family, str(event.seq), event.name) for event in replayed(after)]
    assert set(found) >= {each for each in told if not each[2].endswith("progress")}
    assert len({each[:2] for each in found}) == len(found)
    assert after.state("g").status == "failed"


@pytest.mark.parametrize(("total", "per_user", "said"), [(2, 9, "2 songs wait"), (9, 1, "1 of them yours")])
def test_the_limits_of_the_queue_count_what_waits_on_all_servers(redis_url, open_one, total, per_user, said):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    one.begin(job("a"), request(), limits=(total, per_user))
    one.begin(job("b", user_id="bob"), request(), limits=(total, per_user))
    with pytest.raises(Refused, match=said) as caught:
        other.begin(job("c"), request(), limits=(total, per_user))
    assert caught.value.code == ErrorCode.QUEUE_FULL
    assert other.state("c") is None
    for event in told_live("a", "in stage 1"):
        one.record(event)  # it waits no longer
    other.begin(job("c"), request(), limits=(total, per_user))


def test_a_reserved_id_is_so_on_all_servers_for_its_time(redis_url, open_one):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    assert one.reserved_for("g", "ann", 0.3) == "ann"
    assert other.reserved_for("g", "bob", 0.3) == other.reserved_for("g", None, 0.3) == "ann"
    until(lambda: other.reserved_for("g", "bob", 60) == "bob")


def test_a_failed_generation_is_tried_again_by_one_server_alone(redis_url, open_one, caplog):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    lost = []
    one.on_lost = lost.append
    one.begin(job(), request())
    tell(one, "failed")
    state = until(lambda: (found := other.state("g")) and found.status == "failed" and found)
    other.reopen(state, {"attempt": 2})
    with pytest.raises(Refused) as caught:
        one.reopen(state, {"attempt": 2})
    assert caught.value.code == ErrorCode.NOT_RECOVERABLE
    assert (one.last_attempt("g"), one.holder("g")) == ({"attempt": 2}, (other.process, other.process))
    until(lambda: one._copy("g").process == other.process, "the feed to have heard of it")
    assert (lost, caplog.text) == ([], "")


def test_old_generations_go_by_age_and_number_with_all_their_keys(redis_url, open_one, shared_redis):
    one = open_one(redis_url, "a")
    for name in ("a", "b", "c"):
        one.begin(job(name), request())
        tell(one, generation_id=name)
    one.shares.add("a", "vic", "viewer")
    one.begin(job("runs"), request())
    assert one.prune(1, dry_run=True) == 2
    assert one.prune(9, before="2000-01-01T00:00:00.000Z") == 0
    assert one.prune(1) == 2
    until(lambda: one.state("a") is None)
    assert ([each.id for each in one.jobs()], one.shares.jobs_with("vic")) == (["runs", "c"], [])
    assert one.prune(9, before="2999-01-01T00:00:00.000Z") == 1
    with shared_redis.client() as client:
        left = [key for key in client.keys("harmonia:*") if key.rpartition(":")[2] in ("a", "b", "c", "generation")]
    assert left == []


SECRET = "s3cr3t-p4ssw0rd"


@pytest.mark.parametrize("user", ["", "somebody"])
def test_no_error_and_no_line_of_the_log_tells_a_password(tmp_path, caplog, user):
    caplog.set_level("DEBUG")
    (tmp_path / "guarded").mkdir()
    with running_redis(tmp_path / "guarded", password="another") as guarded:
        url = f"redis://{user}:{SECRET}@127.0.0.1:{guarded.port}/0"
        with pytest.raises(StorageError, match="refuses the user or the password") as refused:
            RedisJournal(url, tmp_path / "home")
        RedisJournal(guarded.url, tmp_path / "home").close()
        guarded.stop()
    with pytest.raises(StorageError) as away:
        RedisJournal(url, tmp_path / "home")
    assert away.value.code == ErrorCode.NETWORK_TEMPORARY
    for error in (refused.value, away.value):
        assert SECRET not in f"{error!r} {error} {error.hint} {error.details} {caplog.text}"
        assert error.__suppress_context__
    assert SECRET not in repr(RedisConnection(url))


def test_over_tls_servers_share_a_journal_and_whoever_is_not_trusted_is_told_why(tmp_path, caplog):
    caplog.set_level("DEBUG")
    files = [tmp_path / f"{name}.pem" for name in ("cert", "key", "other", "other-key")]
    make_certificate(*files[:2])
    make_certificate(*files[2:])
    for name in ("tls", "strict"):
        (tmp_path / name).mkdir()
    with (
        running_redis(tmp_path / "tls", fsync="no", password=SECRET, tls=files[:2]) as guarded,
        contextlib.closing(RedisJournal(guarded.url, tmp_path / "a")) as one,
        contextlib.closing(RedisJournal(guarded.url, tmp_path / "b")) as other,
    ):
        heard = []
        other.elsewhere_events.subscribe(heard.append)
        one.begin(job(), request())
        told = tell(one)
        until(lambda: numbers(lifecycle(heard)) == numbers(told), "all events at the other server")
        told = {}
        mutual = ("--tls-auth-clients", "yes", "--tls-ca-cert-file", str(files[0]))
        with running_redis(tmp_path / "strict", *mutual, password=SECRET, tls=files[:2], by=files[:2]) as strict:
            for what, url in {
                "another authority": guarded.url.replace("cert.pem", "other.pem"),
                "the system's authorities": guarded.url.partition("?")[0],
                "another password": guarded.url.replace(SECRET, SECRET[::-1]),
                "no certificate of its own": strict.url.partition("&")[0],
                "no such file": guarded.url.replace("cert.pem", "none.pem"),
                "no certificate": guarded.url.replace("cert.pem", "key.pem"),
            }.items():
                with pytest.raises(HarmoniaError) as refused:
                    RedisJournal(url, tmp_path / "home")
                told[what] = f"{refused.value} {refused.value.hint}"
                assert refused.value.__suppress_context__
    for what in ("another authority", "the system's authorities"):
        assert "is not trusted: self-signed certificate" in told[what]
        assert "ssl_ca_certs=FILE" in told[what]
    assert "refuses the user or the password" in told["another password"]
    assert "TLS with rediss://127.0.0.1" in told["no certificate of its own"]
    assert "ssl_certfile" in told["no certificate of its own"]
    assert f"{tmp_path / 'none.pem'} cannot be used: No such file" in told["no such file"]
    assert f"{files[1]} cannot be used" in told["no certificate"]
    for secret in (SECRET, SECRET[::-1]):
        assert secret not in f"{told} {caplog.text}"


def test_an_address_with_the_other_scheme_than_its_port_speaks_is_told_so(tmp_path, caplog):
    caplog.set_level("DEBUG")
    files = [tmp_path / f"{name}.pem" for name in ("cert", "key")]
    make_certificate(*files)
    for name in ("tls", "plain"):
        (tmp_path / name).mkdir()
    with (
        running_redis(tmp_path / "tls", fsync="no", password=SECRET, tls=files) as guarded,
        running_redis(tmp_path / "plain", fsync="no", password=SECRET) as plain,
    ):
        wrong = (guarded.url.partition("?")[0].replace("rediss:", "redis:"), plain.url.replace("redis:", "rediss:"))
        told = []
        for url in wrong:
            with pytest.raises(StorageError) as refused:
                RedisJournal(url, tmp_path / "home")
            told.append(f"{refused.value} {refused.value.hint}")
    assert "speaks TLS. Write rediss://" in told[0]
    assert "speaks no TLS. Name its TLS port" in told[1]
    assert SECRET not in f"{told} {caplog.text}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:pw@10.0.0.7/0", "nothing would be encrypted"),
        ("redis://redis.example", "nothing would be encrypted"),
        ("http://127.0.0.1", "is not redis://"),
        ("redis://", "is not redis://"),
        ("", "is not redis://"),
        ("redis://[::1", "is not redis://"),
        ("redis://127.0.0.1:99999999/0", "is not redis://"),
        ("redis://:pw@127.0.0.1/mine", "names no database"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(url, said):
    with pytest.raises(InvalidRequest, match=said) as caught:
        check_redis_url(url)
    assert ":pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
        ("redis://[::1]/0", "redis://[::1]/0"),
        ("rediss://:pw@redis.example/0", "rediss://:pw@redis.example/0"),
        ("redis://:pw@10.0.0.7/0?insecure=yes", "redis://:pw@10.0.0.7/0"),
        ("rediss://h/0?ssl_ca_certs=/etc/a%20b.pem", "rediss://h/0?ssl_ca_certs=%2Fetc%2Fa%20b.pem"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_an_address_is_taken_as_the_client_library_reads_it(url, taken):
    assert check_redis_url(url) == taken
    assert "pw" not in describe_redis_url(url)


def test_redis_that_may_lose_or_delete_events_is_warned_of_at_the_start(tmp_path, open_one, caplog):
    (tmp_path / "doubtful").mkdir()
    options = ["--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]
    with running_redis(tmp_path / "doubtful", *options) as doubtful:
        open_one(doubtful.url, "a")
    assert "appendonly yes" in caplog.text
    assert "noeviction" in caplog.text


def test_redis_without_memory_keeps_no_song_from_going_on(tmp_path, open_one):
    (tmp_path / "small").mkdir()
    with running_redis(tmp_path / "small", "--maxmemory", "0") as small:
        one = open_one(small.url, "a")
        one.begin(job(), request())
        with small.client() as client:
            client.config_set("maxmemory", "1")
            with pytest.raises(StorageError) as caught:
                one.begin(job("h"), request())
            assert caught.value.code == ErrorCode.STORAGE_FULL
            told = tell(one)
            client.config_set("maxmemory", "0")
        until(lambda: not one.unwritten.has_events)
        assert numbers(replayed(one)) == numbers(told)


def test_what_a_damaged_or_newer_server_writes_there_hides_no_other_generation(redis_url, open_one, shared_redis):
    one, other = open_one(redis_url, "a"), open_one(redis_url, "b")
    for name in ("good", "bad"):
        one.begin(job(name), request())
    with shared_redis.client() as client:
        client.hset("harmonia:row:bad", "job", "{")
        channel = f"{other.connection.volatile}:{other.process}"
        tomorrow = {"from": one.process, "events": [["from-tomorrow", {}]]}
        assert [client.publish(channel, text) for text in ("no JSON", "[]", json.dumps(tomorrow))] == [1, 1, 1]
    other._mirror.drop("bad")
    tell(one, generation_id="good")
    with pytest.raises(StorageError, match="generation bad is damaged"):
        other.state("bad")
    until(lambda: other.state("good").status == "completed")
    assert [each.id for each in other.jobs()] == ["good"]


@pytest.mark.stress
@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_20_kills_of_redis_in_the_middle_of_writing_lose_and_double_nothing(tmp_path, open_one, fsync):
    (tmp_path / "killed").mkdir()
    with running_redis(tmp_path / "killed", fsync=fsync) as server:
        one, other = open_one(server.url, "a"), open_one(server.url, "b")
        told, heard = {}, []
        other.elsewhere_events.subscribe(heard.append)
        stop = threading.Event()

        def write(name):
            number = 0
            while not stop.is_set():
                generation_id = f"{name}-{number}"
                number += 1
                try:
                    one.begin(job(generation_id), request())
                except StorageError:
                    time.sleep(0.05)
                    continue
                told[generation_id] = tell(one, generation_id=generation_id)

        threads = [threading.Thread(target=write, args=(name,)) for name in "wxyz"]
        for thread in threads:
            thread.start()
        for round_ in range(20):
            time.sleep(0.1 + 0.05 * (round_ % 5))
            server.kill()
            server.start()
        stop.set()
        for thread in threads:
            thread.join()
        until(lambda: not one.unwritten.has_events)
        for generation_id, events in told.items():
            until(lambda g=generation_id, e=events: numbers(replayed(other, g)) == numbers(e), generation_id)
        until(
            lambda: len({(e.generation_id, e.family, e.seq) for e in lifecycle(heard)}) >= sum(map(len, told.values()))
        )
        seqs = [(e.generation_id, e.family, e.seq) for e in lifecycle(heard)]
        assert len(told) > 4
        assert len(seqs) == len(set(seqs))

"""Generations as the pipeline tells them, without the pipeline: made of its events, numbered as it numbers them."""

from hypothesis import strategies as st

from harmonia_lab.errors import AudioError, MetadataError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import new_state
from harmonia_lab.protocol import events as e
from harmonia_lab.protocol.models import Instrument, Job, SongMetadata, SongRequest, utc_now

METADATA = SongMetadata(
    title="T",
    lyrics="[Verse]\nla la\n",
    genre="pop",
    mood=["calm"],
    bpm=90,
    key="C",
    instruments=[Instrument(name="piano", role="chords"), Instrument(name="drums", role="drums")],
)
ENDINGS = ("completed", "failed", "cancelled", "timeout", "in stage 1", "in stage 2")
AUDIO_URL = "file:///songs/a%20song/song.flac"


def job(generation_id="g", user_id="ann"):
    now = utc_now()
    return Job(id=generation_id, user_id=user_id, created_at=now, updated_at=now)


def request(*, given=False):
    return SongRequest(narrative="A story.", metadata=METADATA if given else None)


def story(generation_id="g", ending="completed", *, given=False, recovered=False, ticks=3, seq=0, tick=0):
    """The generation family's events, in order. given: stage 1 is skipped. recovered: it failed once on the way.
    ticks: progress events in each stage. seq, tick: those before the first."""
    teller = Teller(generation_id, seq, tick)
    if not given:
        teller.stage_1(ticks)
        if recovered:
            teller.fail(MetadataError("It went away."), "metadata", final=False)
        if ending == "in stage 1":
            return teller.told
        teller.tell(e.MetadataGenerationComplete, metadata=METADATA, duration=1200)
    teller.stage_2(ticks)
    teller.end(ending)
    return teller.told


class Teller:
    def __init__(self, generation_id, seq, tick):
        self.generation_id, self.seq, self.tick = generation_id, seq, tick
        self.told = []

    def tell(self, cls, **fields):
        if issubclass(cls, e.ProgressEvent):
            self.tick += 1
            fields["tick"] = self.tick
        else:
            self.seq += 1
        self.told.append(cls(generation_id=self.generation_id, seq=self.seq, **fields))

    def fail(self, error, stage, *, final):
        self.tell(e.GenerationError, error=e.ErrorInfo.of(error), stage=stage, final=final)

    def stage_1(self, ticks):
        self.tell(e.MetadataGenerationStarted, user_id="ann", narrative="A story.", model="m")
        for i in range(1, ticks + 1):
            self.tell(
                e.MetadataGenerationProgress,
                progress=100 * i / ticks,
                status=f"Line {i}",
                overall_progress=50 * i / ticks,
                current_step="lyrics",
            )

    def stage_2(self, ticks):
        self.tell(e.AudioGenerationStarted, song_id="s", instruments=METADATA.instruments, duration=20, bpm=90)
        for i in range(1, ticks + 1):
            self.tell(
                e.AudioGenerationProgress,
                progress=100 * i / ticks,
                status="Rendering",
                overall_progress=50 + 50 * i / ticks,
                current_instrument="piano",
                instruments_completed=0,
                total_instruments=2,
                eta_seconds=4.0,
            )

    def end(self, ending):
        if ending == "completed":
            self.tell(
                e.AudioGenerationComplete,
                song_id="s",
                audio_url=AUDIO_URL,
                duration=20,
                file_size=9,
                checksum="a" * 64,
            )
        elif ending == "failed":
            self.fail(AudioError("It broke."), "audio", final=True)
        elif ending == "timeout":
            self.tell(e.GenerationTimeout, stage="audio", timeout_after=60)
            self.tell(e.GenerationCancelled, reason="timeout")
        elif ending == "cancelled":
            self.tell(e.GenerationCancelled, reason="user_cancelled")


def told_live(generation_id="g", ending="completed", **options):
    """Both families' events, in the order of their sending."""
    return logged(story(generation_id, ending, **options), given=options.get("given", False))


def logged(story, *, given=False, state=None, position=0):
    """Both families' events of `story`, as an event log publishes them. state: where an earlier attempt ended."""
    published = []
    state = state or new_state(job(story[0].generation_id if story else "g"), request(given=given))
    log = EventLog(state, Unkept(), published.append)
    log.queued(position, 0.0)
    for event in story:
        log(event)
    return published


def views(state):
    """The guide's views of a store's state: what a journal's history brings back whole."""
    names = ("active_generations", "completed_generations", "errors", "jobs", "connected")
    positions = {generation.id: generation.position for generation in state.generations.values()}
    return {name: getattr(state, name) for name in names} | {"positions": positions}


class Unkept:
    """A journal that keeps nothing."""

    def record(self, *events):
        pass


OPTIONS = st.fixed_dictionaries(
    {
        "ending": st.sampled_from(ENDINGS),
        "given": st.booleans(),
        "recovered": st.booleans(),
        "ticks": st.integers(0, 3),
    }
)
"""Of `story` and `told_live`."""

"""The player's clock, measured: clicks of the mix and of five stems are counted, each on a channel of its own."""

import base64
import io

import numpy as np
import pytest
import soundfile

from harmonia_lab.player.sound import listening_copy

RATE, SECONDS = 48_000, 36
STEMS = [{"name": f"stem {number}", "file": f"stems/{number}.flac", "gain": 0, "pan": 0} for number in range(5)]

SETUP = """
    const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;
    const take = { seconds: given.seconds, lufs: -14, stems: given.stems };
    const deck = new hp.Deck([take], async (_take, file) => bytes(file === 'mix' ? given.mix : given.stem));
    // Each track on a channel of its own, all heard.
    const wire = (context, place) => {
        const merger = new ChannelMergerNode(context, { numberOfInputs: 6 });
        merger.connect(place);
        deck.tracks.forEach((track, channel) => {
            track.fader = new GainNode(context, { channelCount: 1, channelCountMode: 'explicit' });
            track.fader.connect(merger, 0, channel);
        });
        deck.setGains = () => {};
    };
    // For each click of the mix, by how many ms the others' are off.
    const compare = (hits) => hits[0].map((frame) => hits.slice(1).map((others) => {
        const near = others.filter((other) => Math.abs(other - frame) < 0.2 * given.rate);
        return near.length === 1 ? ((near[0] - frame) / given.rate) * 1000 : null;
    }));
"""

OFFLINE = f"""async () => {{
    {SETUP}
    const context = new OfflineAudioContext(6, 46 * given.rate, given.rate);
    const page = globalThis[Symbol.for('harmonia.player')];
    page.context = context;
    wire(context, context.destination);
    const then = (seconds, act) => context.suspend(seconds).then(act).then(() => context.resume());
    await deck.load(deck.tracks.filter((track) => !track.stem));
    deck.begin();
    then(1, () => deck.load(deck.tracks.filter((track) => track.stem))); // stems that come late join in time
    for (let turn = 0; turn < 20; turn++) then(2 + turn / 2, () => deck.seek((turn * 7.3) % 30));
    then(12.5, () => deck.loop({{ start: 3.1, end: 4.3 }}));
    then(15.5, () => {{ deck.loop(null); deck.seek(0); }});
    const sound = await context.startRendering();
    const position = deck.position;
    clearTimeout(deck.ending);
    page.context = null;
    const hits = [0, 1, 2, 3, 4, 5].map((channel) => {{
        const found = [];
        sound.getChannelData(channel).forEach((value, frame) => {{
            if (Math.abs(value) > 0.3 && frame - (found.at(-1) ?? -given.rate) > 0.2 * given.rate) found.push(frame);
        }});
        return found;
    }});
    const joined = hits.map((frames) => frames.filter((frame) => frame > 1.2 * given.rate));
    return {{ offsets: compare(joined), first: hits.map((frames) => frames[0] / given.rate), position }};
}}"""

WORKLET = """registerProcessor('clicks', class extends AudioWorkletProcessor {
    constructor() { super(); this.last = new Float64Array(6).fill(-1e9); }
    process([channels]) {
        channels.forEach((sound, channel) => sound.forEach((value, frame) => {
            const now = currentFrame + frame;
            if (Math.abs(value) < 0.3 || now - this.last[channel] < 9600) return;
            this.last[channel] = now;
            this.port.postMessage([channel, now]);
        }));
        return true;
    }
})"""

LIVE = f"""async () => {{
    {SETUP}
    const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
    const page = globalThis[Symbol.for('harmonia.player')];
    const context = page.context = new AudioContext({{ sampleRate: given.rate }});
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([given.worklet], {{ type: 'text/javascript' }})));
    const counter = new AudioWorkletNode(context, 'clicks', {{
        numberOfOutputs: 0, channelCount: 6, channelCountMode: 'explicit', channelInterpretation: 'discrete',
    }});
    wire(context, counter);
    const hits = [[], [], [], [], [], []];
    counter.port.onmessage = ({{ data: [channel, frame] }}) => hits[channel].push(frame);
    await deck.play();
    await deck.choose(0, true);
    for (let turn = 0; turn < 20; turn++) {{ deck.seek((turn * 7.3) % 30); await wait(0.2); }}
    deck.seek(0);
    hits.forEach((frames) => frames.splice(0));
    await wait(31);
    const offsets = compare(hits);
    const clock = [context.currentTime, deck.position, context.outputLatency, hits[0].at(-1) / given.rate];
    deck.free();
    return {{ offsets, clock }};
}}"""


@pytest.fixture(scope="module")
def clicks():
    """A FLAC of 2 ms of noise each half second, the first at 0.25 s."""
    sound = np.zeros(SECONDS * RATE)
    for start in range(RATE // 4, len(sound), RATE // 2):
        sound[start : start + 96] = 0.8
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def base64_of(data):
    return base64.b64encode(data).decode()


def given(clicks, mix):
    return {"rate": RATE, "seconds": SECONDS, "stems": STEMS, "mix": base64_of(mix), "stem": base64_of(clicks)}


@pytest.mark.parametrize("mixed", [pytest.param("as the stems", marks=pytest.mark.stress), "as MP3, as in a panel"])
def test_stems_stay_within_10_ms_of_the_mix_after_20_seeks_a_loop_and_30_s(serve, clicks, mixed):
    mp3 = mixed != "as the stems"
    page = serve(**given(clicks, listening_copy(clicks) if mp3 else clicks))
    measured = page.evaluate(OFFLINE)
    assert len(measured["offsets"]) > 75  # 30 s of two clicks a second, besides those between the seeks
    assert None not in [each for one in measured["offsets"] for each in one]
    worst = max(abs(each) for one in measured["offsets"] for each in one)
    assert worst <= (10 if mp3 else 0)
    assert measured["first"][0] == pytest.approx(0.28, abs=0.01 if mp3 else 1e-4)
    assert measured["position"] == pytest.approx(46 - 15.5 - 0.03, abs=0.01)


@pytest.mark.stress
def test_they_do_so_by_a_real_clock_which_says_what_is_heard(serve, clicks):
    measured = serve(**given(clicks, clicks), worklet=WORKLET).evaluate(LIVE)
    assert len(measured["offsets"]) >= 60
    assert max(abs(each) for one in measured["offsets"] for each in one) <= 10
    now, position, latency, last = measured["clock"]
    heard = position - (now - latency - last)  # the song's time of the last click that was counted
    assert (heard - 0.25) % 0.5 == pytest.approx(0, abs=0.01) or (heard - 0.25) % 0.5 == pytest.approx(0.5, abs=0.01)


PAGE_STATE = "globalThis[Symbol.for('harmonia.player')]"


def test_a_refused_start_says_that_a_click_is_needed_and_a_later_one_plays(serve, clicks):
    page = serve(**given(clicks, clicks))
    told = page.evaluate(
        f"""async () => {{
            {SETUP}
            const running = {{ state: 'suspended', resume: () => new Promise(() => {{}}) }}; // no click
            {PAGE_STATE}.context = running;
            const told = await deck.play().catch((error) => error.message);
            {PAGE_STATE}.context = null;
            await deck.play();
            const plays = deck.playing;
            deck.free();
            return [told, plays];
        }}"""
    )
    assert "Click Play" in told[0]
    assert told[1] is True


def test_a_player_that_leaves_the_page_falls_silent_and_frees_its_sounds(serve, clicks):
    song = {
        "title": "T", "name": "T", "peaks": "", "sections": [], "lines": [], "about": [], "lufs": None,
        "seconds": SECONDS, "stems": [],
    }  # fmt: skip
    page = serve(**given(clicks, clicks), song=song)
    page.evaluate(
        """async () => {
            const load = async () => Uint8Array.from(atob(given.mix), (letter) => letter.charCodeAt(0)).buffer;
            globalThis.player = hp.mount(document.querySelector('main'), given.song, { load });
            await player.deck.play();
            player.root.remove();
        }"""
    )
    page.wait_for_function("() => !player.deck.playing && player.deck.tracks.every((track) => !track.sound)")

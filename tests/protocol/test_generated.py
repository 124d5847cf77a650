"""What is made from the models is right by other people's tools: AsyncAPI's parser, the TypeScript compiler."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.server.javascript import node_command
from harmonia_lab.errors import CODES
from harmonia_lab.protocol.asyncapi import asyncapi_document
from harmonia_lab.protocol.commands import COMMANDS
from harmonia_lab.protocol.events import EVENTS
from harmonia_lab.protocol.markdown import markdown_page
from harmonia_lab.protocol.schema import describe
from harmonia_lab.protocol.typescript import typescript_module
from harmonia_lab.protocol.wire_model import PROTOCOL_VERSION

PROXIED = Path(__file__).parents[1] / "server" / "proxied_client.mts"

PARSE = """
import { Parser } from '@asyncapi/parser';
import fs from 'node:fs';
const { document, diagnostics } = await new Parser().parse(fs.readFileSync(process.argv[2], 'utf8'));
console.log(JSON.stringify({
  faults: diagnostics.filter((d) => d.severity <= 1).map((d) => `${d.path.join('/')}: ${d.message}`),
  version: document?.info().version(),
  messages: document?.components().messages().all().map((m) => m.name()),
}));
"""

CLIENT = """
import { io, Socket } from 'socket.io-client';
import type {
  AudioGenerationCompleteEvent, ClientToServerEvents, ErrorInfo, ServerEvent, ServerToClientEvents,
} from './harmonia.mjs';

const url = 'http://localhost:3333';
const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io(url, { auth: { token: 't' } });
socket.on('metadata-generation-progress', (event) => {
  const step: 'analysis' | 'title' | 'lyrics' | 'genre' | 'mood' = event.currentStep;
  console.log(event.progress.toFixed(), step, event.tokensGenerated ?? 0);
});
socket.on('audio-generation-complete', (event: AudioGenerationCompleteEvent) => console.log(event.audioUrl.length));
socket.on('job:completed', ({ job }) => console.log(job.jobType, job.result?.outputPath, job.progress.percentage));
socket.on('audio-preview', ({ audio }) => console.log(audio.byteLength));
socket.emit('join-generation', 'gen-123');
socket.emit('join-generation', { generationId: 'gen-123', afterSeq: 3 }, (answer) => {
  if (answer.ok) console.log(answer.replayed, answer.snapshot?.status);
  else { const error: ErrorInfo = answer.error; console.log(error.code); }
});
socket.emit('start-generation', { narrative: 'n', instruments: ['piano', { name: 'bass guitar', role: 'bass' }] });
socket.emit('jobs:subscribe:user');
const answer = await socket.timeout(1000).emitWithAck('cancel-generation', { generationId: 'gen-123' });
if (answer.ok) console.log(answer.generationId);
socket.onAny((name, event) => {
  const any = { name, event } as ServerEvent;
  if (any.name === 'job:failed') console.log(any.event.recoverable, any.event.code === 'QUEUE_FULL');
  // @ts-expect-error only some events have it
  console.log(any.event.recoverable);
});
const meaning = (error: ErrorInfo): string => {
  // @ts-expect-error no such code
  if (error.code === 'QUEUE_FUL') return '';
  return error.code === 'RATE_LIMITED' ? String(error.details?.['retryAfter']) : error.message;
};
console.log(meaning);
// @ts-expect-error no such message
socket.emit('join', 'gen-123');
// @ts-expect-error a number is no id
socket.emit('join-generation', 5);
// @ts-expect-error no such field
socket.on('job:status', (event) => event.jobStatus);
"""


@pytest.fixture
def room(tmp_path, javascript):
    """A folder whose scripts find the packages."""
    (tmp_path / "node_modules").symlink_to(javascript / "node_modules")
    return tmp_path


def run(room, *command):
    return subprocess.run(
        [*node_command(), *command], cwd=room, capture_output=True, text=True, timeout=600, check=False
    )


def test_asyncapis_own_parser_finds_no_fault(room):
    (room / "parse.mjs").write_text(PARSE)
    (room / "asyncapi.json").write_text(json.dumps(asyncapi_document()))
    done = run(room, "parse.mjs", "asyncapi.json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["faults"], found["version"]) == ([], PROTOCOL_VERSION)
    assert EVENTS.keys() | COMMANDS.keys() <= set(found["messages"])


def test_small_typed_clients_compile_and_their_mistakes_do_not(room):
    (room / "harmonia.mts").write_text(typescript_module())
    (room / "client.mts").write_text(CLIENT)
    shutil.copy(PROXIED, room)
    options = ["--strict", "--noEmit", "--skipLibCheck", "--exactOptionalPropertyTypes"]
    options += ["--target", "es2022", "--module", "nodenext"]
    done = run(room, "node_modules/typescript/bin/tsc", *options, "client.mts", PROXIED.name, "harmonia.mts")
    assert done.returncode == 0, done.stdout


def test_the_page_has_every_message_field_and_code():
    page = markdown_page()
    assert all(f"`{name}`" in page for name in [*EVENTS, *COMMANDS, *CODES])
    schemas = describe()["schemas"]
    linked = {name for name in schemas if f"](#{name.lower()})" in page}
    assert all(f"\n### {name}\n" in page for name in linked)
    assert {"Job", "SongMetadata", "ErrorInfo", "Snapshot", "ErrorAck"} <= linked
    assert all(f"`{f}`" in page or f"`{f}?`" in page for schema in schemas.values() for f in schema["properties"])

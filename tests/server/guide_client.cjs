// The guide's two services, taken literally: bare-string join, no acknowledgements, its options. It knows nothing of us
// beyond the guide, save that `start-generation` exists (the guide leaves starting to "the server-side flow").
const { io } = require('socket.io-client');

const [url, token, transport, generationId] = process.argv.slice(2);
const GENERATION = [
  'metadata-generation-started', 'metadata-generation-progress', 'metadata-generation-complete',
  'audio-generation-started', 'audio-generation-progress', 'audio-generation-complete',
  'generation-error', 'generation-cancelled', 'generation-timeout',
];
const JOBS = ['job:status', 'job:progress', 'job:completed', 'job:failed'];
const heard = [];

const socket = io(url, {
  auth: { token },
  transports: [transport],
  reconnection: true,
  reconnectionAttempts: 5,
  reconnectionDelay: 1000,
});
const end = (extra) => {
  console.log(JSON.stringify({ heard, ...extra }));
  socket.disconnect();
};
socket.on('connect_error', (error) => end({ error: error.message, data: error.data }));
for (const name of [...GENERATION, ...JOBS]) {
  socket.on(name, (event) => {
    heard.push([name, event]);
    if (name === 'job:status' && ['completed', 'failed', 'cancelled'].includes(event.status)) setTimeout(() => end({}), 50);
  });
}
// Before it is connected, as the guide's components do: the client keeps them until it is.
socket.emit('join-generation', generationId);
socket.emit('job:subscribe', { jobId: generationId });
socket.emit('jobs:subscribe:user');
socket.emit('start-generation', { narrative: 'A small boat goes home.', seconds: 1, generationId });

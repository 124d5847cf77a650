// An external client behind JupyterHub: Socket.IO's own `path` option, Jupyter's token in the query, ours in `auth`.
const { io } = require('socket.io-client');

const [url, path, jupyterToken, token, transport] = process.argv.slice(2);
const socket = io(url, { path, query: { token: jupyterToken }, auth: { token }, transports: [transport], reconnection: false });
const heard = [];
const end = (extra) => {
  console.log(JSON.stringify({ heard, ...extra }));
  socket.disconnect();
};
socket.on('connect_error', (error) => end({ error: error.message }));
socket.onAny((name, event) => {
  heard.push([name, event]);
  if (name === 'audio-generation-complete') end({});
});
socket.emit('start-generation', { narrative: 'A small boat goes home.', seconds: 1 });

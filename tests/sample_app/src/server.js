// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const http = require('node:http');
const path = require('node:path');
const express = require('express');
const { WebSocketServer } = require('ws');
const { load } = require('./config');
const logger = require('./log');
const { metrics } = require('./metrics');
const { retry } = require('./retry');
const { reporter, watcher } = require('./status');
const { stores } = require('./stores');

const config = load();
const log = logger(config, 'web');
const store = stores(config, log);
const meter = metrics(config);
const status = reporter(config, store);
const health = watcher(store);
const app = express();
let draining = false;

app.disable('x-powered-by');
app.set('trust proxy', 'loopback');
app.use((request, response, next) => {
  const begin = process.hrtime.bigint();
  response.setHeader('X-Served-By', status.instance);
  if (draining) response.setHeader('Connection', 'close');
  response.on('finish', () => {
    const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
    const labels = { route: request.route ? request.route.path : 'none', method: request.method, status: response.statusCode };
    meter.requests.inc(labels);
    meter.duration.observe(labels, seconds);
    const quiet = request.path === '/api/health' || request.path === '/metrics';
    log[quiet ? 'debug' : 'info']({
      method: request.method,
      path: request.path,
      status: response.statusCode,
      ms: Math.round(seconds * 1e5) / 100,
      request_id: request.get('x-request-id'),
    }, 'request');
  });
  next();
});
app.use('/assets', express.static(path.join(__dirname, 'public'), { index: false, maxAge: 0 }));
app.use(express.json({ limit: '16kb' }));

const page = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
};
app.get('/', (request, response) => {
  response.set(page).sendFile(path.join(__dirname, 'public', 'index.html'));
});

app.get('/api/health', (request, response) => {
  const failing = Object.values(health.state).some((entry) => !entry.ok);
  const word = draining ? 'draining' : !health.ready ? 'starting' : failing ? 'degraded' : 'ok';
  response.set('Cache-Control', 'no-store');
  response.status(draining || !health.ready ? 503 : 200).json({ status: word, instance: status.instance, version: config.version, checks: health.state });
});

app.get('/api/status', async (request, response) => {
  response.set('Cache-Control', 'no-store').json({ ...(await status.report()), gateway: request.get('x-gateway') || null });
});

app.get('/api/notes', async (request, response) => {
  const { value } = await retry(() => store.ro.query('SELECT id::int, body, instance, created_at, processed_at FROM notes ORDER BY id DESC LIMIT 50'), config.retryMs);
  response.set('Cache-Control', 'no-store').json(value.rows);
});

app.post('/api/notes', async (request, response) => {
  const body = request.body && request.body.body;
  if (typeof body !== 'string' || body.length < 1 || body.length > 2000) {
    response.status(400).json({ error: 'body: a text of 1 to 2000 characters' });
    return;
  }
  // Not retried: an insert whose answer was lost may have happened.
  const { rows } = await store.rw.query('INSERT INTO notes (body, instance) VALUES ($1, $2) RETURNING id::int, created_at', [body, status.instance]);
  if (store.cache) store.cache.lpush('jobs', String(rows[0].id)).catch((error) => log.warn({ err: error.message }, 'job not queued; the worker finds the note by itself'));
  response.status(201).json({ ...rows[0], body });
});

app.get('/api/items/:id', async (request, response) => {
  const id = Number(request.params.id);
  if (!Number.isInteger(id) || id < 1) {
    response.status(400).json({ error: 'id: a positive integer' });
    return;
  }
  const key = `item:${id}`;
  // A cache that is down costs time, not answers.
  const cached = store.cache ? await store.cache.get(key).catch(() => null) : null;
  response.set('X-Cache', cached ? 'HIT' : 'MISS');
  if (cached) {
    response.type('json').send(cached);
    return;
  }
  const { value } = await retry(() => store.ro.query('SELECT id, name, price_cents FROM items WHERE id = $1', [id]), config.retryMs);
  if (!value.rows.length) {
    response.status(404).json({ error: 'no such item' });
    return;
  }
  const text = JSON.stringify(value.rows[0]);
  if (store.cache) store.cache.set(key, text, 'EX', 30).catch(() => null);
  response.type('json').send(text);
});

app.get('/metrics', (request, response) => meter.send(response));

app.use((request, response) => response.status(404).json({ error: 'not found' }));
app.use((error, request, response, next) => { // Express knows an error handler by its four arguments
  if (response.headersSent) {
    next(error);
    return;
  }
  const code = error.status >= 400 && error.status < 500 ? error.status : 503;
  log.error({ err: error.message, code: error.code, path: request.path }, 'request failed');
  response.status(code).json({ error: code === 503 ? 'temporarily unavailable' : error.message });
});

const server = http.createServer(app);
server.keepAliveTimeout = 65000; // longer than the router keeps an idle connection, so that it closes first
const sockets = new WebSocketServer({ server, path: '/ws' });
meter.gauge('websocket_clients', 'Open websockets.', function collect() { this.set(sockets.clients.size); });
let latest = null;
const push = setInterval(async () => {
  if (!sockets.clients.size) return;
  latest = JSON.stringify(await status.report());
  for (const socket of sockets.clients) if (socket.readyState === 1) socket.send(latest);
}, 2000);
sockets.on('connection', async (socket) => {
  socket.on('error', (error) => log.debug({ err: error.message }, 'websocket'));
  socket.send(latest || JSON.stringify(await status.report()));
});

server.listen(config.port, config.listen, () => log.info({ port: server.address().port }, 'listening'));
server.on('error', (error) => {
  log.fatal({ err: error.message }, 'cannot listen');
  process.exit(1);
});

/** Say so in health first, finish what is under way, then go. */
async function stop(signal) {
  if (draining) return;
  draining = true;
  log.info({ signal }, 'draining');
  await new Promise((done) => setTimeout(done, config.drainMs));
  clearInterval(push);
  for (const socket of sockets.clients) socket.close(1001, 'going away');
  const forced = setTimeout(() => {
    log.warn('requests still under way at the end of the grace period');
    process.exit(1);
  }, config.stopMs);
  server.close(async () => {
    clearTimeout(forced);
    health.stop();
    await store.close();
    log.info('stopped');
    process.exit(0);
  });
  server.closeIdleConnections();
}
process.on('SIGTERM', () => stop('SIGTERM'));
process.on('SIGINT', () => stop('SIGINT'));

// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const http = require('node:http');
const { load } = require('./config');
const logger = require('./log');
const { metrics } = require('./metrics');
const { retry } = require('./retry');
const { stores } = require('./stores');

const config = load();
const log = logger(config, 'worker');
const store = stores(config, log);
const meter = metrics(config);
const done = meter.counter('jobs_processed_total', 'Notes handled.');
const failed = meter.counter('jobs_failed_total', 'Rounds that ended in an error.');
const pending = meter.gauge('pending_tasks', 'Notes waiting for a worker.');
const alive = meter.gauge('worker_last_success_timestamp_seconds', 'When the last round ended well.');
let stopping = false;
let wake = () => {};

const sleep = (ms) => new Promise((resolve) => {
  wake = resolve;
  setTimeout(resolve, ms);
});

/** One round: empty the queue of hints, then handle what the database says is unhandled. It is the truth, the queue only a hint. */
async function round() {
  if (store.cache) await store.cache.ltrim('jobs', 1, 0).catch((error) => log.debug({ err: error.message }, 'queue'));
  const { value } = await retry(() => store.rw.query(`UPDATE notes SET processed_at = now() WHERE id IN
    (SELECT id FROM notes WHERE processed_at IS NULL ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING id`), config.retryMs);
  if (value.rowCount) log.info({ notes: value.rowCount }, 'processed');
  done.inc(value.rowCount);
  const left = await store.rw.query('SELECT count(*)::int AS n FROM notes WHERE processed_at IS NULL');
  pending.set(left.rows[0].n);
  alive.setToCurrentTime();
}

async function main() {
  log.info('started');
  while (!stopping) {
    try {
      await round();
    } catch (error) {
      failed.inc();
      log.error({ err: error.message, code: error.code }, 'round failed');
    }
    if (!stopping) await sleep(2000);
  }
  await store.close();
  log.info('stopped');
  process.exit(0);
}

if (config.port) {
  http.createServer((request, response) => {
    if (request.url === '/metrics') {
      meter.send(response);
      return;
    }
    response.statusCode = request.url === '/api/health' && !stopping ? 200 : 404;
    response.end();
  }).listen(config.port, config.listen);
}
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    stopping = true;
    wake();
  });
}
main();

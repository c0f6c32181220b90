// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const path = require('node:path');
const { Client } = require('pg');
const { load } = require('./config');
const logger = require('./log');
const { list, outstanding } = require('./migrations');
const { retry } = require('./retry');

const LOCK = 4711001; // one migration at a time, whoever starts it

async function migrate(config, log) {
  const steps = list(path.join(__dirname, '..', 'migrations'));
  const { value: client } = await retry(async () => {
    const made = new Client({ ...config.rw, connectionTimeoutMillis: 5000, application_name: 'migrate' });
    await made.connect();
    return made;
  }, 30000);
  try {
    // One transaction for everything: the lock goes with it, and a migration that fails leaves nothing behind.
    await client.query('BEGIN');
    await client.query("SET LOCAL lock_timeout = '15s'");
    await client.query('SELECT pg_advisory_xact_lock($1)', [LOCK]);
    await client.query('CREATE TABLE IF NOT EXISTS schema_migrations (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())');
    const { rows } = await client.query('SELECT name, checksum FROM schema_migrations');
    const todo = outstanding(steps, rows);
    for (const step of todo) {
      await client.query(step.sql);
      await client.query('INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)', [step.name, step.checksum]);
      log.info({ migration: step.name }, 'applied');
    }
    await client.query('COMMIT');
    log.info({ applied: todo.length, known: steps.length }, 'schema is up to date');
  } finally {
    await client.end();
  }
}

const config = load();
const log = logger(config, 'migrate');
migrate(config, log).catch((error) => {
  log.fatal({ err: error.message, code: error.code }, 'migration failed; nothing was changed');
  process.exitCode = 1;
});

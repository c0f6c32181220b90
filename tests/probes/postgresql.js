// SPDX-License-Identifier: GPL-3.0-or-later
// Writes one row every INTERVAL ms for DURATION s through the host's own pool, one attempt at a time, or until the first
// success after SIGTERM, and prints one JSON object: acknowledged ids, errors, and the longest gap between two acknowledged writes.
'use strict';
const { createRequire } = require('node:module');
const load = createRequire(process.env.PROBE_MODULES + '/');
const { Client } = load('pg');

const duration = Number(process.env.PROBE_DURATION || 10) * 1000;
const interval = Number(process.env.PROBE_INTERVAL || 50);
const base = Number(process.env.PROBE_BASE || Date.now());
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const limit = (promise, ms) => {
  let timer;
  const over = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('no answer in ' + ms + ' ms')), ms); });
  return Promise.race([promise, over]).finally(() => clearTimeout(timer));
};

async function main() {
  let client = null;
  const acknowledged = [];
  const errors = {};
  const start = Date.now();
  let last = start;
  let gap = 0;
  let asked = Infinity;
  process.on('SIGTERM', () => { asked = Date.now(); });
  for (let id = base; Date.now() - start < duration && last <= asked; id += 1) {
    try {
      if (!client) {
        client = new Client({
          host: process.env.PGHOST, port: process.env.PGPORT, user: process.env.PGUSER,
          password: process.env.PGPASSWORD, database: process.env.PGDATABASE, connectionTimeoutMillis: 2000,
        });
        client.on('error', () => {});
        await client.connect();
      }
      await limit(client.query('insert into write_probe (id) values ($1)', [id]), 30000);
      const now = Date.now();
      gap = Math.max(gap, now - last);
      last = now;
      acknowledged.push(id);
    } catch (error) {
      errors[error.message] = (errors[error.message] || 0) + 1;
      if (client) client.end().catch(() => {});
      client = null;
      await sleep(100);
    }
    await sleep(interval);
  }
  gap = Math.max(gap, Date.now() - last);
  // More than a pipe holds is written later: the end comes after that.
  process.stdout.write(JSON.stringify({ acknowledged, errors, gap_seconds: gap / 1000 }) + '\n', () => process.exit(0));
}
main();

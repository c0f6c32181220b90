// SPDX-License-Identifier: GPL-3.0-or-later
// Writes numbered keys, one every INTERVAL ms for DURATION s, or until the first success after SIGTERM; then reads back all that were
// acknowledged. Prints one JSON object: written, missing, errors, and the longest gap between two acknowledged writes.
'use strict';
const { createRequire } = require('node:module');
const fs = require('node:fs');
const load = createRequire(process.env.PROBE_MODULES + '/');
const Redis = load('ioredis');

const duration = Number(process.env.PROBE_DURATION || 10) * 1000;
const interval = Number(process.env.PROBE_INTERVAL || 50);
const prefix = process.env.PROBE_PREFIX;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function main() {
  const nodes = process.env.REDIS_NODES.split(',').map((node) => {
    const [host, port] = node.split(':');
    return { host, port: Number(port) };
  });
  const cluster = new Redis.Cluster(nodes, {
    dnsLookup: (address, callback) => callback(null, address),
    clusterRetryStrategy: () => 100,
    retryDelayOnFailover: 100,
    retryDelayOnClusterDown: 100,
    maxRedirections: 16,
    slotsRefreshTimeout: 2000,
    slotsRefreshInterval: 1000,
    redisOptions: {
      username: process.env.REDIS_USERNAME, password: process.env.REDIS_PASSWORD,
      tls: { ca: fs.readFileSync(process.env.REDIS_TLS_CA) }, connectTimeout: 1000, commandTimeout: 5000,
    },
  });
  cluster.on('error', () => {});
  const acknowledged = [];
  const errors = {};
  const start = Date.now();
  let last = start;
  let gap = 0;
  let asked = Infinity;
  process.on('SIGTERM', () => { asked = Date.now(); });
  for (let number = 0; Date.now() - start < duration && last <= asked; number += 1) {
    try {
      await cluster.set(prefix + number, String(number));
      const now = Date.now();
      gap = Math.max(gap, now - last);
      last = now;
      acknowledged.push(number);
    } catch (error) {
      errors[error.message] = (errors[error.message] || 0) + 1;
    }
    await sleep(interval);
  }
  gap = Math.max(gap, Date.now() - last);
  const missing = [];
  for (const number of acknowledged) {
    if (await cluster.get(prefix + number) !== String(number)) missing.push(number);
  }
  const seen = { written: acknowledged.length, missing, errors, gap_seconds: gap / 1000 };
  process.stdout.write(JSON.stringify(seen) + '\n', () => process.exit(0));
}
main();

// SPDX-License-Identifier: GPL-3.0-or-later
// Writes keys whose slots belong to one given master, every INTERVAL ms for DURATION s, and prints one JSON
// object: writes, errors, and the longest gap between two successful writes.
'use strict';
const { createRequire } = require('node:module');
const fs = require('node:fs');
const load = createRequire(process.env.PROBE_MODULES + '/');
const Redis = load('ioredis');

const duration = Number(process.env.PROBE_DURATION || 10) * 1000;
const interval = Number(process.env.PROBE_INTERVAL || 50);
const key = process.env.PROBE_KEY;
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
      tls: { ca: fs.readFileSync(process.env.REDIS_TLS_CA) }, connectTimeout: 1000, commandTimeout: 1000,
    },
  });
  cluster.on('error', () => {});
  const errors = {};
  const start = Date.now();
  let writes = 0;
  let last = start;
  let gap = 0;
  while (Date.now() - start < duration) {
    try {
      await cluster.set(key, String(Date.now()), 'EX', 600);
      const now = Date.now();
      if (writes) gap = Math.max(gap, now - last);
      last = now;
      writes += 1;
    } catch (error) {
      errors[error.message] = (errors[error.message] || 0) + 1;
    }
    await sleep(interval);
  }
  gap = Math.max(gap, Date.now() - last);
  process.stdout.write(JSON.stringify({ writes, errors, gap_seconds: gap / 1000 }) + '\n');
  process.exit(0);
}
main();

// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const keySlot = require('cluster-key-slot');
const { retry } = require('./retry');

const WRITE = `INSERT INTO beats AS b (instance, version) VALUES ($1, $2)
  ON CONFLICT (instance) DO UPDATE SET version = $2, count = b.count + 1, at = now()
  RETURNING count::int, host(inet_server_addr()) AS address, pg_is_in_recovery() AS replica`;
const READ = `SELECT (SELECT count::int FROM beats WHERE instance = $1) AS count,
  host(inet_server_addr()) AS address, pg_is_in_recovery() AS replica`;

const round = (ms) => Math.round(ms * 100) / 100;

async function timed(work) {
  const begin = process.hrtime.bigint();
  const since = () => round(Number(process.hrtime.bigint() - begin) / 1e6);
  try {
    return { ok: true, ...(await work()), ms: since() };
  } catch (error) {
    return { ok: false, error: error.message, ms: since() };
  }
}

/** One write, one read and one cache access, measured: what the status page shows. */
function reporter(config, stores) {
  const instance = `${config.host}:${config.port}`;

  async function sql(pool, text, values) {
    if (!pool) return { ok: false, configured: false };
    return timed(async () => {
      // The write is an upsert of this instance's own row: running it twice does no harm.
      const { value, attempts } = await retry(() => pool.query(text, values), config.retryMs);
      const row = value.rows[0];
      return { node: await stores.nameOf(row.address), address: row.address, replica: row.replica, count: row.count, attempts };
    });
  }

  function ownerOf(key) {
    const slot = keySlot(config.redis.prefix + key);
    return { slot, address: stores.cache.owner(slot) };
  }

  async function cache() {
    if (!stores.cache) return { ok: false, configured: false };
    return timed(async () => {
      const key = `status:${Math.floor(Math.random() * 12)}`;
      const { slot, address } = ownerOf(key);
      const found = await stores.cache.get(key);
      if (found === null) await stores.cache.set(key, instance, 'EX', config.cacheSeconds);
      const host = address ? address.replace(/:\d+$/, '') : null;
      return { hit: found !== null, key: config.redis.prefix + key, slot, address, node: await stores.nameOf(host), written_by: found || instance };
    });
  }

  return {
    instance,
    async report() {
      const [write, cached] = await Promise.all([sql(stores.rw, WRITE, [instance, config.version]), cache()]);
      const read = await sql(stores.ro, READ, [instance]);
      if (write.ok && read.ok) read.behind = Math.max(0, write.count - (read.count || 0));
      return {
        time: new Date().toISOString(),
        app: { name: config.name, version: config.version, host: config.host, port: config.port, instance, uptime_seconds: Math.round(process.uptime()) },
        write,
        read,
        cache: cached,
      };
    },
  };
}

/** State of what the service depends on, sampled in the background so that a health check costs nothing. */
function watcher(stores, every = 5000) {
  const state = {};
  let ready = false;
  const probes = {
    postgresql_rw: stores.rw && (() => stores.rw.query('SELECT 1')),
    postgresql_ro: stores.ro && (() => stores.ro.query('SELECT 1')),
    redis: stores.cache && (() => stores.cache.get('health')),
  };
  async function once() {
    await Promise.all(Object.entries(probes).filter(([, probe]) => probe).map(async ([name, probe]) => {
      const result = await timed(probe);
      state[name] = result.ok ? { ok: true, ms: result.ms } : { ok: false, error: result.error };
    }));
    // Ready once the database has answered. Later trouble makes it degraded, not unhealthy: taking every
    // instance out of service while the database fails over would turn a pause into an outage.
    ready = ready || Object.entries(state).every(([name, entry]) => entry.ok || name === 'redis');
  }
  let timer = null;
  const loop = async () => {
    await once();
    timer = setTimeout(loop, ready ? every : 300);
    timer.unref();
  };
  loop();
  return {
    get state() { return state; },
    get ready() { return ready; },
    stop() { clearTimeout(timer); },
  };
}

module.exports = { reporter, watcher };

// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

/** Parse "host:port,host:port" (also "[v6]:port"; blanks allowed). */
function parseNodes(text) {
  return (text || '')
    .split(/[\s,]+/)
    .filter(Boolean)
    .map((entry) => {
      const match = /^\[?([^\]]+?)\]?:(\d+)$/.exec(entry);
      if (!match) throw new Error(`REDIS_NODES: "${entry}" is not host:port`);
      return { host: match[1], port: Number(match[2]) };
    });
}

function number(env, name, fallback) {
  if (env[name] === undefined || env[name] === '') return fallback;
  const value = Number(env[name]);
  if (!Number.isFinite(value)) throw new Error(`${name}: "${env[name]}" is not a number`);
  return value;
}

function tlsFrom(env, prefix) {
  const ca = env[`${prefix}CA`];
  if (!ca) return undefined;
  const tls = { ca: fs.readFileSync(ca), minVersion: env[`${prefix}MIN_VERSION`] || 'TLSv1.3' };
  if (env[`${prefix}CERT`]) {
    tls.cert = fs.readFileSync(env[`${prefix}CERT`]);
    tls.key = fs.readFileSync(env[`${prefix}KEY`]);
  }
  return tls;
}

/** Connection settings of one pool: a URL when there is one, else the PG* variables with a database name. */
function database(env, url, name) {
  if (!url && !name) return undefined;
  const ssl = tlsFrom({ PGSSLCA: env.PGSSLROOTCERT }, 'PGSSL');
  if (url) return { connectionString: url, ssl };
  return {
    host: env.PGHOST || '127.0.0.1',
    port: number(env, 'PGPORT', 6432),
    user: env.PGUSER,
    password: env.PGPASSWORD,
    database: name,
    ssl,
  };
}

/** The whole configuration, from the environment only. */
function load(env = process.env) {
  const manifest = JSON.parse(fs.readFileSync(path.join(__dirname, '..', 'package.json'), 'utf8'));
  const port = number(env, 'PORT', 0);
  const readName = env.PGDATABASE_RO || (env.PGDATABASE ? `${env.PGDATABASE}_ro` : undefined);
  return {
    name: env.APP_NAME || 'sample',
    version: env.APP_VERSION || manifest.version,
    host: env.APP_HOST || os.hostname(),
    listen: env.HOST || '127.0.0.1',
    port,
    rw: database(env, env.DATABASE_URL, env.PGDATABASE),
    ro: database(env, env.DATABASE_RO_URL || env.DATABASE_URL, readName),
    poolSize: number(env, 'PG_POOL_SIZE', 10),
    redis: {
      nodes: parseNodes(env.REDIS_NODES),
      cluster: env.REDIS_CLUSTER !== '0',
      username: env.REDIS_USERNAME || undefined,
      password: env.REDIS_PASSWORD || undefined,
      prefix: env.REDIS_PREFIX === undefined ? 'sample:' : env.REDIS_PREFIX,
      tls: tlsFrom(env, 'REDIS_TLS_'),
    },
    cacheSeconds: number(env, 'CACHE_SECONDS', 5),
    retryMs: number(env, 'RETRY_MS', 15000),
    // How long health says "draining" before the listener closes: the router must see it twice.
    drainMs: number(env, 'DRAIN_MS', 2500),
    stopMs: number(env, 'STOP_MS', 20000),
    logLevel: env.LOG_LEVEL || 'info',
  };
}

module.exports = { load, parseNodes, database };

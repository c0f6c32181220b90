// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const dns = require('node:dns').promises;
const Redis = require('ioredis');
const { Pool } = require('pg');
const { within } = require('./retry');

/** Name of an address as /etc/hosts or DNS knows it; the address itself where it does not. */
function namer() {
  const known = new Map();
  return async (address) => {
    if (!address) return null;
    const hit = known.get(address);
    if (hit && hit.until > Date.now()) return hit.name;
    let name = address;
    try {
      name = (await dns.lookupService(address, 0)).hostname.split('.')[0];
      if (/^\d+$/.test(name)) name = address;
    } catch (error) {
      name = address; // no name is no error: the address says it too
    }
    known.set(address, { name, until: Date.now() + 60000 });
    return name;
  };
}

function pool(settings, size, log, label) {
  if (!settings) return null;
  const made = new Pool({
    ...settings,
    max: size,
    connectionTimeoutMillis: 5000,
    idleTimeoutMillis: 30000,
    query_timeout: 10000,
    keepAlive: true,
  });
  made.on('error', (error) => log.warn({ pool: label, err: error.message }, 'idle connection lost'));
  return made;
}

function clustered(settings, common) {
  return new Redis.Cluster(settings.nodes, {
    keyPrefix: settings.prefix,
    redisOptions: common,
    // Nodes are known by address and their certificates name it; a lookup in between would hide that.
    dnsLookup: (address, callback) => callback(null, address),
    slotsRefreshTimeout: 2000,
    slotsRefreshInterval: 15000,
    clusterRetryStrategy: (times) => Math.min(100 * times, 1000),
    retryDelayOnFailover: 200,
    retryDelayOnClusterDown: 300,
    enableOfflineQueue: true,
  });
}

function redis(settings, log) {
  if (!settings.nodes.length) return null;
  const common = {
    username: settings.username,
    password: settings.password,
    tls: settings.tls,
    connectTimeout: 2000,
    commandTimeout: 3000,
    maxRetriesPerRequest: 2,
  };
  const client = settings.cluster ? clustered(settings, common) : new Redis({ ...settings.nodes[0], ...common, keyPrefix: settings.prefix });
  let last = '';
  client.on('error', (error) => {
    if (error.message !== last) log.warn({ err: error.message }, 'cache');
    last = error.message;
  });
  client.on('ready', () => { last = ''; });
  const bounded = (name) => (...args) => within(2000, client[name](...args));
  return {
    get: bounded('get'),
    set: bounded('set'),
    lpush: bounded('lpush'),
    ltrim: bounded('ltrim'),
    owner: (slot) => (settings.cluster && client.slots[slot] ? client.slots[slot][0] : null),
    disconnect: () => client.disconnect(),
  };
}

function stores(config, log) {
  return {
    rw: pool(config.rw, config.poolSize, log, 'rw'),
    ro: pool(config.ro, config.poolSize, log, 'ro'),
    cache: redis(config.redis, log),
    nameOf: namer(),
    async close() {
      await Promise.allSettled([this.rw && this.rw.end(), this.ro && this.ro.end()]);
      if (this.cache) this.cache.disconnect();
    },
  };
}

module.exports = { stores };

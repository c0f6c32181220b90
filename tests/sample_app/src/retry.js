// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

// What a failover looks like from a client: the server shuts down, refuses, is still read-only, or vanishes.
const SQLSTATES = new Set(['25006', '40001', '40P01', '53300', '57P01', '57P02', '57P03', '08000', '08001', '08003', '08004', '08006', '08P01']);
const SYSTEM = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ECONNABORTED']);
const TEXT = /connection terminated|timeout exceeded|query read timeout|server closed the connection|query_wait_timeout|server conn crashed|connect failed|client_idle_timeout/i;

/** True when trying again may succeed without any change. */
function transient(error) {
  if (!error) return false;
  return SQLSTATES.has(error.code) || SYSTEM.has(error.code) || TEXT.test(error.message || '');
}

/** Pause before attempt n (1, 2, ...): 50 ms, doubled, at most 1 s, with jitter so that instances do not march in step. */
function pause(attempt, random = Math.random) {
  return Math.min(1000, 50 * 2 ** (attempt - 1)) * (0.5 + random() / 2);
}

/** Run work until it succeeds, fails for good, or the budget (ms) is used up. Only for work that may run twice. */
async function retry(work, budget, { now = Date.now, sleep = (ms) => new Promise((done) => setTimeout(done, ms)) } = {}) {
  const end = now() + budget;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return { value: await work(attempt), attempts: attempt };
    } catch (error) {
      const wait = pause(attempt);
      if (!transient(error) || now() + wait > end) throw error;
      await sleep(wait);
    }
  }
}

/** Fail after ms instead of waiting on: a client that looks for its servers queues what it is asked, without end. */
async function within(ms, promise) {
  let timer;
  const late = new Promise((resolve, reject) => { timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

module.exports = { retry, transient, pause, within };

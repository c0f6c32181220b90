// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const test = require('node:test');
const assert = require('node:assert');
const { pause, retry, transient, within } = require('../src/retry');

const clock = () => {
  let time = 0;
  return { now: () => time, sleep: async (ms) => { time += ms; } };
};

test('a failover is transient, a mistake is not', () => {
  for (const code of ['57P01', '25006', '08006', 'ECONNREFUSED']) assert.ok(transient({ code, message: '' }), code);
  assert.ok(transient(new Error('Connection terminated unexpectedly')));
  assert.ok(!transient({ code: '42P01', message: 'relation does not exist' }));
  assert.ok(!transient({ code: '23505', message: 'duplicate key' }));
});

test('work is repeated until it succeeds, and says how often', async () => {
  let calls = 0;
  const result = await retry(async () => {
    calls += 1;
    if (calls < 3) throw Object.assign(new Error('down'), { code: 'ECONNREFUSED' });
    return 'done';
  }, 1000, clock());
  assert.deepStrictEqual(result, { value: 'done', attempts: 3 });
});

test('the budget ends it with the last error', async () => {
  const time = clock();
  await assert.rejects(retry(async () => { throw Object.assign(new Error('still down'), { code: '57P03' }); }, 5000, time), /still down/);
  assert.ok(time.now() <= 5000);
});

test('a mistake is not repeated', async () => {
  let calls = 0;
  await assert.rejects(retry(async () => { calls += 1; throw Object.assign(new Error('no'), { code: '42P01' }); }, 5000, clock()));
  assert.strictEqual(calls, 1);
});

test('pauses double up to a second', () => {
  assert.strictEqual(pause(1, () => 1), 50);
  assert.strictEqual(pause(2, () => 1), 100);
  assert.strictEqual(pause(12, () => 1), 1000);
});

test('what takes too long fails, what answers does not', async () => {
  await assert.rejects(within(10, new Promise(() => {})), /no answer within 10 ms/);
  assert.strictEqual(await within(1000, Promise.resolve(7)), 7);
});

// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const test = require('node:test');
const assert = require('node:assert');
const { database, load, parseNodes } = require('../src/config');

test('nodes are read as host:port, also IPv6 and with blanks', () => {
  assert.deepStrictEqual(parseNodes('10.0.0.1:6379, r2.internal:6380'), [{ host: '10.0.0.1', port: 6379 }, { host: 'r2.internal', port: 6380 }]);
  assert.deepStrictEqual(parseNodes('[fd00::1]:6379'), [{ host: 'fd00::1', port: 6379 }]);
  assert.deepStrictEqual(parseNodes(undefined), []);
});

test('a node without a port is refused by name', () => {
  assert.throws(() => parseNodes('10.0.0.1'), /REDIS_NODES: "10\.0\.0\.1" is not host:port/);
});

test('reads go to NAME_ro unless another name is given', () => {
  assert.strictEqual(load({ PGDATABASE: 'sample', PGUSER: 'sample' }).ro.database, 'sample_ro');
  assert.strictEqual(load({ PGDATABASE: 'sample', PGDATABASE_RO: 'x' }).ro.database, 'x');
  assert.strictEqual(load({ PGDATABASE: 'sample' }).rw.port, 6432);
});

test('without a database there is no pool', () => {
  assert.strictEqual(database({}, undefined, undefined), undefined);
  assert.strictEqual(load({}).rw, undefined);
});

test('a number that is none is refused by name', () => {
  assert.throws(() => load({ PORT: 'three' }), /PORT: "three" is not a number/);
});

// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const test = require('node:test');
const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { list, outstanding } = require('../src/migrations');

function folder(names) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'migrations-'));
  for (const name of names) fs.writeFileSync(path.join(made, name), `-- ${name}`);
  return made;
}

test('they come in the order of their numbers', () => {
  assert.deepStrictEqual(list(folder(['002_b.sql', '001_a.sql', 'notes.txt'])).map((step) => step.name), ['001_a.sql', '002_b.sql']);
});

test('a bad name and a number that stands twice are refused', () => {
  assert.throws(() => list(folder(['1_a.sql'])), /NNN_what_it_does/);
  assert.throws(() => list(folder(['001_a.sql', '001_b.sql'])), /stands twice/);
});

test('what was applied is not applied again', () => {
  const steps = list(folder(['001_a.sql', '002_b.sql']));
  assert.deepStrictEqual(outstanding(steps, [steps[0]]).map((step) => step.name), ['002_b.sql']);
});

test('an edited migration is refused', () => {
  const steps = list(folder(['001_a.sql']));
  assert.throws(() => outstanding(steps, [{ name: '001_a.sql', checksum: 'other' }]), /was changed after it had been applied/);
});

test('the shipped migrations are well formed', () => {
  assert.ok(list(path.join(__dirname, '..', 'migrations')).length >= 2);
});

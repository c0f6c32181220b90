// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

/** The migrations of a folder in order: NNN_name.sql, each number once. */
function list(folder) {
  const found = fs.readdirSync(folder).filter((name) => name.endsWith('.sql')).sort();
  const seen = new Set();
  return found.map((name) => {
    const match = /^(\d{3})_[a-z0-9_]+\.sql$/.exec(name);
    if (!match) throw new Error(`${name}: a migration is named NNN_what_it_does.sql`);
    if (seen.has(match[1])) throw new Error(`${name}: the number ${match[1]} stands twice`);
    seen.add(match[1]);
    const sql = fs.readFileSync(path.join(folder, name), 'utf8');
    return { name, sql, checksum: crypto.createHash('sha256').update(sql).digest('hex') };
  });
}

/** What is still to do. A migration that was applied and edited afterwards is an error: it would never run. */
function outstanding(wanted, applied) {
  const known = new Map(applied.map((row) => [row.name, row.checksum]));
  for (const step of wanted) {
    if (known.has(step.name) && known.get(step.name) !== step.checksum) {
      throw new Error(`${step.name} was changed after it had been applied; add a new migration instead`);
    }
  }
  return wanted.filter((step) => !known.has(step.name));
}

module.exports = { list, outstanding };

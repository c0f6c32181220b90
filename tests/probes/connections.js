// SPDX-License-Identifier: GPL-3.0-or-later
// Opens CLIENTS connections to the host's own pool, keeps them all open, has each ask one question at the same time,
// and prints one JSON object: how many were answered, by how many of the server's processes, and errors.
'use strict';
const { createRequire } = require('node:module');
const load = createRequire(process.env.PROBE_MODULES + '/');
const { Client } = load('pg');

const wanted = Number(process.env.PROBE_CLIENTS || 100);
const AT_ONCE = 50;

async function main() {
  const clients = [];
  const errors = {};
  const note = (error) => { errors[error.message] = (errors[error.message] || 0) + 1; };
  const open = async () => {
    const client = new Client({
      host: process.env.PGHOST, port: process.env.PGPORT, user: process.env.PGUSER,
      password: process.env.PGPASSWORD, database: process.env.PGDATABASE, connectionTimeoutMillis: 30000,
    });
    client.on('error', note);
    try {
      await client.connect();
      clients.push(client);
    } catch (error) {
      note(error);
    }
  };
  for (let opened = 0; opened < wanted; opened += AT_ONCE) {
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, wanted - opened) }, open));
  }
  const processes = new Set();
  let answered = 0;
  await Promise.all(clients.map(async (client) => {
    try {
      const result = await client.query('select pg_backend_pid() as pid, pg_sleep(0.01)');
      processes.add(result.rows[0].pid);
      answered += 1;
    } catch (error) {
      note(error);
    }
  }));
  process.stdout.write(JSON.stringify({ open: clients.length, answered, processes: processes.size, errors }) + '\n');
  process.exit(0);
}
main();

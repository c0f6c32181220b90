// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const pino = require('pino');

/** JSON lines on standard output; the journal and Loki read them as they are. */
module.exports = (config, component) => pino({
  level: config.logLevel,
  base: { app: config.name, version: config.version, component, ...(config.port ? { port: config.port } : {}) },
  timestamp: pino.stdTimeFunctions.isoTime,
  formatters: { level: (label) => ({ level: label }) },
});

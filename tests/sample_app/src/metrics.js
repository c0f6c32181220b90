// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

const client = require('prom-client');

function metrics(config) {
  const registry = new client.Registry();
  registry.setDefaultLabels({ app: config.name });
  // Once a tenth of a second, not a hundred times a second: an idle process would do little else.
  client.collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 100 });
  new client.Gauge({ name: 'app_info', help: 'Release that runs; always 1.', labelNames: ['version'], registers: [registry] })
    .set({ version: config.version }, 1);
  return {
    registry,
    requests: new client.Counter({ name: 'http_requests_total', help: 'Requests answered.', labelNames: ['route', 'method', 'status'], registers: [registry] }),
    duration: new client.Histogram({
      name: 'http_request_duration_seconds',
      help: 'Time to answer a request.',
      labelNames: ['route', 'method', 'status'],
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers: [registry],
    }),
    gauge: (name, help, collect) => new client.Gauge({ name, help, registers: [registry], ...(collect ? { collect } : {}) }),
    counter: (name, help, labelNames = []) => new client.Counter({ name, help, labelNames, registers: [registry] }),
    async send(response) {
      response.setHeader('Content-Type', registry.contentType);
      response.end(await registry.metrics());
    },
  };
}

module.exports = { metrics };

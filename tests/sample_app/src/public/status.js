// SPDX-License-Identifier: GPL-3.0-or-later
'use strict';

(() => {
  const $ = (id) => document.getElementById(id);
  const KEEP = 60;
  const HUES = ['#6366f1', '#06b6d4', '#10b981', '#f59e0b', '#ec4899', '#8b5cf6', '#14b8a6', '#f97316', '#3b82f6', '#84cc16'];
  const history = []; // {instance, version, ok, app, write, read, cache, hit}
  const instances = new Map(); // instance -> {hue, version, total}
  const last = {};
  let good = 0;
  let failed = 0;
  let lastWrite = null;
  let longest = 0;
  let paused = false;

  const ms = (value) => (value === undefined || value === null ? '–' : value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`);
  const text = (id, value) => { if ($(id).textContent !== value) $(id).textContent = value; };

  function who(id, main, small) {
    const place = $(id);
    place.textContent = main;
    if (small) {
      const extra = document.createElement('small');
      extra.textContent = small;
      place.append(extra);
    }
    place.title = small ? `${main} ${small}` : main;
  }

  function event(tone, parts) {
    const item = document.createElement('li');
    const time = document.createElement('time');
    time.textContent = new Date().toLocaleTimeString([], { hour12: false });
    const dot = document.createElement('i');
    dot.style.setProperty('--tone', `var(--${tone})`);
    const words = document.createElement('span');
    for (const part of parts) {
      if (Array.isArray(part)) {
        const strong = document.createElement('b');
        strong.textContent = part[0];
        words.append(strong);
      } else words.append(part);
    }
    item.append(time, dot, words);
    $('events').prepend(item);
    while ($('events').children.length > 60) $('events').lastChild.remove();
  }

  function flash(id) {
    $(id).classList.remove('flash');
    void $(id).offsetWidth; // restarts the animation
    $(id).classList.add('flash');
  }

  /** Note a change of one fact; the first value is no change. */
  function changed(key, value, tell) {
    const before = last[key];
    last[key] = value;
    if (before !== undefined && before !== value) tell(before, value);
  }

  function spark(id, values) {
    const svg = $(id);
    const width = 100;
    const height = 46;
    const known = values.filter((value) => value !== null);
    if (known.length < 2) return;
    const sorted = [...known].sort((a, b) => a - b);
    const top = Math.max(sorted[Math.floor(sorted.length * 0.97)] * 1.25, 2);
    const step = width / (KEEP - 1);
    const begin = KEEP - values.length;
    const points = values.map((value, index) => (value === null ? null : `${((begin + index) * step).toFixed(2)},${(height - 2 - Math.min(1, value / top) * (height - 6)).toFixed(2)}`));
    const drawn = points.filter(Boolean);
    const first = drawn[0].split(',')[0];
    const end = drawn[drawn.length - 1].split(',')[0];
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    let paths = svg.querySelectorAll('path');
    if (!paths.length) {
      for (const name of ['fill', 'line']) {
        const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
        path.setAttribute('class', name);
        svg.append(path);
      }
      paths = svg.querySelectorAll('path');
    }
    paths[0].setAttribute('d', `M${first},${height}L${drawn.join('L')}L${end},${height}Z`);
    paths[1].setAttribute('d', `M${drawn.join('L')}`);
  }

  function rows() {
    const place = $('instances');
    const recent = history.slice(-KEEP);
    text('window', `last ${recent.length} request${recent.length === 1 ? '' : 's'}`);
    const counted = recent.filter((entry) => entry.ok).length || 1;
    const names = [...instances.keys()].sort();
    if (place.dataset.names !== names.join()) {
      place.dataset.names = names.join();
      place.replaceChildren(...names.map((name) => {
        const row = document.createElement('div');
        row.className = 'row';
        row.style.setProperty('--hue', instances.get(name).hue);
        const title = document.createElement('b');
        title.append(name, document.createElement('small'));
        const strip = document.createElement('div');
        strip.className = 'strip';
        for (let index = 0; index < KEEP; index += 1) strip.append(document.createElement('i'));
        const share = document.createElement('div');
        share.className = 'share';
        const strong = document.createElement('strong');
        share.append(strong, document.createElement('span'));
        row.append(title, strip, share);
        return row;
      }));
    }
    names.forEach((name, number) => {
      const row = place.children[number];
      const seen = instances.get(name);
      const count = recent.filter((entry) => entry.instance === name).length;
      row.classList.toggle('idle', count === 0);
      row.querySelector('small').textContent = `version ${seen.version}`;
      row.querySelector('strong').textContent = `${Math.round((100 * count) / counted)} %`;
      row.querySelector('.share span').textContent = `  ${seen.total} in all`;
      const bars = row.querySelector('.strip').children;
      const offset = KEEP - recent.length;
      for (let index = 0; index < KEEP; index += 1) {
        const entry = recent[index - offset];
        bars[index].className = !entry ? '' : entry.ok ? (entry.instance === name ? 'on' : '') : 'bad';
      }
    });
  }

  function store(kind, part) {
    const card = $(`c-${kind}`);
    const off = part.configured === false;
    card.classList.toggle('bad', !part.ok && !off);
    if (off) {
      who(`${kind}-who`, 'not used');
      return;
    }
    if (!part.ok) {
      who(`${kind}-who`, 'no answer');
      text(`${kind}-sub`, part.error || 'unknown error');
    }
    text(`${kind}-ms`, ms(part.ms));
  }

  function show(report, took) {
    const { app, write, read, cache } = report;
    document.title = `${app.name} · live status`;
    text('title', app.name);
    who('app-who', app.host, `:${app.port}`);
    text('app-sub', `version ${app.version}${report.gateway ? ` · through ${report.gateway}` : ''}`);
    text('app-ms', ms(took));
    store('write', write);
    store('read', read);
    store('cache', cache);
    if (write.ok) {
      who('write-who', write.node);
      text('write-sub', `${write.address} · ${write.replica ? 'replica' : 'leader'}${write.attempts > 1 ? ` · ${write.attempts} attempts` : ''}`);
      const now = performance.now();
      if (lastWrite !== null && now - lastWrite > longest && !document.hidden) longest = now - lastWrite;
      lastWrite = now;
      if (longest) text('gap', ms(longest));
      changed('leader', write.node, (from, to) => { event('write', ['Writes moved from ', [from], ' to ', [to]]); flash('c-write'); });
    }
    if (read.ok) {
      who('read-who', read.node);
      text('read-sub', `${read.address} · ${read.replica ? 'replica' : 'leader'} · ${read.behind ? `${read.behind} behind` : 'up to date'}`);
      changed('reader', read.node, (from, to) => { event('read', ['Reads moved from ', [from], ' to ', [to]]); flash('c-read'); });
    }
    if (cache.ok) {
      who('cache-who', cache.hit ? 'hit' : 'miss', cache.node || '');
      text('cache-sub', `${cache.address || ''} · slot ${cache.slot}`);
    }
    for (const [kind, part, name] of [['write', write, 'Writes'], ['read', read, 'Reads'], ['cache', cache, 'Cache']]) {
      if (part.configured !== false) {
        changed(`ok-${kind}`, part.ok, (from, to) => event(to ? 'ok' : 'bad', [[name], to ? ' answer again' : ` fail: ${part.error}`]));
      }
    }
    const known = instances.get(app.instance);
    if (!known) {
      instances.set(app.instance, { hue: HUES[instances.size % HUES.length], version: app.version, total: 1 });
      event('app', ['First answer from ', [app.instance]]);
    } else {
      known.total += 1;
      if (known.version !== app.version) event('app', [[app.instance], ` now runs ${app.version} instead of ${known.version}`]);
      known.version = app.version;
    }
    const hits = history.slice(-KEEP).filter((entry) => entry.hit !== null);
    if (hits.length) text('cache-rate', `${Math.round((100 * hits.filter((entry) => entry.hit).length) / hits.length)} % hits`);
    const parts = [write, read, cache].filter((part) => part.configured !== false);
    const bad = parts.filter((part) => !part.ok).length;
    banner(bad ? 'warn' : 'ok', bad ? 'Serving, with a part that does not answer' : 'Everything answers', bad ? 'The service goes on with what it has and retries by itself.' : sentence(write, read, app));
  }

  function sentence(write, read, app) {
    const where = write.ok && read.ok ? `${write.node} takes the writes, ${read.node} serves the reads` : 'The service answers';
    const hosts = new Set([...instances.keys()].map((name) => name.split(':')[0]));
    return `${where}, ${instances.size} instance${instances.size === 1 ? '' : 's'} on ${hosts.size} host${hosts.size === 1 ? '' : 's'} seen, version ${app.version}.`;
  }

  function banner(state, headline, subline) {
    $('banner').dataset.state = state;
    text('headline', headline);
    text('subline', subline);
    text('n-ok', String(good));
    text('n-bad', String(failed));
  }

  async function once() {
    const begin = performance.now();
    const entry = { instance: null, ok: false, app: null, write: null, read: null, cache: null, hit: null };
    try {
      const answer = await fetch('/api/status', { cache: 'no-store', signal: AbortSignal.timeout(30000) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const report = await answer.json();
      const took = performance.now() - begin;
      good += 1;
      Object.assign(entry, {
        instance: report.app.instance,
        ok: true,
        app: took,
        write: report.write.ok ? report.write.ms : null,
        read: report.read.ok ? report.read.ms : null,
        cache: report.cache.ok ? report.cache.ms : null,
        hit: report.cache.ok ? report.cache.hit : null,
      });
      history.push(entry);
      show(report, took);
      changed('up', true, () => event('ok', [['The service answers again']]));
    } catch (error) {
      failed += 1;
      history.push(entry);
      changed('up', false, () => event('bad', [['No answer'], `: ${error.message}`]));
      banner('bad', 'No answer from the service', `Trying again every second (${error.message}).`);
    }
    if (history.length > KEEP * 2) history.shift();
    const recent = history.slice(-KEEP);
    for (const kind of ['app', 'write', 'read', 'cache']) spark(`s-${kind}`, recent.map((item) => item[kind]));
    rows();
    text('n-bad', String(failed));
  }

  async function loop() {
    for (;;) {
      const begin = performance.now();
      if (!paused) await once();
      await new Promise((done) => setTimeout(done, Math.max(100, 1000 - (performance.now() - begin))));
    }
  }

  let backoff = 500;
  function connect() {
    const pill = $('socket');
    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`);
    socket.onopen = () => { pill.dataset.state = 'open'; backoff = 500; pill.querySelector('em').textContent = 'connected'; };
    socket.onmessage = (message) => {
      const { app } = JSON.parse(message.data);
      pill.querySelector('em').textContent = app.instance;
      changed('socket', app.instance, (from, to) => event('app', ['Websocket moved from ', [from], ' to ', [to]]));
    };
    socket.onclose = () => {
      pill.dataset.state = 'closed';
      pill.querySelector('em').textContent = 'reconnecting';
      setTimeout(connect, backoff);
      backoff = Math.min(backoff * 2, 5000);
    };
  }

  $('pause').addEventListener('click', () => {
    paused = !paused;
    lastWrite = null; // a pause of the page is no gap of the service
    $('pause').textContent = paused ? 'Go on' : 'Pause';
    $('pause').setAttribute('aria-pressed', String(paused));
  });
  document.addEventListener('visibilitychange', () => { lastWrite = null; });
  $('theme').addEventListener('click', () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
    try { localStorage.setItem('theme', root.dataset.theme); } catch (error) { /* private mode: it holds until the page is left */ }
  });
  try { if (localStorage.getItem('theme')) document.documentElement.dataset.theme = localStorage.getItem('theme'); } catch (error) { /* as above */ }

  connect();
  loop();
})();

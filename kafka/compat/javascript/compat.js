// The part that the JavaScript drivers share: one JSON request a line in, one JSON reply a line out (see ../README.md).
'use strict';

const fs = require('fs');
const readline = require('readline');

const WAIT_MS = 30_000; // Longest time for one operation of a client.
const PROGRESS = 200; // `produce_until` says that it is under way after so many records.

class Unsupported extends Error {}

const text = (value) => (value === null || value === undefined ? null : value.toString());

const say = (reply) => fs.writeSync(1, JSON.stringify(reply) + '\n');

/** Headers as a client wants them: one value, or all of them where a name comes again. */
const grouped = (pairs) => {
  const headers = {};
  for (const [name, value] of pairs) headers[name] = name in headers ? [headers[name], value].flat() : value;
  return headers;
};

/** Headers as the runner wants them. */
const pairs = (headers) =>
  Object.entries(headers || {}).flatMap(([name, values]) => [values].flat().map((value) => [name, text(value)]));

/** Ends with what `work` says, or throws when that takes too long. */
const within = (ms, work) => {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not done after ${ms} ms`)), ms); });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
};

/** Calls `send(n)` for n = 0, 1, ... until there is a file at `path`; returns how often. */
const until = async (path, send) => {
  let sent = 0;
  while (!fs.existsSync(path)) {
    await send(sent);
    sent += 1;
    if (sent === PROGRESS) say({ progress: sent });
  }
  return sent;
};

/** What a member of a group has and has read. */
class Seen {
  constructor() {
    Object.assign(this, { assigned: [], revoked: 0, rebalances: 0, records: [], positions: new Map(), failed: null });
  }

  read(topic, partition, offset) {
    this.records.push([topic, partition, offset]);
    this.positions.set(`${topic} ${partition}`, offset + 1);
  }

  /** Each record once. */
  reply() {
    if (this.failed) throw this.failed;
    const { assigned, revoked, rebalances, records } = this;
    this.records = [];
    return { assigned, revoked, rebalances, records };
  }

  /** Where it is in the partitions of `topic` that it has. */
  toCommit(topic, metadata) {
    const at = (partition) => this.positions.get(`${topic} ${partition}`);
    return this.assigned.filter((partition) => at(partition) !== undefined)
      .map((partition) => ({ topic, partition, offset: at(partition), metadata }));
  }
}

/** Answers requests until standard input ends. `open` makes the operations for a bootstrap address. */
const serve = async (open, version, cannot, groups) => {
  const opened = new Map();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { op, bootstrap, ...request } = JSON.parse(line);
    if (op === 'hello') {
      say({ ok: true, version, cannot, groups });
      continue;
    }
    try {
      if (!opened.has(bootstrap)) opened.set(bootstrap, open(bootstrap.split(',')));
      const driver = opened.get(bootstrap);
      if (!driver[op]) throw new Unsupported(`the client has no ${op.replace('_', ' ')}`);
      say({ ok: true, ...(await within(3 * WAIT_MS, driver[op](request))) });
    } catch (error) {
      say({ ok: error instanceof Unsupported ? null : false, detail: `${error.name}: ${error.message}` });
    }
  }
  process.exit(0);
};

module.exports = { Seen, WAIT_MS, grouped, pairs, serve, text, until };

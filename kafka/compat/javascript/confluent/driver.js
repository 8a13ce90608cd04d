// @confluentinc/kafka-javascript, by its own (node-rdkafka's) interface for records.
'use strict';

const { AdminClient, KafkaConsumer, Producer, librdkafkaVersion } = require('@confluentinc/kafka-javascript');
const { ConsumerGroupStates, Kafka } = require('@confluentinc/kafka-javascript').KafkaJS;

const { Seen, WAIT_MS, pairs, serve, text, until } = require('../compat.js');

/** A function that ends with a callback, as a promise. */
const promised = (call) =>
  new Promise((resolve, reject) => call((error, value) => (error ? reject(new Error(error.message)) : resolve(value))));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const open = (brokers) => {
  const servers = { 'metadata.broker.list': brokers.join(',') };
  const admin = AdminClient.create(servers);
  const kafkajs = new Kafka({ kafkaJS: { brokers, logLevel: 0 } }).admin();
  let connecting;
  const connected = async () => {
    connecting = connecting || kafkajs.connect();
    await connecting;
    return kafkajs;
  };
  const create = (topic) => promised((done) => admin.createTopic(topic, WAIT_MS, done));

  const producing = async (settings, work) => {
    const producer = new Producer({
      ...servers, dr_cb: true, 'linger.ms': 5, 'message.max.bytes': 20_000_000, 'delivery.timeout.ms': WAIT_MS,
      'queue.buffering.max.messages': 1_000_000, ...settings,
    }, {});
    let failed;
    producer.on('delivery-report', (error) => { failed = failed || error; });
    producer.setPollInterval(10);
    await promised((done) => producer.connect({}, done));
    try {
      const value = await work(producer);
      await promised((done) => producer.flush(WAIT_MS, done));
      if (failed) throw new Error(failed.message);
      return value;
    } finally {
      await promised((done) => producer.disconnect(WAIT_MS, done));
    }
  };
  const consuming = async (work) => {
    const consumer = new KafkaConsumer({
      ...servers, 'group.id': 'unused', 'enable.auto.commit': false, 'fetch.message.max.bytes': 20_000_000,
      'receive.message.max.bytes': 200_000_000, 'fetch.wait.max.ms': 100,
    }, { 'auto.offset.reset': 'earliest' });
    await promised((done) => consumer.connect({}, done));
    try {
      return await work(consumer);
    } finally {
      await promised((done) => consumer.disconnect(done));
    }
  };

  const members = new Map();
  const assigned = -175; // Codes of the client's rebalance callback.

  return {
    join: async ({ member, group, topic, protocol, assignor, instance, pattern, session_ms: session }) => {
      const classic = {
        'partition.assignment.strategy': assignor, 'session.timeout.ms': session, 'heartbeat.interval.ms': 500,
      };
      const consumer = new KafkaConsumer({
        ...servers, 'group.id': group, 'group.protocol': protocol, 'enable.auto.commit': false, 'fetch.wait.max.ms': 100,
        'topic.metadata.refresh.interval.ms': 1000, rebalance_cb: true, ...(protocol === 'classic' ? classic : {}),
        ...(instance ? { 'group.instance.id': instance } : {}),
      }, { 'auto.offset.reset': 'earliest' });
      const held = { consumer, seen: new Seen(), ended: false };
      consumer.on('rebalance', ({ code }, partitions) => {
        if (code === assigned) held.seen.rebalances += 1;
        else held.seen.revoked += partitions.length;
      });
      consumer.setDefaultConsumeTimeout(100);
      await promised((done) => consumer.connect({}, done));
      consumer.subscribe([pattern ? new RegExp(`^${topic}.*`) : topic]);
      members.set(member, held);
      const run = async () => {
        while (!held.ended) {
          for (const message of await promised((done) => consumer.consume(100, done))) {
            held.seen.read(message.topic, message.partition, message.offset);
          }
          await pause(5);
        }
      };
      held.running = run().catch((error) => { held.seen.failed = error; });
    },
    seen: async ({ member }) => {
      const { consumer, seen } = members.get(member);
      seen.assigned = consumer.assignments().map(({ partition }) => partition);
      return seen.reply();
    },
    commit: async ({ member, topic, metadata }) => {
      const { consumer, seen } = members.get(member);
      consumer.commitSync(seen.toCommit(topic, metadata));
    },
    seek: ({ member, topic, partition, offset }) =>
      promised((done) => members.get(member).consumer.seek({ topic, partition, offset }, WAIT_MS, done)),
    leave: async ({ member }) => {
      const held = members.get(member);
      members.delete(member);
      held.ended = true;
      await held.running;
      await promised((done) => held.consumer.disconnect(done));
    },
    groups: async () => {
      const found = await promised((done) => admin.listGroups({ timeout: WAIT_MS }, done));
      return { groups: found.groups.map(({ groupId }) => groupId) };
    },
    group: async ({ group }) => {
      const { groups } = await promised((done) => admin.describeGroups([group], { timeout: WAIT_MS }, done));
      const state = Object.keys(ConsumerGroupStates).find((name) => ConsumerGroupStates[name] === groups[0].state);
      return { state, members: groups[0].members.length };
    },
    committed: async ({ group, topic }) => {
      const found = await promised(
        (done) => admin.listConsumerGroupOffsets([{ groupId: group }], { timeout: WAIT_MS }, done));
      const here = found[0].partitions.filter((at) => at.topic === topic);
      return { offsets: Object.fromEntries(here.map((at) => [at.partition, [at.offset, at.metadata]])) };
    },
    delete_group: async ({ group }) => {
      const reports = await promised((done) => admin.deleteGroups([group], { timeout: WAIT_MS }, done));
      if (reports[0].error && reports[0].error.code) throw new Error(reports[0].error.message);
    },
    create: ({ topic, partitions, configs }) =>
      create({ topic, num_partitions: partitions, replication_factor: 1, config: configs }),
    create_many: async ({ topics }) => {
      for (const topic of topics) await create({ topic, num_partitions: 1, replication_factor: 1 });
    },
    delete: ({ topic }) => promised((done) => admin.deleteTopic(topic, WAIT_MS, done)),
    topics: async () => ({ topics: await promised((done) => admin.listTopics({ timeout: WAIT_MS }, done)) }),
    partitions: async ({ topic }) => {
      const found = await promised((done) => admin.describeTopics([topic], { timeout: WAIT_MS }, done));
      return { count: found[0].partitions.length };
    },
    add_partitions: ({ topic, count }) => promised((done) => admin.createPartitions(topic, count, WAIT_MS, done)),
    delete_records: ({ topic, partition, offset }) =>
      promised((done) => admin.deleteRecords([{ topic, partition, offset }], { timeout: WAIT_MS }, done)),
    offsets: ({ topic, partition }) =>
      consuming(async (consumer) => {
        const found = await promised((done) => consumer.queryWatermarkOffsets(topic, partition, WAIT_MS, done));
        return { earliest: found.lowOffset, latest: found.highOffset };
      }),
    offset_at: async ({ topic, partition, time }) => {
      const found = await (await connected()).fetchTopicOffsetsByTimestamp(topic, time);
      return { offset: Number(found.find((at) => at.partition === partition).offset) };
    },
    produce: ({ topic, codec, acks, idempotent, records }) =>
      producing({ 'compression.codec': codec, acks, 'enable.idempotence': idempotent }, async (producer) => {
        for (const { partition, key, value, timestamp, headers } of records) {
          const list = headers.map(([name, held]) => ({ [name]: held }));
          producer.produce(topic, partition, value === null ? null : Buffer.from(value), key, timestamp, null, list);
        }
      }),
    produce_until: ({ topic, file }) =>
      producing({ acks: 'all', 'enable.idempotence': true }, async (producer) => {
        const send = async (n) => {
          producer.produce(topic, 0, Buffer.from(`${n}`), 'key');
          await pause(1);
        };
        return { sent: await until(file, send) };
      }),
    read: ({ topic, partitions, offset, count, wait_ms: wait }) =>
      consuming(async (consumer) => {
        const end = Date.now() + wait;
        const records = [];
        consumer.setDefaultConsumeTimeout(200);
        consumer.assign(partitions.map((partition) => ({ topic, partition, offset: offset === null ? -2 : offset })));
        while (records.length < count && Date.now() < end) {
          for (const message of await promised((done) => consumer.consume(500, done))) {
            records.push({
              partition: message.partition, offset: message.offset, key: text(message.key), value: text(message.value),
              timestamp: message.timestamp, headers: (message.headers || []).flatMap(pairs),
            });
          }
        }
        return { records };
      }),
  };
};

const { version } = require('@confluentinc/kafka-javascript/package.json');
serve(open, `${version}, librdkafka ${librdkafkaVersion}`, [], [
  'classic', 'consumer', 'range', 'cooperative-sticky', 'static', 'pattern', 'seek', 'groups', 'delete_group', 'committed',
]);

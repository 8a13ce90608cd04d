// kafkajs, with codecs from other packages where it has none of its own.
'use strict';

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs');
const lz4 = require('lz4-napi');
const snappy = require('kafkajs-snappy');
const zstd = require('@bokuweb/zstd-wasm');

const { Seen, WAIT_MS, grouped, serve, until } = require('../compat.js');

CompressionCodecs[CompressionTypes.Snappy] = snappy;
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
});

const CODECS = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD,
};
const LOOK_EVERY_MS = 500; // How often members are looked after.
const ACKS = { 0: 0, 1: 1, all: -1 };

const open = (brokers) => {
  const kafka = new Kafka({ brokers, logLevel: logLevel.NOTHING, requestTimeout: WAIT_MS, retry: { retries: 12 } });
  const connected = kafka.admin();
  let connecting;
  const admin = async () => {
    connecting = connecting || connected.connect();
    await connecting;
    return connected;
  };
  const producing = async (idempotent, work) => {
    const producer = kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : 5 });
    await producer.connect();
    try {
      return await work(producer);
    } finally {
      await producer.disconnect();
    }
  };

  const members = new Map();
  const offsetsOf = async (group, topic) => {
    const found = await (await admin()).fetchOffsets({ groupId: group, topics: [topic] });
    return found[0].partitions.filter(({ offset }) => offset !== '-1');
  };

  return {
    join: async ({ member, group, topic, session_ms: session }) => {
      const consumer = kafka.consumer({
        groupId: group, sessionTimeout: session, heartbeatInterval: 500, maxWaitTimeInMs: 100, metadataMaxAge: 1000,
        retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 50 },
      });
      const seen = new Seen();
      let interrupted = null; // What it had when a rebalance began that has not ended.
      let heard = Date.now(); // When its group last took it for a member.
      const lose = () => {
        seen.revoked += seen.assigned.length;
        seen.assigned = [];
      };
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
        heard = Date.now();
        lose();
        interrupted = null;
        seen.assigned = (payload.memberAssignment[topic] || []).sort();
        seen.rebalances += 1;
      });
      consumer.on(consumer.events.REBALANCING, () => {
        interrupted = interrupted || seen.assigned;
        lose();
      });
      // Heartbeats stop for a rebalance. If it dies with the coordinator, and the next one knows the member, the client
      // goes on with what it had: only heartbeats show that, there is no GROUP_JOIN.
      consumer.on(consumer.events.HEARTBEAT, () => {
        heard = Date.now();
        if (!interrupted) return;
        seen.revoked -= interrupted.length;
        [seen.assigned, interrupted] = [interrupted, null];
      });
      consumer.on(consumer.events.CRASH, ({ payload }) => {
        lose();
        interrupted = null;
        if (!payload.restart) seen.failed = payload.error;
      });
      members.set(member, { consumer, seen });
      const run = () => consumer.run({
        autoCommit: false,
        eachMessage: async ({ partition, message }) => seen.read(topic, partition, Number(message.offset)),
      });
      // If its session has ended, and the coordinator dies while it joins anew, the client reads on for ever without a
      // place in the group. So it is watched as its authors advise: by heartbeats, which end only for a rebalance.
      const watch = async () => {
        while (members.get(member)?.consumer === consumer) {
          await new Promise((resolve) => { setTimeout(resolve, LOOK_EVERY_MS).unref(); });
          if (Date.now() - heard < 2 * session) continue;
          heard = Date.now();
          const { state } = await consumer.describeGroup().catch(() => ({}));
          if (['PreparingRebalance', 'CompletingRebalance'].includes(state)) continue;
          await consumer.stop();
          lose();
          interrupted = null;
          if (members.get(member)?.consumer === consumer) await run();
        }
      };
      const start = async () => {
        await consumer.connect();
        await consumer.subscribe({ topics: [topic], fromBeginning: true });
        await run();
        await watch();
      };
      start().catch((error) => { seen.failed = error; });
    },
    seen: async ({ member }) => members.get(member).seen.reply(),
    commit: async ({ member, topic, metadata }) => {
      const { consumer, seen } = members.get(member);
      await consumer.commitOffsets(
        seen.toCommit(topic, metadata).map((at) => ({ ...at, offset: String(at.offset) })));
    },
    seek: async ({ member, topic, partition, offset }) =>
      members.get(member).consumer.seek({ topic, partition, offset: String(offset) }),
    leave: async ({ member }) => {
      const { consumer } = members.get(member);
      members.delete(member);
      await consumer.disconnect();
    },
    groups: async () => ({ groups: (await (await admin()).listGroups()).groups.map(({ groupId }) => groupId) }),
    group: async ({ group }) => {
      const [found] = (await (await admin()).describeGroups([group])).groups;
      return { state: found.state, members: found.members.length };
    },
    committed: async ({ group, topic }) => ({
      offsets: Object.fromEntries((await offsetsOf(group, topic)).map(
        ({ partition, offset, metadata }) => [partition, [Number(offset), metadata]])),
    }),
    reset: async ({ group, topic, partition, offset }) =>
      (await admin()).setOffsets({ groupId: group, topic, partitions: [{ partition, offset: String(offset) }] }),
    delete_group: async ({ group }) => (await admin()).deleteGroups([group]),
    create: async ({ topic, partitions, configs }) => {
      const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }));
      const topics = [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }];
      await (await admin()).createTopics({ topics, timeout: WAIT_MS, waitForLeaders: false });
    },
    create_many: async ({ topics: names }) => {
      const topics = names.map((topic) => ({ topic, numPartitions: 1, replicationFactor: 1 }));
      await (await admin()).createTopics({ topics, timeout: WAIT_MS, waitForLeaders: false });
    },
    delete: async ({ topic }) => (await admin()).deleteTopics({ topics: [topic], timeout: WAIT_MS }),
    topics: async () => ({ topics: await (await admin()).listTopics() }),
    partitions: async ({ topic }) => {
      const { topics } = await (await admin()).fetchTopicMetadata({ topics: [topic] });
      return { count: topics[0].partitions.length };
    },
    get_configs: async ({ topic }) => {
      const { resources } = await (await admin()).describeConfigs({
        resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }], includeSynonyms: false,
      });
      const entries = resources[0].configEntries.map(({ configName, configValue }) => [configName, configValue]);
      return { configs: Object.fromEntries(entries) };
    },
    set_config: async ({ topic, name, value }) => {
      const resource = { type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name, value }] };
      await (await admin()).alterConfigs({ resources: [resource], validateOnly: false });
    },
    add_partitions: async ({ topic, count }) =>
      (await admin()).createPartitions({ topicPartitions: [{ topic, count }], timeout: WAIT_MS }),
    delete_records: async ({ topic, partition, offset }) => {
      // The client looks for leaders among what it has asked about before.
      await (await admin()).fetchTopicOffsets(topic);
      await (await admin()).deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] });
    },
    offsets: async ({ topic, partition }) => {
      const found = (await (await admin()).fetchTopicOffsets(topic)).find((at) => at.partition === partition);
      return { earliest: Number(found.low), latest: Number(found.high) };
    },
    offset_at: async ({ topic, partition, time }) => {
      const found = await (await admin()).fetchTopicOffsetsByTimestamp(topic, time);
      return { offset: Number(found.find((at) => at.partition === partition).offset) };
    },
    produce: ({ topic, codec, acks, idempotent, records }) =>
      producing(idempotent, async (producer) => {
        const messages = records.map((record) => ({
          partition: record.partition, key: record.key, value: record.value, headers: grouped(record.headers),
          timestamp: String(record.timestamp),
        }));
        await producer.send({ topic, messages, acks: ACKS[acks], compression: CODECS[codec], timeout: WAIT_MS });
      }),
    produce_until: ({ topic, file }) =>
      producing(true, async (producer) => {
        const send = (n) => producer.send({ topic, acks: -1, messages: [{ partition: 0, key: 'key', value: `${n}` }] });
        return { sent: await until(file, send) };
      }),
  };
};

zstd.init().then(() => serve(open, require('kafkajs/package.json').version, [], [
  'classic', 'range', 'seek', 'groups', 'delete_group', 'committed', 'reset',
]));

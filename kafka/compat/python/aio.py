"""aiokafka."""

import asyncio
import os
import threading
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import OffsetAndMetadata

from compat import PROGRESS, WAIT_S, Driver, Member, data, say, serve, text

WAIT_MS = WAIT_S * 1000
LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def blocking(function):
    """The driver asks one thing after another; this client is asynchronous."""
    return lambda *positional, **named: asyncio.run_coroutine_threadsafe(
        asyncio.wait_for(function(*positional, **named), 3 * WAIT_S), LOOP
    ).result()


class AioKafkaMember(Member):
    @blocking
    async def open(self):
        member = self

        class Listener(ConsumerRebalanceListener):
            def on_partitions_revoked(self, revoked):
                member.told(len(revoked))

            def on_partitions_assigned(self, assigned):
                member.told()

        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.group, enable_auto_commit=False,
            auto_offset_reset="earliest", fetch_max_wait_ms=100, session_timeout_ms=self.session_ms,
            heartbeat_interval_ms=500, group_instance_id=self.instance, metadata_max_age_ms=1000,
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        self.consumer.subscribe([self.topic], listener=Listener())
        # It would end only once the group is at rest.
        self.starting = asyncio.ensure_future(self.consumer.start())

    @blocking
    async def poll(self):
        if not self.starting.done():
            await asyncio.wait([self.starting], timeout=0.1)
            return
        self.starting.result()
        for batch in (await self.consumer.getmany(timeout_ms=100)).values():
            for record in batch:
                self.read(record.topic, record.partition, record.offset)

    def assignment(self):
        return [(at.topic, at.partition) for at in self.consumer.assignment()]

    @blocking
    async def commit(self, topic, metadata):
        await self.consumer.commit({
            TopicPartition(topic, at): OffsetAndMetadata(offset, metadata) for at, offset in self.to_commit(topic)
        })

    @blocking
    async def seek(self, topic, partition, offset):
        self.consumer.seek(TopicPartition(topic, partition), offset)

    @blocking
    async def leave(self):
        self.ended = True
        await self.consumer.stop()


class AioKafka(Driver):
    groups = ("classic", "range", "static", "seek", "groups", "committed")
    member = AioKafkaMember

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.opened = None

    async def admin(self):
        if self.opened is None:
            self.opened = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=WAIT_MS)
            await self.opened.start()
        return self.opened

    def producer(self, codec, acks, idempotent):
        return AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, compression_type=None if codec == "none" else codec,
            acks=acks if acks == "all" else int(acks), enable_idempotence=idempotent, max_request_size=20_000_000,
            linger_ms=5, request_timeout_ms=WAIT_MS,
        )

    def consumer(self):
        return AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_wait_ms=100, max_partition_fetch_bytes=20_000_000,
        )

    @blocking
    async def create(self, topic, partitions, configs):
        refused(await (await self.admin()).create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)]))

    @blocking
    async def create_many(self, topics):
        refused(await (await self.admin()).create_topics([NewTopic(topic, 1, 1) for topic in topics]))

    @blocking
    async def delete(self, topic):
        refused(await (await self.admin()).delete_topics([topic]))

    @blocking
    async def topics(self):
        return {"topics": list(await (await self.admin()).list_topics())}

    @blocking
    async def partitions(self, topic):
        return {"count": len((await (await self.admin()).describe_topics([topic]))[0]["partitions"])}

    @blocking
    async def get_configs(self, topic):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = (await (await self.admin()).describe_configs([resource]))[0].resources[0]
        if found[0]:
            raise RuntimeError(f"error {found[0]}: {found[1]}")
        return {"configs": {entry[0]: entry[1] for entry in found[4]}}

    @blocking
    async def set_config(self, topic, name, value):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: value})
        for answer in await (await self.admin()).alter_configs([resource]):
            for found in answer.resources:
                if found[0]:
                    raise RuntimeError(f"error {found[0]}: {found[1]}")

    @blocking
    async def add_partitions(self, topic, count):
        refused(await (await self.admin()).create_partitions({topic: NewPartitions(count)}))

    @blocking
    async def delete_records(self, topic, partition, offset):
        await (await self.admin()).delete_records({TopicPartition(topic, partition): RecordsToDelete(offset)}, WAIT_MS)

    @blocking
    async def offsets(self, topic, partition):
        async with self.consumer() as consumer:
            at = TopicPartition(topic, partition)
            earliest, latest = await consumer.beginning_offsets([at]), await consumer.end_offsets([at])
            return {"earliest": earliest[at], "latest": latest[at]}

    @blocking
    async def offset_at(self, topic, partition, time):
        async with self.consumer() as consumer:
            at = TopicPartition(topic, partition)
            return {"offset": (await consumer.offsets_for_times({at: time}))[at].offset}

    @blocking
    async def produce(self, topic, codec, acks, idempotent, records):
        async with self.producer(codec, acks, idempotent) as producer:
            for future in [
                await producer.send(
                    topic, data(record["value"]), data(record["key"]), record["partition"],
                    headers=[(name, data(value)) for name, value in record["headers"]],
                    timestamp_ms=record["timestamp"],
                )
                for record in records
            ]:
                await future

    @blocking
    async def produce_until(self, topic, file):
        async with self.producer("none", "all", True) as producer:
            futures = []
            while not os.path.exists(file):
                futures.append(await producer.send(topic, str(len(futures)).encode(), b"key", 0))
                await asyncio.sleep(0.001)
                if len(futures) == PROGRESS:
                    say({"progress": PROGRESS})
            for future in futures:
                await future
            return {"sent": len(futures)}

    @blocking
    async def read(self, topic, partitions, offset, count, wait_ms):
        async with self.consumer() as consumer:
            records, end = [], time.monotonic() + wait_ms / 1000
            consumer.assign([TopicPartition(topic, partition) for partition in partitions])
            for at in consumer.assignment():
                await consumer.seek_to_beginning(at) if offset is None else consumer.seek(at, offset)
            while len(records) < count and time.monotonic() < end:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records += [
                        {
                            "partition": record.partition, "offset": record.offset, "key": text(record.key),
                            "value": text(record.value), "timestamp": record.timestamp,
                            "headers": [[name, text(value)] for name, value in record.headers],
                        }
                        for record in batch
                    ]
            return {"records": records}

    @blocking
    async def list_groups(self):
        return {"groups": [found[0] for found in await (await self.admin()).list_consumer_groups()]}

    @blocking
    async def group(self, group):
        found = (await (await self.admin()).describe_consumer_groups([group]))[0].groups[0]
        return {"state": found[2], "members": len(found[5])}

    @blocking
    async def committed(self, group, topic):
        found = await (await self.admin()).list_consumer_group_offsets(group)
        return {"offsets": {at.partition: [was.offset, was.metadata] for at, was in found.items() if at.topic == topic}}


def refused(answer):
    """Throws what the broker refused: this client leaves the looking to its callers."""
    for found in getattr(answer, "topic_errors", None) or getattr(answer, "topic_error_codes", None) or []:
        if found[1]:
            raise RuntimeError(f"error {found[1]}: {found[2:]}")


if __name__ == "__main__":
    serve(AioKafka, aiokafka.__version__)

"""confluent-kafka."""

import time

import confluent_kafka
from confluent_kafka import (
    Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, OFFSET_BEGINNING, Producer, TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType,
)

from compat import WAIT_S, Driver, Member, data, serve, text, until

MAX = {"message.max.bytes": 20_000_000}


class ConfluentMember(Member):
    def open(self):
        classic = {
            "partition.assignment.strategy": self.assignor, "session.timeout.ms": self.session_ms,
            "heartbeat.interval.ms": 500,
        }
        self.consumer = Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": self.group, "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100, "group.protocol": self.protocol,
            "topic.metadata.refresh.interval.ms": 1000,
            **({"group.instance.id": self.instance} if self.instance else {}),
            **(classic if self.protocol == "classic" else {}),
        })
        self.consumer.subscribe(
            [f"^{self.topic}.*" if self.pattern else self.topic], on_assign=lambda *_: self.told(),
            on_revoke=lambda _, partitions: self.told(len(partitions)),
        )

    def poll(self):
        message = self.consumer.poll(0.1)
        if message is not None and not message.error():
            self.read(message.topic(), message.partition(), message.offset())
        elif message is not None and message.error().fatal():
            raise KafkaException(message.error())

    def assignment(self):
        return [(at.topic, at.partition) for at in self.consumer.assignment()]

    def commit(self, topic, metadata):
        offsets = [TopicPartition(topic, at, offset, metadata) for at, offset in self.to_commit(topic)]
        for at in self.consumer.commit(offsets=offsets, asynchronous=False):
            if at.error:
                raise KafkaException(at.error)

    def seek(self, topic, partition, offset):
        self.consumer.seek(TopicPartition(topic, partition, offset))

    def leave(self):
        self.ended = True
        self.consumer.close()


class Confluent(Driver):
    groups = (
        "classic", "consumer", "range", "cooperative-sticky", "static", "seek", "pattern", "groups", "delete_group", "committed",
        "reset",
    )
    member = ConfluentMember

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def producer(self, codec, acks, idempotent):
        return Producer({
            "bootstrap.servers": self.bootstrap, "compression.type": codec, "acks": acks, "linger.ms": 5,
            "enable.idempotence": idempotent, "delivery.timeout.ms": WAIT_S * 1000, **MAX,
        })

    def consumer(self):
        return Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": "unused", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100, "receive.message.max.bytes": 200_000_000,
            "fetch.message.max.bytes": 20_000_000,
        })

    def create(self, topic, partitions, configs):
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=configs)
        self.done(self.admin.create_topics([new], operation_timeout=WAIT_S))

    def create_many(self, topics):
        self.done(self.admin.create_topics([NewTopic(topic, 1, 1) for topic in topics], operation_timeout=WAIT_S))

    def delete(self, topic):
        self.done(self.admin.delete_topics([topic], operation_timeout=WAIT_S))

    def topics(self):
        return {"topics": list(self.admin.list_topics(timeout=WAIT_S).topics)}

    def partitions(self, topic):
        found = self.admin.describe_topics(confluent_kafka.TopicCollection([topic]), request_timeout=WAIT_S)
        return {"count": len(found[topic].result(WAIT_S).partitions)}

    def get_configs(self, topic):
        resource = ConfigResource(ResourceType.TOPIC, topic)
        found = self.admin.describe_configs([resource], request_timeout=WAIT_S)[resource].result(WAIT_S)
        return {"configs": {name: entry.value for name, entry in found.items()}}

    def set_config(self, topic, name, value):
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self.done(self.admin.incremental_alter_configs([resource], request_timeout=WAIT_S))

    def add_partitions(self, topic, count):
        self.done(self.admin.create_partitions([NewPartitions(topic, count)], operation_timeout=WAIT_S))

    def delete_records(self, topic, partition, offset):
        self.done(self.admin.delete_records([TopicPartition(topic, partition, offset)], operation_timeout=WAIT_S))

    def offsets(self, topic, partition):
        at = TopicPartition(topic, partition)
        # One that has asked before holds on to the leader epoch of then, and is refused for good.
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        found = [
            admin.list_offsets({at: spec}, request_timeout=WAIT_S)[at].result(WAIT_S).offset
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        ]
        return {"earliest": found[0], "latest": found[1]}

    def offset_at(self, topic, partition, time):
        consumer = self.consumer()
        try:
            return {"offset": consumer.offsets_for_times([TopicPartition(topic, partition, time)], WAIT_S)[0].offset}
        finally:
            consumer.close()

    def produce(self, topic, codec, acks, idempotent, records):
        producer, failed = self.producer(codec, acks, idempotent), []
        for record in records:
            producer.produce(
                topic, data(record["value"]), data(record["key"]), record["partition"],
                headers=[(name, data(value)) for name, value in record["headers"]], timestamp=record["timestamp"],
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
        left = producer.flush(WAIT_S)
        if failed or left:
            raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT, f"{left} records unsent"))

    def produce_until(self, topic, file):
        producer, failed = self.producer("none", "all", True), []

        def send(n):
            producer.produce(topic, str(n).encode(), b"key", 0, on_delivery=lambda e, _: e and failed.append(e))
            producer.poll(0.001)

        sent = until(file, send)
        left = producer.flush(WAIT_S)
        if failed or left:
            raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT, f"{left} records unsent"))
        return {"sent": sent}

    def read(self, topic, partitions, offset, count, wait_ms):
        consumer, records, end = self.consumer(), [], time.monotonic() + wait_ms / 1000
        at = OFFSET_BEGINNING if offset is None else offset
        consumer.assign([TopicPartition(topic, partition, at) for partition in partitions])
        while len(records) < count and time.monotonic() < end:
            message = consumer.poll(0.2)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            records.append({
                "partition": message.partition(), "offset": message.offset(), "key": text(message.key()),
                "value": text(message.value()), "timestamp": message.timestamp()[1],
                "headers": [[name, text(value)] for name, value in message.headers() or []],
            })
        consumer.close()
        return {"records": records}

    def list_groups(self):
        return {"groups": [found.group_id for found in self.admin.list_consumer_groups().result(WAIT_S).valid]}

    def group(self, group):
        found = self.admin.describe_consumer_groups([group], request_timeout=WAIT_S)[group].result(WAIT_S)
        return {"state": found.state.name, "members": len(found.members)}

    def committed(self, group, topic):
        found = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=WAIT_S)
        offsets = found[group].result(WAIT_S).topic_partitions
        return {"offsets": {at.partition: [at.offset, at.metadata] for at in offsets if at.topic == topic}}

    def reset(self, group, topic, partition, offset):
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition, offset)])
        self.done(self.admin.alter_consumer_group_offsets([wanted], request_timeout=WAIT_S))

    def delete_group(self, group):
        self.done(self.admin.delete_consumer_groups([group], request_timeout=WAIT_S))

    @staticmethod
    def done(futures):
        for future in futures.values():
            future.result(WAIT_S)


if __name__ == "__main__":
    serve(Confluent, f"{confluent_kafka.version()}, librdkafka {confluent_kafka.libversion()[0]}")

"""kafka-python."""

import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import OffsetAndMetadata

from compat import WAIT_S, Driver, Member, data, serve, text, until

WAIT_MS = WAIT_S * 1000


class KafkaPythonMember(Member):
    def open(self):
        member = self

        class Listener(ConsumerRebalanceListener):
            def on_partitions_revoked(self, revoked):
                member.told(len(revoked))

            def on_partitions_assigned(self, assigned):
                member.told()

        self.consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap.split(","), group_id=self.group, enable_auto_commit=False,
            auto_offset_reset="earliest", fetch_max_wait_ms=100, session_timeout_ms=self.session_ms,
            heartbeat_interval_ms=500, group_instance_id=self.instance, metadata_max_age_ms=1000,
            partition_assignment_strategy=[
                RangePartitionAssignor if self.assignor == "range" else CooperativeStickyAssignor
            ],
        )
        self.consumer.subscribe([self.topic], listener=Listener())

    def poll(self):
        for batch in self.consumer.poll(100).values():
            for record in batch:
                self.read(record.topic, record.partition, record.offset)

    def assignment(self):
        return [(at.topic, at.partition) for at in self.consumer.assignment()]

    def commit(self, topic, metadata):
        self.consumer.commit({
            TopicPartition(topic, at): OffsetAndMetadata(offset, metadata, -1) for at, offset in self.to_commit(topic)
        })

    def seek(self, topic, partition, offset):
        self.consumer.seek(TopicPartition(topic, partition), offset)

    def leave(self):
        self.ended = True
        self.consumer.close()


class KafkaPython(Driver):
    groups = (
        "classic", "range", "cooperative-sticky", "static", "seek", "groups", "delete_group", "committed", "reset", "forget",
    )
    member = KafkaPythonMember

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.servers = bootstrap.split(",")
        self.opened = None

    @property
    def admin(self):
        self.opened = self.opened or KafkaAdminClient(bootstrap_servers=self.servers, request_timeout_ms=WAIT_MS)
        return self.opened

    def producer(self, codec, acks, idempotent):
        return KafkaProducer(
            bootstrap_servers=self.servers, compression_type=None if codec == "none" else codec,
            acks=acks if acks == "all" else int(acks), enable_idempotence=idempotent, max_request_size=20_000_000,
            linger_ms=5, max_block_ms=WAIT_MS, delivery_timeout_ms=WAIT_MS, request_timeout_ms=WAIT_MS // 3,
        )

    def consumer(self):
        return KafkaConsumer(
            bootstrap_servers=self.servers, enable_auto_commit=False, auto_offset_reset="earliest",
            fetch_max_wait_ms=100, max_partition_fetch_bytes=20_000_000,
        )

    def create(self, topic, partitions, configs):
        self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)], timeout_ms=WAIT_MS)

    def create_many(self, topics):
        self.admin.create_topics([NewTopic(topic, 1, 1) for topic in topics], timeout_ms=WAIT_MS)

    def delete(self, topic):
        self.admin.delete_topics([topic], timeout_ms=WAIT_MS)

    def topics(self):
        return {"topics": list(self.admin.list_topics())}

    def partitions(self, topic):
        return {"count": len(self.admin.describe_topics([topic])[0]["partitions"])}

    def get_configs(self, topic):
        found = self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
        return {"configs": {name: entry["value"] for name, entry in found["topic"][topic].items()}}

    def set_config(self, topic, name, value):
        self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])

    def add_partitions(self, topic, count):
        self.admin.create_partitions({topic: NewPartitions(count)}, timeout_ms=WAIT_MS)

    def delete_records(self, topic, partition, offset):
        self.admin.delete_records({TopicPartition(topic, partition): offset}, timeout_ms=WAIT_MS)

    def offsets(self, topic, partition):
        consumer, at = self.consumer(), TopicPartition(topic, partition)
        try:
            return {"earliest": consumer.beginning_offsets([at])[at], "latest": consumer.end_offsets([at])[at]}
        finally:
            consumer.close()

    def offset_at(self, topic, partition, time):
        consumer, at = self.consumer(), TopicPartition(topic, partition)
        try:
            return {"offset": consumer.offsets_for_times({at: time})[at].offset}
        finally:
            consumer.close()

    def produce(self, topic, codec, acks, idempotent, records):
        producer = self.producer(codec, acks, idempotent)
        futures = [
            producer.send(
                topic, data(record["value"]), data(record["key"]), partition=record["partition"],
                headers=[(name, data(value)) for name, value in record["headers"]], timestamp_ms=record["timestamp"],
            )
            for record in records
        ]
        producer.flush(WAIT_S)
        for future in futures:
            future.get(WAIT_S)
        producer.close(WAIT_S)

    def produce_until(self, topic, file):
        producer, futures = self.producer("none", "all", True), []

        def send(n):
            futures.append(producer.send(topic, str(n).encode(), b"key", partition=0))
            time.sleep(0.001)

        sent = until(file, send)
        producer.flush(WAIT_S)
        for future in futures:
            future.get(WAIT_S)
        producer.close(WAIT_S)
        return {"sent": sent}

    def read(self, topic, partitions, offset, count, wait_ms):
        consumer, records, end = self.consumer(), [], time.monotonic() + wait_ms / 1000
        consumer.assign([TopicPartition(topic, partition) for partition in partitions])
        for at in consumer.assignment():
            consumer.seek_to_beginning(at) if offset is None else consumer.seek(at, offset)
        while len(records) < count and time.monotonic() < end:
            for batch in consumer.poll(200).values():
                records += [
                    {
                        "partition": record.partition, "offset": record.offset, "key": text(record.key),
                        "value": text(record.value), "timestamp": record.timestamp,
                        "headers": [[name, text(value)] for name, value in record.headers],
                    }
                    for record in batch
                ]
        consumer.close()
        return {"records": records}

    def list_groups(self):
        return {"groups": [found["group_id"] for found in self.admin.list_groups()]}

    def group(self, group):
        found = self.admin.describe_groups([group])[group]
        return {"state": found["group_state"], "members": len(found["members"])}

    def committed(self, group, topic):
        found = self.admin.list_group_offsets({group: None})[group]
        return {"offsets": {at.partition: [was.offset, was.metadata] for at, was in found.items() if at.topic == topic}}

    def reset(self, group, topic, partition, offset):
        at = TopicPartition(topic, partition)
        refused(self.admin.alter_group_offsets(group, {at: OffsetAndMetadata(offset, "", -1)}))

    def forget(self, group, topic):
        partitions = [at for at in self.admin.list_group_offsets({group: None})[group] if at.topic == topic]
        refused(self.admin.delete_group_offsets(group, partitions))

    def delete_group(self, group):
        refused(self.admin.delete_groups([group]))


def refused(answer):
    """Throws what the broker refused."""
    for name, error in answer.items():
        if error is not None and error != "OK" and getattr(error, "errno", -1) != 0:
            raise RuntimeError(f"{name}: {error}")


if __name__ == "__main__":
    serve(KafkaPython, kafka.__version__)

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Members of groups: consumers with a thread each, in which everything happens that they are asked for. */
final class Members {
    private final String bootstrap;
    private final Map<String, Member> members = new HashMap<>();

    Members(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    void operations(Map<String, Compat.Operation> operations) {
        operations.put("join", (request, reply) -> {
            Member member = new Member(request);
            members.put(name(request), member);
            member.thread.start();
        });
        operations.put("seen", (request, reply) -> of(request).call(member -> member.seen(reply)));
        operations.put("commit", (request, reply) -> of(request).call(member -> member.commit(request)));
        operations.put("seek", (request, reply) -> of(request).call(member -> member.consumer.seek(
            new TopicPartition(request.get("topic").asText(), request.get("partition").asInt()),
            request.get("offset").asLong())));
        operations.put("leave", (request, reply) -> members.remove(name(request)).call(member -> {
            member.ended = true;
            member.consumer.close();
        }));
    }

    private static String name(JsonNode request) {
        return request.get("member").asText();
    }

    private Member of(JsonNode request) {
        return members.get(name(request));
    }

    interface Job {
        void run(Member member) throws Exception;
    }

    /** A consumer and its thread. */
    private final class Member implements ConsumerRebalanceListener {
        private final Thread thread = new Thread(this::run);
        private final JsonNode how;
        private final ConcurrentLinkedQueue<Callable<Void>> jobs = new ConcurrentLinkedQueue<>();
        private final Map<TopicPartition, Long> positions = new HashMap<>();
        private ArrayNode records = Compat.JSON.createArrayNode();
        private KafkaConsumer<byte[], byte[]> consumer;
        private boolean ended;
        private Throwable failed;
        private int revoked;
        private int rebalances;

        private Member(JsonNode how) {
            this.how = how;
            thread.setDaemon(true);
        }

        private void open() {
            Map<String, Object> config = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap, "group.id", how.get("group").asText(), "enable.auto.commit", false,
                "auto.offset.reset", "earliest", "fetch.max.wait.ms", 100, "metadata.max.age.ms", 1000,
                "group.protocol", how.get("protocol").asText()));
            if (how.get("protocol").asText().equals("classic")) {
                String assignor = how.get("assignor").asText().equals("range") ? "Range" : "CooperativeSticky";
                config.put(
                    "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor + "Assignor");
                config.put("session.timeout.ms", how.get("session_ms").asInt());
                config.put("heartbeat.interval.ms", 500);
            }
            if (how.get("instance").isTextual()) {
                config.put("group.instance.id", how.get("instance").asText());
            }
            consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            String topic = how.get("topic").asText();
            if (how.get("pattern").asBoolean()) {
                consumer.subscribe(new SubscriptionPattern(topic + ".*"), this);
            } else {
                consumer.subscribe(java.util.List.of(topic), this);
            }
        }

        private void run() {
            try {
                open();
            } catch (Throwable error) {
                failed = error;
            }
            while (!ended) {
                try {
                    for (Callable<Void> job = jobs.poll(); job != null; job = jobs.poll()) {
                        job.call();
                    }
                    if (failed != null) {
                        Thread.sleep(10);
                    } else if (!ended) {
                        consumer.poll(Duration.ofMillis(100)).forEach(this::read);
                    }
                } catch (Throwable error) {
                    failed = error;
                }
            }
        }

        private void read(ConsumerRecord<byte[], byte[]> record) {
            records.addArray().add(record.topic()).add(record.partition()).add(record.offset());
            positions.put(new TopicPartition(record.topic(), record.partition()), record.offset() + 1);
        }

        private void call(Job job) throws Exception {
            CompletableFuture<Void> done = new CompletableFuture<>();
            jobs.add(() -> {
                try {
                    if (failed != null) {
                        throw failed;
                    }
                    job.run(this);
                    done.complete(null);
                } catch (Throwable error) {
                    done.completeExceptionally(error);
                }
                return null;
            });
            done.get(3 * Compat.WAIT_MS, TimeUnit.MILLISECONDS);
        }

        private void seen(ObjectNode reply) {
            ArrayNode assigned = reply.putArray("assigned");
            consumer.assignment().forEach(partition -> assigned.add(partition.partition()));
            reply.put("revoked", revoked).put("rebalances", rebalances).set("records", records);
            records = Compat.JSON.createArrayNode();
        }

        private void commit(JsonNode request) {
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            for (TopicPartition partition : consumer.assignment()) {
                if (partition.topic().equals(request.get("topic").asText()) && positions.containsKey(partition)) {
                    String metadata = request.get("metadata").asText();
                    offsets.put(partition, new OffsetAndMetadata(positions.get(partition), metadata));
                }
            }
            consumer.commitSync(offsets);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalances++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            revoked += partitions.size();
        }
    }
}

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Apache's Java client. */
final class Clients {
    private final String bootstrap;
    private final Admin admin;

    private Clients(String bootstrap) {
        this.bootstrap = bootstrap;
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", Compat.WAIT_MS));
    }

    public static void main(String[] arguments) throws Exception {
        Compat.groups(
            "classic", "consumer", "range", "cooperative-sticky", "static", "pattern", "seek", "groups", "delete_group",
            "committed", "reset", "forget");
        Compat.serve(bootstrap -> new Clients(bootstrap).operations(), AppInfoParser.getVersion());
    }

    private Map<String, Compat.Operation> operations() {
        Map<String, Compat.Operation> operations = new HashMap<>();
        operations.put("create", this::create);
        operations.put("create_many", this::createMany);
        operations.put("delete", (request, reply) -> done(admin.deleteTopics(List.of(topic(request))).all()));
        operations.put("topics", this::topics);
        operations.put("partitions", this::partitions);
        operations.put("get_configs", this::getConfigs);
        operations.put("set_config", this::setConfig);
        operations.put("add_partitions", this::addPartitions);
        operations.put("delete_records", this::deleteRecords);
        operations.put("offsets", this::offsets);
        operations.put("offset_at", this::offsetAt);
        operations.put("log_dirs", this::logDirs);
        operations.put("produce", this::produce);
        operations.put("produce_until", this::produceUntil);
        operations.put("read", this::read);
        new Members(bootstrap).operations(operations);
        operations.put("groups", (request, reply) -> {
            ArrayNode names = reply.putArray("groups");
            done(admin.listGroups().all()).forEach(group -> names.add(group.groupId()));
        });
        operations.put("group", this::group);
        operations.put("committed", this::committed);
        operations.put("reset", (request, reply) -> done(admin.alterConsumerGroupOffsets(
            name(request), Map.of(partition(request), new OffsetAndMetadata(request.get("offset").asLong()))).all()));
        operations.put("forget", (request, reply) -> done(admin.deleteConsumerGroupOffsets(
            name(request), offsets(request).keySet()).all()));
        operations.put("delete_group", (request, reply) ->
            done(admin.deleteConsumerGroups(List.of(name(request))).all()));
        return operations;
    }

    private void create(JsonNode request, ObjectNode reply) throws Exception {
        Map<String, String> configs = new HashMap<>();
        request.get("configs").properties().forEach(entry -> configs.put(entry.getKey(), entry.getValue().asText()));
        NewTopic topic = new NewTopic(topic(request), request.get("partitions").asInt(), (short) 1).configs(configs);
        done(admin.createTopics(List.of(topic)).all());
    }

    private void createMany(JsonNode request, ObjectNode reply) throws Exception {
        List<NewTopic> topics = new ArrayList<>();
        request.get("topics").forEach(name -> topics.add(new NewTopic(name.asText(), 1, (short) 1)));
        done(admin.createTopics(topics).all());
    }

    private void topics(JsonNode request, ObjectNode reply) throws Exception {
        ArrayNode names = reply.putArray("topics");
        done(admin.listTopics().names()).forEach(names::add);
    }

    private void partitions(JsonNode request, ObjectNode reply) throws Exception {
        String topic = topic(request);
        reply.put("count", done(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size());
    }

    private void getConfigs(JsonNode request, ObjectNode reply) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic(request));
        ObjectNode configs = reply.putObject("configs");
        done(admin.describeConfigs(List.of(resource)).all()).get(resource).entries()
            .forEach(entry -> configs.put(entry.name(), entry.value()));
    }

    private void setConfig(JsonNode request, ObjectNode reply) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic(request));
        ConfigEntry entry = new ConfigEntry(request.get("name").asText(), request.get("value").asText());
        Collection<AlterConfigOp> change = List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET));
        done(admin.incrementalAlterConfigs(Map.of(resource, change)).all());
    }

    private void addPartitions(JsonNode request, ObjectNode reply) throws Exception {
        NewPartitions partitions = NewPartitions.increaseTo(request.get("count").asInt());
        done(admin.createPartitions(Map.of(topic(request), partitions)).all());
    }

    private void deleteRecords(JsonNode request, ObjectNode reply) throws Exception {
        RecordsToDelete before = RecordsToDelete.beforeOffset(request.get("offset").asLong());
        done(admin.deleteRecords(Map.of(partition(request), before)).all());
    }

    private void offsets(JsonNode request, ObjectNode reply) throws Exception {
        reply.put("earliest", offset(partition(request), OffsetSpec.earliest()));
        reply.put("latest", offset(partition(request), OffsetSpec.latest()));
    }

    private void offsetAt(JsonNode request, ObjectNode reply) throws Exception {
        reply.put("offset", offset(partition(request), OffsetSpec.forTimestamp(request.get("time").asLong())));
    }

    private long offset(TopicPartition partition, OffsetSpec at) throws Exception {
        return done(admin.listOffsets(Map.of(partition, at)).partitionResult(partition)).offset();
    }

    private void logDirs(JsonNode request, ObjectNode reply) throws Exception {
        String topic = topic(request);
        List<Integer> nodes = new ArrayList<>();
        done(admin.describeCluster().nodes()).forEach(node -> nodes.add(node.id()));
        long bytes = done(admin.describeLogDirs(nodes).allDescriptions()).values().stream()
            .flatMap(directories -> directories.values().stream())
            .flatMap(directory -> directory.replicaInfos().entrySet().stream())
            .filter(replica -> replica.getKey().topic().equals(topic))
            .mapToLong(replica -> replica.getValue().size()).sum();
        reply.put("bytes", bytes);
    }

    private KafkaProducer<byte[], byte[]> producer(String codec, String acks, boolean idempotent) {
        return new KafkaProducer<>(Map.of(
            "bootstrap.servers", bootstrap, "compression.type", codec, "acks", acks, "linger.ms", 5,
            "enable.idempotence", idempotent, "max.request.size", 20_000_000, "delivery.timeout.ms", Compat.WAIT_MS,
            "request.timeout.ms", Compat.WAIT_MS / 3, "buffer.memory", 64_000_000
        ), new ByteArraySerializer(), new ByteArraySerializer());
    }

    private void produce(JsonNode request, ObjectNode reply) throws Exception {
        String codec = request.get("codec").asText();
        String acks = request.get("acks").asText();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(codec, acks, request.get("idempotent").asBoolean())) {
            for (JsonNode record : request.get("records")) {
                ProducerRecord<byte[], byte[]> made = new ProducerRecord<>(
                    topic(request), record.get("partition").asInt(), record.get("timestamp").asLong(),
                    Compat.data(record.get("key")), Compat.data(record.get("value")));
                record.get("headers").forEach(
                    header -> made.headers().add(header.get(0).asText(), Compat.data(header.get(1))));
                sent.add(producer.send(made));
            }
            producer.flush();
            for (Future<RecordMetadata> delivery : sent) {
                delivery.get();
            }
        }
    }

    private void produceUntil(JsonNode request, ObjectNode reply) throws Exception {
        List<Future<RecordMetadata>> deliveries = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer("none", "all", true)) {
            int sent = Compat.until(request.get("file").asText(), n -> {
                byte[] value = String.valueOf(n).getBytes();
                deliveries.add(producer.send(new ProducerRecord<>(topic(request), 0, "key".getBytes(), value)));
                Thread.sleep(1);
            });
            producer.flush();
            for (Future<RecordMetadata> delivery : deliveries) {
                delivery.get();
            }
            reply.put("sent", sent);
        }
    }

    private void read(JsonNode request, ObjectNode reply) {
        Map<String, Object> config = Map.of(
            "bootstrap.servers", bootstrap, "auto.offset.reset", "earliest", "enable.auto.commit", false,
            "fetch.max.wait.ms", 100, "max.partition.fetch.bytes", 20_000_000);
        List<TopicPartition> partitions = Compat.partitions(request).stream()
            .map(partition -> new TopicPartition(topic(request), partition)).toList();
        ArrayNode records = reply.putArray("records");
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(request.get("wait_ms").asLong());
        try (KafkaConsumer<byte[], byte[]> consumer =
                 new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(partitions);
            Optional<Long> offset = Optional.of(request.get("offset")).filter(JsonNode::isNumber).map(JsonNode::asLong);
            offset.ifPresentOrElse(
                at -> partitions.forEach(partition -> consumer.seek(partition, at)),
                () -> consumer.seekToBeginning(partitions));
            while (records.size() < request.get("count").asInt() && System.nanoTime() < end) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    ArrayNode headers = Compat.record(
                        records, record.partition(), record.offset(), record.timestamp(), Compat.text(record.key()),
                        Compat.text(record.value())).putArray("headers");
                    for (Header header : record.headers()) {
                        headers.addArray().add(header.key()).add(Compat.text(header.value()));
                    }
                }
            }
        }
    }

    private void group(JsonNode request, ObjectNode reply) throws Exception {
        ConsumerGroupDescription found =
            done(admin.describeConsumerGroups(List.of(name(request))).describedGroups().get(name(request)));
        reply.put("state", found.groupState().toString()).put("members", found.members().size());
    }

    private void committed(JsonNode request, ObjectNode reply) throws Exception {
        ObjectNode offsets = reply.putObject("offsets");
        offsets(request).forEach((partition, offset) -> offsets.putArray(String.valueOf(partition.partition()))
            .add(offset.offset()).add(offset.metadata()));
    }

    private Map<TopicPartition, OffsetAndMetadata> offsets(JsonNode request) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> all = new HashMap<>(
            done(admin.listConsumerGroupOffsets(name(request)).partitionsToOffsetAndMetadata()));
        all.keySet().removeIf(partition -> !partition.topic().equals(topic(request)));
        return all;
    }

    private static String name(JsonNode request) {
        return request.get("group").asText();
    }

    private static String topic(JsonNode request) {
        return request.get("topic").asText();
    }

    private static TopicPartition partition(JsonNode request) {
        return new TopicPartition(topic(request), request.get("partition").asInt());
    }

    private static <T> T done(KafkaFuture<T> future) throws Exception {
        return future.get(Compat.WAIT_MS, TimeUnit.MILLISECONDS);
    }
}

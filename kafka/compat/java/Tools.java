import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.kafka.common.utils.AppInfoParser;
import org.apache.kafka.common.utils.Exit;

/** Apache's command-line tools, called as their scripts call them, in one process. */
final class Tools {
    private static final String NULL = "(null)";
    private static final InputStream IN = System.in;

    private final String bootstrap;

    interface Main {
        void main(String[] arguments) throws Exception;
    }

    /** Ends a tool instead of the process. */
    private static final class Ended extends Error {}

    /** What a tool has said, up to its end, and how it has ended. */
    private static final class Run {
        private final ByteArrayOutputStream said = new ByteArrayOutputStream();
        private final List<Runnable> hooks = new ArrayList<>();
        private Integer code;
        private String text;

        /** The first end counts: tools catch it as they catch everything, and end once more. */
        synchronized void end(int code) {
            if (this.code == null) {
                this.code = code;
                text = said.toString(StandardCharsets.UTF_8);
            }
        }
    }

    private static Run current = new Run();

    private Tools(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) throws Exception {
        Exit.Procedure end = (code, message) -> {
            current.end(code);
            throw new Ended();
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        Exit.setShutdownHookAdder((name, hook) -> current.hooks.add(hook));
        Compat.groups("console_group", "perf_group", "group_configs");
        Compat.serve(bootstrap -> new Tools(bootstrap).operations(), AppInfoParser.getVersion(), "timestamps");
    }

    private Map<String, Compat.Operation> operations() {
        Map<String, Compat.Operation> operations = new HashMap<>();
        operations.put("create", this::create);
        operations.put("delete", (request, reply) -> topics("--delete", "--topic", topic(request)));
        operations.put("topics", (request, reply) -> {
            ArrayNode names = reply.putArray("topics");
            topics("--list").lines().forEach(names::add);
        });
        operations.put("partitions", (request, reply) -> {
            String said = topics("--describe", "--topic", topic(request));
            reply.put("count", Long.parseLong(find("PartitionCount: *(\\d+)", said)));
        });
        operations.put("get_configs", this::getConfigs);
        operations.put("set_config", (request, reply) -> configs(
            request, "--alter", "--add-config", request.get("name").asText() + "=" + request.get("value").asText()));
        operations.put("add_partitions", (request, reply) ->
            topics("--alter", "--topic", topic(request), "--partitions", request.get("count").asText()));
        operations.put("delete_records", this::deleteRecords);
        operations.put("offsets", (request, reply) ->
            reply.put("earliest", offset(request, "-2")).put("latest", offset(request, "-1")));
        operations.put("offset_at", (request, reply) ->
            reply.put("offset", offset(request, request.get("time").asText())));
        operations.put("log_dirs", this::logDirs);
        operations.put("perf", this::perf);
        operations.put("produce", this::produce);
        operations.put("read", this::read);
        new GroupTools(this).operations(operations);
        return operations;
    }

    private void create(JsonNode request, ObjectNode reply) throws Exception {
        List<String> words = new ArrayList<>(List.of(
            "--create", "--topic", topic(request), "--partitions", request.get("partitions").asText()));
        request.get("configs").properties().forEach(
            entry -> words.addAll(List.of("--config", entry.getKey() + "=" + entry.getValue().asText())));
        topics(words.toArray(String[]::new));
    }

    private void getConfigs(JsonNode request, ObjectNode reply) throws Exception {
        ObjectNode configs = reply.putObject("configs");
        Matcher lines = Pattern.compile("^ +([a-z.]+)=(\\S*) sensitive=", Pattern.MULTILINE)
            .matcher(configs(request, "--describe", "--all"));
        while (lines.find()) {
            configs.put(lines.group(1), lines.group(2));
        }
    }

    private void deleteRecords(JsonNode request, ObjectNode reply) throws Exception {
        Path file = Files.createTempFile("delete-records", ".json");
        ObjectNode wanted = Compat.JSON.createObjectNode().put("version", 1);
        wanted.putArray("partitions").addObject().put("topic", topic(request))
            .put("partition", request.get("partition").asInt()).put("offset", request.get("offset").asLong());
        Files.writeString(file, wanted.toString());
        try {
            run(org.apache.kafka.tools.DeleteRecordsCommand::main, "", "--offset-json-file", file.toString());
        } finally {
            Files.delete(file);
        }
    }

    private long offset(JsonNode request, String time) throws Exception {
        String said = run(
            org.apache.kafka.tools.GetOffsetShell::main, "", "--topic", topic(request), "--partitions",
            request.get("partition").asText(), "--time", time);
        return Long.parseLong(find(":\\d+:(-?\\d+)", said));
    }

    private void logDirs(JsonNode request, ObjectNode reply) throws Exception {
        String said = run(
            org.apache.kafka.tools.LogDirsCommand::main, "", "--describe", "--topic-list", topic(request));
        JsonNode answer = Compat.JSON.readTree(find("(?m)^(\\{.*\\})$", said));
        long bytes = 0;
        for (JsonNode size : answer.findValues("size")) {
            bytes += size.asLong();
        }
        reply.put("bytes", bytes);
    }

    private void perf(JsonNode request, ObjectNode reply) throws Exception {
        String said = run(
            org.apache.kafka.tools.ProducerPerformance::main, "", "--topic", topic(request), "--num-records",
            request.get("count").asText(), "--record-size", "100", "--throughput", "-1");
        reply.put("said", find("(?m)^(\\d+ records sent.*)$", said));
    }

    private void produce(JsonNode request, ObjectNode reply) throws Exception {
        // The tool knows no partitions: those records that have one in common go by a process of their own.
        Map<Integer, StringBuilder> parts = new TreeMap<>();
        for (JsonNode record : request.get("records")) {
            List<String> headers = new ArrayList<>();
            record.get("headers").forEach(header -> headers.add(header.get(0).asText() + ":" + header.get(1).asText()));
            parts.computeIfAbsent(record.get("partition").asInt(), partition -> new StringBuilder())
                .append(headers.isEmpty() ? NULL : String.join(",", headers)).append('\t')
                .append(record.get("key").asText(NULL)).append('\t').append(record.get("value").asText(NULL)).append('\n');
        }
        for (Map.Entry<Integer, StringBuilder> part : parts.entrySet()) {
            run(
                org.apache.kafka.tools.ConsoleProducer::main, part.getValue().toString(), "--topic", topic(request),
                "--compression-codec", request.get("codec").asText(), "--reader-property", "parse.key=true",
                "--reader-property", "parse.headers=true", "--reader-property", "null.marker=" + NULL,
                "--command-property", "acks=" + request.get("acks").asText(),
                "--command-property", "enable.idempotence=" + request.get("idempotent").asText(),
                "--command-property", "max.request.size=20000000",
                "--command-property", "partitioner.class=" + OnePartition.class.getName(),
                "--command-property", "partition=" + part.getKey());
        }
    }

    /** Sends everything to the partition that the configuration says. */
    public static final class OnePartition implements org.apache.kafka.clients.producer.Partitioner {
        private int partition;

        @Override
        public void configure(Map<String, ?> configs) {
            partition = Integer.parseInt(configs.get("partition").toString());
        }

        @Override
        public int partition(
            String topic, Object key, byte[] keyBytes, Object value, byte[] bytes,
            org.apache.kafka.common.Cluster cluster
        ) {
            return partition;
        }

        @Override
        public void close() {}
    }

    private void read(JsonNode request, ObjectNode reply) throws Exception {
        ArrayNode records = reply.putArray("records");
        int left = request.get("count").asInt();
        for (int partition : Compat.partitions(request)) {
            long latest = offset(Compat.JSON.createObjectNode().put("topic", topic(request)).put("partition", partition), "-1");
            long earliest = offset(Compat.JSON.createObjectNode().put("topic", topic(request)).put("partition", partition), "-2");
            String at = request.get("offset").isNumber() ? request.get("offset").asText() : "earliest";
            long from = request.get("offset").isNumber() ? request.get("offset").asLong() : earliest;
            long count = Math.min(left, latest - from);
            if (count <= 0) {
                continue;
            }
            String said = run(
                org.apache.kafka.tools.consumer.ConsoleConsumer::main, "", "--topic", topic(request), "--partition",
                String.valueOf(partition), "--offset", at, "--max-messages", String.valueOf(count), "--timeout-ms",
                request.get("wait_ms").asText(), "--formatter-property", "print.timestamp=true",
                "--formatter-property", "print.offset=true", "--formatter-property", "print.headers=true",
                "--formatter-property", "print.key=true", "--formatter-property", "null.literal=" + NULL,
                "--command-property", "max.partition.fetch.bytes=20000000");
            for (String line : said.split("\n")) {
                String[] words = line.split("\t", -1);
                if (words.length != 5) {
                    continue;
                }
                ArrayNode headers = Compat.record(
                    records, partition, Long.parseLong(words[1].substring("Offset:".length())),
                    Long.parseLong(words[0].substring("CreateTime:".length())), orNull(words[3]), orNull(words[4])
                ).putArray("headers");
                Stream.of(words[2].split(",")).filter(pair -> pair.contains(":"))
                    .forEach(pair -> headers.addArray().add(pair.split(":", 2)[0]).add(pair.split(":", 2)[1]));
                left--;
            }
        }
    }

    private String topics(String... words) throws Exception {
        return run(org.apache.kafka.tools.TopicCommand::main, "", words);
    }

    private String configs(JsonNode request, String... words) throws Exception {
        Stream<String> entity = Stream.of("--entity-type", "topics", "--entity-name", topic(request));
        return run(kafka.admin.ConfigCommand::main, "", Stream.concat(entity, Arrays.stream(words)).toArray(String[]::new));
    }

    /** Runs a tool with standard input and output of its own; what it says is the answer, or the error. */
    String run(Main tool, String input, String... words) throws Exception {
        Run run = new Run();
        current = run;
        PrintStream out = System.out;
        PrintStream err = System.err;
        PrintStream both = new PrintStream(run.said, true, StandardCharsets.UTF_8);
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        System.setOut(both);
        System.setErr(both);
        try {
            tool.main(Stream.concat(Stream.of("--bootstrap-server", bootstrap), Arrays.stream(words)).toArray(String[]::new));
            run.end(0);
        } catch (Ended end) {
            // Its code is known.
        } finally {
            run.hooks.forEach(Runnable::run);
            System.setIn(IN);
            System.setOut(out);
            System.setErr(err);
        }
        if (run.code != 0 || Pattern.compile("(?m)(^Error |Exception: )").matcher(run.text).find()) {
            String text = run.text.substring(0, Math.min(run.text.length(), 500));
            throw new IllegalStateException("exit " + run.code + ": " + text);
        }
        return run.text;
    }

    static String find(String pattern, String text) {
        Matcher found = Pattern.compile(pattern).matcher(text);
        if (!found.find()) {
            throw new IllegalStateException("not said: " + pattern + ": " + text);
        }
        return found.group(1);
    }

    private static String orNull(String text) {
        return text.equals(NULL) ? null : text;
    }

    static String topic(JsonNode request) {
        return request.get("topic").asText();
    }
}

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/** Those of Apache's tools that are about groups. */
final class GroupTools {
    private final Tools tools;

    GroupTools(Tools tools) {
        this.tools = tools;
    }

    void operations(Map<String, Compat.Operation> operations) {
        operations.put("console_group", this::console);
        operations.put("groups_tool", this::groups);
        operations.put("reset_tool", (request, reply) -> groups(Stream.concat(
            Stream.of("--reset-offsets", "--execute", "--group", group(request), "--topic", Tools.topic(request)),
            Stream.of(request.get("how").asText().split(" "))).toArray(String[]::new)));
        operations.put("committed", this::committed);
        operations.put("perf_group", this::perf);
        operations.put("format_offsets", this::format);
        operations.put("group_configs", this::configs);
    }

    private void console(JsonNode request, ObjectNode reply) throws Exception {
        String said = tools.run(
            org.apache.kafka.tools.consumer.ConsoleConsumer::main, "", "--topic", Tools.topic(request), "--group",
            group(request), "--from-beginning", "--max-messages", request.get("count").asText(), "--timeout-ms", "7000",
            "--formatter-property", "print.offset=true", "--formatter-property", "print.value=false");
        reply.put("count", count("(?m)^Offset:", said));
    }

    private void groups(JsonNode request, ObjectNode reply) throws Exception {
        String group = group(request);
        String topic = Tools.topic(request);
        expect(group, groups("--list"));
        expect(group + " +Classic +Empty", groups("--list", "--state", "--type"));
        String offsets = groups("--describe", "--group", group, "--offsets");
        long each = request.get("count").asLong() / 4;
        for (int partition = 0; partition < 4; partition++) {
            expect(group + " +" + topic + " +" + partition + " +" + each + " +" + each + " +0 ", offsets);
        }
        expect("has no active members", groups("--describe", "--group", group, "--members", "--verbose"));
        expect(group + " .*Empty +0", groups("--describe", "--group", group, "--state"));
        expect(group, groups("--describe", "--all-groups", "--state"));
        expect(topic + " +3 +Successful", groups("--delete-offsets", "--group", group, "--topic", topic));
        expect("successful", groups("--delete", "--group", group));
        if (Pattern.compile("(?m)^" + group + "$").matcher(groups("--list")).find()) {
            throw new IllegalStateException("it is listed still");
        }
    }

    /** By the describing of offsets: {@code GROUP TOPIC PARTITION CURRENT-OFFSET ...}. */
    private void committed(JsonNode request, ObjectNode reply) throws Exception {
        Matcher lines = Pattern.compile("(?m)^" + group(request) + " +" + Tools.topic(request) + " +(\\d+) +(\\d+) ")
            .matcher(groups("--describe", "--group", group(request), "--offsets"));
        ObjectNode offsets = reply.putObject("offsets");
        while (lines.find()) {
            offsets.putArray(lines.group(1)).add(Long.parseLong(lines.group(2))).addNull();
        }
    }

    private void perf(JsonNode request, ObjectNode reply) throws Exception {
        String count = request.get("count").asText();
        String said = tools.run(
            org.apache.kafka.tools.ConsumerPerformance::main, "", "--topic", Tools.topic(request), "--group",
            group(request), "--num-records", count, "--timeout", "20000", "--hide-header");
        // start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, ...
        reply.put("said", Tools.find("(?m)^(.*, \\S+, \\S+, " + count + ", .*)$", said));
    }

    private void format(JsonNode request, ObjectNode reply) throws Exception {
        String group = group(request);
        expect("\"group\":\"" + group + "\".*\"topic\":\"" + Tools.topic(request) + "\".*\"offset\":", formatted(group, "Offsets"));
        expect("\"group\":\"" + group + "\".*\"protocolType\":\"consumer\"", formatted(group, "GroupMetadata"));
    }

    private String formatted(String group, String what) throws Exception {
        // Of the fifty that there are.
        String partition = String.valueOf(Math.abs(group.hashCode()) % 50);
        return tools.run(
            org.apache.kafka.tools.consumer.ConsoleConsumer::main, "", "--topic", "__consumer_offsets", "--partition",
            partition, "--offset", "earliest", "--formatter", "org.apache.kafka.tools.consumer." + what + "MessageFormatter",
            "--timeout-ms", "1500");
    }

    private void configs(JsonNode request, ObjectNode reply) throws Exception {
        String group = group(request);
        String said = tools.run(
            kafka.admin.ConfigCommand::main, "", "--entity-type", "groups", "--entity-name", group, "--describe", "--all");
        expect(group, said);
        expect("consumer.session.timeout.ms=" + request.get("session_ms").asText(), said);
    }

    private String groups(String... words) throws Exception {
        return tools.run(org.apache.kafka.tools.consumer.group.ConsumerGroupCommand::main, "", words);
    }

    private static void expect(String pattern, String said) {
        if (!Pattern.compile(pattern).matcher(said).find()) {
            throw new IllegalStateException("not said: " + pattern + ": " + said);
        }
    }

    private static long count(String pattern, String said) {
        return Pattern.compile(pattern).matcher(said).results().count();
    }

    private static String group(JsonNode request) {
        return request.get("group").asText();
    }
}

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/** The part that the Java drivers share: one JSON request a line in, one JSON reply a line out (see ../README.md). */
final class Compat {
    /** Longest time for one operation of a client, milliseconds. */
    static final int WAIT_MS = 30_000;
    static final ObjectMapper JSON = new ObjectMapper();
    /** {@link #until} says that it is under way after so many records. */
    private static final int PROGRESS = 200;
    private static final PrintStream OUT = System.out;

    private static List<String> groups = List.of();

    /** An operation of a client. */
    interface Operation {
        void run(JsonNode request, ObjectNode reply) throws Exception;
    }

    interface Send {
        void send(int n) throws Exception;
    }

    private Compat() {}

    /** Calls {@code send} with 0, 1, ... until there is a file at {@code path}; returns how often. */
    static int until(String path, Send send) throws Exception {
        int sent = 0;
        for (Path file = Path.of(path); !Files.exists(file); sent++) {
            if (sent == PROGRESS) {
                say(JSON.createObjectNode().put("progress", sent));
            }
            send.send(sent);
        }
        return sent;
    }

    static byte[] data(JsonNode text) {
        return text.isNull() ? null : text.asText().getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] data) {
        return data == null ? null : new String(data, StandardCharsets.UTF_8);
    }

    static List<Integer> partitions(JsonNode request) {
        List<Integer> list = new ArrayList<>();
        request.get("partitions").forEach(partition -> list.add(partition.asInt()));
        return list;
    }

    /** Writes a record as the runner reads it. */
    static ObjectNode record(ArrayNode records, int partition, long offset, long timestamp, String key, String value) {
        return records.addObject().put("partition", partition).put("offset", offset).put("timestamp", timestamp)
            .put("key", key).put("value", value);
    }

    private static void say(ObjectNode reply) {
        OUT.write((reply + "\n").getBytes(StandardCharsets.UTF_8), 0, (reply + "\n").getBytes(StandardCharsets.UTF_8).length);
        OUT.flush();
    }

    /** Says what the client can do with groups. */
    static void groups(String... can) {
        groups = List.of(can);
    }

    /** Answers requests until standard input ends. {@code open} makes the operations for a bootstrap address. */
    static void serve(Function<String, Map<String, Operation>> open, String version, String... cannot) throws Exception {
        Map<String, Map<String, Operation>> opened = new HashMap<>();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonNode request = JSON.readTree(line);
            String op = request.get("op").asText();
            ObjectNode reply = JSON.createObjectNode();
            if (op.equals("hello")) {
                reply.put("ok", true).put("version", version);
                ArrayNode list = reply.putArray("cannot");
                List.of(cannot).forEach(list::add);
                ArrayNode can = reply.putArray("groups");
                groups.forEach(can::add);
                say(reply);
                continue;
            }
            try {
                Operation operation = opened.computeIfAbsent(request.get("bootstrap").asText(), open).get(op);
                if (operation == null) {
                    reply.putNull("ok").put("detail", "the client has no " + op.replace('_', ' '));
                } else {
                    operation.run(request, reply);
                    reply.put("ok", true);
                }
            } catch (Throwable error) {
                Throwable cause = error instanceof java.util.concurrent.ExecutionException ? error.getCause() : error;
                reply = JSON.createObjectNode().put("ok", false).put("detail", String.valueOf(cause));
            }
            say(reply);
        }
        Runtime.getRuntime().halt(0);
    }
}

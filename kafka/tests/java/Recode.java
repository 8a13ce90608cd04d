import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.BufferedOutputStream;
import java.io.EOFException;
import java.nio.ByteBuffer;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Decodes messages with Kafka's own code and encodes them again.
 *
 * In: key, part (0: request), version (short each), length (int), bytes; until the end.
 * Out, for each: first and last stable version (short each), length, bytes; an error is a length below 0 and its words.
 */
public class Recode {
    public static void main(String[] arguments) throws Exception {
        DataInputStream in = new DataInputStream(System.in);
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        while (true) {
            short key;
            try {
                key = in.readShort();
            } catch (EOFException end) {
                break;
            }
            short part = in.readShort();
            short version = in.readShort();
            byte[] bytes = new byte[in.readInt()];
            in.readFully(bytes);
            ApiMessageType type = ApiMessageType.fromApiKey(key);
            out.writeShort(type.lowestSupportedVersion());
            out.writeShort(type.highestSupportedVersion(false));
            try {
                byte[] again = recode(part == 0 ? type.newRequest() : type.newResponse(), version, bytes);
                out.writeInt(again.length);
                out.write(again);
            } catch (Exception error) {
                byte[] words = error.toString().getBytes("UTF-8");
                out.writeInt(-words.length);
                out.write(words);
            }
        }
        out.flush();
    }

    private static byte[] recode(ApiMessage message, short version, byte[] bytes) {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        message.read(new ByteBufferAccessor(buffer), version);
        if (buffer.hasRemaining()) {
            throw new IllegalStateException(buffer.remaining() + " bytes left");
        }
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer again = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(again), cache, version);
        return again.array();
    }
}

#!/usr/bin/env python3
"""What idle connections cost a server: idle_connections.py PORT PID [COUNT].

Opens COUNT connections, says hello on each as librdkafka does (ApiVersions 3), and prints the server's resident memory before,
with all of them open, and after; and how long the first connection waits for an answer while the others are there.
Both processes need the descriptors: `ulimit -n` of more than COUNT before the server is started.
"""
import re, resource, socket, sys, time

HELLO = bytes.fromhex("000000400012000300000001000772646b61666b610017636f6e666c75656e742d6b61666b612d707974686f6e"
                      "16322e31362e312d72646b61666b612d322e31362e3000")

def resident_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)) / 1024

def answer(connection):
    left = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    assert left > 0, "the server closed the connection"
    while left:
        left -= len(connection.recv(left))

def main():
    port, pid, count = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before, connections = resident_mib(pid), []
    for number in range(count):
        # Each loopback address has ports of its own, and limits for each address are not what is measured.
        source = f"127.0.{1 + number // 1000}.1"
        connections.append(socket.create_connection(("127.0.0.1", port), source_address=(source, 0)))
        connections[-1].sendall(HELLO)
    for connection in connections:
        answer(connection)
    time.sleep(1)
    held = resident_mib(pid)
    began = time.monotonic()
    connections[0].sendall(HELLO)
    answer(connections[0])
    waited = time.monotonic() - began
    for connection in connections:
        connection.close()
    time.sleep(2)
    print(f"{count} idle connections: {before:.0f} MiB before, {held:.0f} MiB with them "
          f"({(held - before) * 1024 / count:.1f} KiB each), {resident_mib(pid):.0f} MiB after; answered in {waited * 1e3:.1f} ms")

if __name__ == "__main__":
    main()

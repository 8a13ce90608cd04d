"""kcat, as a program: every operation is a process of its own."""

import ctypes
import json
import re
import signal
import subprocess
import tempfile
import threading
import time

from compat import WAIT_S, Driver, Member, data, serve

LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1


class KcatMember(Member):
    """What it says of its partitions are lines like `% Group g rebalanced (memberid m): assigned: t [0], t [1]`."""

    # Between commits: kcat has no way to change it.
    INTERVAL_S = 5

    def open(self):
        settings = [
            f"session.timeout.ms={self.session_ms}", "heartbeat.interval.ms=500", "auto.offset.reset=earliest",
            f"partition.assignment.strategy={self.assignor}", "fetch.wait.max.ms=100",
        ] + ([f"group.instance.id={self.instance}"] if self.instance else [])
        options = [option for setting in settings for option in ("-X", setting)]
        self.process = subprocess.Popen(
            ["kcat", "-b", self.bootstrap, "-E", "-J", "-u", *options, "-G", self.group, self.topic],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # It goes with the driver.
            preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        self.mine = set()
        threading.Thread(target=self.listen, daemon=True).start()
        threading.Thread(target=self.consume, daemon=True).start()

    def listen(self):
        for line in self.process.stderr:
            found = re.search(r"rebalanced .*: (assigned|revoked): (.*)", line)
            if not found:
                continue
            partitions = {(topic, int(at)) for topic, at in re.findall(r"(\S+) \[(\d+)\]", found[2])}
            if found[1] == "assigned":
                self.mine |= partitions
                self.told()
            else:
                self.mine -= partitions
                self.told(len(partitions))

    def consume(self):
        for line in self.process.stdout:
            record = json.loads(line)
            self.read(record["topic"], record["partition"], record["offset"])

    def poll(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"kcat has ended with {self.process.returncode}")
        time.sleep(0.02)

    def assignment(self):
        return list(self.mine)

    def commit(self, topic, metadata):
        # It does so by itself, and tells nobody.
        time.sleep(1.1 * self.INTERVAL_S)

    def leave(self):
        self.ended = True
        self.process.send_signal(signal.SIGINT)
        self.process.wait(WAIT_S)


class Kcat(Driver):
    # Its answer to every assignment is the one of the eager protocol.
    groups = ("classic", "range", "static")
    member = KcatMember

    # One set of headers a process, and the time of sending.
    cannot = ("timestamps", "headers")

    def run(self, *arguments, fed=None):
        done = subprocess.run(
            ["kcat", "-b", self.bootstrap, *arguments], input=fed, capture_output=True, timeout=WAIT_S, check=False
        )
        said = done.stderr.decode()
        # kcat ends with 0 after some errors that it has only told of.
        if done.returncode or "ERROR" in said:
            raise RuntimeError(said.strip()[-500:])
        return done.stdout.decode()

    def metadata(self, *arguments):
        return json.loads(self.run("-L", "-J", "-m", "20", *arguments))["topics"]

    def topics(self):
        return {"topics": [topic["topic"] for topic in self.metadata()]}

    def partitions(self, topic):
        return {"count": len(self.metadata("-t", topic)[0]["partitions"])}

    def offsets(self, topic, partition):
        return {"earliest": self.query(topic, partition, -2), "latest": self.query(topic, partition, -1)}

    def offset_at(self, topic, partition, time):
        return {"offset": self.query(topic, partition, time)}

    def query(self, topic, partition, time):
        return int(re.search(r"offset (-?\d+)", self.run("-Q", "-t", f"{topic}:{partition}:{time}"))[1])

    def producing(self, topic, codec, acks, idempotent):
        settings = ["message.max.bytes=20000000", "linger.ms=5", f"delivery.timeout.ms={WAIT_S * 1000}"]
        if idempotent:
            settings.append("enable.idempotence=true")
        else:
            settings.append(f"acks={acks}")
        options = [option for setting in settings for option in ("-X", setting)]
        return ["-P", "-t", topic, "-z", codec, "-K", "\t", "-Z", *options]

    def produce(self, topic, codec, acks, idempotent, records):
        arguments = self.producing(topic, codec, acks, idempotent)
        for partition in {record["partition"] for record in records}:
            lines = [
                f"{record['key'] or ''}\t{record['value'] or ''}\n"
                for record in records if record["partition"] == partition
            ]
            if any(len(line) > 1_000_000 for line in lines):
                # Each line of standard input is cut at a mebibyte or so: a file is one record.
                with tempfile.NamedTemporaryFile() as file:
                    file.write(data(records[0]["value"]))
                    file.flush()
                    self.run(*[a for a in arguments if a not in ("-K", "\t")], "-k", records[0]["key"], file.name)
            else:
                self.run(*arguments, "-p", str(partition), fed="".join(lines).encode())

    # No produce_until: kcat ends as soon as it is connected to no broker.

    def read(self, topic, partitions, offset, count, wait_ms):
        records = []
        for partition in partitions:
            at = "beginning" if offset is None else str(offset)
            limits = ["-e"] if wait_ms < 5000 else ["-e", "-c", str(count)]
            sizes = ["-X", "fetch.message.max.bytes=20000000", "-X", "receive.message.max.bytes=200000000"]
            lines = self.run("-C", "-J", "-q", "-t", topic, "-p", str(partition), "-o", at, *limits, *sizes)
            for line in lines.splitlines():
                found = json.loads(line)
                flat = found.get("headers", [])
                records.append({
                    "partition": found["partition"], "offset": found["offset"], "timestamp": found["ts"],
                    "key": found["key"], "value": found["payload"],
                    "headers": [list(pair) for pair in zip(flat[::2], flat[1::2])],
                })
        return {"records": records}


if __name__ == "__main__":
    told = subprocess.run(["kcat", "-V"], capture_output=True, check=True).stdout.decode()
    version, library = re.search(r"Version (\S+).*librdkafka (\S+)", told).groups()
    serve(Kcat, f"{version}, librdkafka {library}")

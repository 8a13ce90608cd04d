#!/usr/bin/env python3
"""Brokers side by side: one client (librdkafka's rdkafka_performance), the servers' own CPU, rounds interleaved.

  side_by_side.py --client PATH --server NAME=PORT=PID [--server ...] [--rounds 3] [--cases a,b] [--scale 1.0] --out FILE.json

`scripts/bench_kafka.sh` builds the client, starts the servers and calls this.

PID is the server's process, or the parent of its processes: CPU and memory of the whole tree are counted.
Every round runs every case against every server in a shuffled order, so that the machine's noise hits all alike.
The client shares the cores with the server, so the robust figure is the server's CPU per record, not records per second.
Per case and server, medians over the rounds: records/s and MB/s as the client saw them, CPU microseconds per record of the
server and of the client, peak resident MiB; for the latency cases p50, p99 and p99.9 in microseconds from send to acknowledgement,
for the end-to-end case from send to the consumer. A bulk case reads what it wrote from the beginning, once: that is catching up,
as it is more than any cache holds. The tail case writes as much as a cache of 64 MiB holds, and reads it again and again.
"""
import argparse, json, os, random, re, statistics, subprocess, tempfile, time

TICKS = os.sysconf("SC_CLK_TCK")
CASES = {  # name: (record bytes, records, acks, codec, partition or None for all, client options)
    "100B": (100, 3_000_000, 1, "none", None, ["linger.ms=5"]),
    "1KiB": (1024, 1_000_000, 1, "none", None, ["linger.ms=5"]),
    "10KiB": (10240, 120_000, 1, "none", None, ["linger.ms=5"]),
    "1KiB-acks-all": (1024, 1_000_000, -1, "none", None, ["linger.ms=5"]),
    "1KiB-one-partition": (1024, 1_000_000, 1, "none", "0", ["linger.ms=5"]),
    "1KiB-lz4": (1024, 1_000_000, 1, "lz4", None, ["linger.ms=5"]),
    "one-record-batches": (100, 200_000, 1, "none", None, ["linger.ms=0", "batch.num.messages=1"]),
    "one-record-batches-acks-all": (100, 100_000, -1, "none", None, ["linger.ms=0", "batch.num.messages=1"]),
    "tail": (1024, 40_000, 1, "none", None, ["linger.ms=5"]),
    "latency": (100, 10_000, 1, "none", "0", ["linger.ms=0"]),
    "latency-acks-all": (100, 10_000, -1, "none", "0", ["linger.ms=0"]),
    "end-to-end": (100, 10_000, 1, "none", "0", ["linger.ms=0"]),
}
READS = {"tail": 20}  # of the same records; 1 for the others
PACED = ("latency", "end-to-end")  # 1,000 records a second

def tree(pid):
    found, todo = [], [pid]
    while todo:
        p = todo.pop()
        found.append(p)
        try:
            for t in os.listdir(f"/proc/{p}/task"):
                todo += [int(x) for x in open(f"/proc/{p}/task/{t}/children").read().split()]
        except OSError:
            pass
    return found

def cpu_seconds(pid):
    total = 0
    for p in tree(pid):
        try:
            fields = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / TICKS

def peak_mib(pid):
    total = 0
    for p in tree(pid):
        try:
            total += int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{p}/status").read()).group(1))
        except (OSError, AttributeError):
            pass
    return total / 1024

def timed(cmd, pid):
    server, mine = cpu_seconds(pid), os.times()
    out = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300).stdout
    now = os.times()
    return out, cpu_seconds(pid) - server, now.children_user + now.children_system - mine.children_user - mine.children_system

def row(match, size, server_cpu, client_cpu, pid):
    records, ms = int(match[0]), max(int(match[1]), 1)
    return dict(records_s=records / ms * 1e3, mb_s=records * size / ms / 1e3, server_us=server_cpu / records * 1e6,
                client_us=client_cpu / records * 1e6, peak_mib=peak_mib(pid))

def produce(client, case, topic, port, pid, scale):
    size, records, acks, codec, part, options = CASES[case]
    paced = case.startswith(PACED)
    records = int(records * (1 if paced or case in READS else scale))
    cmd = [client, "-P", "-b", f"127.0.0.1:{port}", "-t", topic, "-q", "-s", str(size), "-c", str(records), "-a", str(acks), "-z", codec,
           "-X", "queue.buffering.max.messages=500000", "-X", "queue.buffering.max.kbytes=1048576"]
    cmd += ["-p", part] if part else []
    for o in options:
        cmd += ["-X", o]
    with tempfile.NamedTemporaryFile("r") as stats:
        cmd += ["-r", "1000"] if paced else []
        reader = None
        if case == "end-to-end":
            cmd += ["-l"]
            # It has to be there before the first record; that it has its assignment is not shown anywhere.
            reader = subprocess.Popen([client, "-C", "-b", f"127.0.0.1:{port}", "-t", topic, "-p", part, "-o", "end", "-c", str(records),
                                       "-q", "-l", "-A", stats.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(1.5)
        elif paced:
            cmd += ["-l", "-A", stats.name]
        try:
            out, server_cpu, client_cpu = timed(cmd, pid)
            if reader:
                reader.wait(timeout=10)
        finally:
            if reader and reader.poll() is None:
                reader.kill()
                reader.wait()
        m = re.search(r"(\d+) delivered \(offset -?\d+, 0 failed\) in (\d+)ms", out)
        if not m or int(m[1]) != records:
            return dict(error=out[-300:])
        r = row((m[1], m[2]), size, server_cpu, client_cpu, pid)
        if paced:
            v = sorted(float(re.findall(r"[\d.]+", l)[-1]) for l in stats.read().splitlines() if l.strip())[:-1]
            r.update({f"p{q}": v[min(int(len(v) * q / 100), len(v) - 1)] for q in (50, 99, 99.9)})
    return r

def consume(client, case, topic, port, pid, scale, partitions):
    size, records, _, _, part, _ = CASES[case]
    records = int(records * (1 if case in READS else scale))
    cmd = [client, "-C", "-b", f"127.0.0.1:{port}", "-t", topic, "-q", "-o", "beginning", "-c", str(records)]
    for p in [part] if part else map(str, range(partitions)):
        cmd += ["-p", p]
    read, took, server_cpu, client_cpu = 0, 0, 0, 0
    for _ in range(READS.get(case, 1)):
        out, server, mine = timed(cmd, pid)
        m = re.findall(r"(\d+) messages \(\d+ bytes\) consumed in (\d+)ms", out)
        if not m or int(m[-1][0]) < records:
            return dict(error=out[-300:])
        read, took, server_cpu, client_cpu = read + int(m[-1][0]), took + int(m[-1][1]), server_cpu + server, client_cpu + mine
    return row((read, took), size, server_cpu, client_cpu, pid)

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--client", required=True)
    ap.add_argument("--server", action="append", required=True)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--cases", default=",".join(CASES))
    ap.add_argument("--scale", type=float, default=1.0)
    ap.add_argument("--partitions", type=int, default=12)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    servers = [(n, int(port), int(pid)) for n, port, pid in (s.split("=") for s in a.server)]
    cases, rows = a.cases.split(","), []
    for rnd in range(a.rounds):
        for case in cases:
            for name, port, pid in random.sample(servers, len(servers)):
                topic = f"{case}-{rnd}-{name}-{os.getpid()}"
                subprocess.run(["kcat", "-b", f"127.0.0.1:{port}", "-L", "-t", topic, "-m", "20"], capture_output=True, timeout=60)  # auto-creates it
                time.sleep(1)
                steps = [("produce", lambda: produce(a.client, case, topic, port, pid, a.scale))]
                if not case.startswith(PACED):
                    steps.append(("consume", lambda: consume(a.client, case, topic, port, pid, a.scale, a.partitions)))
                for kind, step in steps:
                    try:
                        r = step()
                    except subprocess.TimeoutExpired:
                        r = dict(error="timeout")
                    rows.append(dict(round=rnd, case=case, server=name, kind=kind, **r))
    json.dump(rows, open(a.out, "w"), indent=1)
    print(f"{'case':28}{'kind':9}{'server':10}{'records/s':>11}{'MB/s':>9}{'server us':>11}{'client us':>11}{'peak MiB':>10}  rounds")
    for case in cases:
        for kind in ("produce", "consume"):
            for name, *_ in servers:
                all_ = [r for r in rows if (r["case"], r["kind"], r["server"]) == (case, kind, name)]
                ok = [r for r in all_ if "error" not in r]
                if not all_:
                    continue
                if not ok:
                    print(f"{case:28}{kind:9}{name:10}FAILED {all_[-1]['error']!r}")
                    continue
                med = lambda k: statistics.median(r[k] for r in ok)
                line = f"{case:28}{kind:9}{name:10}{med('records_s'):11.0f}{med('mb_s'):9.1f}{med('server_us'):11.3f}{med('client_us'):11.3f}{max(r['peak_mib'] for r in ok):10.0f}  {len(ok)}/{len(all_)}"
                if "p50" in ok[0]:
                    line += f"  p50 {med('p50'):.0f} p99 {med('p99'):.0f} p99.9 {med('p99.9'):.0f} us"
                print(line)

if __name__ == "__main__":
    main()

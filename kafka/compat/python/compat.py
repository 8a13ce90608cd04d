"""The part that all Python drivers share: one JSON request a line in, one JSON reply a line out (see ../README.md)."""

import json
import os
import queue
import sys
import threading

WAIT_S = 30
"""Longest time for one operation of a client, seconds."""

PROGRESS = 200
"""`produce_until` says that it is under way after so many records."""


OPS = {"groups": "list_groups"}
"""Operations that have another name here."""


class Unsupported(Exception):
    """This client has no way to do what was asked for."""


class Driver:
    """What the runner may ask for. A driver overrides what its client can do; the rest is answered with `ok: null`."""

    cannot: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    member: type["Member"] | None = None

    def __init__(self, bootstrap: str):
        self.bootstrap = bootstrap
        self.members: dict[str, Member] = {}

    def __getattr__(self, name: str):
        raise Unsupported(f"the client has no {name.replace('_', ' ')}")

    def join(self, member, **how):
        self.members[member] = self.member(self.bootstrap, **how)
        self.members[member].start()

    def seen(self, member):
        return self.members[member].call("seen")

    def commit(self, member, topic, metadata):
        self.members[member].call("commit", topic, metadata)

    def seek(self, member, topic, partition, offset):
        self.members[member].call("seek", topic, partition, offset)

    def leave(self, member):
        self.members.pop(member).call("leave")


class Member(threading.Thread):
    """A member of a group: a consumer with a thread of its own, in which everything happens that it is asked for."""

    def __init__(self, bootstrap, group, topic, protocol, assignor, instance, pattern, session_ms):
        super().__init__(daemon=True)
        self.bootstrap, self.group, self.topic, self.protocol = bootstrap, group, topic, protocol
        self.assignor, self.instance, self.pattern, self.session_ms = assignor, instance, pattern, session_ms
        self.jobs: queue.Queue = queue.Queue()
        self.ended, self.failed = False, None
        self.revoked, self.rebalances, self.records, self.positions = 0, 0, [], {}

    def run(self):
        try:
            self.open()
        except Exception as error:  # whatever a client throws is an answer
            self.failed = error
        while not self.ended:
            try:
                self.work(self.jobs.get(block=self.failed is not None))
            except queue.Empty:
                try:
                    self.poll()
                except Exception as error:
                    self.failed = error

    def work(self, job):
        op, given, answer = job
        try:
            if self.failed is not None:
                raise self.failed
            answer.put((getattr(self, op)(*given), None))
        except Exception as error:
            answer.put((None, error))

    def call(self, op, *given):
        answer = queue.Queue()
        self.jobs.put((op, given, answer))
        value, error = answer.get(timeout=3 * WAIT_S)
        if error is not None:
            raise error
        return value

    def read(self, topic, partition, offset):
        self.records.append([topic, partition, offset])
        self.positions[topic, partition] = offset + 1

    def told(self, revoked=0):
        self.revoked += revoked
        self.rebalances += revoked == 0

    def seen(self):
        records, self.records = self.records, []
        return {
            "assigned": sorted(partition for _, partition in self.assignment()), "records": records,
            "revoked": self.revoked, "rebalances": self.rebalances,
        }

    def to_commit(self, topic):
        mine = set(self.assignment())
        return [(at[1], offset) for at, offset in self.positions.items() if at in mine and at[0] == topic]


def until(path: str, send) -> int:
    """Calls `send(n)` for n = 0, 1, ... until there is a file at `path`; returns how often."""
    sent = 0
    while not os.path.exists(path):
        send(sent)
        sent += 1
        if sent == PROGRESS:
            say({"progress": sent})
    return sent


def say(reply: dict) -> None:
    """Writes one line to the runner."""
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def text(value: bytes | None) -> str | None:
    """Bytes as the text they hold."""
    return None if value is None else value.decode()


def data(value: str | None) -> bytes | None:
    """Text as bytes."""
    return None if value is None else value.encode()


def serve(driver: type[Driver], version: str) -> None:
    """Answers requests until standard input ends. Each bootstrap address has a driver of its own."""
    drivers: dict[str, Driver] = {}
    for line in sys.stdin:
        request = json.loads(line)
        op, bootstrap = request.pop("op"), request.pop("bootstrap")
        if op == "hello":
            say({"ok": True, "version": version, "cannot": list(driver.cannot), "groups": list(driver.groups)})
            continue
        try:
            if bootstrap not in drivers:
                drivers[bootstrap] = driver(bootstrap)
            say({"ok": True} | (getattr(drivers[bootstrap], OPS.get(op, op))(**request) or {}))
        except Unsupported as why:
            say({"ok": None, "detail": str(why)})
        except Exception as error:  # whatever a client throws is an answer
            say({"ok": False, "detail": f"{type(error).__name__}: {error}"})
    # Clients that hang while they are closed must not hold up the runner.
    os._exit(0)

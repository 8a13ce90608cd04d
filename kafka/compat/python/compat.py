"""The part that all Python drivers share: one JSON request a line in, one JSON reply a line out (see ../README.md)."""

import json
import os
import sys

WAIT_S = 30
"""Longest time for one operation of a client, seconds."""

PROGRESS = 200
"""`produce_until` says that it is under way after so many records."""


class Unsupported(Exception):
    """This client has no way to do what was asked for."""


class Driver:
    """What the runner may ask for. A driver overrides what its client can do; the rest is answered with `ok: null`."""

    cannot: tuple[str, ...] = ()

    def __init__(self, bootstrap: str):
        self.bootstrap = bootstrap

    def __getattr__(self, name: str):
        raise Unsupported(f"the client has no {name.replace('_', ' ')}")


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
            say({"ok": True, "version": version, "cannot": list(driver.cannot)})
            continue
        try:
            if bootstrap not in drivers:
                drivers[bootstrap] = driver(bootstrap)
            say({"ok": True} | (getattr(drivers[bootstrap], op)(**request) or {}))
        except Unsupported as why:
            say({"ok": None, "detail": str(why)})
        except Exception as error:  # whatever a client throws is an answer
            say({"ok": False, "detail": f"{type(error).__name__}: {error}"})
    # Clients that hang while they are closed must not hold up the runner.
    os._exit(0)

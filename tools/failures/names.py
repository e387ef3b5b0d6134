"""Asks a machine's own DNS server for names, on that machine, and prints the addresses whenever they change.

Sent to the machine by ssh and run there by its Python, so it needs nothing but the standard library. It ends when its
standard input does, or after an hour.
"""

import json
import select
import socket
import struct
import sys
import time

EVERY = 0.05


def question(number: int, name: str) -> bytes:
    """The packet that asks for a name's IPv4 addresses."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, 1, 1)


def addresses(packet: bytes, name: str) -> list[str]:
    """The IPv4 addresses in an answer to ``question``."""
    count = struct.unpack(">H", packet[6:8])[0]
    place = 12 + len(name) + 2 + 4
    found = []
    for _ in range(count):
        # Each record's own name is a pointer, two bytes, as every DNS server in use writes it.
        kind, _class, _ttl, size = struct.unpack(">HHIH", packet[place + 2 : place + 12])
        if kind == 1:
            found.append(socket.inet_ntoa(packet[place + 12 : place + 16]))
        place += 12 + size
    return sorted(found)


def ask(number: int, name: str) -> list[str]:
    """The name's addresses now; none where nothing answers in time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(1)
        try:
            connection.sendto(question(number, name), ("127.0.0.1", 53))
            return addresses(connection.recv(4096), name)
        except OSError:
            return []


def main() -> None:
    """Watch the names on the command line."""
    last: dict[str, list[str]] = {}
    number = 0
    end = time.monotonic() + 3600
    while time.monotonic() < end and not select.select([sys.stdin], [], [], EVERY)[0]:
        number = (number + 1) % 65536
        now = {name: ask(number, name) for name in sys.argv[1:]}
        if now != last:
            print(json.dumps(now), flush=True)
            last = now


main()

"""A name server with DNS64: every name has the address in a file, and an unreachable IPv4 address."""

import ipaddress
import pathlib
import socket
import struct
import sys

A, AAAA = 1, 28

answers = pathlib.Path(sys.argv[1])
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("fd00:1::1", 53))
while True:
    question, client = server.recvfrom(512)
    end = question.index(b"\0", 12) + 1
    kind = struct.unpack("!H", question[end : end + 2])[0]
    address = ipaddress.IPv6Address(answers.read_text(encoding="ascii").strip()).packed
    data = {A: address[12:], AAAA: address}.get(kind)
    # A response with recursion available; the question; an answer that refers to the name of the question, with TTL 0.
    head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if data else 0, 0, 0)
    record = struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(data)) + data if data else b""
    server.sendto(head + question[12 : end + 4] + record, client)

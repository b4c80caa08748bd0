#!/usr/bin/env python3
"""Verifies an audit journal, written from docs/reference/journal.md only.

Usage:  tools/verify-journal.py DIRECTORY [--public-key KEY_ID=HEX ...] [--all-signatures]

Reads only. Prints a line for each chain and one for each problem, with file and offset. Exits with 0 if the journal is
intact, 1 if it is not, 2 if it cannot be read. Compressed segments need Python 3.14, the package `zstandard`, or the
program `zstd`. Signatures need the package `cryptography`; without it, or without --public-key, they are not checked,
and the last line says so.
"""

import argparse
import hashlib
import os
import re
import struct
import subprocess
import sys

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None

try:  # Python 3.14
    from compression.zstd import ZstdError, decompress
except ImportError:
    try:
        from zstandard import ZstdError, decompress
    except ImportError:
        ZstdError = subprocess.CalledProcessError

        def decompress(frame):
            command = ["zstd", "--decompress", "--stdout", "--quiet"]
            return subprocess.run(command, input=frame, capture_output=True, check=True).stdout


HEADER = 512
COMPRESSED = bytes.fromhex("502a4d1800020000")
MIN_GROUP, MAX_GROUP = 78, 16 * 1024 * 1024
SEGMENT_NAME = re.compile(r"\d{19}\.seg")
NO_HASH = bytes(32)


def make_crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data):
    value = 0xFFFFFFFF
    table = CRC_TABLE
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


class Invalid(Exception):
    """The bytes are not what they should be."""


class Input:
    """Bytes that are read from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        end = self.at + length
        if end > len(self.data):
            raise Invalid
        taken, self.at = self.data[self.at : end], end
        return taken

    def left(self):
        return len(self.data) - self.at

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return int.from_bytes(self.take(4), "big")

    def i64(self):
        return int.from_bytes(self.take(8), "big", signed=True)

    def short(self, longest):
        length = self.u8()
        if length > longest:
            raise Invalid
        return self.take(length)

    def fixed(self, size):
        length = self.u8()
        field = self.take(size)
        if length > size or any(field[length:]):
            raise Invalid
        return field[:length]

    def zeros(self, length):
        if any(self.take(length)):
            raise Invalid

    def varint(self):
        number = 0
        for shift in range(0, 64, 7):
            byte = self.u8()
            if byte == 0 and shift > 0:
                raise Invalid
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                if number >= 1 << 64:
                    raise Invalid
                return number
        raise Invalid

    def text(self):
        try:
            return self.take(self.varint()).decode()
        except UnicodeDecodeError as error:
            raise Invalid from error


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def text(data):
    return varint(len(data)) + data


def signed(number):
    return number - (1 << 64) if number >> 63 else number


class Keys:
    """The keys that are trusted, and whether signatures are checked at all."""

    def __init__(self, given):
        self.trusted = dict(given)
        self.checked = Ed25519PublicKey is not None and bool(given)

    def verify(self, key_id, message, signature):
        """Returns None if the signature is valid or not checked, else the problem."""
        if not self.checked:
            return None
        public = self.trusted.get(key_id)
        if public is None:
            return f"signed by the unknown key {key_id.decode(errors='replace')}"
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return "the signature is invalid"
        return None

    def add_certified(self, stored):
        """Trusts the stored keys that trusted keys have certified, directly or through others."""
        growing = self.checked
        while growing:
            growing = False
            for key_id, public, by, certificate in stored:
                message = b"tenant-gateway audit public key v1\0"
                for field in (key_id, public, by):
                    message += struct.pack(">Q", len(field)) + field
                if key_id in self.trusted or by not in self.trusted:
                    continue
                if self.verify(by, message, certificate) is None:
                    self.trusted[key_id] = public
                    growing = True


def open_block(data, magic):
    if len(data) != HEADER or crc32c(data[:508]) != int.from_bytes(data[508:], "big"):
        raise Invalid
    block = Input(data[:508])
    if block.take(8) != magic or block.u32() != 1:
        raise Invalid
    return block


class Header:
    def __init__(self, data):
        block = open_block(data, b"TGAUDIT\n")
        self.incarnation = block.take(16)
        self.first = block.i64()
        self.follows = block.take(32)
        self.begun, self.created, self.latest, self.former_earliest = (block.i64() for _ in range(4))
        block.zeros(16)
        self.chain = block.fixed(64)
        self.key_id = block.fixed(64)
        self.signature = block.fixed(128)
        block.zeros(block.left())
        self.message = b"tenant-gateway audit segment v1\0" + data[:246]
        if self.first < 1:
            raise Invalid


def plain_segment(data):
    """Returns the bytes of a segment, compressed or not."""
    if not data.startswith(COMPRESSED):
        return data
    if data[-5:] != bytes.fromhex("00b1ea928f"):
        raise Invalid
    count = int.from_bytes(data[-9:-5], "little")
    at = len(data) - 9 - 8 * count
    table_start = bytes.fromhex("5e2a4d18") + struct.pack("<I", 8 * count + 9)
    if count > 4096 or at < 528 or data[at - 8 : at] != table_start:
        raise Invalid
    plain, offset = [data[8 : 8 + HEADER]], 8 + HEADER
    for compressed, length in struct.iter_unpack("<II", data[at : at + 8 * count]):
        if not 0 < length <= 262144 or offset + compressed > at - 8:
            raise Invalid
        try:
            frame = decompress(data[offset : offset + compressed])
        except ZstdError as error:
            raise Invalid from error
        if len(frame) != length:
            raise Invalid
        plain.append(frame)
        offset += compressed
    if offset != at - 8:
        raise Invalid
    return b"".join(plain)


class Group:
    """A valid group at an offset."""

    def __init__(self, data, offset, incarnation):
        start = data[offset : offset + 24]
        if len(start) < 24 or start[:4] != b"AGRP":
            raise Invalid
        self.length = int.from_bytes(start[4:8], "big")
        if not MIN_GROUP <= self.length <= MAX_GROUP or offset + self.length > len(data):
            raise Invalid
        self.bytes = data[offset : offset + self.length]
        end = self.length - 8
        if self.bytes[end:] != start[4:8] + b"PRGA":
            raise Invalid
        if crc32c(incarnation + self.bytes[12:end]) != int.from_bytes(start[8:12], "big"):
            raise Invalid
        fields = Input(self.bytes[12:end])
        self.first = fields.i64()
        count = fields.u32()
        if self.first < 1 or not 1 <= count <= 65536:
            raise Invalid
        self.last = self.first + count - 1
        self.events = []
        for number in range(self.first, self.last + 1):
            at = offset + 12 + fields.at
            time, digest = fields.i64(), fields.take(32)
            self.events.append((number, time, digest, fields.take(fields.u32()), at))
        self.key_id = fields.short(64)
        self.signature = fields.short(128)
        if fields.left():
            raise Invalid


def point_message(prefix, key_id, chain, number, time, digest):
    place = varint(number) + struct.pack(">q", time)
    return prefix + b"\0" + text(key_id) + text(chain) + place + digest


def read_body(body):
    """Returns number, time, previous hash and links of an event."""
    fields = Input(body)
    if fields.u8() != 1:
        raise Invalid
    number, time, previous = signed(fields.varint()), fields.i64(), fields.take(32)
    links = []
    for _ in range(fields.varint()):
        links.append((fields.text(), signed(fields.varint()), fields.take(32)))
    for _ in range(6):
        fields.text()
    if fields.u8() not in (1, 2):
        raise Invalid
    for _ in range(fields.varint()):
        fields.text()
    fields.take(4)
    for _ in range(8):
        fields.text()
    if fields.varint() > 0:
        fields.i64()
        fields.varint()
        for _ in range(fields.varint()):
            fields.text()
    if fields.left():
        raise Invalid
    return number, time, previous, links


def group_at(data, offset, incarnation, last):
    try:
        group = Group(data, offset, incarnation)
    except Invalid:
        return None
    return group if group.first > last else None


def find_group(data, offset, incarnation, last):
    """Returns the offset of the first valid group behind an offset."""
    while True:
        offset = data.find(b"AGRP", offset)
        if offset < 0:
            return None
        if group_at(data, offset, incarnation, last):
            return offset
        offset += 1


class Verifier:
    def __init__(self, directory, keys, all_signatures):
        self.directory, self.keys, self.all_signatures = directory, keys, all_signatures
        self.problems = 0
        self.links = []
        # The hashes of events that are needed for links: chain -> (checkpoint, last, {number: hash}).
        self.chains = {}

    def problem(self, file, offset, what):
        self.problems += 1
        print(f"DAMAGED {file}, byte {offset}: {what}")

    def signature(self, file, offset, key_id, message, signature):
        what = self.keys.verify(key_id, message, signature)
        if what:
            self.problem(file, offset, what)

    def run(self):
        self.read_keys()
        for name in sorted(os.listdir(self.directory)):
            path = os.path.join(self.directory, name)
            if os.path.isdir(path) and re.fullmatch(r"([a-z0-9_-]|%[0-9a-f]{2})+", name):
                plain = re.sub(r"%(..)", lambda code: chr(int(code[1], 16)), name)
                self.chain(path, plain.encode("latin-1"))
        self.compare_links()

    def read_keys(self):
        path = os.path.join(self.directory, "public.keys")
        if not os.path.exists(path):
            return
        with open(path, "rb") as file:
            data = file.read()
        try:
            if data[:8] != b"TGAUDPK\n" or crc32c(data[:-4]) != int.from_bytes(data[-4:], "big"):
                raise Invalid
            fields = Input(data[8:-4])
            if fields.u32() != 1:
                raise Invalid
            count = fields.u32()
            if count > 1024:
                raise Invalid
            stored = [tuple(fields.short(n) for n in (64, 255, 64, 255)) for _ in range(count)]
            if fields.left():
                raise Invalid
        except Invalid:
            self.problem(path, 0, "not a valid file of public keys")
            return
        self.keys.add_certified(stored)

    def checkpoint(self, path, chain):
        """Returns number and hash of the checkpoint."""
        path = os.path.join(path, "checkpoint")
        if not os.path.exists(path):
            return 0, NO_HASH
        with open(path, "rb") as file:
            data = file.read()
        try:
            block = open_block(data, b"TGAUDCP\n")
            number, digest, time = block.i64(), block.take(32), block.i64()
            name, key_id, signature = block.fixed(64), block.fixed(64), block.fixed(128)
            block.zeros(block.left())
            if name != chain or number < 1:
                raise Invalid
        except Invalid:
            self.problem(path, 0, "the checkpoint is damaged or of another chain")
            return 0, NO_HASH
        prefix = b"tenant-gateway audit checkpoint v1"
        message = point_message(prefix, key_id, chain, number, time, digest)
        self.signature(path, 190, key_id, message, signature)
        return number, digest

    def segments(self, path, chain):
        """Returns the segments in order: file, content, header."""
        found = []
        for name in sorted(filter(SEGMENT_NAME.fullmatch, os.listdir(path))):
            file = os.path.join(path, name)
            with open(file, "rb") as opened:
                data = opened.read()
            try:
                data = plain_segment(data)
                header = Header(data[:HEADER])
            except Invalid:
                self.problem(file, 0, "the header or the compressed file is damaged")
                continue
            if header.chain != chain or header.first != int(name[:19]):
                self.problem(file, 0, "the segment is of another chain or begins with another event")
                continue
            self.signature(file, 246, header.key_id, header.message, header.signature)
            found.append((file, data, header))
        for file, _, header in found:
            if header.incarnation != found[-1][2].incarnation:
                self.problem(file, 12, "the segment is of another chain of this name")
        return [one for one in found if one[2].incarnation == found[-1][2].incarnation]

    def chain(self, path, chain):
        shown = chain.decode(errors="replace")
        before = self.problems
        floor, previous = self.checkpoint(path, chain)
        segments = self.segments(path, chain)
        state = ChainState(floor, previous)
        for index, (file, data, header) in enumerate(segments):
            following = segments[index + 1] if index + 1 < len(segments) else None
            self.segment(chain, state, file, data, header, following)
        if state.head is None:
            if segments or floor:
                self.problem(path, 0, "the chain has no group")
            return
        file, offset, group = state.head
        self.check_head(chain, file, offset, group)
        self.chains[shown] = (floor, state.last, state.hashes)
        verdict = "intact" if self.problems == before else "DAMAGED"
        print(f"{shown}: events {floor + 1} to {state.last}, {verdict}{state.note}")

    def check_head(self, chain, file, offset, group):
        number, time, digest, _, _ = group.events[-1]
        prefix = b"tenant-gateway audit head v1"
        message = point_message(prefix, group.key_id, chain, number, time, digest)
        self.signature(file, offset, group.key_id, message, group.signature)

    def segment(self, chain, state, file, data, header, following):
        if state.last is not None and state.last == header.first - 1 and state.hash != header.follows:
            self.problem(file, 36, "the segment follows another event than the former segment ends with")
        until = following[2].first if following else None
        last = header.first - 1 if state.last is None else max(state.last, header.first - 1)
        offset = HEADER
        while True:
            group = group_at(data, offset, header.incarnation, last)
            if group is None:
                behind = find_group(data, offset + 1, header.incarnation, last)
                if behind is None:
                    if any(data[offset:]):
                        state.note += f"; torn end at byte {offset} of {os.path.basename(file)}"
                    return
                self.problem(file, offset, "these bytes are not the group that should be here")
                offset = behind
                continue
            if until is not None and group.first >= until:
                self.superseded(file, offset, group, following)
                return
            state.head = (file, offset, group)
            if self.all_signatures:
                self.check_head(chain, file, offset, group)
            for event in group.events:
                self.event(chain, state, file, event)
            last = group.last
            offset += group.length

    def superseded(self, file, offset, group, following):
        _, data, header = following
        other = group_at(data, HEADER, header.incarnation, 0)
        if other is None or other.bytes != group.bytes:
            self.problem(file, offset, "the next segment has another group with these events")

    def event(self, chain, state, file, event):
        number, time, digest, body, offset = event
        expected = number - 1 if state.last is None else state.last
        known = number <= state.floor
        message = b"tenant-gateway audit event v1\0" + text(chain) + body
        if hashlib.sha256(message).digest() != digest:
            self.problem(file, offset, f"event {number} was changed")
        elif not known:
            if state.last is None or state.last < state.floor:
                expected, state.hash = state.floor, state.previous
            if number != expected + 1:
                self.problem(file, offset, f"event {expected + 1} is missing")
            self.body(state, file, event)
        elif number == state.floor and digest != state.previous:
            self.problem(file, offset, f"event {number} is not the one of the checkpoint")
        state.last, state.hash = number, digest
        state.hashes[number] = digest

    def body(self, state, file, event):
        number, time, _, body, offset = event
        try:
            inner, inner_time, previous, links = read_body(body)
        except Invalid:
            self.problem(file, offset, f"event {number} has a body of an unknown version")
            return
        if (inner, inner_time) != (number, time):
            self.problem(file, offset, f"event {number} has the place of another event")
        if previous != state.hash:
            self.problem(file, offset, f"event {number} does not follow the event before it")
        self.links += [(file, offset, *link) for link in links]

    def compare_links(self):
        for file, offset, chain, number, digest in self.links:
            floor, last, hashes = self.chains.get(chain, (0, 0, {}))
            if number > last:
                self.problem(file, offset, f"links to event {number} of chain {chain}, which is missing")
            elif number > floor and hashes.get(number) != digest:
                self.problem(file, offset, f"links to another event {number} of chain {chain}")


class ChainState:
    """What is known of a chain while its events are read."""

    def __init__(self, floor, previous):
        self.floor, self.previous = floor, previous
        self.last, self.hash = None, NO_HASH
        self.head, self.note, self.hashes = None, "", {}


def public_key(argument):
    key_id, _, key = argument.rpartition("=")
    return key_id.encode(), bytes.fromhex(key)


def main():
    parser = argparse.ArgumentParser(description="Verifies an audit journal.")
    parser.add_argument("directory")
    parser.add_argument("--public-key", action="append", default=[], type=public_key, metavar="KEY_ID=HEX")
    parser.add_argument("--all-signatures", action="store_true", help="check the head of every group")
    arguments = parser.parse_args()
    keys = Keys(arguments.public_key)
    verifier = Verifier(arguments.directory, keys, arguments.all_signatures)
    try:
        verifier.run()
    except OSError as error:
        print(f"{error}", file=sys.stderr)
        return 2
    if not keys.checked:
        why = "give --public-key" if Ed25519PublicKey else "the package `cryptography` is missing"
        print(f"Signatures were not checked: {why}.")
    return 1 if verifier.problems else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""A second verifier of Candor trails and receipts, written from docs/formats/ alone.

Standard library, and Ed25519 from the package `cryptography`. It shares no code with the Rust verifier; CI runs both
over the same good and altered trails, and they must agree.

    verify.py DIR|FILE [--key VKEY] [--history FILE]

Exit status: 0 it holds, 1 it does not (the first entry or frame is named), 2 it could not be read.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Wrong(Exception):
    """Something does not hold."""


class Unreadable(Exception):
    """It could not be checked."""


def sha256(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 if value & 1 else value >> 1
        table.append(value)
    return table


CRC_TABLE = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def need(condition, why):
    if not condition:
        raise Wrong(why)


def unbase64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Wrong("base64 that is not canonical")
    need(base64.b64encode(raw).decode() == text, "base64 that is not canonical")
    return raw


def decimal(text):
    need(re.fullmatch(r"0|[1-9][0-9]*", text, re.ASCII) is not None and int(text) < 1 << 64, "a number spelt otherwise")
    return int(text)


class Reader:
    """Big-endian fields off bytes."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, count):
        need(self.at + count <= len(self.data), "it ends too early")
        part = self.data[self.at:self.at + count]
        self.at += count
        return part

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def text(self):
        try:
            return self.take(self.number(2)).decode("utf-8")
        except UnicodeDecodeError:
            raise Wrong("text that is not UTF-8")


# Keys, checkpoints, proofs.

class Key:
    def __init__(self, vkey):
        parts = vkey.split("+", 2)
        need(len(parts) == 3, "a verifier key without three parts")
        self.text, self.name, key_id, material = vkey, parts[0], parts[1], unbase64(parts[2])
        need(self.name != "" and not re.search(r"[\s+]", self.name), "a key without a name")
        need(len(material) == 33 and material[0] == 1, "a key that is not Ed25519")
        self.key_id = sha256(self.name.encode(), b"\n", material)[:4]
        need(self.key_id.hex() == key_id, "a key id that does not belong to the key")
        try:
            self.key = Ed25519PublicKey.from_public_bytes(material[1:])
        except ValueError:
            raise Wrong("a key that is not Ed25519")

    def __str__(self):
        return self.text

    def verify(self, message, signature):
        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            raise Wrong("a signature that does not verify")


def read_checkpoint(note, keys):
    """Size and root of a checkpoint signed by one of the keys, and the places of those that did sign it if it has nothing
    else."""
    need(all(c >= " " or c == "\n" for c in note), "a control character in a checkpoint")
    split = note.rfind("\n\n")
    need(split >= 0 and note.endswith("\n"), "a checkpoint without signatures")
    text, lines = note[:split + 1], note[split + 2:-1].split("\n")
    signed, name = [], keys[0].name
    for line in lines:
        match = re.fullmatch("\u2014 ([^\\s+]+) (\\S+)", line)
        need(match is not None, "a line that is no signature")
        blob = unbase64(match.group(2))
        need(len(blob) > 4, "a signature without a body")
        for place, key in enumerate(keys):
            if match.group(1) == name and blob[:4] == key.key_id:
                key.verify(text.encode(), blob[4:])
                signed.append(place)
    need(signed != [], "a checkpoint that the key did not sign")
    body = text[:-1].split("\n")
    need(len(body) >= 3 and all(body), "a checkpoint with a missing or empty line")
    need(body[0] == name, "a checkpoint of another origin")
    root = unbase64(body[2])
    need(len(root) == 32, "a root that is not 32 bytes")
    return decimal(body[1]), root, signed if len(body) == 3 and len(lines) == len(signed) else []


def node(left, right):
    return sha256(b"\x01", left, right)


def verify_inclusion(index, size, leaf, path, root):
    need(index < size, "an index outside the tree")
    need(len(path) <= 63, "a path of more than 63 hashes")
    at, last, value = index, size - 1, leaf
    for sibling in path:
        need(last != 0, "a path that is too long")
        if at & 1 or at == last:
            value = node(sibling, value)
            while at != 0 and at & 1 == 0:
                at, last = at >> 1, last >> 1
        else:
            value = node(value, sibling)
        at, last = at >> 1, last >> 1
    need(last == 0, "a path that is too short")
    need(value == root, "a path that does not lead to the root")


def read_proof(proof, index, leaf, keys):
    """Size and root of the signed tree that has the leaf there, by a tlog-proof."""
    header = "c2sp.org/tlog-proof@v1\n"
    need(proof.startswith(header) and "\n\n" in proof, "not a tlog-proof")
    head, checkpoint = proof[len(header):].split("\n\n", 1)
    lines = head.split("\n")
    if lines[0].startswith("extra "):
        unbase64(lines.pop(0)[6:])
    need(bool(lines) and lines[0].startswith("index "), "a proof without index")
    need(decimal(lines[0][6:]) == index, "a proof for another index")
    path = [unbase64(line) for line in lines[1:]]
    need(all(len(value) == 32 for value in path), "a hash that is not 32 bytes")
    size, root, _ = read_checkpoint(checkpoint, keys)
    verify_inclusion(index, size, leaf, path, root)
    return size, root


def follow_keys(origin, vkey, changes):
    """The keys of a trail in order, and size and root of the tree in which the newest followed."""
    try:
        return followed(origin, vkey, changes)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Wrong("a key change that does not read")


def followed(origin, vkey, changes):
    keys, tree = [Key(vkey)], None
    need(keys[0].name == origin, "a key whose name is not the origin")
    need(isinstance(changes, list) and len(changes) <= 16, "key changes that are no list, or too many")
    after = -1
    for change in changes:
        need(isinstance(change, dict) and set(change) == {"index", "entry", "facts", "proof"}, "a key change with other fields")
        need(all(isinstance(change[name], str) for name in ("entry", "proof")) and type(change["index"]) is int, "a key change that does not read")
        entry = change["entry"].encode("utf-8")
        match = check_entry(entry)
        need(match.group(4) == b"LOG_KEY_CHANGED", "a key change by an entry of another kind")
        verify_opening(change["facts"], bytes.fromhex(match.group(7).decode()))
        shown = {field["n"]: json.loads(field["value"]) for field in change["facts"]["fields"] if "n" in field}
        need(shown.get(21) == str(keys[-1]), "a key change of another key than the one before it")
        need(isinstance(shown.get(20), str), "a key change that does not show the new key")
        key = Key(shown[20])
        need(key.name == origin and str(key) not in map(str, keys), "a new key that is not another key of the trail")
        need(change["index"] > after, "key changes that are not in order")
        leaf, after = sha256(b"\x00", entry), change["index"]
        read_proof(change["proof"], after, leaf, [keys[-1]])
        tree = read_proof(change["proof"], after, leaf, [key])
        keys.append(key)
    return keys, tree


def trusted(keys, pinned):
    """The key that is trusted and those after it."""
    if pinned is None:
        return keys
    need(pinned in map(str, keys), "a trail with another key")
    return keys[list(map(str, keys)).index(pinned):]


ENTRY = re.compile(
    rb'\{"v":1,"prev":"([0-9a-f]{64})","at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)","id":"([0-9a-f]{32})",'
    rb'"kind":"([A-Z0-9_]{1,64})","class":"([a-z0-9_]{1,32})",(?:"who":"([0-9a-f]{32})",)?"facts":"([0-9a-f]{64})",'
    rb'(?:"personal":"([0-9a-f]{64})",)?"sealed":"([0-9a-f]{64})"\}')


def time_text(ms):
    import datetime
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=ms)
    except OverflowError:
        raise Wrong("a time after the year 9999")
    return moment.strftime("%Y-%m-%dT%H:%M:%S.").rjust(20, "0") + "%03dZ" % (ms % 1000)


def check_entry(entry):
    match = ENTRY.fullmatch(entry)
    need(match is not None, "an entry spelt otherwise")
    need((match.group(6) is None) == (match.group(8) is None), "an entry with half a subject")
    import datetime
    try:
        datetime.datetime.strptime(match.group(2).decode(), "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        raise Wrong("an entry with a time that does not exist")
    need(match.group(2) >= b"1970", "an entry before 1970")
    return match


def verify_opening(opening, commitment):
    """The fields of a body, shown or kept back, against what the entry commits to."""
    need(isinstance(opening, dict) and set(opening) == {"fields"}, "an opening that does not read")
    fields, before, digests, whole = opening["fields"], -1, [], True
    need(isinstance(fields, list) and len(fields) <= 64, "an opening of too many fields")
    for field in fields:
        if set(field) == {"d"}:
            digests.append(unhex(field["d"], 32))
            whole = False
            continue
        need(set(field) == {"n", "value", "salt"} and type(field["n"]) is int, "an opening with another field")
        need(before < field["n"] < 1 << 16, "an opening whose fields do not rise")
        before = field["n"]
        digests.append(sha256(b"\x02", unhex(field["salt"], 16), before.to_bytes(2, "big"), field["value"].encode()))
    need(sha256(b"\x03", bytes([len(fields)]), *digests) == commitment, "an opening of another body")
    return whole


def unhex(text, count):
    need(isinstance(text, str) and re.fullmatch("[0-9a-f]{%d}" % (2 * count), text), "a hash or salt of another length")
    return bytes.fromhex(text)


def verify_own_history(file, pinned):
    """A person's own history: each entry in the trail, each saying what is shown, none left out of those proved."""
    history, named, shown = file["history"], {}, set()
    origin, vkey = history["origin"], history["vkey"]
    keys = follow_keys(origin, vkey, history_changes(history))[0]
    size = read_checkpoint(history["checkpoint"], trusted(keys, pinned))[0]
    for subject in history["subjects"]:
        link = unbase64(subject["link_key"])
        for n, index in enumerate(subject["entries"], 1):
            need(type(index) is int and 0 <= index < size and index not in named, "an entry named twice, or not there yet")
            named[index] = hmac.new(link, b"candor/v1/who\n" + n.to_bytes(8, "big"), hashlib.sha256).digest()[:16].hex()
    for own in file["entries"]:
        receipt = own["receipt"]
        need((receipt["origin"], receipt["vkey"]) == (origin, vkey), "an entry of another trail")
        verify_receipt(json.dumps(receipt).encode(), pinned)
        entry = json.loads(receipt["entry"])
        need(receipt["index"] == own["index"] and own["index"] not in shown, "an entry beside another's receipt, or twice")
        need(all(entry[name] == own[name] for name in ("at", "kind", "class")), "an entry that is not its receipt's")
        need(named.get(own["index"]) == entry.get("who", ""), "an entry that is not about the person")
        shown.add(own["index"])
        whole = own["facts"] is not None and verify_opening(own["facts"], bytes.fromhex(entry["facts"]))
        if own["personal"] is not None:
            whole = verify_opening(own["personal"], bytes.fromhex(entry["personal"])) and whole
        elif "personal" in entry:
            whole = False
        need(own["state"] in ("whole", "erased", "ended") and (whole or own["state"] != "whole"), "an entry that is not whole")
    low, high = file["next_below"] or 0, file["below"]
    wanted = {index for index in named if index >= low and (high is None or index < high)}
    need(wanted == shown, "entries that are not those of the history proof")
    older = "" if file["next_below"] is None else "; older ones are in another file, below %d" % low
    return "%d entries are in the trail %s as they are shown%s" % (len(shown), origin, older)


def history_changes(history):
    """The key changes of a history proof, of which version 1 has none."""
    changes = history.get("key_changes", [])
    need(history["format"] == ("candor/history/v2" if changes else "candor/history/v1"), "a history proof of another version")
    return changes


def verify_file(data, pinned):
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if isinstance(value, dict) and value.get("format") == "candor/own-history/v1":
        try:
            return verify_own_history(value, pinned)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Wrong("a person's own history that does not read")
    return verify_receipt(data, pinned)


def verify_receipt(data, pinned):
    def pairs(items):
        names = [name for name, _ in items]
        need(len(set(names)) == len(names), "a field twice")
        return dict(items)

    try:
        receipt = json.loads(data.decode("utf-8"), object_pairs_hook=pairs)
    except (ValueError, UnicodeDecodeError):
        raise Wrong("not the JSON of a receipt")
    fields = {"v", "origin", "vkey", "index", "entry", "proof"}
    need(isinstance(receipt, dict) and set(receipt) in (fields, fields | {"key_changes"}), "not the fields of a receipt")
    changes = receipt.get("key_changes", [])
    need(receipt["v"] == (2 if changes else 1) and type(receipt["v"]) is int, "another version")
    need(type(receipt["index"]) is int and 0 <= receipt["index"] < 1 << 64, "an index that is no number")
    need(all(isinstance(receipt[name], str) for name in ("origin", "vkey", "entry", "proof")), "a field that is no text")
    keys = follow_keys(receipt["origin"], receipt["vkey"], changes)[0]
    entry = receipt["entry"].encode("utf-8")
    match = check_entry(entry)
    if receipt["index"] == 0:
        genesis = sha256(b"candor/v1/genesis\n", receipt["origin"].encode(), b"\n", receipt["vkey"].encode())
        need(match.group(1).decode() == genesis.hex(), "a first entry of another trail")
    size, _ = read_proof(receipt["proof"], receipt["index"], sha256(b"\x00", entry), trusted(keys, pinned))
    return "entry %d is in the tree of %d entries signed by %s" % (receipt["index"], size, receipt["origin"])


# Trails.

class Position:
    """The state of a trail between two frames."""

    def __init__(self, origin, vkey):
        who = origin.encode() + b"\n" + vkey.encode()
        self.frame, self.size, self.nodes = 0, 0, []
        self.before = sha256(b"candor/v1/first-frame\n", who)
        self.leaf = sha256(b"candor/v1/genesis\n", who)
        self.at, self.epoch, self.generation = 0, 0, 0

    def push(self, leaf):
        value, size = leaf, self.size
        while size & 1:
            value = node(self.nodes.pop(), value)
            size >>= 1
        self.nodes.append(value)
        self.size += 1
        self.leaf = leaf

    def root(self):
        if not self.nodes:
            return sha256(b"")
        value = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            value = node(left, value)
        return value

    def state(self):
        return (self.frame, self.size, tuple(self.nodes), self.leaf, self.at, self.epoch, self.generation, self.before)


def read_segment_header(data):
    reader = Reader(data)
    need(reader.take(8) == b"CNDRSEGM", "the mark of a segment is missing")
    version = reader.number(2)
    if version > 2:
        raise Unreadable("a segment of version %d" % version)
    need(version >= 1, "a version that does not exist")
    length = reader.number(4)
    need(length <= (4096 if version == 1 else 4096 + 16 * 8196) and length + 4 <= len(data), "a header length out of range")
    need(crc32c(data[:length]) == int.from_bytes(data[length:length + 4], "big"), "the check sum of the segment header does not fit")
    number, frame, size, count = reader.number(4), reader.number(8), reader.number(8), reader.number(1)
    nodes = [reader.take(32) for _ in range(count)]
    leaf, at, epoch, generation = reader.take(32), reader.number(8), reader.number(4), reader.number(8)
    frame_before, before, origin, vkey = reader.take(32), reader.take(32), reader.text(), reader.text()
    changes = [reader.take(reader.number(4)) for _ in range(reader.number(1))] if version == 2 else []
    need(reader.at == length, "a segment header of another length than its fields")
    need(bool(changes) == (version == 2) and all(len(change) <= 8192 for change in changes), "key changes that do not fit the version")
    need(count == bin(size).count("1"), "a compact range that does not fit the size")
    state = (frame, size, tuple(nodes), leaf, at, epoch, generation, frame_before)
    return number, state, before, origin, vkey, changes, length + 4


def header_keys(origin, vkey, texts):
    """The keys of a segment, and the tree in which the newest followed."""
    try:
        changes = [json.loads(text.decode("utf-8")) for text in texts]
    except (ValueError, UnicodeDecodeError):
        raise Wrong("a key change that does not read")
    spelt = [json.dumps(change, separators=(",", ":"), ensure_ascii=False).encode() for change in changes]
    need(spelt == texts, "a key change that is spelt otherwise")
    return follow_keys(origin, vkey, changes)


class Frame:
    """A frame taken apart; its check sums are looked at last, so that an entry can be named."""

    def __init__(self, data, at):
        reader = Reader(data, at)
        need(reader.take(8) == b"CNDRFRAM", "the mark of a frame is missing")
        version = reader.number(2)
        if version > 1:
            raise Unreadable("a frame of version %d" % version)
        need(version == 1, "a version that does not exist")
        length = reader.number(4)
        need(at + length + 4 <= len(data) and length >= 138, "a header length out of range")
        covered = data[at:at + length]
        need(crc32c(covered) == int.from_bytes(data[at + length:at + length + 4], "big"), "the check sum of its header does not fit")
        self.number, self.first, self.count = reader.number(8), reader.number(8), reader.number(4)
        self.at, self.writer, self.epoch, self.generation = reader.number(8), reader.number(8), reader.number(4), reader.number(8)
        self.before, self.size, self.root, self.checkpoint = reader.take(32), reader.number(8), reader.take(32), reader.text()
        rows = [(reader.number(1), reader.number(1), reader.number(4), reader.take(32)) for _ in range(reader.number(2))]
        need(reader.at == at + length, "a header of another length than its fields")
        need(self.count <= 4096 and self.first + self.count == self.size, "a size that does not fit the entries")
        shape = [row[:3] for row in rows[:2]]
        need(rows == [] if self.count == 0 else shape == [(1, 0, 0), (2, 0, 0)] and len(rows) > 2, "sections that do not fit the entries")
        need(all(row[0] == 3 for row in rows[2:]), "a section of an unknown kind")
        self.digest = sha256(covered)
        self.sections, self.sums = [], True
        reader.at = at + length + 4
        for row in rows:
            start = reader.at
            form, payload = reader.number(1), None
            payload = reader.take(reader.number(4))
            self.sums &= crc32c(data[start:reader.at]) == reader.number(4)
            self.sums &= form == 0 or form == 1 and row[0] == 3
            self.sections.append((row, form, payload))
        self.end = reader.at


def digests_of(form, payload):
    """H(sealed record) of each record of a body section."""
    if form == 1:
        reader = Reader(payload)
        reader.number(8)
        digests = [reader.take(32) for _ in range(reader.number(4))]
        need(not any(payload[reader.at:]), "an ended section with something after its digests")
        return digests
    reader = Reader(payload)
    ends = [0] + [reader.number(4) for _ in range(reader.number(4))]
    records = payload[reader.at:]
    need(ends == sorted(ends) and ends[-1] == len(records), "ends of records that do not rise")
    return [sha256(records[a:b]) for a, b in zip(ends, ends[1:])]


def check_entries(frame, position, wrong_at, see=None):
    """Rebuilds each entry and compares; `wrong_at` is told which one is looked at."""
    payload = frame.sections[0][2]
    reader = Reader(payload)
    kinds, classes = reader.number(2), reader.number(1)
    names = [reader.take(reader.number(1)) for _ in range(kinds + classes)]
    need(all(re.fullmatch(rb"[A-Z0-9_]{1,64}", name) for name in names[:kinds]), "a kind that is no name")
    need(all(re.fullmatch(rb"[a-z0-9_]{1,32}", name) for name in names[kinds:]), "a class that is no name")
    need(len(set(names[:kinds])) == kinds and len(set(names[kinds:])) == classes, "a name twice")
    need(len(payload) - reader.at == 106 * frame.count, "an entry section of another length")
    leaves = frame.sections[1][2]
    need(len(leaves) == 32 * frame.count, "a leaf section of another length")
    bodies = [digests_of(form, data) for _, form, data in frame.sections[2:]]
    need(all(row[1] < classes for row, _, _ in frame.sections[2:]), "a body section of no class")
    used, prev = [0] * len(bodies), position.leaf
    for place in range(frame.count):
        wrong_at(frame.first + place)
        delta, kind, klass, flags, section = struct.unpack(">IHBBH", reader.take(10))
        entry_id, who, facts, personal = reader.take(16), reader.take(16), reader.take(32), reader.take(32)
        need(kind < kinds and klass < classes and section < len(bodies), "a number outside its table")
        need(flags == 1 or flags == 0 and who == bytes(16) and personal == bytes(32), "flags that do not fit")
        need(used[section] < len(bodies[section]), "no sealed record for it")
        sealed = bodies[section][used[section]]
        used[section] += 1
        subject = (',"who":"%s"' % who.hex(), ',"personal":"%s"' % personal.hex()) if flags else ("", "")
        entry = '{"v":1,"prev":"%s","at":"%s","id":"%s","kind":"%s","class":"%s"%s,"facts":"%s"%s,"sealed":"%s"}' % (
            prev.hex(), time_text(frame.at + delta), entry_id.hex(), names[kind].decode(), names[kinds + klass].decode(),
            subject[0], facts.hex(), subject[1], sealed.hex())
        prev = sha256(b"\x00", entry.encode())
        need(prev == leaves[32 * place:32 * place + 32], "it does not hash to its leaf")
        if see and flags:
            see(frame.first + place, who)
    wrong_at(None)
    need(used == [len(body) for body in bodies], "sealed records that no entry names")
    for (row, _, data), body in zip(frame.sections, [None, None] + bodies):
        need(row[3] == (sha256(data) if body is None else sha256(*body)), "a section that is not that of its digest")


def check_frame(frame, position, keys, wrong_at, see=None):
    if frame.checkpoint:
        size, root, signed = read_checkpoint(frame.checkpoint, keys)
        need((size, root) == (position.size, position.root()), "the checkpoint it carries is of another tree")
        newest = len(keys) - 1
        need(signed in ([newest], [newest - 1, newest]), "the checkpoint it carries has more or less than its text and the signatures of the keys that sign")
    else:
        need(position.frame == 0, "it does not carry the checkpoint of the frame before")
    if frame.count:
        check_entries(frame, position, wrong_at, see)
    need(frame.sums, "the check sum of a section does not fit")
    need(frame.number == position.frame and frame.before == position.before, "it does not follow the frame before")
    need(frame.first == position.size, "its first index does not follow")
    need(frame.at >= position.at and frame.epoch >= position.epoch and frame.generation >= position.generation, "it goes back in time, epoch or keys")
    for place in range(frame.count):
        position.push(frame.sections[1][2][32 * place:32 * place + 32])
    need(position.root() == frame.root, "its root is not that of its leaf hashes")
    position.frame, position.before = position.frame + 1, frame.digest
    position.at, position.epoch, position.generation = frame.at, frame.epoch, frame.generation


def read_mark(path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    try:
        need(lines[0] == "candor/highwater/v1", "a high-water mark of another version")
        values = dict(line.split(" ", 1) for line in lines[1:6])
        return int(values["size"]), int(values["frame"]), bytes.fromhex(values["digest"])
    except (KeyError, ValueError, IndexError):
        raise Wrong("a high-water mark that does not read")


class History:
    """A history proof: the tags of a person's entries, and where they were found."""

    def __init__(self, data):
        try:
            value = json.loads(data)
            changes = history_changes(value)
            self.origin, self.vkey, checkpoint = value["origin"], value["vkey"], value["checkpoint"]
            subjects = [(unbase64(one["link_key"]), list(map(int, one["entries"]))) for one in value["subjects"]]
        except (ValueError, KeyError, TypeError):
            raise Wrong("a history proof that does not read")
        self.size, self.root = read_checkpoint(checkpoint, follow_keys(self.origin, self.vkey, changes)[0])[:2]
        need(subjects != [], "it is of nobody")
        self.wanted, self.found, self.reached = {}, {}, False
        for link, entries in subjects:
            for n, entry in enumerate(entries + [None], 1):
                tag = hmac.new(link, b"candor/v1/who\n" + n.to_bytes(8, "big"), hashlib.sha256).digest()[:16]
                self.wanted[tag] = entry
        self.count = sum(len(entries) for _, entries in subjects)

    def see(self, index, tag):
        if index < self.size and tag in self.wanted:
            entry = self.wanted[tag]
            need(entry is not None, "history: entry %d is about the person and was left out" % index)
            need(entry == index and tag not in self.found, "history: entry %d is not where the proof has it" % index)
            self.found[tag] = index

    def frame_ends(self, position):
        if position.size == self.size:
            need(position.root() == self.root, "history: the proof's checkpoint is of another trail")
            self.reached = True

    def finish(self, identity):
        need(identity == (self.origin, self.vkey), "history: the proof is of another trail")
        need(self.reached, "history: the trail does not reach the proof's checkpoint of %d entries" % self.size)
        need(len(self.found) == self.count, "history: an entry that the proof names is not about the person")
        return "; all %d entries about the person up to %d, none left out" % (self.count, self.size)


def verify_trail(journal, pinned, mark, history=None):
    names = sorted(name for name in os.listdir(journal) if not name.endswith(".seg.new"))
    need(names != [] and names == ["%010d.seg" % number for number in range(len(names))], "segment %d is missing or another file is there" % next(
        (i for i, name in enumerate(names) if name != "%010d.seg" % i), len(names)))
    position, chain, identity, marked, texts, keys = None, bytes(32), None, mark is None, [], []
    for expected, name in enumerate(names):
        with open(os.path.join(journal, name), "rb") as file:
            data = file.read()
        where = {"frame": None, "entry": None}
        try:
            number, state, before, origin, vkey, changes, at = read_segment_header(data)
            need(number == expected, "its header names another segment")
            if position is None:
                need(changes == [], "it does not begin a trail")
                position, identity = Position(origin, vkey), (origin, vkey)
                keys, _ = header_keys(origin, vkey, [])
            need((origin, vkey) == identity, "it is of another trail")
            if changes != texts:
                need(changes[:-1] == texts, "its key changes do not follow those of the segment before")
                keys, tree = header_keys(origin, vkey, changes)
                need(tree == (position.size, position.root()), "its key changes do not follow those of the segment before")
                texts = changes
            need(state == position.state() and before == chain, "it does not follow the segment before")
            header = data[:at]
            while at < len(data):
                where["frame"] = position.frame
                frame = Frame(data, at)
                check_frame(frame, position, keys, lambda entry: where.update(entry=entry), history and history.see)
                if history:
                    history.frame_ends(position)
                if mark and frame.number == mark[1]:
                    need(frame.digest == mark[2], "it is not the frame that the high-water mark names")
                    marked = True
                at = frame.end
                where["frame"] = None
            chain = sha256(header, position.before)
        except Wrong as error:
            if where["entry"] is not None:
                raise Wrong("entry %d: %s" % (where["entry"], error))
            if where["frame"] is not None:
                raise Wrong("frame %d: %s" % (where["frame"], error))
            raise Wrong("segment %d: %s" % (expected, error))
    need(pinned is None or pinned in map(str, keys), "the trail has another key than the one given")
    need(marked, "frame %d: signed entries up to %d are missing" % (position.frame, mark[0] if mark else 0))
    said = history.finish(identity) if history else ""
    return "%d entries in %d frames, trail %s%s" % (position.size, position.frame, identity[0], said)


def main():
    parser = argparse.ArgumentParser(description="verify a Candor trail, receipt or a person's own history")
    parser.add_argument("path", metavar="DIR|FILE")
    parser.add_argument("--history", metavar="FILE", help="a history proof: that nothing about a person was left out")
    parser.add_argument("--key", metavar="VKEY", help="the verifier key that you trust")
    arguments = parser.parse_args()
    try:
        if os.path.isdir(arguments.path):
            journal, mark = arguments.path, None
            if os.path.isdir(os.path.join(arguments.path, "journal")):
                journal = os.path.join(arguments.path, "journal")
                mark_path = os.path.join(arguments.path, "keys", "highwater")
                mark = read_mark(mark_path) if os.path.exists(mark_path) else None
            history = None
            if arguments.history:
                with open(arguments.history, "rb") as file:
                    history = History(file.read())
            result = verify_trail(journal, arguments.key, mark, history)
        else:
            with open(arguments.path, "rb") as file:
                result = verify_file(file.read(), arguments.key)
    except Wrong as error:
        print("does not hold: %s" % error)
        return 1
    except (OSError, Unreadable) as error:
        print("could not be checked: %s" % error, file=sys.stderr)
        return 2
    print("holds: %s" % result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

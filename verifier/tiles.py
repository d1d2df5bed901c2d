#!/usr/bin/env python3
"""Follows a published log over HTTP: a client of c2sp.org/tlog-tiles, tlog-checkpoint and signed-note, written from
those texts alone. Needs the package `cryptography` for Ed25519.

    tiles.py PREFIX VKEY [--bearer KEY] [--until SIZE] [--cafile FILE]

PREFIX is the URL that `checkpoint` and `tile/` are below. Each checkpoint is held against its signature and against the
root that the tiles give; each tile against the entries and the level below it; each checkpoint against the one before
(the tiles of the larger tree must lead to the smaller one's root). Exit 0: all of it held up to SIZE. 1: it did not.
"""

import argparse
import base64
import hashlib
import ssl
import sys
import time
import urllib.error
import urllib.request

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256


class Wrong(Exception):
    pass


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def leaf(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def root(hashes):
    """Root of RFC 6962: the left subtree has the largest power of two below the number of leaves."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    stack = []
    for number, value in enumerate(hashes):
        while number & 1:
            value = node(stack.pop(), value)
            number >>= 1
        stack.append(value)
    value = stack.pop()
    while stack:
        value = node(stack.pop(), value)
    return value


def tile_path(level, index, width):
    """The path of a tile: the index in groups of three digits, all but the last with an x before them."""
    parts = ["%03d" % (index % 1000)]
    index //= 1000
    while index:
        parts.insert(0, "x%03d" % (index % 1000))
        index //= 1000
    return "tile/%s/%s%s" % (level, "/".join(parts), "" if width == WIDTH else ".p/%d" % width)


class Key:
    """A verifier key: name+hash+base64(type || key)."""

    def __init__(self, text):
        self.name, self.hash, data = text.split("+", 2)
        data = base64.b64decode(data, validate=True)
        if data[0] != 1:
            raise Wrong("the key is not of type Ed25519")
        want = hashlib.sha256(self.name.encode() + b"\n" + data).digest()[:4]
        if want.hex() != self.hash:
            raise Wrong("the key's hash does not fit")
        self.key = Ed25519PublicKey.from_public_bytes(data[1:])

    def open(self, note):
        """The text of a note that this key has signed."""
        text, _, signatures = note.rpartition("\n\n")
        text += "\n"
        for line in signatures.splitlines():
            if not line.startswith("\u2014 "):
                raise Wrong("a signature line does not begin with a dash")
            name, _, data = line[2:].partition(" ")
            data = base64.b64decode(data, validate=True)
            if name == self.name and data[:4].hex() == self.hash:
                try:
                    self.key.verify(data[4:], text.encode())
                    return text
                except InvalidSignature:
                    raise Wrong("the signature does not fit") from None
        raise Wrong("the note is not signed by the key")


class Log:
    def __init__(self, prefix, key, bearer, context):
        self.prefix, self.key, self.bearer, self.context = prefix.rstrip("/") + "/", key, bearer, context
        self.leaves = []
        self.fetched = 0

    def fetch(self, path):
        request = urllib.request.Request(self.prefix + path)
        if self.bearer:
            request.add_header("Authorization", "Bearer " + self.bearer)
        self.fetched += 1
        with urllib.request.urlopen(request, timeout=30, context=self.context) as answer:
            return answer.read()

    def checkpoint(self):
        text = self.key.open(self.fetch("checkpoint").decode())
        lines = text.split("\n")
        if len(lines) < 4 or lines[0] != self.key.name:
            raise Wrong("the checkpoint is not of this log")
        if not lines[1].isdigit() or (lines[1] != "0" and lines[1][0] == "0"):
            raise Wrong("the size is not a decimal number")
        return int(lines[1]), base64.b64decode(lines[2], validate=True)

    def tile(self, level, index, width):
        data = self.fetch(tile_path(level, index, width))
        if len(data) != 32 * width:
            raise Wrong("tile %d/%d has %d bytes" % (level, index, len(data)))
        return [data[at : at + 32] for at in range(0, len(data), 32)]

    def bundle(self, index, width):
        data, entries = self.fetch(tile_path("entries", index, width)), []
        while data:
            length = int.from_bytes(data[:2], "big")
            if len(data) < 2 + length:
                raise Wrong("bundle %d ends inside an entry" % index)
            entries.append(data[2 : 2 + length])
            data = data[2 + length :]
        if len(entries) != width:
            raise Wrong("bundle %d has %d entries" % (index, len(entries)))
        return entries

    def grow(self, size):
        """Fetches the level 0 tiles and bundles of what is new; what was known must stay."""
        first = len(self.leaves) // WIDTH
        known = self.leaves[first * WIDTH :]
        fresh = []
        for index in range(first, (size + WIDTH - 1) // WIDTH):
            width = min(WIDTH, size - index * WIDTH)
            hashes = self.tile(0, index, width)
            for entry, value in zip(self.bundle(index, width), hashes):
                if leaf(entry) != value:
                    raise Wrong("an entry of bundle %d does not hash to its leaf" % index)
            fresh += hashes
        if fresh[: len(known)] != known:
            raise Wrong("a published tile was changed")
        self.leaves[first * WIDTH :] = fresh

    def check_levels(self, size):
        """Each tile above level 0 has the roots of the full tiles below it."""
        below, level = self.leaves, 1
        while len(below) >= WIDTH:
            above = [root(below[at : at + WIDTH]) for at in range(0, len(below) - WIDTH + 1, WIDTH)]
            index = (len(above) - 1) // WIDTH
            width = len(above) - index * WIDTH
            if self.tile(level, index, width) != above[index * WIDTH :]:
                raise Wrong("tile %d/%d is not made of the level below" % (level, index))
            below, level = above, level + 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix")
    parser.add_argument("vkey")
    parser.add_argument("--bearer")
    parser.add_argument("--until", type=int, default=1)
    parser.add_argument("--cafile")
    given = parser.parse_args()
    context = ssl.create_default_context(cafile=given.cafile) if given.cafile else None
    log = Log(given.prefix, Key(given.vkey), given.bearer, context)
    before, seen = None, 0
    try:
        while True:
            size, value = log.checkpoint()
            if before is None or size != before[0]:
                if before is not None and size < before[0]:
                    raise Wrong("the log became shorter")
                log.grow(size)
                if root(log.leaves) != value:
                    raise Wrong("the tiles do not lead to the root of the checkpoint of %d" % size)
                if before is not None and root(log.leaves[: before[0]]) != before[1]:
                    raise Wrong("the checkpoints of %d and %d are not consistent" % (before[0], size))
                log.check_levels(size)
                before, seen = (size, value), seen + 1
            elif value != before[1]:
                raise Wrong("two roots for %d entries" % size)
            if size >= given.until:
                break
            time.sleep(0.2)
        for width in (1, 2, 255):
            if size >= width and log.tile(0, 0, width) != log.leaves[:width]:
                raise Wrong("the partial tile of width %d differs" % width)
        for path in (tile_path(0, size // WIDTH + 1, WIDTH), tile_path(7, 0, 1), "tile/0/0", "tile/0/000.p/0"):
            try:
                log.fetch(path)
                raise Wrong("%s should not be there" % path)
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise Wrong("%s is answered by %d" % (path, error.code)) from None
    except Wrong as wrong:
        print("does not hold: %s" % wrong)
        return 1
    print("holds: %d checkpoints up to %d entries, %d files fetched" % (seen, size, log.fetched))
    return 0


if __name__ == "__main__":
    sys.exit(main())

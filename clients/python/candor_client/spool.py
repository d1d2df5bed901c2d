"""The spool: records that were handed over and are not in the trail yet (docs/formats/spool.md).

What `append` returned for is on the disk, sealed; what `acknowledge` was told of is forgotten. One process at a time
has a spool. A frame that a crash cut off was handed over by nobody: it is left out when the spool is opened.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"CNDRSPOL"
VERSION = 1
#: A segment ends when it is larger than this.
SEGMENT_BYTES_MAX = 16 << 20
#: Bytes of one record, at most: what the server takes in one line.
RECORD_BYTES_MAX = 64 << 10
HEAD = struct.Struct(">QI")
STREAM_BYTES_MAX = 100


class SpoolFull(Exception):
    """The spool holds as much as it may: slow down, or hand over later. Nothing was taken."""


class SpoolError(Exception):
    """The spool is of another version, another key, or damaged."""


class Spool:
    """A spool in a folder of its own."""

    def __init__(self, folder: str | os.PathLike[str], stream: str, *, key: bytes | None = None, bytes_max: int = 1 << 30):
        name = stream.encode()
        if not 1 <= len(name) <= STREAM_BYTES_MAX or not all(33 <= byte <= 126 for byte in name):
            raise ValueError("stream must be 1 to 100 visible ASCII characters")
        self.folder, self.stream, self.bytes_max = Path(folder), stream, bytes_max
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_file = open(self.folder / "lock", "w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SpoolError(f"{self.folder}: another process has this spool") from None
        self._aead = AESGCM(key if key is not None else self._own_key())
        self._guard = threading.Lock()
        self._acknowledged = self._read_acknowledged()
        self._segments: list[tuple[int, Path]] = []
        self._file = None
        self._bytes = 0
        #: Where reading goes on: segment, place, and the number before it; and the same behind what was read last.
        self._place: tuple[Path, int, int] | None = None
        self._read_to: tuple[Path, int, int] | None = None
        self._next = self._open()

    def _own_key(self) -> bytes:
        path = self.folder / "key"
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            key = os.urandom(32)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            self._sync_folder()
        if len(key) != 32:
            raise SpoolError(f"{path}: a key has 32 bytes")
        return key

    def _sync_folder(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _read_acknowledged(self) -> int:
        try:
            text = (self.folder / "acknowledged").read_text()
        except FileNotFoundError:
            return 0
        words = text.split()
        if len(words) != 3 or words[:2] != ["candor/spool/v1", self.stream] or not words[2].isdigit():
            raise SpoolError(f"{self.folder / 'acknowledged'}: not of this version or of another stream")
        return int(words[2])

    def _header(self) -> bytes:
        name = self.stream.encode()
        return MAGIC + struct.pack(">HH", VERSION, len(name)) + name

    def _open(self) -> int:
        """Looks at every segment; the number that comes next."""
        last = self._acknowledged
        for path in sorted(self.folder.glob("*.spool")):
            end, number = self._check(path)
            if end < path.stat().st_size:
                with open(path, "r+b") as file:
                    file.truncate(end)
                    os.fsync(file.fileno())
            if number is None or number <= self._acknowledged:
                path.unlink()
                continue
            last = max(last, number)
            self._segments.append((number, path))
            self._bytes += end
        return last + 1

    def _check(self, path: Path) -> tuple[int, int | None]:
        """Where the whole frames of a segment end, and the number of the last one."""
        header, number = self._header(), None
        with open(path, "rb") as file:
            held = file.read(len(header))
            if held != header:
                # A crash can leave a header that was not written to its end.
                if header.startswith(held):
                    return 0, None
                raise SpoolError(f"{path}: not of this version or of another stream")
            end, size = len(header), path.stat().st_size
            while head := file.read(HEAD.size):
                if len(head) < HEAD.size:
                    break
                found, length = HEAD.unpack(head)
                if end + HEAD.size + length > size or not 29 <= length <= RECORD_BYTES_MAX + 28:
                    break
                file.seek(length, os.SEEK_CUR)
                number, end = found, end + HEAD.size + length
        return end, number

    def _bound(self, number: int) -> bytes:
        return b"candor/v1/spool\n" + self.stream.encode() + b"\n" + struct.pack(">Q", number)

    @property
    def pending(self) -> int:
        """Records that are not acknowledged."""
        with self._guard:
            return self._next - 1 - self._acknowledged

    @property
    def next_number(self) -> int:
        """The number that the next record gets."""
        return self._next

    def append(self, records: list[bytes]) -> int:
        """Takes records under the next numbers; the first of them. They are on the disk when it returns."""
        with self._guard:
            first, frames = self._next, []
            for number, record in enumerate(records, first):
                if len(record) > RECORD_BYTES_MAX:
                    raise ValueError(f"a record has {len(record)} bytes, at most {RECORD_BYTES_MAX} are allowed")
                nonce = os.urandom(12)
                sealed = nonce + self._aead.encrypt(nonce, record, self._bound(number))
                frames.append(HEAD.pack(number, len(sealed)) + sealed)
            data = b"".join(frames)
            if self._bytes + len(data) > self.bytes_max:
                raise SpoolFull(f"the spool may hold {self.bytes_max} bytes: slow down, or raise its limit")
            file = self._segment(first)
            begin = file.tell()
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                # Whether it is there is not known: nobody was told that it is.
                self._file = None
                file.close()
                with open(self._segments[-1][1], "r+b") as again:
                    again.truncate(begin)
                raise
            self._next = first + len(records)
            self._bytes += len(data)
            self._segments[-1] = (self._next - 1, self._segments[-1][1])
            return first

    def _segment(self, first: int):
        if self._file is not None and self._file.tell() < SEGMENT_BYTES_MAX:
            return self._file
        if self._file is not None:
            self._file.close()
        path = self.folder / f"{first:020}.spool"
        self._file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        header = self._header()
        self._file.write(header)
        self._segments.append((first - 1, path))
        self._bytes += len(header)
        self._file.flush()
        self._sync_folder()
        return self._file

    def waiting(self, records_max: int, bytes_max: int) -> list[tuple[int, bytes]]:
        """The oldest records that are not acknowledged, with their numbers."""
        with self._guard:
            segments, acknowledged = list(self._segments), self._acknowledged
        found: list[tuple[int, bytes]] = []
        size = 0
        for last, path in segments:
            if last <= acknowledged:
                continue
            known = self._place is not None and self._place[0] == path and self._place[2] == acknowledged
            begin = self._place[1] if known else len(self._header())
            for number, sealed, end in self._frames(path, begin):
                if number <= acknowledged:
                    continue
                if number > last or len(found) == records_max or found and size + len(sealed) > bytes_max:
                    return found
                try:
                    record = self._aead.decrypt(sealed[:12], sealed[12:], self._bound(number))
                except InvalidTag:
                    raise SpoolError(f"{path}: record {number} does not open under this key") from None
                found.append((number, record))
                size += len(sealed)
                self._read_to = (path, end, number)
        return found

    @staticmethod
    def _frames(path: Path, begin: int) -> Iterator[tuple[int, bytes, int]]:
        """Number, sealed record and end of each whole frame from a place on."""
        with open(path, "rb") as file:
            file.seek(begin)
            while len(head := file.read(HEAD.size)) == HEAD.size:
                number, length = HEAD.unpack(head)
                sealed = file.read(length)
                if len(sealed) < length:
                    return
                begin += HEAD.size + length
                yield number, sealed, begin

    def acknowledge(self, number: int) -> None:
        """Everything up to this number is in the trail, or was refused for good. Told again it changes nothing."""
        with self._guard:
            if number <= self._acknowledged:
                return
            self._acknowledged = number
            if self._read_to is not None and self._read_to[2] == number:
                self._place = self._read_to
            new = self.folder / "acknowledged.new"
            new.write_text(f"candor/spool/v1 {self.stream} {number}\n")
            os.replace(new, self.folder / "acknowledged")
            kept = []
            for last, path in self._segments:
                current = self._file is not None and path == self._segments[-1][1]
                if last <= number and not current:
                    self._bytes -= path.stat().st_size
                    path.unlink()
                else:
                    kept.append((last, path))
            self._segments = kept
            if self._file is not None and self._next - 1 <= number:
                # Nothing waits: the place is free again.
                path = self._segments.pop()[1]
                self._file.close()
                self._file = None
                self._bytes -= path.stat().st_size
                path.unlink()

    def close(self) -> None:
        """Ends; what waits is there when it is opened again."""
        with self._guard:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._lock_file.close()

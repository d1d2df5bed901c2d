"""The client: records go to the spool first, and from there to the server, in order, in batches."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from .spool import Spool

Severity = Literal["debug", "info", "notice", "warning", "error", "critical"]
#: Records of one request, and their bytes, at most.
BATCH_RECORDS_MAX = 500
BATCH_BYTES_MAX = 1 << 20
#: The first wait after a failure, and the longest.
WAIT_S_MIN = 0.2
WAIT_S_MAX = 30.0


@dataclass(frozen=True)
class Record:
    """One event, as a kind of the trail has it (GET /openapi.json describes them all)."""

    event_type: str
    correlation_id: str
    #: Fields of the kind beside the common ones.
    fields: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "info"
    #: When it was; now unless given. It must know its zone.
    timestamp: datetime | None = None


@dataclass(frozen=True)
class Refused:
    """A record that the server refused for good: it will not be sent again."""

    event_id: str
    code: str
    detail: str


class Client:
    """Hands records to a Candor server.

    `record` returns when the record is on this machine's disk, sealed; it is then sent until the server has it, over
    restarts of both, and never twice: its id is stream and number. `SpoolFull` is raised when too much waits.
    """

    def __init__(
        self,
        url: str,
        key: str,
        spool: Spool,
        *,
        source_component: str,
        environment: str = "production",
        on_refused: Callable[[Refused], None] | None = None,
        timeout_s: float = 30.0,
        context: ssl.SSLContext | None = None,
    ):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be http://HOST:PORT or https://HOST:PORT")
        self._parts, self._key, self._timeout, self._context = parts, key, timeout_s, context
        self.spool, self._on_refused = spool, on_refused
        self._component, self._environment = source_component, environment
        self._wake, self._stop = threading.Event(), threading.Event()
        self._done = threading.Condition()
        #: The last thing that went wrong, in one sentence; None when the last request was answered.
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="candor-client", daemon=True)
        self._thread.start()

    def record(self, record: Record) -> str:
        """Takes a record; its event id. It is on the disk when this returns."""
        return self.record_all([record])[0]

    def record_all(self, records: list[Record]) -> list[str]:
        """Takes records together: one wait for the disk."""
        # Their numbers are those that the spool gives; nobody else gives any.
        with self._done:
            first = self.spool.next_number
            ids = [f"{self.spool.stream}:{first + place}" for place in range(len(records))]
            self.spool.append([self._line(record, event_id) for record, event_id in zip(records, ids)])
        self._wake.set()
        return ids

    def _line(self, record: Record, event_id: str) -> bytes:
        at = record.timestamp or datetime.now(timezone.utc)
        if at.tzinfo is None:
            raise ValueError("timestamp must know its zone")
        common = {
            "timestamp": at.isoformat(timespec="milliseconds"),
            "event_type": record.event_type,
            "correlation_id": record.correlation_id,
            "source_component": self._component,
            "environment": self._environment,
            "severity": record.severity,
            "event_id": event_id,
        }
        twice = common.keys() & record.fields.keys()
        if twice:
            raise ValueError(f"{sorted(twice)[0]} is a common field: set it on the record itself")
        return json.dumps({**common, **record.fields}, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def pending(self) -> int:
        """Records that the server does not have yet."""
        return self.spool.pending

    def flush(self, timeout_s: float) -> bool:
        """Waits until nothing is pending; whether that was in time."""
        self._wake.set()
        with self._done:
            return self._done.wait_for(lambda: self.spool.pending == 0, timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Sends what it can and ends; whether everything was sent. What was not is in the spool."""
        sent = self.flush(timeout_s)
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self.spool.close()
        return sent

    def _run(self) -> None:
        connection, wait = None, WAIT_S_MIN
        while not self._stop.is_set():
            batch = self.spool.waiting(BATCH_RECORDS_MAX, BATCH_BYTES_MAX)
            if not batch:
                self._wake.wait(1.0)
                self._wake.clear()
                continue
            try:
                connection = connection or self._connect()
                again_after = self._send(connection, batch)
            except (OSError, http.client.HTTPException, ValueError) as error:
                # The server is away, or was in the middle of an answer: the same records go again under the same ids.
                if connection is not None:
                    connection.close()
                connection, again_after = None, wait
                self.trouble = f"{type(error).__name__}: the server can't be reached"
            if again_after is None:
                wait = WAIT_S_MIN
            else:
                self._stop.wait(again_after)
                wait = min(2 * wait, WAIT_S_MAX)
        if connection is not None:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname, self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout)

    def _send(self, connection: http.client.HTTPConnection, batch: list[tuple[int, bytes]]) -> float | None:
        """Sends a batch; seconds to wait before the next try, or None if it was answered."""
        body = b"\n".join(record for _, record in batch)
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/x-ndjson"}
        connection.request("POST", "/v1/records", body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            asked = response.headers.get("Retry-After", "")
            self.trouble = f"the server answered {response.status}"
            # A key that does not open is mended by people: what waits goes on waiting.
            return float(asked) if asked.isdigit() else (WAIT_S_MIN if response.status in (429, 503) else WAIT_S_MAX)
        self.trouble = None
        for line in json.loads(answer)["results"]:
            if line["status"] in ("refused", "conflict") and self._on_refused is not None:
                number = batch[line["line"] - 1][0]
                detail = line.get("detail") or "its id was used for another record"
                self._on_refused(Refused(f"{self.spool.stream}:{number}", line.get("code", "conflict"), detail))
        with self._done:
            self.spool.acknowledge(batch[-1][0])
            self._done.notify_all()
        return None


def mail_sent(
    email_id: str,
    *,
    customer_id: str,
    address: str,
    subject: str | None = None,
    template_id: str | None = None,
    classification: Literal["personal", "marketing", "transactional"] = "transactional",
    user_id: str | None = None,
) -> Record:
    """The record of a mail that was handed to the relay."""
    fields: dict[str, Any] = {
        "email_id": email_id,
        "recipient_details": {"customer_id": customer_id, "email": address},
        "compliance_data": {"data_classification": classification},
    }
    content = {name: value for name, value in (("subject", subject), ("template_id", template_id)) if value}
    if content:
        fields["message_content"] = content
    if user_id:
        fields["sender_details"] = {"user_id": user_id}
    return Record("EMAIL_SENT", f"mail-{email_id}"[:128], fields)

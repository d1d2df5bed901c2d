#!/usr/bin/env python3
"""What two hundred refused sign-ins a second take from ingest: the same writes over HTTP for SECONDS, alone and beside
them, in one run against one server. Each guess is at another address and from another one, so that none is answered by
the wait of another.

    refused_sign_ins.py CANDOR [SECONDS]
"""

import http.client
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

RATE, GUESSERS, WRITERS, BATCH = 200, 64, 2, 500


def start(candor, data):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = probe.getsockname()
    process = subprocess.Popen(
        [candor, "serve", "--listen", "127.0.0.1:%d" % address[1], "--data", data], stdout=subprocess.PIPE, text=True
    )
    said = ""
    while "first link" not in said:
        said += process.stdout.readline()
    return process, address, re.search(r"(candor_\S+)", said).group(1)


def post(connection, path, body, headers):
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


class Load:
    def __init__(self, address, key, seconds):
        self.address, self.key = address, key
        self.end = time.monotonic() + seconds
        self.written, self.statuses, self.lock = 0, {}, threading.Lock()

    def write(self, number):
        connection = http.client.HTTPConnection(*self.address)
        headers = {"Authorization": "Bearer " + self.key, "Content-Type": "application/x-ndjson"}
        sent = 0
        while time.monotonic() < self.end:
            lines = []
            for line in range(BATCH):
                name = "%d-%d-%d" % (number, sent, line)
                lines.append(json.dumps({
                    "timestamp": "2026-11-20T08:00:00Z", "event_type": "EMAIL_SENT", "correlation_id": "o-" + name,
                    "source_component": "shop", "environment": "test", "severity": "info", "event_id": "e-%s-%f" % (name, self.end),
                    "email_id": "m-" + name, "recipient_details": {"customer_id": "c-%d" % (line * 7 % 300)},
                    "message_content": {"subject": "your kettle, number " + name},
                    "delivery_tracking": {"delivery_status": "sent"},
                }))
            assert post(connection, "/v1/records", "\n".join(lines), headers) == 200
            sent += 1
            with self.lock:
                self.written += BATCH

    def guess(self, number):
        headers = {
            "Content-Type": "application/x-www-form-urlencoded", "Origin": "http://%s:%d" % self.address,
        }
        at, guesses = time.monotonic() + number / RATE, 0
        while True:
            time.sleep(max(0, at - time.monotonic()))
            if time.monotonic() >= self.end:
                return
            body = "address=nobody%d.%d.%f%%40shop.example&password=wrong" % (number, guesses, self.end)
            # All of 127/8 is this machine.
            source = "127.%d.%d.%d" % (1 + number, guesses // 250 % 250, 1 + guesses % 250)
            connection = http.client.HTTPConnection(*self.address, source_address=(source, 0))
            status = post(connection, "/sign-in", body, headers)
            connection.close()
            guesses, at = guesses + 1, at + GUESSERS / RATE
            with self.lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1

    def run(self, guessing):
        threads = [threading.Thread(target=self.write, args=(n,)) for n in range(WRITERS)]
        if guessing:
            threads += [threading.Thread(target=self.guess, args=(n,)) for n in range(GUESSERS)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads[:WRITERS]:
            thread.join()
        took = time.monotonic() - begin
        for thread in threads[WRITERS:]:
            thread.join()
        return took


def main():
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 20
    with tempfile.TemporaryDirectory() as data:
        process, address, admin = start(sys.argv[1], data + "/trail")
        try:
            connection = http.client.HTTPConnection(*address)
            headers = {"Authorization": "Bearer " + admin, "Content-Type": "application/json"}
            connection.request("POST", "/v1/keys", json.dumps({"scopes": ["append"], "sources": ["local"]}), headers)
            key = json.loads(connection.getresponse().read())["key"]
            rates, refused = {"alone": [], "beside": []}, []
            for _ in range(3):
                for name in ("alone", "beside"):
                    load = Load(address, key, seconds)
                    took = load.run(name == "beside")
                    rates[name].append(load.written / took)
                    if name == "beside":
                        refused.append((sum(load.statuses.values()) / took, load.statuses))
            alone, beside = sorted(rates["alone"])[1], sorted(rates["beside"])[1]
            print(json.dumps({
                "ingest_alone": round_all(rates["alone"]), "ingest_beside": round_all(rates["beside"]),
                "beside_to_alone": round_two(beside / alone),
                "refused_a_second": [round_two(rate) for rate, _ in refused], "statuses": [found for _, found in refused],
            }))
        finally:
            process.terminate()
            process.wait()


def round_two(value):
    return float("%.2f" % value)


def round_all(values):
    return [int(value) for value in values]


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Candor beside PostgreSQL in one run on one disk.

PostgreSQL gets the same records as rows with a SHA-256 chain by trigger and a full-text index over the words that
Candor indexes, in batches of 500, with its default settings (fsync and synchronous_commit on); once bare, and once with
the two look-ups by id that Candor's registers answer (correlation and message). Needs the server's binaries and, from
PyPI, psycopg2-binary.

    bench/against_postgres.py --candor target/release/candor [--records 60000] [--candor-records 1000000]
"""

import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

SCHEMA = """
CREATE TABLE event (id bigserial PRIMARY KEY, event_id text UNIQUE, correlation_id text, message_id text, body text,
  words tsvector, chain bytea);
CREATE INDEX ON event USING gin (words);
CREATE FUNCTION link() RETURNS trigger AS $$
DECLARE before bytea;
BEGIN
  SELECT chain INTO before FROM event ORDER BY id DESC LIMIT 1;
  NEW.chain := sha256(coalesce(before, ''::bytea) || convert_to(NEW.body, 'UTF8'));
  RETURN NEW;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER link BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION link();
"""

IDS = "CREATE INDEX ON event (correlation_id); CREATE INDEX ON event (message_id);"


def words(record):
    """The words that Candor indexes: subject, names, addresses, tokens."""
    content, people = record.get("message_content", {}), record.get("recipient_details", {})
    parts = [content.get("subject", ""), people.get("name", ""), people.get("email", ""), record.get("status", ""), record["event_type"]]
    return " ".join(part for part in parts if part)


def binaries():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not found:
        subprocess.run(["apt-get", "install", "-q", "-y", "postgresql"], check=True, stdout=sys.stderr)
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return os.path.dirname(found[-1])


def postgres(folder, lines, with_ids):
    import psycopg2
    from psycopg2.extras import execute_values
    where, user = os.path.join(folder, "pg"), "postgres" if os.getuid() == 0 else None
    bin_folder = binaries()
    os.makedirs(where)
    if user:
        shutil.chown(where, user)
        os.chmod(folder, 0o755)
        os.chmod(os.path.dirname(folder), 0o755)
    def run(*command):
        subprocess.run((["runuser", "-u", user, "--"] if user else []) + list(command), check=True, stdout=subprocess.DEVNULL)
    run(os.path.join(bin_folder, "initdb"), "-D", where + "/data", "-A", "trust", "-U", "postgres")
    run(os.path.join(bin_folder, "pg_ctl"), "-D", where + "/data", "-w", "-o", "-p 54329 -k " + where, "-l", where + "/log", "start")
    try:
        connection = psycopg2.connect(host=where, port=54329, user="postgres", dbname="postgres")
        cursor = connection.cursor()
        cursor.execute(SCHEMA + (IDS if with_ids else ""))
        connection.commit()
        pairs = ((json.loads(line), line) for line in lines)
        rows = [(r["event_id"], r["correlation_id"], r.get("email_id", r.get("message_id")), line, words(r)) for r, line in pairs]
        start = time.monotonic()
        for at in range(0, len(rows), 500):
            execute_values(cursor, "INSERT INTO event(event_id, correlation_id, message_id, body, words) VALUES %s ON CONFLICT DO NOTHING", rows[at:at + 500],
                           template="(%s, %s, %s, %s, to_tsvector('simple', %s))", page_size=500)
            connection.commit()
        seconds = time.monotonic() - start
        cursor.execute("SELECT pg_total_relation_size('event')")
        size = cursor.fetchone()[0]
        return {"rows_a_second": len(rows) / seconds, "bytes_a_row": size / len(rows)}
    finally:
        run(os.path.join(bin_folder, "pg_ctl"), "-D", where + "/data", "-m", "immediate", "stop")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--candor", default="target/release/candor")
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--candor-records", type=int, default=1_000_000)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="against-")
    try:
        lines = subprocess.run([arguments.candor, "bench", "--generate", str(arguments.records)], check=True, capture_output=True, text=True).stdout.splitlines()
        def theirs(with_ids):
            return postgres(tempfile.mkdtemp(dir=folder), lines, with_ids)
        before = [theirs(False), theirs(True)]
        command = [arguments.candor, "bench", "--records", str(arguments.candor_records), "--folder", os.path.join(folder, "candor")]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        after = [theirs(False), theirs(True)]
        rates = [(one["rows_a_second"] + two["rows_a_second"]) / 2 for one, two in zip(before, after)]
        rate = ours["ingest"]["records_a_second"]
        print(json.dumps({"postgres": {"words": [before[0], after[0]], "words_and_ids": [before[1], after[1]]}, "candor": ours,
                          "ratio_words": rate / rates[0], "ratio_words_and_ids": rate / rates[1]}, indent=2))
        if rates[0] < 7000:
            print("note: under 7,000 rows a second the harness or the machine is at fault", file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

"""Hands over numbered records until there are so many, and says of each that it was taken. The tests kill it."""

import ssl
import sys
import time
from pathlib import Path

from candor_client import Client, Record, Spool

folder, url, key, total = sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text().strip(), int(sys.argv[4])
refused = []
trusted = ssl.create_default_context(cafile=sys.argv[5]) if len(sys.argv) > 5 else None
spool = Spool(folder, "driver")
client = Client(
    url, key, spool, source_component="driver", environment="test", on_refused=refused.append, context=trusted
)
while client.spool.next_number <= total:
    print(client.record(Record("SYSTEM_EVENT", "driver", {"system_event": "step"})), flush=True)
    time.sleep(0.001)
# Where nobody is trusted nothing will be sent, however long it is waited for.
sent = client.close(60 if trusted or url.startswith("http:") else 3)
print("refused" if refused else "sent" if sent else "waiting", flush=True)

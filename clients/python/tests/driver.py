"""Hands over numbered records until there are so many, and says of each that it was taken. The tests kill it."""

import sys
import time
from pathlib import Path

from candor_client import Client, Record, Spool

folder, url, key, total = sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text().strip(), int(sys.argv[4])
refused = []
client = Client(url, key, Spool(folder, "driver"), source_component="driver", environment="test", on_refused=refused.append)
while client.spool.next_number <= total:
    print(client.record(Record("SYSTEM_EVENT", "driver", {"system_event": "step"})), flush=True)
    time.sleep(0.001)
sent = client.close(60)
print("refused" if refused else "sent" if sent else "waiting", flush=True)

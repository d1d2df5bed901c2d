"""Sends a mail through a relay and records that it was sent.

    python3 send_mail.py smtp.example:25 http://127.0.0.1:8420 KEYFILE

The record is on this machine's disk before the program goes on; it reaches the trail when the server can be reached.
"""

import smtplib
import sys
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path

from candor_client import Client, Spool, mail_sent

relay, url, key = sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text().strip()
host, _, port = relay.partition(":")
client = Client(url, key, Spool("candor-spool-shop-1", "shop-1"), source_component="shop")

message = EmailMessage()
message["From"], message["To"], message["Subject"] = "orders@shop.example", "thabo.4@mail.example", "Your order has shipped"
message["Message-ID"] = make_msgid(domain="shop.example")
message.set_content("It is on its way.")
with smtplib.SMTP(host, int(port or 25)) as smtp:
    smtp.send_message(message)

event_id = client.record(
    mail_sent(
        message["Message-ID"].strip("<>"),
        customer_id="c-4",
        address="thabo.4@mail.example",
        subject=message["Subject"],
        template_id="order-shipped",
        user_id="u-12",
    )
)
print(event_id, "recorded" if client.close(10) else f"waits in the spool: {client.trouble}")

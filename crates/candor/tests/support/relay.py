#!/usr/bin/env python3
"""Two real Postfix instances for the end-to-end test: `near`, our relay with a content-filter hop, and `far`, the other
side. Sends fifty mails of every fate and prints, as JSON, what the queues and mailboxes themselves say became of them.

    relay.py FOLDER start|send|truth|read MAILBOX|stop

Needs root and Postfix 3.5 or later. All names are reserved ones; nothing leaves this machine.
"""

import email.policy
import json
import os
import pathlib
import smtplib
import socket
import subprocess
import sys
import time


class Ports:
    """Four free ports, chosen at the start and kept beside the instances; nobody listens on the last."""

    def __init__(self, folder):
        path = folder / "ports.json"
        if not path.exists():
            probes = [socket.create_server((host, 0)) for host in ("127.0.0.1", "127.0.0.1", address(), address())]
            path.write_text(json.dumps([probe.getsockname()[1] for probe in probes]))
            for probe in probes:
                probe.close()
        self.near, self.filter, self.far, self.dead = json.loads(path.read_text())


def address():
    """An address of this machine that is not loopback: to Candor a loopback relay is a hop."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # Nothing is sent: this asks the kernel which address it would send from.
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]
    except OSError:
        # No route: any address of this machine will do.
        return subprocess.run(["hostname", "-I"], check=True, text=True, capture_output=True).stdout.split()[0]
    finally:
        probe.close()


MASTER = """
postlog   unix-dgram n - n - 1 postlogd
{listen}
pickup    unix  n - n 1 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 1 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
local     unix  - n n - - local
virtual   unix  - n n - - virtual
lmtp      unix  - - n - - lmtp
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
"""


class Instance:
    def __init__(self, folder, name):
        self.name = name
        self.base = folder / name
        self.config = self.base / "config"
        self.log = self.base / "mail.log"

    def run(self, *command, check=True, data=None):
        return subprocess.run(command, check=check, input=data, text=True, capture_output=True)

    def make(self, listen, settings):
        for part in ("config", "spool", "data", "mail"):
            (self.base / part).mkdir(parents=True)
        subprocess.run(["chown", "postfix", self.base / "data"], check=True)
        subprocess.run(["chown", "1000:1000", self.base / "mail"], check=True)
        (self.config / "master.cf").write_text(MASTER.format(listen=listen))
        common = {
            "compatibility_level": "3.6",
            "queue_directory": self.base / "spool",
            "data_directory": self.base / "data",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "command_directory": "/usr/sbin",
            "daemon_directory": "/usr/lib/postfix/sbin",
            "syslog_name": "postfix-" + self.name,
            "maillog_file": self.log,
            "maillog_file_prefixes": self.base,
            "myhostname": self.name + ".shop.example",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8 %s/32" % address(),
            "inet_protocols": "ipv4",
            "virtual_uid_maps": "static:1000",
            "virtual_gid_maps": "static:1000",
            "virtual_minimum_uid": "100",
            "virtual_mailbox_base": self.base / "mail",
            "alias_maps": "",
            "smtp_tls_security_level": "none",
            "disable_dns_lookups": "yes",
            "smtp_host_lookup": "native",
            "minimal_backoff_time": "3600s",
            "maximal_backoff_time": "3600s",
            "default_process_limit": "20",
            "bounce_notice_recipient": "postmaster@shop.example",
        }
        common.update(settings)
        text = "".join("%s = %s\n" % pair for pair in common.items())
        (self.config / "main.cf").write_text(text)

    def table(self, name, rows):
        path = self.config / name
        path.write_text("".join("%s %s\n" % row for row in rows))
        self.run("postmap", "-c", str(self.config), "hash:" + str(path))
        return "hash:%s" % path

    def control(self, what):
        done = self.run("postfix", "-c", str(self.config), what, check=False)
        if done.returncode != 0 and what == "start":
            raise SystemExit("start %s: %s" % (self.name, done.stderr))

    def queue(self):
        """The queue as Postfix itself shows it: id -> (queue, recipients)."""
        done = self.run("postqueue", "-c", str(self.config), "-j", check=False)
        found = {}
        for line in done.stdout.splitlines():
            item = json.loads(line)
            found[item["queue_id"]] = (item["queue_name"], [r["address"] for r in item["recipients"]])
        return found

    def super(self, option, queue_id):
        self.run("postsuper", "-c", str(self.config), option, queue_id)

    def mailboxes(self):
        """Mails in each mailbox."""
        found = {}
        for box in (self.base / "mail").iterdir():
            count = sum(len(list((box / part).iterdir())) for part in ("new", "cur") if (box / part).is_dir())
            found[box.name] = count
        return found


def instances(folder):
    return Instance(folder, "near"), Instance(folder, "far")


def start(folder):
    near, far = instances(folder)
    ports = Ports(folder)
    for part in [folder, *folder.parents]:
        # Daemons that run as another user must be able to pass.
        if part != pathlib.Path("/") and part.stat().st_uid == os.getuid():
            part.chmod(part.stat().st_mode | 0o011)
    far.make(
        "%s:%d inet n - n - - smtpd" % (address(), ports.far),
        {
            "virtual_mailbox_domains": "remote.example",
            "inet_interfaces": address(),
            "smtpd_relay_restrictions": "reject_unauth_destination",
        },
    )
    boxes = [("known%d@remote.example" % n, "known%d/" % n) for n in range(20)]
    with open(far.config / "main.cf", "a") as main:
        main.write("virtual_mailbox_maps = %s\n" % far.table("boxes", boxes))
    near.make(
        "127.0.0.1:%d inet n - n - - smtpd\n"
        "  -o content_filter=smtp:[127.0.0.1]:%d\n"
        "127.0.0.1:%d inet n - n - - smtpd\n"
        "  -o content_filter=\n"
        "  -o smtpd_authorized_xforward_hosts=127.0.0.0/8" % (ports.near, ports.filter, ports.filter),
        {
            "virtual_mailbox_domains": "shop.example",
            "inet_interfaces": "127.0.0.1",
            "smtpd_recipient_restrictions": "permit_mynetworks, reject",
            "smtp_send_xforward_command": "yes",
        },
    )
    routes = [
        ("remote.example", "smtp:[%s]:%d" % (address(), ports.far)),
        ("dead.example", "smtp:[%s]:%d" % (address(), ports.dead)),
    ]
    with open(near.config / "main.cf", "a") as main:
        main.write("transport_maps = %s\n" % near.table("routes", routes))
        main.write("virtual_mailbox_maps = %s\n" % near.table("boxes", [("desk@shop.example", "desk/")]))
        main.write("smtp_bind_address = 0.0.0.0\n")
    far.control("start")
    near.control("start")
    for port, host in ((ports.near, "127.0.0.1"), (ports.far, address())):
        until(lambda: socket.create_connection((host, port), timeout=1).close() or True, "port %d" % port)


def until(ready, what, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("waited in vain for " + what)


def mail(connection, number, to):
    text = "From: orders@shop.example\r\nSubject: number %d\r\nMessage-ID: <m%d@shop.example>\r\n\r\nText\r\n"
    connection.sendmail("orders@shop.example", to, text % (number, number))


def fates():
    """Fifty mails: who each goes to."""
    for n in range(20):
        yield ["known%d@remote.example" % n]
    for n in range(8):
        yield ["nobody%d@remote.example" % n]
    for n in range(6):
        yield ["desk@shop.example"]
    for n in range(6):
        yield ["known%d@remote.example" % n, "nobody9%d@remote.example" % n, "desk@shop.example"]
    for n in range(10):
        yield ["later%d@dead.example" % n]


def send(folder):
    near, far = instances(folder)
    with smtplib.SMTP("127.0.0.1", Ports(folder).near) as connection:
        for number, to in enumerate(fates()):
            mail(connection, number, to)
    # Settled: what can't be delivered waits, the rest is gone.
    def settled():
        queue = near.queue()
        return len(queue) == 10 and all(name == "deferred" for name, _ in queue.values()) and not far.queue()

    until(settled, "the queues")
    waiting = {recipients[0]: queue_id for queue_id, (_, recipients) in near.queue().items()}
    # An operator: three are held and released, two deleted, two told to expire.
    for n in range(3):
        near.super("-h", waiting["later%d@dead.example" % n])
    until(lambda: sum(name == "hold" for name, _ in near.queue().values()) == 3, "the hold")
    for n in range(3):
        near.super("-H", waiting["later%d@dead.example" % n])
    for n in range(3, 5):
        near.super("-d", waiting["later%d@dead.example" % n])
    for n in range(5, 7):
        near.super("-e", waiting["later%d@dead.example" % n])
    near.run("postqueue", "-c", str(near.config), "-f")

    def expired():
        return len(near.queue()) == 6 and all(name == "deferred" for name, _ in near.queue().values())

    until(expired, "the expiry")


def truth(folder):
    near, far = instances(folder)
    print(json.dumps({"near_queue": len(near.queue()), "near_mailboxes": near.mailboxes(), "far_mailboxes": far.mailboxes()}))


def read(folder):
    """The mails of a mailbox of the other side, as JSON."""
    box = instances(folder)[1].base / "mail" / sys.argv[3]
    found = []
    for part in ("new", "cur"):
        if (box / part).is_dir():
            for path in sorted((box / part).iterdir()):
                mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
                found.append("To: %s\nSubject: %s\n\n%s" % (mail["To"], mail["Subject"], mail.get_content()))
    print(json.dumps(found))


def stop(folder):
    for instance in instances(folder):
        instance.control("stop")


if __name__ == "__main__":
    {"start": start, "send": send, "truth": truth, "read": read, "stop": stop}[sys.argv[2]](pathlib.Path(sys.argv[1]).resolve())

#!/usr/bin/env python3
"""Every page in a real Chromium: light, dark and 360 pixels wide, each held against axe-core's rules, without script and
without a request to elsewhere. The pictures stay in FOLDER, for people to look at.

    pages.py CANDOR FOLDER

Needs root, Postfix and Chromium, which `.ci/run` installs, and playwright and axe-playwright-python, which `cargo xtask
ci` installs. All people and customers are made up; their addresses are reserved ones.
"""

import json
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.request

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

PASSWORD = "correct kettle lantern four"
WAYS = {
    "light": {"viewport": {"width": 1100, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1100, "height": 800}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light"},
}


class Server:
    """The running binary, with a customer's mail going through a real relay."""

    def __init__(self, candor, folder):
        self.folder, self.relay = folder, pathlib.Path(__file__).with_name("relay.py")
        self.mails = folder / "mails"
        self.mails.mkdir()
        self.mail("start")
        data = folder / "trail"
        subprocess.run([candor, "init", "--data", data], check=True, capture_output=True)
        port = json.loads((self.mails / "ports.json").read_text())[0]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            number = probe.getsockname()[1]
        self.config = data / "candor.toml"
        # By this name a browser makes passkeys without TLS.
        self.base = "http://localhost:%d" % number
        self.config.write_text(
            'public_url = "%s"\n[mail]\nrelay = "127.0.0.1:%d"\nfrom = "history@shop.example"\n'
            "[sources.local]\n" % (self.base, port)
        )
        address = "127.0.0.1:%d" % number
        self.process = subprocess.Popen(
            [candor, "serve", "--listen", address, "--data", data], stdout=subprocess.PIPE, text=True
        )
        said = ""
        while "first link" not in said:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit("the server ended: " + said)
            said += line
        self.first = re.search(r"(/join/\w+)", said).group(1)
        self.admin = re.search(r"(candor_\S+)", said).group(1)

    def mail(self, *what):
        done = subprocess.run([sys.executable, self.relay, self.mails, *what], text=True, capture_output=True)
        if done.returncode != 0:
            raise SystemExit("relay %s: %s" % (what, done.stderr))
        return done.stdout

    def mailed(self, box, link):
        """The link in the first mail of a mailbox."""
        for _ in range(100):
            mails = json.loads(self.mail("read", box))
            if mails:
                return re.search(link, mails[0]).group(1)
            time.sleep(0.2)
        raise SystemExit("no mail came to " + box)

    def api(self, path, key, body, kind="application/json"):
        request = urllib.request.Request(
            self.base + path, body, {"Authorization": "Bearer " + key, "Content-Type": kind}, method="POST"
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def key(self, **grant):
        return self.api("/v1/keys", self.admin, json.dumps(grant).encode())["key"]

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.mail("stop")


class Pages:
    def __init__(self, browser, server, folder):
        self.browser, self.server, self.folder = browser, server, folder
        self.axe, self.wrong, self.seen = Axe(), [], 0

    def context(self, way, state=None, **more):
        context = self.browser.new_context(**WAYS[way], storage_state=state, **more)
        context.on("request", lambda request: self.elsewhere(request.url))
        return context

    def elsewhere(self, url):
        if not url.startswith((self.server.base, "data:")):
            self.wrong.append("a request to elsewhere: " + url)

    def look(self, page, name):
        """One page as it is: a picture, the rules of axe-core, nothing wider than the window."""
        self.seen += 1
        page.screenshot(path=self.folder / (name + ".png"), full_page=True)
        for violation in self.axe.run(page).response["violations"]:
            nodes = [node["html"][:120] for node in violation["nodes"]]
            self.wrong.append("%s: %s: %s %s" % (name, violation["id"], violation["help"], nodes))
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            self.wrong.append("%s: %d pixels wider than the window" % (name, wide))
        scripts = page.evaluate("[...document.scripts].map((script) => new URL(script.src).pathname)")
        if scripts != (["/static/passkey.js"] if name.startswith("passkey") else []):
            self.wrong.append("%s: it has a script" % name)

    def in_all_ways(self, state, paths):
        for way in WAYS:
            context = self.context(way, state, bypass_csp=True)
            page = context.new_page()
            for name, path in paths:
                page.goto(self.server.base + path)
                self.look(page, "%s-%s" % (name, way))
            context.close()


def come_in(page, base, link, **who):
    page.goto(base + link)
    for name, value in who.items():
        page.fill("#" + name, value)
    page.fill("#password", PASSWORD)
    page.fill("#password_again", PASSWORD)
    page.click("main button")
    page.wait_for_url("**/look")


def run(candor, folder):
    folder.mkdir(parents=True)
    server = Server(candor, folder)
    try:
        records = [
            {
                "timestamp": "2026-11-%02dT08:00:00Z" % (1 + n % 20), "event_type": "EMAIL_SENT",
                "correlation_id": "o-%d" % n, "source_component": "shop", "environment": "test", "severity": "info",
                "email_id": "m-%d" % n,
                "recipient_details": {"customer_id": "c-%d" % (n % 3), "email": "known%d@remote.example" % (n % 3)},
                "message_content": {"subject": "<b>your</b> kettle, number %d" % n},
                "delivery_tracking": {"delivery_status": "sent"},
            }
            for n in range(12)
        ]
        append = server.key(scopes=["append"], sources=["local"])
        lines = "\n".join(json.dumps(record) for record in records).encode()
        server.api("/v1/records", append, lines, "application/x-ndjson")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            pages = Pages(browser, server, folder)
            walk(pages, server)
            browser.close()
    finally:
        server.stop()
    for finding in pages.wrong:
        print(finding)
    print("%d pages looked at, %d findings; pictures in %s" % (pages.seen, len(pages.wrong), folder))
    return 1 if pages.wrong else 0


def walk(pages, server):
    base = server.base
    # Everything is done without script: a form and a link are all that it takes.
    context = pages.context("light", java_script_enabled=False)
    admin = context.new_page()
    come_in(admin, base, server.first, name="Staff One", address="staff.one@shop.example")
    links = {}
    for box, role in enumerate(("customer_service", "compliance_officer", "management", "legal", "auditor"), 10):
        admin.goto(base + "/users")
        admin.fill("#name", "Staff " + role.replace("_", " "))
        admin.fill("#address", "known%d@remote.example" % box)
        admin.locator('form[action="/users/invite"] input[value=%s]' % role).check()
        admin.fill("#reference", "CH-1")
        admin.locator('form[action="/users/invite"] button').click()
        if "A link was sent to their address" not in admin.content():
            pages.wrong.append("users: a link was not sent")
        links[role] = server.mailed("known%d" % box, r"(/join/\w+)")
    states = {"administrator": context.storage_state()}
    for role, link in links.items():
        context = pages.context("light", java_script_enabled=False)
        page = context.new_page()
        come_in(page, base, link)
        states[role] = context.storage_state()
        if role == "legal":
            page.goto(base + "/grants")
            auditor = page.locator("#grantee option", has_text="auditor").first.get_attribute("value")
            page.locator("#grantee").select_option(auditor)
            page.fill("#customer", "c-1")
            page.fill("#kinds", "EMAIL_SENT")
            page.fill("#reason", "inspection 12")
            page.locator('form[action="/grants"] button').click()
        if role == "customer_service":
            for _ in range(11):
                page.goto(base + "/users")
        context.close()
    # Who gives leave needs another of the three who may.
    pages.in_all_ways(states["compliance_officer"], [("changes", "/changes")])
    pages.in_all_ways(states["legal"], [("changes-own", "/changes")])
    context = pages.context("light", states["compliance_officer"], java_script_enabled=False)
    page = context.new_page()
    page.goto(base + "/changes")
    page.click("text=Approve")
    if "Nothing waits." not in page.inner_text("main"):
        pages.wrong.append("changes: what was approved still waits")
    context.close()
    # Settings in the files are not those that the server runs with.
    with server.config.open("a") as file:
        file.write("[sources.shop]\nrecipients = \"hash\"\n")
    pages.in_all_ways(states["administrator"], [("changes-settings", "/changes")])
    # A customer: asks for a link, follows it, comes in; also without script.
    context = pages.context("light", java_script_enabled=False)
    customer = context.new_page()
    customer.goto(base + "/my")
    customer.fill("#address", "known1@remote.example")
    customer.click("main button")
    link = server.mailed("known1", r"(/my/open/\w+)")
    context_in = pages.context("light", java_script_enabled=False)
    opened = context_in.new_page()
    opened.goto(base + link)
    in_between = link
    pages.in_all_ways(None, [("home", "/"), ("sign-in", "/sign-in"), ("own-in", "/my"), ("own-link", in_between), ("none", "/nowhere"), ("tail", "/tail")])
    opened.click("main button")
    opened.wait_for_url("**/my")
    pages.in_all_ways(context_in.storage_state(), [("own", "/my")])
    with opened.expect_download() as download:
        opened.click("text=Take it with you")
    if json.loads(pathlib.Path(download.value.path()).read_text())["format"] != "candor/own-history/v1":
        pages.wrong.append("the file of one's own history is another")
    of = {
        "administrator": [("users", "/users"), ("keys", "/keys"), ("account", "/account"), ("look-empty", "/look")],
        "legal": [("grants", "/grants")],
        "auditor": [("grants-own", "/grants"), ("refused", "/users")],
        "compliance_officer": [("cases", "/cases")],
        "management": [("reviews", "/reviews")],
    }
    for role, paths in of.items():
        pages.in_all_ways(states[role], paths)
    # What a form brings, in all ways.
    for way in WAYS:
        context = pages.context(way, states["compliance_officer"], bypass_csp=True)
        page = context.new_page()
        page.goto(base + "/look")
        page.fill("#reason", "case 7")
        page.fill("#customer", "c-1")
        page.click("text=Show their history")
        pages.look(page, "history-" + way)
        if "<b>your</b>" in page.content() or "your</b> kettle" not in page.inner_text("main"):
            pages.wrong.append("history: what a sender wrote is not shown as text")
        page.goto(base + "/look")
        page.fill("#reason", "case 7")
        page.fill("#index", "3")
        page.click("text=Show the entry")
        for summary in page.locator("summary").all():
            summary.click()
        pages.look(page, "entry-" + way)
        if "which the trail's key signed" not in page.inner_text("main"):
            pages.wrong.append("entry: its proof does not hold")
        page.goto(base + "/policy")
        page.select_option("#role", "customer_service")
        page.select_option("#action", "ReadHistory")
        page.click("main button")
        pages.look(page, "policy-" + way)
        if "give a reason" not in page.inner_text("main"):
            pages.wrong.append("policy: it does not say what would help")
        page.goto(base + "/account")
        page.click("text=Add a second factor")
        pages.look(page, "second-factor-" + way)
        context.close()
    passkeys(pages, server, states["management"])


def passkeys(pages, server, state):
    """A passkey of a device of Chromium's own: added, used, removed."""
    base = server.base
    context = pages.context("light", state)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True}
    device = session.send(
        "WebAuthn.addVirtualAuthenticator",
        {"options": {**options, "isUserVerified": True, "automaticPresenceSimulation": True}},
    )["authenticatorId"]
    page.goto(base + "/account")
    page.fill("#passkey-name", "telephone")
    page.click("text=Add a passkey")
    pages.look(page, "passkey-add")
    page.click("text=Use the device")
    page.wait_for_url("**/account")
    pages.look(page, "account-passkey")
    page.click("text=Sign out")
    for wanted in ("**/look", "**/open"):
        page.goto(base + "/sign-in")
        page.click("text=Sign in with a passkey")
        if wanted == "**/look":
            pages.look(page, "passkey-use")
        page.click("text=Use the device")
        page.wait_for_url(wanted)
        if wanted == "**/look":
            page.goto(base + "/account")
            if "passkey" not in page.inner_text("table >> nth=1"):
                pages.wrong.append("passkey: the session does not say how it began")
            # Copied as it is: the one that was removed here opens nothing, though the device has it still.
            page.click("text=Remove it")
            page.click("text=Sign out")
    if "opens nothing here" not in page.inner_text("main"):
        pages.wrong.append("passkey: a removed one opens")
    # A device that did not verify its owner is not enough.
    session.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": False})
    page.goto(base + "/sign-in")
    page.click("text=Sign in with a passkey")
    page.click("text=Use the device")
    page.wait_for_function("document.getElementById('said').textContent !== ''")
    context.close()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], pathlib.Path(sys.argv[2]).resolve()))

//! Customers at the running binary: in by a link that a real Postfix carries, to their own history and nobody else's, out
//! with a file that a stranger can check. Needs root and Postfix, which `.ci/run` installs.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::browser::{Browser, between, first};
use support::http::Server;
use support::{candor, folder, good, lines, python, python_with, root};

fn relay(folder: &Path, what: &[&str]) -> String {
    let script = root().join("crates/candor/tests/support/relay.py");
    let output = Command::new("python3").arg(script).arg(folder).args(what).output().expect("python3 runs");
    assert!(output.status.success(), "{what:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Stops the relays also where the test fails.
struct Relays<'f>(&'f Path);

impl Drop for Relays<'_> {
    fn drop(&mut self) {
        relay(self.0, &["stop"]);
    }
}

impl Relays<'_> {
    /// Mails in a mailbox of the other side, once there are so many.
    fn mails(&self, mailbox: &str, count: usize) -> Vec<String> {
        let start = Instant::now();
        loop {
            let mails: Vec<String> = serde_json::from_str(&relay(self.0, &["read", mailbox])).expect("JSON");
            if mails.len() >= count {
                return mails;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no mail in {mailbox}");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

fn mail(customer: u32, address: &str, subject: &str) -> String {
    json!({
        "timestamp": "2026-11-20T08:00:00Z", "event_type": "EMAIL_SENT", "correlation_id": format!("o-{customer}"),
        "source_component": "shop", "environment": "test", "severity": "info", "email_id": format!("m-{customer}"),
        "recipient_details": {"customer_id": format!("c-{customer}"), "email": address},
        "message_content": {"subject": subject}, "delivery_tracking": {"delivery_status": "sent"},
    })
    .to_string()
}

const ON_ITS_WAY: &str = "If this address is known here";

#[test]
fn a_customer_comes_in_by_a_link_sees_their_own_history_and_takes_it_with_them() {
    let folder = folder();
    let (mails, data) = (folder.path().join("mails"), folder.path().join("trail"));
    std::fs::create_dir(&mails).expect("made");
    relay(&mails, &["start"]);
    let relays = Relays(&mails);
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text, "--origin", "audit.example/own"]);
    let ports: Vec<u16> =
        serde_json::from_str(&std::fs::read_to_string(mails.join("ports.json")).expect("read")).expect("JSON");
    let config = format!(
        "public_url = \"https://history.shop.example/\"\n[mail]\nrelay = \"127.0.0.1:{}\"\nfrom = \"history@shop.example\"\n[sources.local]\n",
        ports[0]
    );
    std::fs::write(data.join("candor.toml"), config).expect("written");
    let server = Server::start(&data);
    let batch = [
        mail(1, "known0@remote.example", "your <script>alert(1)</script> kettle"),
        mail(2, "known1@remote.example", "another's lamp"),
        // Two customers of one address: it is nobody's own.
        mail(3, "known2@remote.example", "one of a family"),
        mail(4, "known2@remote.example", "another of it"),
    ];
    server.lines(&server.append_key(), &batch.join("\n"));
    let legal = server.key(json!({"scopes": ["read"], "roles": ["legal"]}));
    assert_eq!(server.read(&legal, "/v1/customers/c-1/history").status, 200);

    // Whether an address is known can't be told: the same answer, and a link where there is one to send.
    let mut one = Browser::new(&server);
    assert!(one.get("/my").text().contains("Send me a link"));
    let mut ask = |address: &str| {
        let reply = one.post("/my/link", &[("address", address)]);
        assert_eq!((reply.status, reply.text().contains(ON_ITS_WAY)), (200, true), "{}", reply.text());
        reply.text()
    };
    let same = ask("nobody@remote.example");
    assert_eq!(ask("known2@remote.example"), same);
    assert_eq!(ask("known0@remote.example"), same);
    assert_eq!(ask("known1@REMOTE.example"), same);
    let sent = relays.mails("known0", 1);
    assert!(sent[0].starts_with("To: known0@remote.example\nSubject: Your own history\n"), "{}", sent[0]);
    assert!(sent[0].contains("https://history.shop.example/my/open/") && !sent[0].contains("c-1"), "{}", sent[0]);
    let token = |mail: &str| between(mail, "/my/open/", "\n").expect("a link").trim().to_owned();
    let link = format!("/my/open/{}", token(&sent[0]));
    let other = format!("/my/open/{}", token(&relays.mails("known1", 1)[0]));
    assert_eq!(relay(&mails, &["read", "known2"]).trim(), "[]", "who shares an address comes in by no link to it");
    for bad in ["known0@remote.example\r\nBcc: thief@mail.example", "", &"x".repeat(400)] {
        assert_eq!(one.post("/my/link", &[("address", bad)]).status, 400);
    }

    // A scanner of mail uses nothing up; a page elsewhere opens nothing; used, it is gone.
    for _ in 0..2 {
        assert!(one.get(&link).text().contains("Open my history"));
    }
    let foreign = [("Origin", "https://elsewhere.example".to_owned())];
    assert_eq!(server.send_to_host("POST", &link, &foreign, b"").status, 403);
    let opened = one.post(&link, &[]);
    assert_eq!((opened.status, opened.headers["location"].as_str()), (303, "/my"), "{}", opened.text());
    assert_eq!(Browser::new(&server).post(&link, &[]).status, 404);
    assert_eq!(Browser::new(&server).post(&link.replace("/my/open/", "/join/"), &[]).status, 404);

    let page = one.get("/my");
    let shown = page.text();
    assert!(shown.contains("your &#60;script&#62;alert(1)") && !shown.contains("<script>"), "{shown}");
    assert!(shown.contains("<td>legal</td>") && !shown.contains("lamp") && !shown.contains("family"), "{shown}");
    assert!(page.headers["content-security-policy"].contains("frame-ancestors 'none'"));
    assert_eq!(page.headers["cache-control"], "no-store");
    // Their cookie opens nothing of the staff's, the staff's none of theirs, and no number leads to another's entries.
    for path in ["/look", "/account", "/users", "/grants"] {
        assert_eq!(one.get(path).headers["location"], "/sign-in", "{path}");
    }
    let renamed = one.cookie.clone().map(|cookie| cookie.replace("candor_own", "candor_session"));
    let mut thief = Browser { server: &server, cookie: renamed, form_token: one.form_token.clone() };
    assert_eq!(thief.get("/look").headers["location"], "/sign-in");
    let mut staff = first(&server);
    assert!(staff.get("/my").text().contains("Send me a link"));
    let staff_cookie = staff.cookie.clone().map(|cookie| cookie.replace("candor_session", "candor_own"));
    let mut thief = Browser { server: &server, cookie: staff_cookie, form_token: String::new() };
    assert!(thief.get("/my").text().contains("Send me a link"));
    for below in [1, 5, 1_000_000] {
        let reply = one.get(&format!("/my?below={below}")).text();
        assert!(!reply.contains("lamp") && !reply.contains("reader.2"), "{reply}");
    }
    assert_eq!(one.get("/my?below=1&customer=c-2").status, 400);
    let mut two = Browser::new(&server);
    assert_eq!(two.post(&other, &[]).status, 303);
    assert!(two.get("/my").text().contains("lamp"));
    let own_token = std::mem::replace(&mut one.form_token, two.form_token.clone());
    assert_eq!(one.post("/my/file", &[]).status, 403, "a form of another session");
    one.form_token = own_token;

    // The file, checked by two verifiers; altered it does not hold.
    let file = one.post("/my/file", &[]);
    assert_eq!(file.status, 200, "{}", file.text());
    let path = folder.path().join("own-history.json");
    std::fs::write(&path, &file.body).expect("written");
    let name = path.to_str().expect("UTF-8");
    let value: Value = file.json();
    let key = value["history"]["vkey"].as_str().expect("a key").to_owned();
    assert!(good(&["verify", name, "--key", &key]).contains("entries are in the trail audit.example/own"));
    let python_of = |path: &Path| python_with(path, &["--key", &key]);
    assert_eq!(python_of(&path).0, 0, "{}", python_of(&path).1);
    let count = value["entries"].as_array().expect("entries").len();
    let kinds: Vec<&str> =
        value["entries"].as_array().expect("entries").iter().filter_map(|e| e["kind"].as_str()).collect();
    for kind in ["EMAIL_SENT", "SUBJECT_SEEN", "SIGN_IN_LINK", "SESSION_STARTED"] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    assert_eq!(kinds.iter().filter(|kind| **kind == "SUBJECT_SEEN").count(), 1, "nobody sees themselves");
    let mut wrong: Vec<Value> = Vec::new();
    for change in 0..9 {
        let mut altered = value.clone();
        let entries = altered["entries"].as_array_mut().expect("entries");
        match change {
            // The newest left out.
            0 => drop(entries.remove(0)),
            1 => drop(entries.remove(count / 2)),
            2 => entries[0]["kind"] = "CALL_LOGGED".into(),
            3 => {
                let at = entries.iter().position(|e| e["kind"] == "EMAIL_SENT").expect("a mail");
                let fields = entries[at]["personal"]["fields"].as_array_mut().expect("fields");
                fields[0]["value"] = "\"another\"".into();
            }
            4 => entries[1] = entries[0].clone(),
            5 => entries.clear(),
            6 => entries[0]["personal"] = Value::Null,
            7 => {
                // Left out of both lists: the tags of what follows do not fit any more.
                let gone = entries.remove(count / 2)["index"].clone();
                let subjects = altered["history"]["subjects"].as_array_mut().expect("subjects");
                subjects
                    .iter_mut()
                    .for_each(|one| one["entries"].as_array_mut().expect("entries").retain(|at| *at != gone));
            }
            _ => altered["next_below"] = entries[0]["index"].clone(),
        }
        wrong.push(altered);
    }
    for (number, altered) in wrong.iter().enumerate() {
        let path = folder.path().join(format!("wrong{number}.json"));
        std::fs::write(&path, altered.to_string()).expect("written");
        let said = candor(&["verify", path.to_str().expect("UTF-8"), "--key", &key]);
        assert_eq!((said.status.code(), python_of(&path).0), (Some(1), 1), "{number}");
    }
    let history = folder.path().join("history.json");
    std::fs::write(&history, value["history"].to_string()).expect("written");

    // Signed out, it is over; erased, there is nothing to come in to.
    assert_eq!(two.post("/my/sign-out", &[]).headers["location"], "/my");
    assert!(two.get("/my").text().contains("Send me a link"));
    let (address, cookie) = (server.address, one.cookie.clone());
    assert!(server.stop());
    let checked = python_with(&data.join("journal"), &["--history", history.to_str().expect("UTF-8")]);
    assert!(checked.0 == 0 && checked.1.contains("none left out"), "{}", checked.1);
    assert_eq!(python(&data).0, 0);
    good(&["erase", "--customer", "c-1", "--reason", "request 4", "--yes", "--data", text]);
    let server = Server::start_at(&data, address);
    let mut one = Browser { server: &server, cookie, form_token: String::new() };
    assert!(one.get("/my").text().contains("Send me a link"));
    assert!(server.stop());
    let sessions = lines(&good(&["search", "--kind", "SESSION_ENDED", "--json", "--data", text]));
    assert!(sessions.iter().any(|line| line["record"]["reason_category"] == "erased"), "{sessions:?}");
    let started = lines(&good(&["search", "--kind", "SESSION_STARTED", "--json", "--data", text]));
    assert!(started.iter().any(|line| line["record"]["login_method"] == "link"), "{started:?}");
}

#[test]
fn where_no_mail_is_configured_nobody_is_sent_a_link() {
    let folder = folder();
    let server = Server::start(&folder.path().join("trail"));
    let mut browser = Browser::new(&server);
    for path in ["/my", "/my/open/x"] {
        let reply = browser.get(path);
        assert_eq!((reply.status, reply.text().contains("ask the business")), (404, true), "{}", reply.text());
    }
    assert_eq!(browser.post("/my/link", &[("address", "x@mail.example")]).status, 404);
    assert!(server.stop());
    let text = folder.path().join("trail");
    let config = |lines: &str| std::fs::write(text.join("candor.toml"), lines).expect("written");
    for (lines, why) in [
        ("[mail]\nrelay = \"127.0.0.1:25\"\nfrom = \"a@shop.example\"\n", "set public_url too"),
        (
            "public_url = \"https://a.example\"\n[mail]\nrelay = \"mx.shop.example:25\"\nfrom = \"a@shop.example\"\n",
            "set tls",
        ),
        ("public_url = \"https://a.example\"\n[mail]\nrelay = \"127.0.0.1\"\nfrom = \"a@shop.example\"\n", "HOST:PORT"),
        ("public_url = \"https://a.example\"\n[mail]\nrelay = \"127.0.0.1:25\"\nfrom = \"nobody\"\n", "e-mail address"),
    ] {
        config(lines);
        let said = support::bad(1, &["serve", "--listen", "127.0.0.1:0", "--data", text.to_str().expect("UTF-8")]);
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[test]
fn an_address_that_was_only_claimed_is_not_the_customer_s() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text]);
    std::fs::write(data.join("candor.toml"), "[sources.local]\n[sources.form]\nclaimed = true\n").expect("written");
    let take = |source: &str, line: &str| {
        let (status, _, said) = support::ingest(text, line.as_bytes(), &["--source", source]);
        assert_eq!(status, 0, "{said}");
    };
    take("local", &mail(1, "reader.1@mail.example", "your kettle"));
    take("form", &mail(1, "stranger@mail.example", "I am customer 1"));
    // Each look is an entry of theirs too.
    let seen = |who: &[&str]| {
        let shown = lines(&good(&[&["history", "--json", "--data", text], who].concat()));
        shown.iter().filter(|line| line["kind"] == "EMAIL_SENT").count()
    };
    assert_eq!(seen(&["--customer", "c-1"]), 2, "both are the customer's");
    assert_eq!(seen(&["--address", "reader.1@mail.example"]), 2, "by the address on record too");
    assert_eq!(seen(&["--address", "stranger@mail.example"]), 0, "by the one that was claimed nothing");
    // The same from a source that knows whose an address is.
    take("local", &mail(2, "stranger@mail.example", "your lamp"));
    assert_eq!(seen(&["--address", "stranger@mail.example"]), 1);
}

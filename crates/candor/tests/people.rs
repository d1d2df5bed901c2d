//! People at the pages of the running binary: invitations, signing in, second factors, reading behind a reason, and what
//! an attacker at the forms gets.

mod support;

use ledger::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use support::browser::{Browser, FIRST, PASSWORD, between, encoded, first, invited};
use support::http::{Reply, Server};
use support::{folder, good, lines};

fn mail(customer: u32, subject: &str) -> String {
    json!({
        "timestamp": "2026-11-20T08:00:00Z", "event_type": "EMAIL_SENT", "correlation_id": format!("o-{customer}"),
        "source_component": "shop", "environment": "test", "severity": "info", "email_id": format!("m-{customer}"),
        "recipient_details": {"customer_id": format!("c-{customer}"), "email": format!("reader.{customer}@mail.example")},
        "message_content": {"subject": subject}, "delivery_tracking": {"delivery_status": "sent"},
    })
    .to_string()
}

#[test]
fn the_first_comes_by_a_link_that_opens_once_and_invites_the_others() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let link = server.first_link();
    let mut browser = Browser::new(&server);
    for path in ["/look", "/users", "/account"] {
        assert_eq!(browser.get(path).headers["location"], "/sign-in", "{path}");
    }
    // A scanner of mail that follows the link uses nothing up.
    assert_eq!((browser.get(&link).status, browser.get(&link).status), (200, 200));
    for (password, again, why) in [
        ("short", "short", "at least 12"),
        ("staff.one@shop.example", "staff.one@shop.example", "too easy"),
        (PASSWORD, "correct kettle lantern five", "not the same"),
    ] {
        let fields = [FIRST[0], FIRST[1], ("password", password), ("password_again", again)];
        let reply = browser.post(&link, &fields);
        assert!(reply.status == 422 && reply.text().contains(why), "{why}: {}", reply.text());
    }
    let mut admin = first(&server);
    assert_eq!(browser.get(&link).status, 404, "it was used");
    assert_eq!(browser.get(&format!("/join/{}", "0".repeat(64))).status, 404);

    let lines_of = [mail(1, "<script>alert(1)</script>"), mail(2, "your kettle")];
    server.lines(&server.append_key(), &lines_of.join("\n"));
    let mut desk = invited(&mut admin, "Staff Two", "staff.two@shop.example", "customer_service");
    // Nothing without a reason; with one, one customer; what a sender wrote is text, not a page.
    let ask = |browser: &mut Browser<'_>, reason: &str| {
        browser.post("/look/history", &[("customer", "c-1"), ("reason", reason)])
    };
    assert_eq!(ask(&mut desk, " ").status, 400);
    let page = ask(&mut desk, "case 7");
    assert_eq!(page.status, 200, "{}", page.text());
    let text = page.text();
    assert!(text.contains("&#60;script&#62;alert(1)") && !text.contains("<script>"), "{text}");
    assert!(page.headers["content-security-policy"].contains("frame-ancestors 'none'"));
    let found = desk.post("/look/search", &[("words", "sent"), ("reason", "case 7")]);
    assert!(found.status == 403 || found.text().contains("Nothing was found"), "{}", found.text());
    let found = desk.post("/look/search", &[("words", "kettle"), ("reason", "case 7")]);
    assert!(found.status == 200 && found.text().contains("your kettle"), "{}", found.text());
    // An administrator is no reader, and a reader administers nothing.
    let refused = ask(&mut admin, "curiosity");
    assert!(refused.status == 403 && refused.text().contains("compliance officer"), "{}", refused.text());
    assert!(!refused.text().contains("mail.example"));
    assert_eq!(desk.get("/users").status, 403);
    let fields = [("name", "x"), ("address", "x@shop.example"), ("roles", "administrator"), ("change_reference", "-")];
    assert_eq!(desk.post("/users/invite", &fields).status, 403);
    assert_eq!(
        admin
            .post(
                "/users/invite",
                &[("name", "x"), ("address", "x@shop.example"), ("roles", "source"), ("change_reference", "-")]
            )
            .status,
        400
    );
    let again = [("name", "x"), ("address", "STAFF.two@shop.example"), ("roles", "legal"), ("change_reference", "-")];
    assert_eq!(admin.post("/users/invite", &again).status, 400, "an address is one person's");

    // Who is suspended is out at once, and comes back when they may.
    let page = admin.get("/users").text();
    let id = between(&page, "staff.two@shop.example</td><td><code>", "<").expect("an id").to_owned();
    let change = |admin: &mut Browser<'_>, step: &str| {
        admin.post("/users/change", &[("user", &id), ("step", step), ("change_reference", "CH-2")])
    };
    assert_eq!(change(&mut admin, "suspend").status, 200);
    assert_eq!(ask(&mut desk, "case 7").headers["location"], "/sign-in");
    assert_eq!(desk.sign_in("staff.two@shop.example", PASSWORD).status, 403);
    assert_eq!(change(&mut admin, "resume").status, 200);
    assert_eq!(desk.sign_in("Staff.Two@shop.example", PASSWORD).status, 303);
    // Other roles hold from the next request on.
    desk.get("/look");
    let roles = [("user", id.as_str()), ("step", "roles"), ("roles", "management"), ("change_reference", "CH-3")];
    assert_eq!(admin.post("/users/change", &roles).status, 200);
    assert_eq!(ask(&mut desk, "case 7").status, 403);
    // After a restart people, roles and sessions are what they were.
    let (cookie, address) = (desk.cookie.clone(), server.address);
    assert!(server.stop());
    let server = Server::start_at(&data, address);
    let mut desk = Browser { server: &server, cookie, form_token: String::new() };
    assert_eq!(desk.get("/look").status, 200);
    assert_eq!(ask(&mut desk, "case 7").status, 403);
    assert!(server.stop());
    let text = data.to_str().expect("UTF-8");
    let started = lines(&good(&["search", "--kind", "SESSION_STARTED", "--json", "--data", text]));
    assert_eq!(started.len(), 3);
    assert_eq!(started[0]["record"]["user_agent"], "a test's browser");
    let people = good(&["user", "list", "--data", text]);
    assert!(people.contains(&format!("{id}  active    management")) && people.lines().count() == 2, "{people}");
    let link = good(&["user", "link", &id, "--reference", "CH-4", "--data", text]);
    assert!(link.starts_with("/join/") && link.trim().len() == 70, "{link}");
    let session = started[0]["record"]["session_id"].as_str().expect("an id").to_owned();
    let session: Value =
        serde_json::from_str(&good(&["show", "session", &session, "--json", "--data", text])).expect("JSON");
    assert_eq!((&session["login_method"], &session["user_id"]), (&json!("password"), &json!(id)));
    let seen = lines(&good(&["search", "--kind", "SUBJECT_SEEN", "--json", "--data", text]));
    assert!(seen.iter().any(|line| line["record"]["actor"] == id.as_str()), "the customer can see who looked");
}

#[test]
fn a_breached_password_is_nobodys() {
    let folder = folder();
    let data = folder.path().join("trail");
    good(&["init", "--data", data.to_str().expect("UTF-8")]);
    // The SHA-1 of the password that the tests use, and what stands beside it in order.
    let lines = "0000000000000000000000000000000000000000:3\r\nF19DE72D7372C1AC81CD160CC2C895903F85259F:1\r\n";
    std::fs::write(data.join("breached.txt"), lines).expect("written");
    std::fs::write(data.join("candor.toml"), "breached_passwords = \"breached.txt\"\n").expect("written");
    let server = Server::start(&data);
    let link = server.first_link();
    let reply = Browser::new(&server).join(&link, PASSWORD, &FIRST);
    assert!(reply.status == 422 && reply.text().contains("breached"), "{}", reply.text());
    assert_eq!(Browser::new(&server).join(&link, "another kettle lantern five", &FIRST).status, 303);
    assert!(server.stop());
    std::fs::write(data.join("breached.txt"), "password\n").expect("written");
    let said = support::bad(1, &["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().expect("UTF-8")]);
    assert!(said.contains("breached_passwords") && said.contains("near byte 0"), "{said}");
}

#[test]
fn a_second_factor_is_asked_for_and_no_code_opens_twice() {
    let folder = folder();
    let server = Server::start(&folder.path().join("trail"));
    let mut browser = first(&server);
    browser.get("/account");
    let page = browser.post("/account/second-factor", &[]).text();
    let secret = between(&page, "name=\"secret\" value=\"", "\"").expect("a secret").to_owned();
    let code =
        |later_s: u64| access::second_factor::code(&secret, SystemClock.now().0 / 1000 + later_s).expect("a code");
    let wrong = browser
        .post("/account/second-factor/confirm", &[("secret", &secret), ("code", "000000"), ("password", PASSWORD)]);
    assert!(wrong.text().contains("not the one of now"), "{}", wrong.text());
    let now = code(0);
    // Whoever stole the cookie does not know the password.
    let thief =
        browser.post("/account/second-factor/confirm", &[("secret", &secret), ("code", &now), ("password", "guess")]);
    assert!(thief.text().contains("not the password"), "{}", thief.text());
    let confirmed = [("secret", secret.as_str()), ("code", &now), ("password", PASSWORD)];
    let page = browser.post("/account/second-factor/confirm", &confirmed).text();
    let codes: Vec<String> =
        between(&page, "Recovery codes\">", "</pre>").expect("codes").split_whitespace().map(str::to_owned).collect();
    assert_eq!(codes.len(), 10);
    browser.get("/account");
    assert_eq!(browser.post("/sign-out", &[]).headers["location"], "/sign-in");
    assert_eq!(browser.get("/look").headers["location"], "/sign-in");

    let pending = |browser: &mut Browser<'_>| -> String {
        let page = browser.sign_in(FIRST[1].1, PASSWORD);
        assert_eq!((page.status, page.headers.contains_key("set-cookie")), (200, false), "half in is out");
        between(&page.text(), "name=\"pending\" value=\"", "\"").expect("it asks for a code").to_owned()
    };
    let mut other = Browser::new(&server);
    let token = pending(&mut other);
    assert_eq!(other.get("/look").headers["location"], "/sign-in");
    assert_eq!(other.post("/sign-in/code", &[("pending", &token), ("code", &now)]).status, 403, "it was used");
    assert_eq!(other.post("/sign-in/code", &[("pending", "made up"), ("code", &code(30))]).status, 403);
    let next = code(30);
    assert_eq!(other.post("/sign-in/code", &[("pending", &token), ("code", &next)]).status, 303);
    assert_eq!(
        other.post("/sign-in/code", &[("pending", &token), ("code", &codes[0])]).status,
        403,
        "a form is used once"
    );
    let token = pending(&mut browser);
    assert_eq!(browser.post("/sign-in/code", &[("pending", &token), ("code", &next)]).status, 403);
    assert_eq!(browser.post("/sign-in/code", &[("pending", &token), ("code", &codes[0].to_uppercase())]).status, 303);
    assert!(browser.get("/account").text().contains("9 recovery codes are left"));
    // Device and codes lost, by the only administrator: the way back is a command, and is recorded.
    let address = server.address;
    assert!(server.stop());
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    let id = good(&["user", "list", "--data", text]).split_whitespace().next().expect("one").to_owned();
    let link = good(&["user", "link", &id, "--reference", "CH-9", "--without-second-factor", "--data", text]);
    let server = Server::start_at(&data, address);
    let mut back = Browser::new(&server);
    assert_eq!(back.join(link.trim(), "another kettle lantern five", &[]).headers["location"], "/look");
    assert_eq!(Browser::new(&server).sign_in(FIRST[1].1, PASSWORD).status, 403, "the old password");
    assert!(server.stop());
    let changes = good(&["search", "--kind", "USER_CHANGED", "--json", "--data", text]);
    assert!(changes.contains("second_factor_removed") && changes.contains("CH-9"), "{changes}");
    // All that people sign in with is lost: somebody comes in anew.
    for file in ["people.db", "people.db-wal", "people.db-shm"] {
        let _ = std::fs::remove_file(data.join("access").join(file));
    }
    let server = Server::start_at(&data, address);
    first(&server);
    assert!(server.stop());
}

#[test]
fn forms_from_elsewhere_sessions_handed_over_and_guessing_get_nowhere() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let mut admin = first(&server);
    // A form of another site, with the cookie that the browser sends along.
    let fields =
        encoded(&[("name", "x"), ("address", "x@shop.example"), ("roles", "legal"), ("change_reference", "-")]);
    let with_token = format!("{fields}&form_token={}", admin.form_token);
    let own = format!("http://{}", server.address);
    let cookie = admin.cookie.clone().expect("a cookie");
    let kind = ("Content-Type", "application/x-www-form-urlencoded".to_owned());
    for (headers, body, why) in [
        (vec![("Origin", own.clone())], &fields, "no token"),
        (vec![("Origin", "http://evil.example".to_owned())], &with_token, "another origin"),
        (vec![("Origin", "null".to_owned())], &with_token, "an origin that hides"),
        (vec![("Origin", own.clone()), ("Sec-Fetch-Site", "cross-site".to_owned())], &with_token, "across sites"),
        (vec![("Origin", own.clone()), ("Sec-Fetch-Site", "same-site".to_owned())], &with_token, "a neighbour"),
    ] {
        let all: Vec<(&str, String)> = headers.into_iter().chain([("Cookie", cookie.clone()), kind.clone()]).collect();
        let reply = server.send_to_host("POST", "/users/invite", &all, body.as_bytes());
        assert_eq!(reply.status, 403, "{why}: {}", reply.text());
    }
    // The same form of this site, behind a proxy that encrypts.
    let proxied = vec![("Origin", own.replace("http:", "https:")), ("Cookie", cookie.clone()), kind.clone()];
    assert_eq!(server.send_to_host("POST", "/users/invite", &proxied, with_token.as_bytes()).status, 200);
    // A session that somebody put into the browser before signing in is not the one that opens.
    let mut victim =
        Browser { server: &server, cookie: Some("candor_session=planted".into()), form_token: String::new() };
    assert_eq!(victim.sign_in(FIRST[1].1, PASSWORD).status, 303);
    assert!(victim.cookie.as_deref().is_some_and(|cookie| cookie != "candor_session=planted"));
    let mut attacker =
        Browser { server: &server, cookie: Some("candor_session=planted".into()), form_token: String::new() };
    assert_eq!(attacker.get("/look").headers["location"], "/sign-in");
    // Who guesses waits, whether there is such an account or not, and hears the same.
    let mut said = Vec::new();
    for address in ["nobody@shop.example", "staff.one@shop.example"] {
        let mut guesser = Browser::new(&server);
        let replies: Vec<Reply> =
            (0..7).map(|number| guesser.sign_in(address, &format!("wrong kettle lantern {number}"))).collect();
        said.push(replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
        let last = replies.last().expect("one");
        assert_eq!((last.status, last.headers.contains_key("retry-after")), (429, true), "{address}");
    }
    assert_eq!((&said[0], said[0][..6] == [403; 6]), (&said[1], true), "{said:?}");
    // Ending one's other sessions.
    admin.get("/account");
    let page = admin.get("/account").text();
    let other = between(&page, "name=\"session\" value=\"", "\"").expect("the victim's").to_owned();
    assert_eq!(admin.post("/account/sessions/end", &[("session", &other)]).status, 303);
    assert_eq!(victim.get("/look").headers["location"], "/sign-in");
    let nobody =
        admin.post("/users/change", &[("user", "u-000000000000"), ("step", "suspend"), ("change_reference", "-")]);
    assert_eq!(nobody.status, 400);
    assert!(server.stop());
    let text = data.to_str().expect("UTF-8");
    let told = lines(&good(&["search", "--kind", "SESSION_SECURITY_EVENT", "--json", "--data", text]));
    assert!(told.iter().any(|line| line["record"]["security_event"] == "failed_login"), "{told:?}");
    // Nothing of who signs in stands in clear in any file.
    for file in support::files(&data) {
        let held = std::fs::read(&file).expect("read");
        for word in ["staff.one@shop.example", "Staff One", PASSWORD] {
            assert!(!held.windows(word.len()).any(|part| part == word.as_bytes()), "{}", file.display());
        }
    }
}

/// Waits until something is so: alerts are raised a moment after what they are about.
fn until<T>(what: &str, mut is: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = is() {
            return found;
        }
        assert!(start.elapsed().as_secs() < 30, "{what}");
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
}

#[test]
fn who_looks_is_watched_and_a_rule_ends_sessions_and_opens_a_case() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let mut admin = first(&server);
    let desk = invited(&mut admin, "Staff Two", "staff.two@shop.example", "customer_service");
    let officer = invited(&mut admin, "Staff Three", "staff.three@shop.example", "compliance_officer");
    // Somebody who works here is a customer too.
    let own = json!({
        "timestamp": "2026-11-20T08:00:00Z", "event_type": "EMAIL_SENT", "correlation_id": "o-9", "source_component": "shop",
        "environment": "test", "severity": "info", "email_id": "m-9",
        "recipient_details": {"customer_id": "c-9", "email": "staff.three@shop.example"},
        "message_content": {"subject": "your lamp"}, "delivery_tracking": {"delivery_status": "sent"},
    });
    server.lines(&server.append_key(), &format!("{}\n{}\n{own}", mail(1, "one"), mail(2, "two")));
    let address = server.address;
    let cookies = [admin.cookie.clone(), desk.cookie.clone(), officer.cookie.clone()];
    assert!(server.stop());
    let server = Server::start_at(&data, address);
    let [_, cookie, officer_cookie] = cookies;
    let browser = |cookie| {
        let mut browser = Browser { server: &server, cookie, form_token: String::new() };
        browser.get("/look");
        browser
    };
    let (mut desk, mut officer) = (browser(cookie), browser(officer_cookie));
    let look = |who: &mut Browser<'_>, customer: &str| {
        who.post("/look/history", &[("customer", customer), ("reason", "case 7")]).status
    };
    assert_eq!((look(&mut desk, "c-9"), look(&mut officer, "c-9")), (200, 200));
    let cases = |officer: &mut Browser<'_>| officer.get("/cases").text();
    until("a colleague's and one's own record", || {
        let page = cases(&mut officer);
        (page.contains("colleague record") && page.contains("own record")).then_some(())
    });
    // Nobody looks into their own case.
    let page = cases(&mut officer);
    let rest = page.split_once("own_record-").expect("a case").1;
    let id = format!("case-own_record-{}", rest.split_once('<').expect("an end").0);
    let step = |officer: &mut Browser<'_>, id: &str, finding: &str| {
        officer.post("/cases", &[("case", id), ("note", "looked at the rota"), ("finding", finding)]).status
    };
    assert_eq!(step(&mut officer, &id, "no_fault"), 403);

    // Ten refusals: out at once, also after a restart; signing in again is a new session.
    for _ in 0..12 {
        // A page that is not theirs to see: refused, until the rule has ended the session.
        assert!(matches!(desk.get("/users").status, 403 | 303));
    }
    until("the session ends", || (desk.get("/look").status == 303).then_some(()));
    let id = until("a case", || {
        let page = cases(&mut officer);
        let rest = page.split_once("case-reads_refused-")?.1;
        Some(format!("case-reads_refused-{}", rest.split_once('<')?.0))
    });
    assert!(cases(&mut officer).contains("sessions ended"));
    assert_eq!(step(&mut officer, &id, "guilty"), 400);
    assert_eq!((step(&mut officer, &id, ""), step(&mut officer, &id, "mistake")), (303, 303));
    assert_eq!(step(&mut officer, &id, "mistake"), 403, "it is closed");
    assert!(!cases(&mut officer).contains(&id));
    assert_eq!(desk.sign_in("staff.two@shop.example", PASSWORD).status, 303);
    assert_eq!(desk.get("/look").status, 200);
    assert!(server.stop());
    let text = data.to_str().expect("UTF-8");
    let ended = good(&["search", "--kind", "SESSION_ENDED", "--json", "--data", text]);
    assert!(ended.contains("suspicious_activity"), "{ended}");
    let case: Value = serde_json::from_str(&good(&["show", "case", &id, "--json", "--data", text])).expect("JSON");
    assert_eq!((&case["rule"], &case["response"]), (&json!("reads_refused"), &json!(["sessions_ended"])), "{case}");
    let seen = good(&["search", "--kind", "SUBJECT_SEEN", "--json", "--data", text]);
    assert!(seen.contains("\"relation\":\"own\"") && seen.contains("\"relation\":\"colleague\""), "{seen}");

    // The month is reviewed by who manages, and signed once.
    let server = Server::start_at(&data, address);
    let mut admin = Browser::new(&server);
    admin.sign_in(FIRST[1].1, PASSWORD);
    admin.get("/users");
    let mut manager = invited(&mut admin, "Staff Four", "staff.four@shop.example", "management");
    assert!(manager.get("/reviews").text().contains("Nothing waits for you"));
    let manager_cookie = manager.cookie.clone();
    assert!(server.stop());
    let month = &SystemClock.now().rfc3339()[..7];
    assert!(good(&["review", month, "--data", text]).starts_with("1 reviews"));
    assert!(good(&["review", month, "--data", text]).starts_with("0 reviews"), "once is enough");
    support::bad(1, &["review", "2026-13", "--data", text]);
    let server = Server::start_at(&data, address);
    let mut manager = Browser { server: &server, cookie: manager_cookie, form_token: String::new() };
    let page = manager.get("/reviews").text();
    assert!(page.contains("<td>Staff Two</td>") && !page.contains("c-9"), "{page}");
    let id = between(&page, "name=\"review\" value=\"", "\"").expect("an id").to_owned();
    let sign = |who: &mut Browser<'_>, finding: &str| {
        who.post("/reviews", &[("review", &id), ("note", "as it should be"), ("finding", finding)]).status
    };
    assert_eq!(
        (sign(&mut manager, "fine"), sign(&mut manager, "nothing"), sign(&mut manager, "nothing")),
        (400, 303, 403)
    );
    assert!(manager.get("/reviews").text().contains("Nothing waits for you"));
    assert!(server.stop());
}

/// A form sent from another address of this machine.
fn sign_in_from(server: &Server, from: [u8; 4], (address, password): (&str, &str)) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("bound");
        socket.connect(server.address).await.expect("it listens").into_std().expect("a stream")
    });
    stream.set_nonblocking(false).expect("set");
    let form = encoded(&[("address", address), ("password", password)]);
    let head = format!(
        "POST /sign-in HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nConnection: close\r\nContent-Type: \
         application/x-www-form-urlencoded\r\nContent-Length: {1}\r\n\r\n{form}",
        server.address,
        form.len()
    );
    let mut writing = &stream;
    std::io::Write::write_all(&mut writing, head.as_bytes()).expect("sent");
    support::http::read_reply(stream)
}

#[test]
fn a_session_tells_where_it_is_and_what_was_done_and_nobody_is_in_two_cities() {
    let folder = folder();
    let data = folder.path().join("trail");
    good(&["init", "--data", data.to_str().expect("UTF-8")]);
    // A file as MaxMind's are, made by another's program; the ranges of the deployment come first.
    let make = "import sys, netaddr, mmdb_writer\nfile = mmdb_writer.MMDBWriter(4, 'GeoLite2-City')\nfile.insert_network(netaddr.IPSet(['127.0.0.0/8']), {'city': {'names': {'en': 'Johannesburg'}}, 'country': {'iso_code': 'ZA'}, 'location': {'latitude': -26.2, 'longitude': 28.05}})\nfile.to_db_file(sys.argv[1])";
    let made = std::process::Command::new(support::interpreter())
        .args(["-c", make, data.join("places.mmdb").to_str().expect("UTF-8")])
        .status()
        .expect("it runs");
    assert!(made.success());
    let config = "[places]\nfile = \"places.mmdb\"\n[places.ranges]\n\"127.0.0.1/32\" = { name = \"Cape Town office\", country = \"ZA\", \
                  latitude = -33.93, longitude = 18.42 }\n[sources.local]\n";
    std::fs::write(data.join("candor.toml"), config).expect("written");
    let server = Server::start(&data);
    let mut admin = first(&server);
    server.lines(&server.append_key(), &mail(1, "your kettle"));
    let mut officer = invited(&mut admin, "Officer", "officer@shop.example", "compliance_officer");
    let page = officer.post("/look/history", &[("customer", "c-1"), ("reason", "case 7")]);
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(officer.get("/users").status, 403);
    assert!(officer.get("/account").text().contains("Cape Town office"));
    // The same account from 1,260 kilometres away, a moment later: told, the sessions ended, a case opened.
    let reply = sign_in_from(&server, [127, 0, 0, 2], ("officer@shop.example", PASSWORD));
    assert_eq!(reply.status, 303, "{}", reply.text());
    until("the sessions are ended", || (officer.get("/look").status == 303).then_some(()));
    let key = server.read_key();
    until("a case is opened", || {
        let cases = server.read(&key, "/v1/cases?open=true").text();
        cases.contains("impossible_travel").then_some(())
    });
    assert!(server.stop());
    let text = data.to_str().expect("UTF-8");
    let started = lines(&good(&["search", "--kind", "SESSION_STARTED", "--json", "--data", text]));
    let of = |place: &str| started.iter().filter(|line| line["record"]["geographic_location"] == place).count();
    assert_eq!((of("Cape Town office"), of("Johannesburg")), (2, 1));
    assert!(started.iter().all(|line| line["record"]["country"] == "ZA"));
    let session = started.iter().find(|line| line["record"]["geographic_location"] == "Cape Town office").expect("one");
    let id = session["record"]["session_id"].as_str().expect("an id");
    let session: Value = serde_json::from_str(&good(&["show", "session", id, "--json", "--data", text])).expect("JSON");
    let done: Vec<String> = session["session_activities"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| format!("{} {} {}", one["action"], one["resource"], one["outcome"]).replace('"', ""))
        .collect();
    assert_eq!(done, ["view page-history success", "view page-users unauthorized"], "{session}");
}

#[test]
fn what_a_configuration_of_places_gets_wrong_is_said() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text]);
    for (lines, why) in [
        ("[places]\nfile = \"none.mmdb\"\n", "none.mmdb is no file in MaxMind's format"),
        ("[places.ranges]\n\"10.0.0.0/40\" = { name = \"x\" }\n", "is no range of addresses"),
        ("[places.ranges]\n\"10.0.0.0/8\" = { name = \"x\", country = \"South Africa\" }\n", "two capital letters"),
        (
            "[places.ranges]\n\"10.0.0.0/8\" = { name = \"x\", latitude = 99.0, longitude = 1.0 }\n",
            "latitude or longitude",
        ),
    ] {
        std::fs::write(data.join("candor.toml"), lines).expect("written");
        let said = support::bad(1, &["serve", "--listen", "127.0.0.1:0", "--data", text]);
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[test]
fn how_long_a_wrong_sign_in_takes_tells_nothing_of_who_is_here() {
    let folder = folder();
    let server = Server::start(&folder.path().join("trail"));
    first(&server);
    let time = |address: &str| {
        let start = std::time::Instant::now();
        assert_eq!(Browser::new(&server).sign_in(address, "not the right kettle at all").status, 403);
        start.elapsed().as_secs_f64()
    };
    let (mut here, mut nowhere) = (Vec::new(), Vec::new());
    for round in 0..5 {
        here.push(time(FIRST[1].1));
        nowhere.push(time(&format!("nobody.{round}@shop.example")));
    }
    let middle = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let ratio = middle(&mut here) / middle(&mut nowhere);
    // A hash that was left out would be fifty times.
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
    assert!(server.stop());
}

#[test]
fn behind_a_proxy_who_asks_is_whom_it_names_and_elsewhere_a_header_is_not_believed() {
    for (proxies, address) in [("[\"127.0.0.1/32\"]", "192.0.2.7"), ("[]", "127.0.0.1")] {
        let folder = folder();
        let data = folder.path().join("trail");
        let text = data.to_str().expect("UTF-8");
        good(&["init", "--data", text]);
        std::fs::write(data.join("candor.toml"), format!("proxies = {proxies}\n")).expect("written");
        let server = Server::start(&data);
        first(&server);
        let fields = encoded(&[("address", FIRST[1].1), ("password", "a wrong one")]);
        for _ in 0..6 {
            let mut headers = Browser::new(&server).headers();
            headers.push(("Content-Type", "application/x-www-form-urlencoded".into()));
            headers.push(("X-Forwarded-For", "198.51.100.1, 192.0.2.7".into()));
            server.send_to_host("POST", "/sign-in", &headers, fields.as_bytes());
        }
        assert!(server.stop());
        let told = lines(&good(&["search", "--kind", "SESSION_SECURITY_EVENT", "--json", "--data", text]));
        assert!(!told.is_empty());
        assert!(told.iter().all(|line| line["record"]["ip_address"] == address), "{told:?}");
    }
}

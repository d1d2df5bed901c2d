//! Changes that take two people, at the running binary: nothing holds before another has approved it, nobody approves what
//! comes from them, and a restart in between changes nothing.

mod support;

use serde_json::{Value, json};
use support::browser::{Browser, PASSWORD, between, first, invited};
use support::http::Server;
use support::{bad, folder, good, lines};

/// The id of the first change that waits.
fn waiting(browser: &mut Browser<'_>) -> String {
    let page = browser.get("/changes").text();
    between(&page, "name=\"change\" value=\"", "\"").unwrap_or_else(|| panic!("nothing waits: {page}")).to_owned()
}

fn decide(browser: &mut Browser<'_>, change: &str, decision: &str) -> (u16, String) {
    let reply = browser.post("/changes", &[("change", change), ("decision", decision)]);
    (reply.status, reply.text())
}

fn id_of(admin: &mut Browser<'_>, address: &str) -> String {
    let page = admin.get("/users").text();
    between(&page, &format!("{address}</td><td><code>"), "<").expect("an id").to_owned()
}

#[test]
fn two_administrators_invite_and_change_people_together() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let mut one = first(&server);
    // Alone there is nobody to ask.
    let mut two = invited(&mut one, "Staff Two", "staff.two@shop.example", "administrator");
    one.get("/users");
    let invite = |browser: &mut Browser<'_>, name: &str, role: &str| {
        let address = format!("{name}@shop.example");
        let fields = [("name", name), ("address", &address), ("roles", role), ("change_reference", "CH-2")];
        browser.get("/users");
        browser.post("/users/invite", &fields)
    };
    let asked = invite(&mut one, "three", "legal");
    assert_eq!((asked.status, asked.headers["location"].as_str()), (303, "/changes"), "{}", asked.text());
    assert!(!one.get("/users").text().contains("three@shop.example"), "nobody came by it yet");
    let change = waiting(&mut one);
    let (status, text) = decide(&mut one, &change, "approve");
    assert!(status == 409 && text.contains("another person decides it"), "{text}");
    let page = two.get("/changes").text();
    assert!(page.contains("three@shop.example") && page.contains("Staff One"), "{page}");
    // Over a restart it still waits.
    let (cookies, address) = ([one.cookie.clone(), two.cookie.clone()], server.address);
    assert!(server.stop());
    let server = Server::start_at(&data, address);
    let [mut one, mut two] = cookies.map(|cookie| Browser { server: &server, cookie, form_token: String::new() });
    let page = two.get("/changes").text();
    assert!(page.contains("three@shop.example"), "{page}");
    let (status, text) = decide(&mut two, &change, "approve");
    assert!(status == 200 && text.contains("Give three this link"), "{text}");
    let link = format!("/join/{}", between(&text, "/join/", "<").expect("a link"));
    let (status, text) = decide(&mut two, &change, "approve");
    assert!(status == 404 && text.contains("no change of this id waits"), "once: {text}");
    let mut three = Browser::new(&server);
    assert_eq!(three.join(&link, PASSWORD, &[]).status, 303);
    three.get("/changes");
    assert!(!three.get("/changes").text().contains("Approve"));

    // An address that waits, or is here, is not invited again by the time it is approved.
    assert_eq!(invite(&mut one, "four", "legal").status, 303);
    assert_eq!(invite(&mut two, "four", "board").status, 303);
    let first_of = waiting(&mut two);
    assert_eq!(decide(&mut two, &first_of, "approve").0, 200);
    let other = waiting(&mut one);
    let (status, text) = decide(&mut one, &other, "approve");
    assert!(status == 400 && text.contains("is here already"), "{text}");
    assert_eq!(decide(&mut one, &other, "refuse").0, 200);
    // Who proposed it may take it back, others not.
    assert_eq!(invite(&mut one, "five", "legal").status, 303);
    let change = waiting(&mut one);
    two.get("/changes");
    let (status, text) = decide(&mut two, &change, "withdraw");
    assert!(status == 409 && text.contains("others refuse it"), "{text}");
    one.get("/changes");
    assert_eq!(decide(&mut one, &change, "withdraw").0, 200);

    // Roles, new links and ends wait; that somebody is suspended does not. Nobody decides about their own account.
    let (id_two, id_three) = (id_of(&mut one, "staff.two@shop.example"), id_of(&mut one, "three@shop.example"));
    let step = |browser: &mut Browser<'_>, user: &str, step: &str| {
        browser.get("/users");
        let fields = [("user", user), ("step", step), ("roles", "security"), ("change_reference", "CH-3")];
        browser.post("/users/change", &fields)
    };
    for name in ["roles", "link", "second-factor", "end"] {
        let reply = step(&mut one, &id_three, name);
        assert_eq!(reply.headers["location"], "/changes", "{name}");
        let change = waiting(&mut one);
        two.get("/changes");
        let (status, text) = decide(&mut two, &change, if name == "end" { "refuse" } else { "approve" });
        assert!(status == 200 && text.contains("/join/") == (name == "link"), "{name}: {text}");
    }
    assert!(one.get("/users").text().contains("security"));
    assert_eq!(step(&mut one, &id_three, "suspend").status, 200);
    assert_eq!(step(&mut one, &id_two, "suspend").status, 200);
    assert_eq!(two.get("/users").headers["location"], "/sign-in");
    // Who suspended the only other one is not alone by it.
    assert_eq!(invite(&mut one, "six", "legal").headers["location"], "/changes");
    let change = waiting(&mut one);
    assert_eq!(decide(&mut one, &change, "withdraw").0, 200);
    assert!(server.stop());
    let data = data.to_str().expect("UTF-8");
    let decided = lines(&good(&["search", "--kind", "CHANGE_DECIDED", "--json", "--data", data]));
    let count = |what: &str| decided.iter().filter(|line| line["record"]["decision"] == what).count();
    assert_eq!([count("approved"), count("refused"), count("withdrawn")], [5, 2, 2]);
    // An approval and what it makes are neighbours: one step.
    let invited = lines(&good(&["search", "--kind", "USER_INVITED", "--json", "--data", data]));
    let approved: Vec<u64> = decided.iter().filter_map(|line| line["index"].as_u64()).collect();
    let by_two: Vec<u64> = invited.iter().filter_map(|line| line["index"].as_u64()).rev().skip(2).collect();
    assert!(by_two.iter().all(|index| approved.contains(&(index - 1))), "{by_two:?} after {approved:?}");
}

#[test]
fn a_key_opens_nothing_before_another_approved_it_and_no_key_decides() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let mut one = first(&server);
    let mut two = invited(&mut one, "Staff Two", "staff.two@shop.example", "administrator");
    // The first key comes from the machine and no person: it proposes nothing any more, but revokes.
    let asked = json!({"scopes": ["read"], "roles": ["compliance_officer"]});
    let refused = server.post_json("/v1/keys", &server.admin, &asked);
    assert!(refused.0 == 409 && refused.1["detail"].to_string().contains("two people"), "{}", refused.1);
    // One makes a key that makes keys, another agrees; what that key asks for is the first one's asking.
    one.get("/keys");
    let page = one.post("/keys", &[("scopes", "admin")]).text();
    assert!(page.contains("opens nothing before a second person"), "{page}");
    let admin = between(&page, "aria-label=\"Key\">", "<").expect("a key").to_owned();
    assert_eq!(server.post_json("/v1/keys", &admin, &asked).0, 401);
    let change = waiting(&mut two);
    assert_eq!(decide(&mut two, &change, "approve").0, 200);
    let made = server.post_json("/v1/keys", &admin, &asked);
    assert_eq!(made.0, 202, "{}", made.1);
    let own = waiting(&mut one);
    let (status, text) = decide(&mut one, &own, "approve");
    assert!(status == 409 && text.contains("a key that comes from you"), "{text}");
    let key = made.1["key"].as_str().expect("a key").to_owned();
    assert_eq!(made.1["active"], false);
    assert_eq!(server.get_json("/v1/search?justification=case+7", &key).0, 401);
    let listed = server.get_json("/v1/changes", &server.admin);
    assert_eq!(listed.1["changes"][0]["proposal_id"], made.1["proposal"]["proposal_id"]);
    assert!(!listed.1.to_string().contains("sha256"), "{}", listed.1);
    let change = waiting(&mut two);
    assert_eq!(decide(&mut two, &change, "approve").0, 200);
    assert_eq!(server.get_json("/v1/search?justification=case+7", &key).0, 200);
    // Renewed: whoever renews a key has it, so that waits too; the old one goes on until then.
    let id = made.1["id"].as_str().expect("an id");
    let renewed = server.post_json(&format!("/v1/keys/{id}/rotate"), &admin, &json!({"overlap_s": 0}));
    assert_eq!(renewed.0, 202, "{}", renewed.1);
    let change = waiting(&mut two);
    assert_eq!(decide(&mut two, &change, "approve").0, 200);
    assert_eq!(server.get_json("/v1/search?justification=case+7", &key).0, 401);
    let new = renewed.1["key"].as_str().expect("a key");
    assert_eq!(server.get_json("/v1/search?justification=case+7", new).0, 200);
    // What a key asked for that was revoked since is not approved.
    let made = server.post_json("/v1/keys", &admin, &asked);
    assert_eq!(made.0, 202, "{}", made.1);
    let page = two.get("/keys").text();
    let id = admin.split('_').nth(1).expect("an id");
    assert!(page.contains(id), "{page}");
    assert_eq!(two.post("/keys/change", &[("key", id), ("step", "revoke")]).status, 200);
    assert_eq!(server.get_json("/v1/keys", &admin).0, 401, "at once");
    let change = waiting(&mut two);
    let (status, text) = decide(&mut two, &change, "approve");
    assert!(status == 409 && text.contains("may not any more"), "{text}");
    assert_eq!(decide(&mut two, &change, "refuse").0, 200);
    assert!(server.stop());
}

#[test]
fn grants_wait_where_two_may_give_them_and_a_deployment_may_want_none_of_it() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let mut admin = first(&server);
    let reader = server.key(json!({"scopes": ["read"], "roles": ["auditor"]}));
    let reader_id = server.get_json("/v1/keys", &server.admin).1["keys"]
        .as_array()
        .and_then(|keys| keys.iter().find(|key| key["roles"] == json!(["auditor"])).cloned())
        .expect("a key")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let mut officer = invited(&mut admin, "Officer", "officer@shop.example", "compliance_officer");
    let mut legal = invited(&mut admin, "Legal", "legal@shop.example", "legal");
    let giver = server.key(json!({"scopes": ["read"], "roles": ["legal"]}));
    let mail = json!({
        "timestamp": "2026-11-20T08:00:00Z", "event_type": "EMAIL_SENT", "correlation_id": "o-1", "source_component": "shop",
        "environment": "test", "severity": "info", "email_id": "m-1", "message_content": {"subject": "your kettle"},
        "recipient_details": {"customer_id": "c-1", "email": "reader@mail.example"}, "delivery_tracking": {"delivery_status": "sent"},
    });
    server.lines(&server.append_key(), &mail.to_string());
    let read = |server: &Server| server.get_json("/v1/customers/c-1/history?justification=case+7", &reader).0;
    let ask = json!({"grantee": format!("api-key-{reader_id}"), "customer": "c-1", "expires": "2027-01-01T00:00:00Z", "reason": "inspection 12"});
    let given = server.post_json("/v1/grants?justification=case+7", &giver, &ask);
    assert!(given.0 == 409 && given.1["detail"].to_string().contains("two people"), "{}", given.1);
    let grantee = format!("api-key-{reader_id}");
    let fields = [("grantee", grantee.as_str()), ("customer", "c-1"), ("days", "30"), ("reason", "inspection 12")];
    legal.get("/grants");
    let reply = legal.post("/grants", &fields);
    assert_eq!(reply.headers["location"], "/changes", "{}", reply.text());
    assert_eq!(read(&server), 403);
    let page = officer.get("/changes").text();
    assert!(page.contains("inspection 12") && !page.contains("c-1<"), "{page}");
    // Over a restart it is about the same customer.
    let (cookies, address) = ([officer.cookie.clone(), legal.cookie.clone()], server.address);
    assert!(server.stop());
    let server = Server::start_at(&data, address);
    let [mut officer, mut legal] = cookies.map(|cookie| Browser { server: &server, cookie, form_token: String::new() });
    legal.get("/changes");
    let change = waiting(&mut officer);
    assert_eq!(decide(&mut legal, &change, "approve").0, 409);
    assert_eq!(decide(&mut officer, &change, "approve").0, 200);
    assert_eq!(read(&server), 200);
    // Nobody approves leave for themselves.
    officer.get("/grants");
    let page = officer.get("/grants").text();
    let to_legal = between(&page, "<option value=\"", "\"").expect("somebody").to_owned();
    let fields = [("grantee", to_legal.as_str()), ("days", "3"), ("reason", "inspection 13")];
    let _ = officer.post("/grants", &fields);
    let waiting_now = waiting(&mut officer);
    assert_eq!(decide(&mut officer, &waiting_now, "approve").0, 409);
    assert!(server.stop());
    let text = data.to_str().expect("UTF-8");
    let shown: Vec<Value> = lines(&good(&["history", "--customer", "c-1", "--json", "--data", text]));
    let kinds: Vec<&str> = shown.iter().filter_map(|line| line["kind"].as_str()).collect();
    assert!(kinds.contains(&"CHANGE_PROPOSED") && kinds.contains(&"GRANT_GIVEN"), "{kinds:?}");

    std::fs::write(data.join("candor.toml"), "second_person = []\n[sources.local]\n").expect("written");
    let server = Server::start(&data);
    let given = server.post_json("/v1/grants?justification=case+7", &giver, &ask);
    assert_eq!(given.0, 201, "{}", given.1);
    assert!(server.stop());
}

#[test]
fn settings_in_files_hold_once_two_people_agreed_to_these_very_ones() {
    let folder = folder();
    let data = folder.path().join("trail");
    let file = data.join("candor.toml");
    let server = Server::start(&data);
    let mut one = first(&server);
    let two = invited(&mut one, "Staff Two", "staff.two@shop.example", "administrator");
    let (address, cookies) = (server.address, [one.cookie.clone(), two.cookie.clone()]);
    let restart = |server: Server| {
        assert!(server.stop());
        Server::start_at(&data, address)
    };
    fn back<'s>(server: &'s Server, cookies: &[Option<String>; 2]) -> [Browser<'s>; 2] {
        cookies.clone().map(|cookie| Browser { server, cookie, form_token: String::new() })
    }
    // That two are asked is one person's word; from then on it is two's.
    let asked = "second_person = [\"settings\", \"users\"]\n";
    std::fs::write(&file, asked).expect("written");
    let page = one.get("/changes").text();
    assert!(page.contains("recorded, from the next start on") && page.contains("+second_person"), "{page}");
    let server = restart(server);

    // A server that started with other files runs with what held.
    let more = "[sources.local]\n[sources.shop]\nrecipients = \"full_address\"\n";
    let policies = good(&["policy", "show", "--data", data.to_str().expect("UTF-8")]);
    let everybody = policies + "\n@rule(\"all\") @says(\"everybody reads\") permit (principal, action, resource);\n";
    std::fs::write(data.join("own.cedar"), everybody).expect("written");
    let alone = format!("second_person = []\npolicy_file = \"own.cedar\"\n{more}");
    std::fs::write(&file, &alone).expect("written");
    let server = restart(server);
    let [mut one, mut two] = back(&server, &cookies);
    let refused = server.get(&server.key(json!({"scopes": ["read"], "roles": ["board"]})), "/v1/search?q=x");
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(one.get("/v1/sources/shop").status, 401);
    let page = two.get("/changes").text();
    assert!(page.contains("+[sources.shop]") && page.contains("everybody reads"), "{page}");
    let propose = |browser: &mut Browser<'_>, digest: &str| {
        let reply = browser.post("/changes/settings", &[("settings", digest), ("change_reference", "CH-7")]);
        (reply.status, reply.text())
    };
    let digest = |page: &str| between(page, "name=\"settings\" value=\"", "\"").expect("a digest").to_owned();
    one.get("/changes");
    let first_digest = digest(&page);
    assert_eq!(propose(&mut one, &"0".repeat(64)).0, 409, "others than were looked at");
    assert_eq!(propose(&mut one, &first_digest).0, 303);
    assert_eq!(propose(&mut two, &first_digest).0, 409, "they wait already");
    let change = waiting(&mut one);
    assert_eq!(decide(&mut one, &change, "approve").0, 409);
    // What is approved is what was proposed, not what the file has become.
    std::fs::write(&file, format!("{asked}{more}claimed = true\n")).expect("written");
    let (status, text) = decide(&mut two, &change, "approve");
    assert!(status == 409 && text.contains("changed since"), "{text}");
    assert_eq!(decide(&mut two, &change, "refuse").0, 200);
    let second = digest(&two.get("/changes").text());
    assert_eq!(propose(&mut two, &second).0, 303);
    let change = waiting(&mut one);
    let (status, text) = decide(&mut one, &change, "approve");
    assert!(status == 200 && text.contains("approved them: they hold from the next start on"), "{text}");
    let server = restart(server);
    let [mut one, _] = back(&server, &cookies);
    assert!(!one.get("/changes").text().contains("The files of settings"));
    // Back to what held before takes two again.
    std::fs::write(&file, asked).expect("written");
    assert!(one.get("/changes").text().contains("Propose these settings"));
    let server = restart(server);
    let [mut one, _] = back(&server, &cookies);
    assert!(one.get("/changes").text().contains("-[sources.shop]"));
    assert!(server.stop());
    let data = data.to_str().expect("UTF-8");
    let added = bad(1, &["source", "add", "late", "--data", data]);
    assert!(added.contains("takes two people"), "{added}");
    let changed = lines(&good(&["search", "--kind", "SETTINGS_CHANGED", "--json", "--data", data]));
    assert_eq!(changed.len(), 2, "{changed:?}");
    let newest = &changed[0]["record"];
    assert_eq!(newest["change_reference"], "CH-7");
    let approved = good(&["show", &newest["approved_entry"].to_string(), "--json", "--data", data]);
    assert!(approved.contains("CHANGE_DECIDED") && approved.contains("approved"), "{approved}");
    assert!(newest["diff"].to_string().contains("sources.shop") && newest["settings_sha256"] == second.as_str());
}

#[test]
fn what_somebody_proposed_who_was_suspended_waits_no_more() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let mut one = first(&server);
    let mut two = invited(&mut one, "Staff Two", "staff.two@shop.example", "administrator");
    two.get("/users");
    let fields =
        [("name", "three"), ("address", "three@shop.example"), ("roles", "legal"), ("change_reference", "CH-2")];
    assert_eq!(two.post("/users/invite", &fields).headers["location"], "/changes");
    assert!(one.get("/changes").text().contains("three@shop.example"));
    let id = id_of(&mut one, "staff.two@shop.example");
    one.get("/users");
    let fields = [("user", id.as_str()), ("step", "suspend"), ("change_reference", "CH-3")];
    assert_eq!(one.post("/users/change", &fields).status, 200);
    let page = one.get("/changes").text();
    assert!(page.contains("Nothing waits"), "{page}");
    assert!(server.stop());
    let decided =
        lines(&good(&["search", "--kind", "CHANGE_DECIDED", "--json", "--data", data.to_str().expect("UTF-8")]));
    assert!(decided.len() == 1 && decided[0]["record"]["decision"] == "refused", "{decided:?}");
}

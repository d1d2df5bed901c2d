//! Who may see what: roles of keys against the running binary, the reason before every look, policies that change.

mod support;

use ledger::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use support::http::{Reply, Server};
use support::{candor, folder, good, lines};

fn mail(customer: u32) -> String {
    json!({
        "timestamp": "2026-11-20T08:00:00Z", "event_type": "EMAIL_SENT", "correlation_id": format!("o-{customer}"),
        "source_component": "shop", "environment": "test", "severity": "info", "email_id": format!("m-{customer}"),
        "recipient_details": {"customer_id": format!("c-{customer}"), "email": format!("reader.{customer}@mail.example")},
        "message_content": {"subject": "your kettle"}, "delivery_tracking": {"delivery_status": "sent"},
    })
    .to_string()
}

fn key(server: &Server, role: &str) -> String {
    server.key(json!({"scopes": ["read"], "roles": [role]}))
}

/// The rule and what would help, where it is refused.
fn refusal(reply: &Reply) -> (Vec<Value>, Vec<Value>) {
    assert_eq!(reply.status, 403, "{}", reply.text());
    let problem = reply.json();
    let list = |name: &str| problem[name].as_array().cloned().unwrap_or_default();
    (list("rules"), list("instead"))
}

#[test]
fn each_role_sees_what_it_may_and_the_refusal_says_why() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    let server = Server::start(&data);
    let batch: Vec<String> = (1..=3).map(mail).collect();
    server.lines(&server.append_key(), &batch.join("\n"));
    let of_one = "/v1/customers/c-1/history";

    let service = key(&server, "customer_service");
    let (rules, instead) = refusal(&server.get(&service, of_one));
    assert_eq!(rules, ["a-reason-first"]);
    assert!(instead.iter().any(|words| words == "give a reason: a case number or a sentence"), "{instead:?}");
    assert_eq!(refusal(&server.get(&service, &format!("{of_one}?justification=%20"))).0, ["a-reason-first"]);
    let history = server.read(&service, of_one);
    assert_eq!(history.json()["entries"][0]["record"]["message_content"]["subject"], "your kettle");
    let (rules, instead) = refusal(&server.read(&service, "/v1/search?q=kettle"));
    assert!(rules.is_empty() && instead.iter().any(|words| words == "narrow it to one person"), "{instead:?}");
    assert_eq!(server.read(&service, "/v1/search?kind=ACCESS").status, 403, "who read what is not its business");
    assert_eq!(server.read(&service, "/v1/counts").status, 403);
    assert_eq!(server.read(&service, "/v1/tickets").status, 200);

    let management = key(&server, "management");
    let sums = server.get(&management, "/v1/counts?kind=EMAIL_SENT").json();
    assert_eq!((&sums["total"], &sums["suppressed"]), (&json!(0), &json!(1)), "three persons are too few for a sum");
    for path in [of_one, "/v1/search?q=kettle", "/v1/tickets", "/v1/emails/m-1", "/v1/entries/1"] {
        let reply = server.read(&management, path);
        assert_eq!((reply.status, reply.text().contains("mail.example")), (403, false), "{path}");
    }
    let operations = key(&server, "operations");
    assert_eq!(server.get(&operations, "/v1/sources").status, 200);
    assert_eq!(server.read(&operations, of_one).status, 403);
    let auditor = key(&server, "auditor");
    assert_eq!(server.read(&auditor, of_one).status, 403, "without a grant");
    // An administrator makes keys and reads nothing, with whatever reason.
    assert_eq!(server.read(&server.admin, of_one).status, 403);
    let administrator = key(&server, "administrator");
    let reply = server.read(&administrator, of_one).json();
    assert_eq!(reply["instead"], json!([]), "nothing makes an administrator a reader");
    assert!(reply["roles"].as_array().is_some_and(|roles| roles.contains(&json!("compliance_officer"))), "{reply}");
    assert!(server.stop());

    // Granted and refused, each with roles and rule; nobody was seen by who was refused.
    let recorded = lines(&good(&["search", "--kind", "ACCESS", "--limit", "200", "--json", "--data", text]));
    let of = |role: &str, outcome: &str| {
        let fits = |line: &&Value| line["record"]["roles"][0] == role && line["record"]["outcome"] == outcome;
        recorded.iter().filter(fits).count()
    };
    assert_eq!((of("management", "refused"), of("management", "granted")), (5, 1), "{recorded:?}");
    assert!(recorded.iter().any(|line| line["record"]["rule"] == "service-history"));
    let seen = lines(&good(&["history", "--customer", "c-1", "--json", "--data", text]));
    let seen = seen.iter().filter(|line| line["kind"] == "SUBJECT_SEEN").count();
    assert_eq!(seen, 1, "the one read that was granted");
}

#[test]
fn a_reason_is_kept_without_the_secrets_in_it() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    let server = Server::start(&data);
    server.lines(&server.append_key(), &mail(1));
    // Made up for this test, of the form of a token.
    let secret = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0fG3hJ6");
    let reply =
        server.get(&key(&server, "legal"), &format!("/v1/customers/c-1/history?justification=case%207+{secret}"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(server.stop());
    let recorded = good(&["search", "--kind", "ACCESS", "--json", "--data", text]);
    assert!(recorded.contains("case 7") && recorded.contains("[cut:") && !recorded.contains(&secret), "{recorded}");
}

#[test]
fn a_change_of_policies_is_an_entry_before_it_decides() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    good(&["init", "--data", text]);
    let changes = || lines(&good(&["search", "--kind", "POLICY_CHANGED", "--json", "--data", text]));
    assert_eq!(changes().len(), 1, "what ships is recorded before the first read");
    let shipped = good(&["policy", "show", "--data", text]);
    let own = shipped.replace("context.persons <= 1", "context.persons <= 2");
    std::fs::write(data.join("own.cedar"), &own).expect("written");
    std::fs::write(data.join("candor.toml"), "policy_file = \"own.cedar\"\n").expect("written");
    let changed = changes();
    assert_eq!(changed.len(), 2);
    let record = &changed[0]["record"];
    assert!(record["diff"].as_str().is_some_and(|diff| diff.contains("+    context.persons <= 2")), "{record}");
    assert_eq!(record["before_sha256"], changed[1]["record"]["policy_sha256"]);
    assert_eq!((record["policy_text"].as_str(), &record["diff_cut"]), (Some(own.as_str()), &json!(false)));
    assert_eq!(changes().len(), 2, "the same is not recorded twice");
    let server = Server::start(&data);
    let batch: Vec<String> = (1..=3).map(mail).collect();
    server.lines(&server.append_key(), &batch.join("\n"));
    let service = key(&server, "customer_service");
    assert_eq!(server.read(&service, "/v1/search?q=kettle&limit=2").status, 200, "two at a time now");
    assert!(server.stop());
    for (wrong, why) in [("permit(", "do not hold"), ("permit(principal, action, resource);", "@rule")] {
        std::fs::write(data.join("own.cedar"), wrong).expect("written");
        let said = support::bad(1, &["search", "kettle", "--data", text]);
        assert!(said.contains("own.cedar") && said.contains(why), "{said}");
    }
}

#[test]
fn explain_says_who_may_and_what_instead() {
    let folder = folder();
    let text = folder.path().to_str().expect("UTF-8");
    let explain = |arguments: &[&str]| {
        let out = candor(&[&["policy", "explain", "--data", text], arguments].concat());
        (out.status.code(), String::from_utf8(out.stdout).expect("text"))
    };
    let (status, said) = explain(&["ReadHistory", "--role", "customer_service", "--persons", "1", "--justified"]);
    assert!(status == Some(0) && said.starts_with("permitted by service-history"), "{said}");
    let (status, said) = explain(&["ReadHistory", "--role", "customer_service", "--persons", "2", "--justified"]);
    assert!(status == Some(3) && said.contains("narrow it to one person") && said.contains("legal"), "{said}");
    let (_, said) = explain(&["ManageUsers", "--role", "compliance_officer", "--json"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["permitted"], &said["roles"]), (&json!(false), &json!(["administrator", "local_operator"])));
}

fn actor(key: &str) -> String {
    format!("api-key-{}", key.split('_').nth(1).expect("a key's id"))
}

#[test]
fn a_grant_lets_read_what_it_names_while_it_lasts_and_nothing_beside() {
    let folder = folder();
    let data = folder.path().join("trail");
    let text = data.to_str().expect("UTF-8");
    let server = Server::start(&data);
    let call = json!({
        "timestamp": "2026-11-20T09:00:00Z", "event_type": "CALL_LOGGED", "correlation_id": "k-1",
        "source_component": "shop", "environment": "test", "severity": "info", "call_id": "k-1", "customer_id": "c-1",
        "call_summary": "about the kettle",
    });
    let batch: Vec<String> = (1..=3).map(mail).chain([call.to_string()]).collect();
    server.lines(&server.append_key(), &batch.join("\n"));
    let (legal, auditor) = (key(&server, "legal"), key(&server, "auditor"));
    let of_one = "/v1/customers/c-1/history";
    let give = |by: &str, body: Value| {
        let headers = [support::http::bearer(by), ("Content-Type", "application/json".into())];
        server.send("POST", "/v1/grants?justification=case%207", &headers, body.to_string().as_bytes())
    };
    let later = |ms: u64| proof::time::UnixMillis(SystemClock.now().0 + ms).rfc3339();
    let to = |grantee: &str| json!({"grantee": grantee, "expires": later(3_600_000), "reason": "inspection 12"});
    let with = |more: Value| {
        let mut body = to(&actor(&auditor));
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    // Who may give what to whom.
    assert_eq!(give(&key(&server, "customer_service"), to(&actor(&auditor))).status, 403);
    assert_eq!(give(&legal, to(&actor(&legal))).status, 409, "nobody gives themselves leave");
    for (wrong, status) in [
        (to("u-000000000000"), 409),
        (with(json!({"expires": "2020-01-01T00:00:00Z"})), 409),
        (with(json!({"expires": later(400 * 86_400_000)})), 409),
        (with(json!({"kinds": ["NO_SUCH_KIND"]})), 409),
        (with(json!({"customer": "c-99"})), 404),
        (with(json!({"customers": "c-1"})), 400),
    ] {
        assert_eq!(give(&legal, wrong).status, status);
    }
    assert_eq!(server.read(&auditor, of_one).status, 403);

    // The mails of one customer, without their content.
    let given = give(
        &legal,
        with(json!({"customer": "c-1", "kinds": ["EMAIL_SENT"], "fields": ["email_id", "delivery_tracking"]})),
    );
    assert_eq!(given.status, 201, "{}", given.text());
    let id = given.json()["grant_id"].as_str().expect("an id").to_owned();
    let history = server.read(&auditor, of_one);
    assert_eq!(history.status, 200, "{}", history.text());
    let entries = history.json()["entries"].as_array().cloned().expect("entries");
    assert_eq!(entries.len(), 1, "{entries:?}");
    let record = &entries[0]["record"];
    assert_eq!((&record["email_id"], &record["delivery_tracking"]["delivery_status"]), (&json!("m-1"), &json!("sent")));
    assert!(!history.text().contains("kettle") && !history.text().contains("mail.example"), "{record}");
    // A word could be asked for that stands in a field which is hidden.
    assert_eq!(server.read(&auditor, "/v1/search?q=kettle").status, 403);
    let found = server.read(&auditor, "/v1/search?kind=EMAIL_SENT&limit=1").json();
    assert_eq!(found["next"], Value::Null, "nor is it told that there are more");
    assert_eq!(found["entries"].as_array().map(Vec::len), Some(1), "others' mails are not told from none: {found}");
    for path in
        ["/v1/customers/c-2/history", "/v1/emails/m-1", "/v1/counts", "/v1/customers/c-1/history?justification="]
    {
        let reply = server.get(&auditor, path);
        assert!(reply.status != 200 || reply.json()["entries"] == json!([]), "{path}: {}", reply.text());
    }
    let other = entries[0]["index"].as_u64().expect("an index") + 1;
    assert_eq!(server.read(&auditor, &format!("/v1/entries/{other}")).status, 403);
    assert_eq!(server.read(&key(&server, "auditor"), of_one).status, 403, "it is one reader's");
    let list = server.get(&auditor, "/v1/grants").json();
    assert_eq!((list["grants"].as_array().map(Vec::len), &list["grants"][0]["state"]), (Some(1), &json!("holds")));

    // Over a restart; taken back; over by itself.
    let address = server.address;
    assert!(server.stop());
    let server = Server::start_at(&data, address);
    assert_eq!(server.read(&auditor, of_one).json()["entries"].as_array().map(Vec::len), Some(1));
    let headers = [support::http::bearer(&legal), ("Content-Type", "application/json".into())];
    let revoke = |body: &str| server.send("POST", &format!("/v1/grants/{id}/revoke"), &headers, body.as_bytes()).status;
    assert_eq!(
        (revoke("{}"), revoke(r#"{"change_reference": "CH-1"}"#), revoke(r#"{"change_reference": "CH-1"}"#)),
        (400, 200, 409)
    );
    assert_eq!(server.read(&auditor, of_one).status, 403);
    let give = |by: &str, body: Value| {
        server.send("POST", "/v1/grants", &[support::http::bearer(by), headers[1].clone()], body.to_string().as_bytes())
    };
    assert_eq!(give(&legal, with(json!({"expires": later(1500)}))).status, 201);
    assert_eq!(server.read(&auditor, of_one).status, 200);
    // A person who is erased is nobody's to read.
    assert_eq!(give(&legal, with(json!({"customer": "c-2"}))).status, 201);
    assert_eq!(server.read(&auditor, "/v1/customers/c-2/history").json()["entries"].as_array().map(Vec::len), Some(2));
    assert!(server.stop());
    good(&["erase", "--customer", "c-2", "--reason", "request 4", "--yes", "--data", text]);
    let server = Server::start_at(&data, address);
    let start = std::time::Instant::now();
    while server.read(&auditor, of_one).json()["entries"] != json!([]) {
        assert!(start.elapsed().as_secs() < 10, "its time is over");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    assert_eq!(server.read(&auditor, "/v1/customers/c-2/history").json()["entries"], json!([]));
    assert!(server.stop());

    let accesses = lines(&good(&["search", "--kind", "ACCESS", "--limit", "200", "--json", "--data", text]));
    let by_grant =
        |line: &&Value| line["record"]["grants"] == json!([id]) && line["record"]["rule"] == "auditor-by-grant";
    assert!(accesses.iter().filter(by_grant).count() >= 3, "each read names the grant that it rests on");
    let own = good(&["history", "--customer", "c-1", "--json", "--data", text]);
    let own = lines(&own);
    let of = |kind: &str| own.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((of("GRANT_GIVEN"), of("GRANT_REVOKED")), (1, 1), "the person can see who was let in");
    let seen = own.iter().find(|line| line["kind"] == "SUBJECT_SEEN").expect("seen");
    assert_eq!(seen["record"]["roles"], json!(["auditor"]));
}

#[test]
fn sums_tell_who_may_not_see_persons_nothing_of_a_few() {
    let folder = folder();
    let server = Server::start(&folder.path().join("trail"));
    // On one day 12 customers; 2 of their mails failed. On another day 3 customers, and on a third one of 7 alone.
    let of = |day: u32, customer: u32, number: u32, severity: &str| {
        json!({
            "timestamp": format!("2026-11-{day:02}T08:00:00Z"), "event_type": "EMAIL_SENT", "correlation_id": format!("o-{number}"),
            "source_component": "shop", "environment": "test", "severity": severity, "email_id": format!("m-{number}"),
            "recipient_details": {"customer_id": format!("c-{customer}")}, "message_content": {"subject": "kettle"},
            "delivery_tracking": {"delivery_status": "sent"},
        })
        .to_string()
    };
    let mut batch: Vec<String> = (0..12).map(|n| of(1, n, n, if n < 2 { "error" } else { "info" })).collect();
    batch.extend((0..3).map(|n| of(2, n, 100 + n, "info")));
    batch.extend((0..40).map(|n| of(3, 5 + n % 7, 200 + n, "info")));
    server.lines(&server.append_key(), &batch.join("\n"));
    let (management, officer) = (key(&server, "management"), key(&server, "compliance_officer"));
    let sums = |key: &str, query: &str| {
        let reply = server.get(key, &format!("/v1/counts?kind=EMAIL_SENT{query}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    };
    let exact = sums(&officer, "&by=day");
    assert_eq!(exact["counts"], json!({"2026-11-01": 12, "2026-11-02": 3, "2026-11-03": 40}));
    assert_eq!((&exact["suppressed"], &exact["rounded_to"]), (&json!(0), &Value::Null));
    let told = sums(&management, "&by=day");
    assert_eq!(told["counts"], json!({"2026-11-01": 10, "2026-11-03": 40}));
    assert_eq!((&told["suppressed"], &told["rounded_to"]), (&json!(1), &json!(5)));
    // Two failed: the sum of all minus that of the others would tell, so that one is not told either.
    assert_eq!(sums(&management, "&by=day&severity=error")["counts"], json!({}));
    assert_eq!(sums(&management, "&by=day&severity=info")["counts"], json!({"2026-11-03": 40}));
    // Sums over times that overlap differ by whole days, as they are told alone.
    let total = |from: u32, until: u32| {
        sums(&management, &format!("&from=2026-11-{from:02}&until=2026-11-{until:02}"))["total"]
            .as_u64()
            .expect("a sum")
    };
    let day = |day: u32| total(day, day + 1);
    assert_eq!((day(1), day(2), day(3)), (10, 0, 40));
    for (from, until) in [(1, 3), (1, 4), (2, 4)] {
        assert_eq!(total(from, until), (from..until).map(day).sum::<u64>(), "{from} to {until}");
    }
    for query in ["&q=kettle", "&from=2026-11-01T07:00:00Z", "&until=2026-11-01T08:30:00Z"] {
        assert_eq!(server.get(&management, &format!("/v1/counts?kind=EMAIL_SENT{query}")).status, 403, "{query}");
    }
    // What is about nobody is told exactly.
    let keys = server.get(&management, "/v1/counts?kind=API_KEY_CREATED").json();
    assert_eq!(keys["total"], server.get(&officer, "/v1/counts?kind=API_KEY_CREATED").json()["total"]);
}

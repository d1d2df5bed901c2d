//! Who may see what: roles of keys against the running binary, the reason before every look, policies that change.

mod support;

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
    assert_eq!(server.get(&management, "/v1/counts?kind=EMAIL_SENT").json()["total"], 3);
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

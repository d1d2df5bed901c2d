//! The server as programs meet it: writing, reading, keys, bounds, stopping.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use support::http::{Server, bearer, read_reply};
use support::{folder, good, python};

fn record(id: &str, subject: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-11-20T10:00:00Z","event_type":"EMAIL_SENT","correlation_id":"corr-{id}","source_component":"shop","environment":"test","severity":"info","event_id":"{id}","email_id":"{id}@shop.example","recipient_details":{{"customer_id":"c-{id}","email":"{id}@mail.example"}},"message_content":{{"subject":"{subject}"}}}}"#
    )
}

#[test]
fn what_is_written_is_found_read_and_proved() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let (write, read) = (server.append_key(), server.read_key());
    let one = server.post(&write, "application/json", &[], record("a1", "about kettles").as_bytes());
    assert_eq!(one.status, 201, "{}", one.text());
    let index = one.json()["index"].as_u64().expect("an index");
    let again = server.post(&write, "application/json", &[], record("a1", "about kettles").as_bytes());
    assert_eq!((again.status, again.json()["index"].as_u64()), (200, Some(index)));
    let other = server.post(&write, "application/json", &[], record("a1", "about lanterns").as_bytes());
    assert_eq!((other.status, other.json()["index"].as_u64()), (409, Some(index)));

    let lines: String = (0..30).map(|n| record(&format!("b{n}"), "about lanterns") + "\n").collect();
    let mixed = format!("{lines}not json\n\n{}\n", record("b3", "about umbrellas"));
    let answer = server.lines(&write, &mixed);
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(30), &json!(2)), "{answer}");
    assert_eq!(answer["results"][30]["line"], 31);
    assert_eq!(answer["results"][30]["code"], "not_json");
    assert_eq!(
        (answer["results"][31]["line"].clone(), answer["results"][31]["status"].clone()),
        (json!(33), json!("conflict"))
    );

    // One's own write is there at once, and pages go on where they ended.
    let size = answer["tree_size"].as_u64().expect("a size");
    let mut seen = Vec::new();
    let mut path = format!("/v1/search?q=lanterns&limit=8&min_size={size}&justification=test");
    loop {
        let page = server.get(&read, &path);
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.json();
        seen.extend(page["entries"].as_array().expect("entries").iter().map(|hit| hit["index"].as_u64()));
        let Some(cursor) = page["next"].as_str() else { break };
        assert_eq!(server.get(&read, &format!("/v1/search?q=kettles&cursor={cursor}")).status, 404, "another query");
        path = format!("/v1/search?q=lanterns&limit=8&cursor={cursor}&justification=test");
    }
    assert_eq!(seen.len(), 30);
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "{seen:?}");

    let counts = |query: &str| server.get(&read, &format!("/v1/counts?{query}")).json();
    let by_kind = counts("from=2026-11-20T00:00:00Z&until=2026-11-21T00:00:00Z");
    assert_eq!((&by_kind["counts"], &by_kind["total"]), (&json!({"EMAIL_SENT": 31}), &json!(31)), "{by_kind}");
    assert_eq!(counts("by=day&kind=EMAIL_SENT&q=lanterns")["counts"], json!({"2026-11-20": 30}));
    let entry = server.read(&read, &format!("/v1/entries/{index}")).json();
    assert_eq!(entry["record"]["message_content"]["subject"], "about kettles");
    let history = server.get(&read, "/v1/customers/c-a1/history?purpose=case&justification=T-1").json();
    let kinds: Vec<&str> =
        history["entries"].as_array().expect("entries").iter().filter_map(|hit| hit["kind"].as_str()).collect();
    assert_eq!(kinds, ["EMAIL_SENT", "SUBJECT_SEEN"], "the read before this one is in it");
    assert_eq!(server.read(&read, "/v1/correlations/corr-a1/history").json()["entries"][0]["index"], index);
    assert_eq!(server.get(&read, "/v1/entries/999999").status, 404);
    assert_eq!(server.get(&read, "/v1/entries/01").status, 400);

    let receipt = server.get(&read, &format!("/v1/receipts/{index}"));
    let file = folder.path().join("receipt.json");
    std::fs::write(&file, &receipt.body).expect("written");
    good(&["verify", file.to_str().expect("UTF-8")]);
    assert_eq!(python(&file).0, 0);
    assert!(server.stop());
    good(&["verify", data.to_str().expect("UTF-8")]);
}

#[test]
fn keys_do_what_their_scopes_say_until_they_end() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let (write, read) = (server.append_key(), server.read_key());
    let line = record("a1", "x");
    assert_eq!(server.post(&read, "application/json", &[], line.as_bytes()).status, 403);
    for path in ["/v1/search", "/v1/entries/0", "/v1/checkpoint", "/v1/keys", "/metrics"] {
        assert_eq!(server.get(&write, path).status, 403, "{path}");
        let none = server.send("GET", path, &[], b"");
        assert_eq!((none.status, none.headers.contains_key("www-authenticate")), (401, true), "{path}");
        assert_eq!(server.get("candor_000000000000_xxxx", path).status, 401, "{path}");
    }
    assert_eq!(server.get(&server.admin, "/v1/search").status, 403, "an administrator is no reader");
    assert_eq!(server.post(&write, "application/json", &[], b"{}").status, 422);
    let elsewhere = server.send(
        "POST",
        "/v1/records?source=other",
        &[bearer(&write), ("Content-Type", "application/json".into())],
        b"{}",
    );
    assert_eq!(elsewhere.status, 403);
    for grant in [
        json!({"scopes": ["append", "read"], "sources": ["local"]}),
        json!({"scopes": ["append"]}),
        json!({"scopes": ["append"], "sources": ["nowhere"]}),
        json!({"scopes": ["read"], "roles": ["legal"], "sources": ["local"]}),
        json!({"scopes": ["read"]}),
        json!({"scopes": ["read"], "roles": ["source"]}),
        json!({"scopes": ["mirror"], "roles": ["legal"]}),
        json!({"scopes": []}),
        json!({"scopes": ["read"], "roles": ["legal"], "more": 1}),
    ] {
        let headers = [bearer(&server.admin), ("Content-Type", "application/json".into())];
        assert_eq!(server.send("POST", "/v1/keys", &headers, grant.to_string().as_bytes()).status, 400, "{grant}");
    }
    // Rotation: the old one goes on for a while, here for none.
    let id = write.split('_').nth(1).expect("an id");
    let headers = [bearer(&server.admin), ("Content-Type", "application/json".into())];
    let rotated = server.send("POST", &format!("/v1/keys/{id}/rotate"), &headers, br#"{"overlap_s":0}"#);
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    let newer = rotated.json()["key"].as_str().expect("a key").to_owned();
    assert_eq!(server.post(&write, "application/json", &[], line.as_bytes()).status, 401);
    assert_eq!(server.post(&newer, "application/json", &[], line.as_bytes()).status, 201);
    let id = read.split('_').nth(1).expect("an id");
    assert_eq!(server.send("DELETE", &format!("/v1/keys/{id}"), &[bearer(&server.admin)], b"").status, 204);
    assert_eq!(server.get(&read, "/v1/checkpoint").status, 401);
    let (admin, address) = (server.admin.clone(), server.address);
    assert_eq!(server.get(&admin, "/v1/keys").json()["keys"].as_array().map(Vec::len), Some(4), "no key is made twice");
    assert!(server.stop());
    // What the trail says of keys is what the next start knows.
    let server = Server::start_at(&data, address);
    assert_eq!(server.get(&read, "/v1/checkpoint").status, 401);
    assert_eq!(server.post(&newer, "application/json", &[], line.as_bytes()).status, 200);
    let keys = server.get(&admin, "/v1/keys").json();
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(4));
    assert!(!keys.to_string().contains(&newer));
    assert!(server.stop());
}

#[test]
fn bad_requests_are_refused_in_a_sentence_and_cost_little() {
    let folder = folder();
    let server = Server::start(&folder.path().join("trail"));
    let write = server.append_key();
    let ndjson = "application/x-ndjson";
    let gzip = |bytes: &[u8]| {
        let mut child = std::process::Command::new("gzip")
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("gzip runs");
        let mut input = child.stdin.take().expect("a pipe");
        let bytes = bytes.to_vec();
        let feeder = std::thread::spawn(move || input.write_all(&bytes));
        let output = child.wait_with_output().expect("it ends").stdout;
        feeder.join().expect("fed").expect("written");
        output
    };
    let encoding = |name: &str| [("Content-Encoding", name.to_owned())];
    let line = record("g1", "packed");
    assert_eq!(server.post(&write, "application/json", &encoding("gzip"), &gzip(line.as_bytes())).status, 201);
    let packed = zstd::bulk::compress(record("z1", "packed").as_bytes(), 3).expect("packed");
    assert_eq!(server.post(&write, "application/json", &encoding("zstd"), &packed).status, 201);
    let before = resident_kib(server.process());
    let bomb = gzip(&vec![b' '; 200 << 20]);
    assert_eq!(server.post(&write, ndjson, &encoding("gzip"), &bomb).status, 413);
    let bomb = zstd::bulk::compress(&vec![b' '; 200 << 20], 3).expect("packed");
    assert_eq!(server.post(&write, ndjson, &encoding("zstd"), &bomb).status, 413);
    assert!(resident_kib(server.process()) < before + (160 << 10), "memory grew");
    assert_eq!(server.post(&write, ndjson, &encoding("gzip"), b"no gzip").status, 400);
    assert_eq!(server.post(&write, ndjson, &encoding("br"), b"x").status, 415);
    assert_eq!(server.post(&write, "text/plain", &[], b"x").status, 415);
    assert_eq!(server.post(&write, ndjson, &[], b"\n \n").status, 400);
    assert_eq!(server.post(&write, ndjson, &[], &vec![b'x'; 9 << 20]).status, 413);
    let long = server.lines(&write, &format!("{}\n{}\n", "x".repeat(1 << 20), record("l1", "after a long line")));
    assert_eq!((&long["accepted"], &long["results"][0]["code"]), (&json!(1), &json!("too_large")));
    let many = "{}\n".repeat(10_001);
    assert_eq!(server.post(&write, ndjson, &[], many.as_bytes()).status, 413);
    let deep = server.post(&write, "application/json", &[], "[".repeat(50_000).as_bytes());
    assert_eq!(deep.status, 422);
    // No answer repeats what was sent.
    let secret = format!(r#"{{"event_type":"EMAIL_SENT","AKIAIOSFODNN7EXAMPLE":1,{}"#, &record("s1", "x")[1..]);
    let refused = server.post(&write, "application/json", &[], secret.as_bytes());
    assert!(refused.status == 422 && !refused.text().contains("AKIA"), "{}", refused.text());
    // Idempotency-Key: the same again is a repeat, another content a conflict.
    let plain = |subject: &str| record("x", subject).replace(r#""event_id":"x","#, "");
    let key = [("Idempotency-Key", "order-17".to_owned())];
    let send = |body: &str| server.post(&write, "application/json", &key, body.as_bytes()).status;
    assert_eq!([send(&plain("one")), send(&plain("one")), send(&plain("two"))], [201, 200, 409]);
    // Paths and heads.
    for path in
        ["/v1/../keys", "/trail/%2e%2e/checkpoint", "/trail/x/tile/0/../../checkpoint", "/static/../candor.toml", "//"]
    {
        let reply = server.get(&write, path);
        assert!([400, 403, 404].contains(&reply.status), "{path}: {}", reply.status);
    }
    let flood: Vec<(String, String)> = (0..200).map(|n| (format!("X-{n}"), "y".repeat(50))).collect();
    let flood: Vec<(&str, String)> = flood.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    assert_eq!(server.send("GET", "/health/live", &flood, b"").status, 431);
    let reply = server.send("PATCH", "/v1/records", &[], b"");
    assert_eq!((reply.status, reply.headers["allow"].as_str()), (405, "POST"));
    let problem = server.get(&write, "/nothing").json();
    assert!(
        ["type", "title", "status", "detail", "request_id"].iter().all(|name| !problem[name].is_null()),
        "{problem}"
    );
    assert!(server.stop());
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("readable");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn who_stalls_is_cut_and_holds_nobody_up() {
    let folder = folder();
    let server = Server::start(&folder.path().join("trail"));
    let write = server.append_key();
    // Many idle connections, and one that stops in the middle of its body.
    let idle: Vec<TcpStream> = (0..800).map(|_| TcpStream::connect(server.address).expect("connected")).collect();
    let mut stalled = TcpStream::connect(server.address).expect("connected");
    let head = format!(
        "POST /v1/records HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {write}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{\"half\":"
    );
    stalled.write_all(head.as_bytes()).expect("written");
    let mut times: Vec<Duration> = (0..200)
        .map(|n| {
            let start = Instant::now();
            assert_eq!(
                server.post(&write, "application/json", &[], record(&format!("s{n}"), "x").as_bytes()).status,
                201
            );
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("beside 800 idle connections and a stalled body: median {:?}, 99 % {:?}", times[100], times[198]);
    assert!(times[198] < Duration::from_secs(1), "{:?}", times[198]);
    stalled.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let start = Instant::now();
    assert_eq!(read_reply(stalled).status, 408);
    assert!(start.elapsed() < Duration::from_secs(15));
    drop(idle);
    assert!(server.stop());
}

#[test]
fn a_stop_answers_what_was_taken() {
    let folder = folder();
    let data = folder.path().join("trail");
    let server = Server::start(&data);
    let write = server.append_key();
    let lines: String = (0..5000).map(|n| record(&format!("t{n}"), "stopping") + "\n").collect();
    let mut stream = TcpStream::connect(server.address).expect("connected");
    let head = format!(
        "POST /v1/records HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {write}\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        lines.len()
    );
    stream.write_all(head.as_bytes()).expect("written");
    stream.write_all(&lines.as_bytes()[..lines.len() - 10]).expect("written");
    let (_never, timer) = std::sync::mpsc::channel::<()>();
    let _ = timer.recv_timeout(Duration::from_millis(50));
    server.terminate();
    let _ = timer.recv_timeout(Duration::from_millis(50));
    stream.write_all(&lines.as_bytes()[lines.len() - 10..]).expect("written");
    let reply = read_reply(stream);
    assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(5000)), "{}", reply.text());
    assert!(server.stop());
    good(&["verify", data.to_str().expect("UTF-8")]);
}

//! A mirror follows a server and believes nothing; with the keys of a backup it is the trail again.

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::http::Server;
use support::{bad, copy_folder, folder, good, ingest, lines};

fn mails(from: u32) -> String {
    let mail = |number: u32| {
        format!(
            r#"{{"timestamp":"2026-11-20T08:00:00Z","event_type":"EMAIL_SENT","correlation_id":"o-{number}","source_component":"shop","environment":"test","severity":"info","event_id":"e-{number}","email_id":"m-{number}","recipient_details":{{"customer_id":"c-{}"}},"message_content":{{"subject":"a kettle of {}"}}}}"#,
            number % 3,
            ["lantern", "umbrella", "blanket"][number as usize % 3]
        ) + "\n"
    };
    (from..from + 30).map(mail).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// A trail, and a key by which a mirror may ask.
    fn new() -> Scene {
        let scene = Scene { folder: folder() };
        let path = scene.at("trail");
        good(&["init", "--data", text(&path)]);
        let key = good(&["apikey", "add", "--scope", "mirror", "--data", text(&path)]);
        std::fs::write(scene.at("mirror.key"), key).expect("written");
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arguments(&self, server: &Server, to: &str) -> Vec<String> {
        let (key, to) = (self.at("mirror.key"), self.at(to));
        let from = format!("http://{}", server.address);
        ["mirror", "--from", &from, "--key-file", text(&key), "--to", text(&to), "--json"].map(str::to_owned).to_vec()
    }

    fn mirror(&self, server: &Server, to: &str) -> Value {
        let arguments = self.arguments(server, to);
        lines(&good(&arguments.iter().map(String::as_str).collect::<Vec<_>>())).remove(0)
    }

    fn refused(&self, server: &Server, to: &str) -> String {
        let arguments = self.arguments(server, to);
        bad(1, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn entries(path: &Path) -> u64 {
    lines(&good(&["verify", "--json", text(path)])).remove(0)["entries"].as_u64().expect("a count")
}

#[test]
fn a_mirror_follows_verifies_each_frame_and_notices_what_is_taken_back() {
    let scene = Scene::new();
    let path = scene.at("trail");
    let data = text(&path);
    let made = lines(&good(&["backup", "key", text(&scene.at("recovery.key")), "--json"])).remove(0);
    let config = path.join("candor.toml");
    let rule = format!("\n[backup]\nfolder = \"../backups\"\nrecipient = {}\n", made["recipient"]);
    std::fs::write(&config, std::fs::read_to_string(&config).expect("read") + &rule).expect("written");
    assert_eq!(ingest(data, mails(0).as_bytes(), &[]).0, 0);

    let server = Server::start(&path);
    let first = scene.mirror(&server, "mirror");
    assert!(first["size"].as_u64() > Some(30));
    assert_eq!(entries(&scene.at("mirror/journal")), first["size"].as_u64().expect("a size"));
    assert!(server.stop());
    good(&["backup", "run", "--data", data]);
    // What the server had at that moment, to be put back later.
    copy_folder(&path, &scene.at("then"));
    assert_eq!(ingest(data, mails(30).as_bytes(), &[]).0, 0);

    // A stop in the middle of a frame leaves a tail that the next run takes away.
    let segment = scene.at("mirror/journal/0000000000.seg");
    let length = std::fs::metadata(&segment).expect("there").len();
    std::fs::OpenOptions::new().write(true).open(&segment).expect("open").set_len(length - 40).expect("cut");
    let server = Server::start(&path);
    let second = scene.mirror(&server, "mirror");
    assert!(second["size"].as_u64() >= first["size"].as_u64().map(|size| size + 30));
    assert_eq!(entries(&scene.at("mirror/journal")), second["size"].as_u64().expect("a size"));
    // Any byte of the copy is a byte of the journal.
    let (here, there) =
        (std::fs::read(&segment).expect("read"), std::fs::read(path.join("journal/0000000000.seg")).expect("read"));
    assert_eq!(here, there[..here.len()]);
    assert!(server.stop());

    // The server goes back and on another way: the mirror says so, and stays as it was.
    let forked = scene.at("then");
    assert_eq!(ingest(text(&forked), mails(60).as_bytes(), &[]).0, 0);
    assert_eq!(ingest(text(&forked), mails(90).as_bytes(), &[]).0, 0);
    assert_eq!(ingest(text(&forked), mails(120).as_bytes(), &[]).0, 0);
    let server = Server::start(&forked);
    let refused = scene.refused(&server, "mirror");
    assert!(
        refused.contains("does not go on from what this mirror has") || refused.contains("rolled back"),
        "{refused}"
    );
    assert_eq!(entries(&scene.at("mirror/journal")), second["size"].as_u64().expect("a size"));
    // Another key of the trail is not taken for it.
    let mut arguments = scene.arguments(&server, "mirror");
    arguments.extend(["--key".to_owned(), "other.example/1+00000000+AAAA".to_owned()]);
    assert!(bad(1, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).contains("another trail"));
    assert!(server.stop());

    // Both machines are lost: keys of the backup and journal of the mirror are the trail, all of it.
    let (backups, key, again) = (scene.at("backups"), scene.at("recovery.key"), scene.at("again"));
    let journal = scene.at("mirror/journal");
    let restore = ["restore", "--from", text(&backups), "--identity", text(&key), "--data", text(&again)];
    let mut arguments = restore.to_vec();
    arguments.extend(["--journal", text(&journal), "--nothing-newer"]);
    good(&arguments);
    let found = lines(&good(&["search", "kettle", "--limit", "1000", "--json", "--data", text(&again)]));
    assert_eq!(found.len(), 60);
    good(&["verify", text(&again)]);
}

#[test]
fn a_last_frame_that_nobody_signed_can_be_set_aside() {
    let scene = Scene::new();
    let path = scene.at("trail");
    let data = text(&path);
    let forged = scene.at("forged");
    copy_folder(&path, &forged);
    assert_eq!(ingest(text(&forged), mails(0).as_bytes(), &[]).0, 0);
    assert_eq!(ingest(data, mails(30).as_bytes(), &[]).0, 0);

    // Up to its first new frame, which no key of the trail had to sign, another journal looks like this one.
    let common = ledger_frames(&path.join("journal"))
        .iter()
        .zip(ledger_frames(&forged.join("journal")))
        .fold(0, |longest, (here, there)| if here.1 == there.1 { there.0 } else { longest });
    let frames = ledger_frames(&forged.join("journal"));
    let end = frames.iter().find(|frame| frame.0 > common).expect("a frame").0;
    let (mirror, segment) = (scene.at("mirror/journal"), "0000000000.seg");
    let bytes = std::fs::read(forged.join("journal").join(segment)).expect("read");
    std::fs::create_dir_all(&mirror).expect("made");
    std::fs::write(mirror.join(segment), &bytes[..end as usize]).expect("written");

    let server = Server::start(&path);
    let refused = scene.refused(&server, "mirror");
    assert!(refused.contains("--drop-unsigned"), "{refused}");
    let mut arguments = scene.arguments(&server, "mirror");
    arguments.push("--drop-unsigned".into());
    good(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(server.stop());
    let aside = std::fs::read_dir(scene.at("mirror")).expect("list").flatten().map(|item| item.path());
    let aside = aside.filter(|path| text(path).contains("unsigned-")).collect::<Vec<_>>();
    assert_eq!(std::fs::read(&aside[0]).expect("read"), bytes[common as usize..end as usize]);
    assert!(entries(&mirror) > 30);
}

/// Where each frame of a journal's first segment ends, its digest, and how many entries it has.
fn ledger_frames(journal: &Path) -> Vec<(u64, proof::hash::Hash, u32)> {
    let disk = ledger::disk::RealDisk::read_only(journal);
    let scan = ledger::directory::scan(&disk, 0, |_, _| Ok(())).expect("it reads");
    let ends = scan.frames.iter().map(|frame| frame.location.offset).skip(1).chain([scan.good_bytes]);
    let headers = scan.frames.iter().map(|frame| &frame.header);
    ends.zip(headers).map(|(end, header)| (end, header.digest, header.count)).collect()
}

#[test]
fn a_frame_that_the_trail_did_not_seal_is_never_signed() {
    let scene = Scene { folder: folder() };
    let path = scene.at("trail");
    good(&["init", "--data", text(&path)]);
    // Two ways on, each with keys of its own for the same new period and persons.
    let (one, two) = (scene.at("one"), scene.at("two"));
    for fork in [&one, &two] {
        copy_folder(&path, fork);
        assert_eq!(ingest(text(fork), mails(0).as_bytes(), &[]).0, 0);
    }
    let segment = Path::new("journal/0000000000.seg");
    let bytes = std::fs::read(one.join(segment)).expect("read");
    let end = ledger_frames(&one.join("journal")).iter().find(|frame| frame.2 >= 30).expect("the records").0;
    for (keys, fits) in [(&one, true), (&two, false)] {
        let there = scene.at(if fits { "whole" } else { "planted" });
        copy_folder(&path, &there);
        std::fs::write(there.join(segment), &bytes[..end as usize]).expect("written");
        for name in ["root", "store.db"] {
            std::fs::copy(keys.join("keys").join(name), there.join("keys").join(name)).expect("copied");
        }
        let search = ["search", "kettle", "--limit", "1000", "--json", "--data", text(&there)];
        if fits {
            assert_eq!(lines(&good(&search)).len(), 30);
        } else {
            let refused = bad(1, &search);
            assert!(refused.contains("none that this trail has sealed"), "{refused}");
        }
    }
}

/// A process that goes with the test, however that ends.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a page says under a name.
fn fact<'p>(page: &'p str, name: &str) -> &'p str {
    let after = page.split_once(&format!("<dt>{name}</dt><dd>")).expect("the fact is there").1;
    after.split_once("</dd>").expect("it ends").0
}

#[test]
fn answers_wait_for_a_mirror_and_what_is_signed_mirrored_and_rewritable_is_told_apart() {
    let scene = Scene { folder: folder() };
    let path = scene.at("trail");
    let data = text(&path);
    good(&["init", "--data", data]);
    let key = good(&["apikey", "add", "--scope", "mirror", "--data", data]);
    std::fs::write(scene.at("mirror.key"), &key).expect("written");
    let config = path.join("candor.toml");
    let text_of_it = std::fs::read_to_string(&config).expect("read");
    std::fs::write(&config, format!("answer = \"mirrored\"\n{text_of_it}")).expect("written");
    let server = Server::start(&path);
    let (append, read) = (server.append_key(), server.read_key());
    let mail = mails(0).lines().next().expect("a line").to_owned();
    let page = |path: &str| server.send("GET", path, &[], &[]).text();
    assert!(fact(&page("/"), "Mirrored").contains("no copy elsewhere"));
    assert!(fact(&page("/"), "Could be written anew").starts_with("all, by who"));

    // Nobody mirrors: it is durable and is not answered.
    let reply = server.post(&append, "application/json", &[], mail.as_bytes());
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("no mirror has it yet"), "{}", reply.text());

    let mut arguments = scene.arguments(&server, "mirror");
    arguments.push("--follow".to_owned());
    let follower = std::process::Command::new(env!("CARGO_BIN_EXE_candor"))
        .args(&arguments)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let follower = Killed(follower);
    let again = server.post(&append, "application/json", &[], mail.as_bytes());
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.json()["status"], "repeated");
    let mut took = Vec::new();
    for line in mails(1).lines() {
        let start = std::time::Instant::now();
        let reply = server.post(&append, "application/json", &[], line.as_bytes());
        assert!(reply.status == 201 || reply.status == 200, "{}", reply.text());
        took.push(start.elapsed());
    }
    took.sort();
    println!("an answer that a mirror has: median {:?}", took[took.len() / 2]);
    let index = again.json()["index"].as_u64().expect("an index");
    let shown = server.read(read.trim(), &format!("/v1/entries/{index}")).json();
    assert_eq!(shown["proof"], serde_json::json!({"signed": true, "mirrored": 1, "mirrors": 1, "rewritable": false}));
    assert!(fact(&page("/"), "Mirrored").contains("by 1 mirror"));

    // The mirror stops; what comes then is no mirror's.
    drop(follower);
    let reply = server.post(&append, "application/json", &[], mails(60).lines().next().expect("a line").as_bytes());
    assert_eq!(reply.status, 503);
    assert!(fact(&page("/"), "Could be written anew").starts_with("the newest"), "{}", page("/"));
    // What it said is known after a restart, and to commands.
    assert!(server.stop());
    let verified = good(&["verify", data]);
    assert!(verified.contains("mirrored: ") && verified.contains("could be written anew: the newest"), "{verified}");
    let entry: Value =
        serde_json::from_str(&good(&["show", &index.to_string(), "--json", "--data", data])).expect("JSON");
    assert_eq!(entry["proof"]["mirrored"], 1);

    // A mirror that has another tree, or more of it, is heard: one alert, however often it says so.
    let server = Server::start(&path);
    assert!(fact(&page_of(&server, "/"), "Mirrored").contains("by 1 mirror"));
    for size in [5u64, 5, 1_000_000] {
        let body = serde_json::json!({"size": size, "root": "00".repeat(32)});
        let (status, said) = server.post_json("/v1/journal/mirrored", key.trim(), &body);
        assert_eq!(status, 409, "{said}");
    }
    let (status, _) = server.post_json("/v1/journal/mirrored", append.trim(), &serde_json::json!({}));
    assert_eq!(status, 403);
    assert!(server.stop());
    let runs = lines(&good(&["search", "--kind", "VERIFICATION_RUN", "--json", "--data", data]));
    let told: Vec<&Value> = runs.iter().filter(|line| line.to_string().contains("another tree")).collect();
    assert_eq!(told.len(), 1, "{runs:?}");
    let alerts = lines(&good(&["list", "alerts", "--open", "--json", "--data", data]));
    assert!(!alerts.is_empty());
}

fn page_of(server: &Server, path: &str) -> String {
    server.send("GET", path, &[], &[]).text()
}

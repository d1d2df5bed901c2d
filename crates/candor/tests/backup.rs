//! Backups, and the drill: the machine is lost, a backup is restored, what is missing is said, the erased stay erased.

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::http::Server;
use support::{bad, candor, copy_folder, folder, good, ingest, lines};

fn mails(month: u32, from: u32) -> String {
    let mail = |number: u32| {
        format!(
            r#"{{"timestamp":"2024-{month:02}-20T08:00:00Z","event_type":"EMAIL_SENT","correlation_id":"o-{number}","source_component":"shop","environment":"test","severity":"info","event_id":"e-{number}","email_id":"m-{number}","recipient_details":{{"customer_id":"c-{}"}},"message_content":{{"subject":"a kettle of {}"}}}}"#,
            number % 3,
            ["lantern", "umbrella", "blanket"][number as usize % 3]
        ) + "\n"
    };
    (from..from + 30).map(mail).collect()
}

fn found(data: &str, word: &str) -> usize {
    lines(&good(&["search", word, "--limit", "1000", "--json", "--data", data])).len()
}

fn one(arguments: &[&str]) -> Value {
    lines(&good(arguments)).remove(0)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// A trail that has these records; then keys end early, and backups are made.
    fn new(batch: &str) -> Scene {
        let scene = Scene { folder: folder() };
        let data = scene.at("trail");
        good(&["init", "--data", text(&data)]);
        assert_eq!(ingest(text(&data), batch.as_bytes(), &[]).0, 0);
        let key = one(&["backup", "key", text(&scene.at("recovery.key")), "--json"]);
        let recipient = key["recipient"].as_str().expect("a key").to_owned();
        std::fs::create_dir(scene.at("elsewhere")).expect("made");
        let more = format!(
            "\nhigh_water_copy = {:?}\n[backup]\nfolder = {:?}\nrecipient = {recipient:?}\n[[retention.communication]]\ndays = 60\nlegal_basis = \"nobody needs it longer\"\n",
            scene.at("elsewhere/highwater"),
            scene.at("backups"),
        );
        let config = data.join("candor.toml");
        std::fs::write(&config, std::fs::read_to_string(&config).expect("read") + &more).expect("written");
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn restore(&self, to: &str, more: &[&str]) -> Value {
        let (from, key, to) = (self.at("backups"), self.at("recovery.key"), self.at(to));
        let mut arguments =
            vec!["restore", "--from", text(&from), "--identity", text(&key), "--data", text(&to), "--json"];
        arguments.extend(more);
        one(&arguments)
    }
}

/// The trail's key, as a manifest names it.
fn newest_key(manifest: &[u8]) -> String {
    let manifest: Value = serde_json::from_slice(manifest).expect("JSON");
    manifest["vkey"].as_str().expect("a key").to_owned()
}

fn backup(data: &str) -> (String, Value) {
    let made = one(&["backup", "run", "--json", "--data", data]);
    (made["backup_id"].as_str().expect("an id").to_owned(), made)
}

#[test]
fn a_lost_machine_is_an_errand() {
    let scene = Scene::new(&(mails(5, 0) + &mails(11, 30)));
    let path = scene.at("trail");
    let data = text(&path);
    let erased = one(&["erase", "--customer", "c-0", "--reason", "request-1", "--yes", "--json", "--data", data]);
    assert_eq!(found(data, "lantern"), 0);
    // Without a backup nothing can bring anybody back.
    assert!(erased["beyond_recovery_after"].as_str() <= Some(&now_rounded(data)));
    // May has ended, and with it a segment.
    assert_eq!(lines(&good(&["expire", "run", "--json", "--data", data])).len(), 2);
    assert_eq!(ingest(data, mails(5, 60).as_bytes(), &[]).0, 0);
    let (first, made) = backup(data);
    assert_eq!((made["segments_copied"].as_u64(), made["expired"].as_array().map(Vec::len)), (Some(2), Some(0)));
    let (second, made) = backup(data);
    assert_eq!(made["segments_copied"].as_u64(), Some(1), "what is closed is not copied again");
    let erased = one(&["erase", "--customer", "c-1", "--reason", "request-2", "--yes", "--json", "--data", data]);
    assert_eq!(erased["beyond_recovery_after"], made["expires"]);
    assert_eq!((found(data, "umbrella"), found(data, "blanket")), (0, 10));
    let (third, _) = backup(data);
    let listed = lines(&good(&["backup", "list", text(&scene.at("backups")), "--json"]));
    assert_eq!(
        listed.iter().map(|row| row["backup_id"].as_str()).collect::<Vec<_>>(),
        [&first, &second, &third].map(|id| Some(&**id))
    );
    good(&["backup", "check", text(&scene.at("backups"))]);

    // Who can write into the folder writes a manifest with a path in it: nothing outside is touched.
    let (victim, manifests) = (scene.at("victim.json"), scene.at("backups/backups"));
    std::fs::write(&victim, "{}").expect("written");
    let newest = std::fs::read(manifests.join(format!("{third}.json"))).expect("read");
    let mut evil: Value = serde_json::from_slice(&newest).expect("JSON");
    (evil["backup_id"], evil["expires"]) = ("../../victim".into(), "2000-01-01T00:00:00.000Z".into());
    std::fs::write(manifests.join("evil.json"), evil.to_string()).expect("written");
    assert!(bad(1, &["backup", "run", "--data", data]).contains("nothing is removed"));
    assert!(victim.exists());
    std::fs::remove_file(manifests.join("evil.json")).expect("removed");
    // Or a link where the next backup writes.
    let lock = scene.at("backups/lock");
    std::fs::remove_file(&lock).expect("removed");
    std::os::unix::fs::symlink(&victim, &lock).expect("linked");
    bad(1, &["backup", "run", "--data", data]);
    assert_eq!(std::fs::read(&victim).expect("read"), b"{}");
    std::fs::remove_file(&lock).expect("removed");

    // The machine is lost; its newest backup is all that there was.
    std::fs::rename(&path, scene.at("lost")).expect("renamed");
    let (from, identity, to) = (scene.at("backups"), scene.at("recovery.key"), scene.at("trail"));
    let other = "audit.example/log1+640a250f+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    let restore = ["restore", "--from", text(&from), "--identity", text(&identity), "--data", text(&to)];
    assert!(bad(1, &[&restore[..], &["--key", other]].concat()).contains("another trail"));
    let restored = scene.restore("trail", &["--key", newest_key(&newest).as_str()]);
    assert_eq!((restored["backup_id"].as_str(), restored["missing"].as_u64()), (Some(&*third), Some(0)));
    good(&["verify", data]);
    assert_eq!((found(data, "umbrella"), found(data, "lantern"), found(data, "blanket")), (0, 0, 10));
    assert_eq!(ingest(data, mails(5, 90).as_bytes(), &[]).0, 0);
    assert_eq!(found(data, "blanket"), 20);

    // An older one lacks what was signed since: the mark elsewhere knows, and the trail does not go on.
    let older = scene.restore("older", &["--backup", &second]);
    let missing = older["missing"].as_u64().expect("a mark");
    assert!(missing > 10);
    let older = scene.at("older");
    let refused = bad(1, &["search", "kettle", "--data", text(&older)]);
    assert!(refused.contains(&format!("{missing} signed entries after it are missing")), "{refused}");
    bad(1, &["restore", "--nothing-newer", "--data", text(&older)]);
    good(&["verify", text(&older.join("journal"))]);
    let next = scene.at("next");
    good(&["init", "--data", text(&next), "--succeeds", text(&older)]);
    let opened = one(&["show", "0", "--json", "--data", text(&next)]);
    assert!(opened["record"]["succeeds"].as_str().is_some_and(|checkpoint| checkpoint.contains("candor.invalid/")));

    // Keys from before an erasure beside the journal that has it: it is done again before anything is opened.
    let keys = scene.at("older-keys");
    scene.restore("older-keys", &["--backup", &second]);
    let mixed = scene.at("mixed");
    scene.restore("mixed", &[]);
    for name in ["root", "store.db"] {
        std::fs::copy(keys.join("keys").join(name), mixed.join("keys").join(name)).expect("copied");
    }
    std::fs::remove_file(scene.at("elsewhere/highwater")).expect("removed");
    let asked = bad(1, &["search", "kettle", "--data", text(&mixed)]);
    assert!(asked.contains("--nothing-newer"), "{asked}");
    good(&["restore", "--nothing-newer", "--data", text(&mixed)]);
    assert_eq!((found(text(&mixed), "umbrella"), found(text(&mixed), "blanket")), (0, 10));
    assert_eq!(found(text(&mixed), "lantern"), 0);
    assert_eq!(lines(&good(&["search", "--kind", "BACKUP_RESTORED", "--json", "--data", text(&mixed)])).len(), 1);

    // Another key opens nothing, and nothing is left of trying.
    good(&["backup", "key", text(&scene.at("other.key"))]);
    let (backups, nowhere, other) = (scene.at("backups"), scene.at("nowhere"), scene.at("other.key"));
    let refused = bad(1, &["restore", "--from", text(&backups), "--identity", text(&other), "--data", text(&nowhere)]);
    assert!(refused.contains("recovery key"), "{refused}");
    assert!(!nowhere.exists() && !scene.at("nowhere.restoring").exists());
    // A file that was changed is named.
    let file = support::files(&backups.join("files")).into_iter().find(|file| text(file).contains(".seg.age"));
    let file = file.expect("a segment");
    let whole = std::fs::read(&file).expect("read");
    let mut bytes = whole.clone();
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let output = candor(&["backup", "check", text(&backups)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("it is not what was written"));
    std::fs::write(&file, whole).expect("written");
}

/// What `candor.toml` says, with one word for another.
fn say(data: &Path, from: &str, to: &str) {
    let config = data.join("candor.toml");
    let text = std::fs::read_to_string(&config).expect("read");
    assert!(text.contains(from));
    std::fs::write(&config, text.replace(from, to)).expect("written");
}

#[test]
fn a_folder_that_is_not_there_another_key_and_what_a_stop_left() {
    let scene = Scene::new(&mails(11, 0));
    let path = scene.at("trail");
    let data = text(&path);
    let backups = scene.at("backups");
    let (first, _) = backup(data);
    let count = |kind: &str| lines(&good(&["search", "--kind", kind, "--json", "--data", data])).len();

    // The disk is not mounted: nothing is written below its mount point, and nothing is said to be gone.
    std::fs::rename(&backups, scene.at("away")).expect("renamed");
    std::fs::create_dir(&backups).expect("made");
    let refused = bad(1, &["backup", "run", "--data", data]);
    assert!(refused.contains("mount what belongs there") && refused.contains("--new-folder"), "{refused}");
    assert_eq!(std::fs::read_dir(&backups).expect("list").count(), 0);
    assert_eq!((count("BACKUP_MADE"), count("BACKUP_EXPIRED")), (1, 0));
    good(&["backup", "run", "--new-folder", "--data", data]);
    assert_eq!((count("BACKUP_MADE"), count("BACKUP_EXPIRED")), (2, 0));
    std::fs::remove_dir_all(&backups).expect("removed");
    std::fs::rename(scene.at("away"), &backups).expect("renamed");

    // Two closed segments, so that something is used again; the newest that the trail made is not here.
    good(&["expire", "run", "--json", "--data", data]);
    let (second, _) = backup(data);
    assert_eq!(count("BACKUP_EXPIRED"), 1);
    let (_, made) = backup(data);
    assert_eq!(made["segments_copied"].as_u64(), Some(1));

    // What a backup that was stopped has copied is used again, also where no manifest names it.
    let manifest = |id: &str| backups.join("backups").join(format!("{id}.json"));
    let whole: Value = serde_json::from_slice(&std::fs::read(manifest(&second)).expect("read")).expect("JSON");
    assert_eq!(whole["v"], 2);
    let begun = serde_json::json!({"v": 2, "recipient": whole["recipient"], "segments": whole["segments"]});
    for file in std::fs::read_dir(backups.join("backups")).expect("list") {
        std::fs::remove_file(file.expect("a file").path()).expect("removed");
    }
    std::fs::write(backups.join("begun.json"), begun.to_string()).expect("written");
    let (_, made) = backup(data);
    assert_eq!(made["segments_copied"].as_u64(), Some(1), "{first}");
    assert!(!backups.join("begun.json").exists());

    // Another recovery key: what the old one opens is not used again, and the new one opens all of the next.
    let key = one(&["backup", "key", text(&scene.at("new.key")), "--json"]);
    say(&path, whole["recipient"].as_str().expect("a key"), key["recipient"].as_str().expect("a key"));
    let (_, made) = backup(data);
    assert_eq!(made["segments_copied"].as_u64(), Some(2));
    std::fs::rename(scene.at("new.key"), scene.at("recovery.key")).expect("renamed");
    scene.restore("again", &[]);

    // A mark that is older than the backup proves nothing: it may be a second behind what was signed last.
    let mark = scene.at("elsewhere/highwater");
    let older = std::fs::read(&mark).expect("read");
    assert_eq!(ingest(data, mails(11, 30).as_bytes(), &[]).0, 0);
    backup(data);
    let newest = std::fs::read(&mark).expect("read");
    scene.restore("behind", &[]);
    let behind = scene.at("behind");
    std::fs::write(&mark, older).expect("written");
    let refused = bad(1, &["search", "kettle", "--data", text(&behind)]);
    assert!(refused.contains("may be a second older"), "{refused}");
    std::fs::write(&mark, newest).expect("written");
    assert_eq!(found(text(&behind), "kettle"), 30);
}

/// The time of the newest entry.
fn now_rounded(data: &str) -> String {
    let newest = lines(&good(&["search", "--kind", "ERASURE_COMPLETED", "--json", "--data", data])).remove(0);
    newest["at"].as_str().expect("a time").to_owned()
}

#[test]
fn a_backup_is_made_beside_the_server_and_ends_on_its_day() {
    let scene = Scene::new(&mails(11, 0));
    let path = scene.at("trail");
    let data = text(&path);
    let server = Server::start(&path);
    let (first, _) = backup(data);
    let preview = one(&["expire", "preview", "--json", "--data", data]);
    assert_eq!((preview["class"].as_str(), preview["entries"].as_u64()), (Some("communication"), Some(30)));
    // Another master key, while the server has the trail: the next backup has it.
    let old = std::fs::read(path.join("keys/master.key")).expect("read");
    assert!(good(&["keys", "rewrap", "--data", data]).contains("has the new key"));
    assert!(std::fs::read(path.join("keys/master.key")).expect("read") != old);
    let held = one(&["hold", "place", "--correlation", "o-1", "--reason", "matter-1", "--json", "--data", data]);
    assert!(held["hold_id"].as_str().is_some());
    let run = one(&["expire", "run", "--json", "--data", data]);
    assert_eq!((run["entries"].as_u64(), run["held"].as_u64()), (Some(30), Some(1)));
    assert!(bad(1, &["hold", "release", "hold-0", "--reason", "r", "--data", data]).contains("no living hold"));
    // Who reads commands alone is told.
    assert!(
        bad(1, &["rebuild", "--reference", "CH-1", "--data", data])
            .contains("another candor process uses this directory")
    );
    assert!(server.stop());
    assert!(!path.join("control").exists());
    assert_eq!(found(data, "kettle"), 1);
    good(&["verify", data]);
    // The day after its last: it goes, and with it what no other backup has.
    let manifest = scene.at("backups/backups").join(format!("{first}.json"));
    let mut told: Value = serde_json::from_slice(&std::fs::read(&manifest).expect("read")).expect("JSON");
    told["expires"] = "2026-01-01T00:00:00.000Z".into();
    std::fs::write(&manifest, told.to_string()).expect("written");
    let files = || support::files(&scene.at("backups/files")).len();
    let (second, made) = backup(data);
    assert_eq!(made["expired"], serde_json::json!([first]));
    assert!(!manifest.exists());
    let kept: Value = serde_json::from_slice(
        &std::fs::read(scene.at("backups/backups").join(format!("{second}.json"))).expect("read"),
    )
    .expect("JSON");
    assert_eq!(files(), kept["segments"].as_array().map_or(0, Vec::len) + 1);
    assert_eq!(lines(&good(&["search", "--kind", "BACKUP_EXPIRED", "--json", "--data", data])).len(), 1);
    // What the folder of another trail has is left alone.
    let other = scene.at("other");
    good(&["init", "--data", text(&other)]);
    let config = std::fs::read_to_string(path.join("candor.toml")).expect("read");
    let config: String = config
        .lines()
        .filter(|line| !line.starts_with("high_water_copy"))
        .fold(String::new(), |all, line| all + line + "\n");
    std::fs::write(other.join("candor.toml"), config).expect("written");
    assert!(bad(1, &["backup", "run", "--data", text(&other)]).contains("choose another folder"));
    let copy = scene.at("copy");
    copy_folder(&scene.at("backups"), &copy);
    good(&["backup", "check", text(&copy)]);

    // A manifest of version 1, which does not say whom it is encrypted to.
    let manifest = copy.join("backups").join(format!("{second}.json"));
    let mut first: Value = serde_json::from_slice(&std::fs::read(&manifest).expect("read")).expect("JSON");
    first["v"] = 1.into();
    first.as_object_mut().expect("an object").remove("recipient");
    std::fs::write(&manifest, first.to_string()).expect("written");
    std::fs::remove_dir_all(scene.at("backups")).expect("removed");
    std::fs::rename(&copy, scene.at("backups")).expect("renamed");
    scene.restore("first-version", &[]);
    let (_, made) = backup(data);
    assert_eq!(made["segments_copied"].as_u64(), kept["segments"].as_array().map(|all| all.len() as u64));
}

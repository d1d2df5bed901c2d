//! Kills at system calls: strace ends the process at the n-th sync, write, rename or removal of any of its threads, for each
//! n that there is. What is then half done is seen by the next start, or there is nothing of it.

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::browser::{Browser, between, first, invited};
use support::http::Server;
use support::{CANDOR, candor, copy_folder, folder, good, lines};

/// Calls that change what is on disk. Of each, the first so many of a thread are tried.
const CALLS: [(&str, u32); 6] =
    [("fdatasync", 8), ("fsync", 6), ("pwrite64", 10), ("write", 8), ("rename", 6), ("unlink", 6)];

fn strace(call: &str, number: u32) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    strace
}

/// Runs a command to its n-th call; whether it came to its end instead.
fn ends(call: &str, number: u32, arguments: &[&str]) -> bool {
    let mut strace = strace(call, number);
    let output = strace.arg(CANDOR).args(arguments).stdin(Stdio::null()).output().expect("strace runs");
    // strace ends as what it ran did.
    let killed = output.status.signal() == Some(9);
    assert!(killed || output.status.success(), "{call} {number}: {}", String::from_utf8_lossy(&output.stderr));
    !killed
}

fn count(data: &str, kind: &str, fits: impl Fn(&Value) -> bool) -> usize {
    let found = lines(&good(&["search", "--kind", kind, "--limit", "1000", "--json", "--data", data]));
    found.iter().filter(|line| fits(&line["record"])).count()
}

fn mail(number: u32) -> String {
    format!(
        r#"{{"timestamp":"2026-11-20T08:00:00Z","event_type":"EMAIL_SENT","correlation_id":"o-{number}","source_component":"shop","environment":"test","severity":"info","event_id":"e-{number}","email_id":"m-{number}","recipient_details":{{"customer_id":"c-{}"}},"message_content":{{"subject":"a kettle of {}"}}}}"#,
        number % 3,
        ["lantern", "umbrella", "blanket"][number as usize % 3]
    )
}

/// A trail in a folder of its own, to be copied for each kill.
fn begun(folder: &Path) -> PathBuf {
    let base = folder.join("base");
    good(&["init", "--data", base.to_str().expect("UTF-8")]);
    base
}

/// More configuration, which holds from the next command on.
fn configure(base: &Path, more: &str) {
    let path = base.join("candor.toml");
    std::fs::write(&path, std::fs::read_to_string(&path).expect("read") + more).expect("written");
    good(&["search", "kettle", "--data", base.to_str().expect("UTF-8")]);
}

/// Copies of a trail, one for each kill.
fn each_kill(base: &Path, what: &[&str], check: impl Fn(&str)) -> u32 {
    let mut killed = 0;
    for (call, most) in CALLS {
        for number in 1..=most {
            let folder = folder();
            let data = folder.path().join("trail");
            copy_folder(base, &data);
            let text = data.to_str().expect("UTF-8");
            let arguments: Vec<&str> = what.iter().copied().chain(["--data", text]).collect();
            if ends(call, number, &arguments) {
                break;
            }
            killed += 1;
            check(text);
            good(&["verify", text]);
        }
    }
    killed
}

#[test]
fn an_erasure_and_a_rebuild_that_are_killed_anywhere_are_whole_at_the_next_start() {
    let folder = folder();
    let base = begun(folder.path());
    let text = base.to_str().expect("UTF-8");
    let batch: String = (0..30).map(|number| mail(number) + "\n").collect();
    support::ingest(text, batch.as_bytes(), &[]);
    let killed = each_kill(&base, &["erase", "--customer", "c-1", "--reason", "request-7", "--yes"], |data| {
        let found = lines(&good(&["search", "umbrella", "--json", "--data", data])).len();
        let begun = count(data, "SUBJECT_ERASED", |_| true);
        // Before its entry nothing is gone; from it on everything is, for whoever looks next.
        assert_eq!(found, if begun == 0 { 10 } else { 0 });
        assert_eq!(lines(&good(&["search", "lantern", "--json", "--data", data])).len(), 10);
        // What was begun has been carried out by the start above: then nobody is known any more.
        let again = candor(&["erase", "--customer", "c-1", "--reason", "request-7", "--yes", "--data", data]);
        assert_eq!(again.status.success(), begun == 0, "{}", String::from_utf8_lossy(&again.stderr));
        assert!(lines(&good(&["search", "umbrella", "--json", "--data", data])).is_empty());
    });
    println!("{killed} kills of an erasure");
    assert!(killed > 10, "{killed}");
    let killed = each_kill(&base, &["rebuild", "--reference", "CH-1"], |data| {
        assert_eq!(lines(&good(&["search", "kettle", "--limit", "100", "--json", "--data", data])).len(), 30);
    });
    println!("{killed} kills of a rebuild");
    assert!(killed > 10, "{killed}");
}

#[test]
fn keys_whose_ending_is_killed_anywhere_have_ended_wholly_or_not_at_all() {
    let folder = folder();
    let base = begun(folder.path());
    let text = base.to_str().expect("UTF-8");
    let batch: String = (0..30).map(|number| mail(number).replace("2026-11-20", "2024-05-20") + "\n").collect();
    support::ingest(text, batch.as_bytes(), &[]);
    good(&["hold", "place", "--customer", "c-2", "--reason", "matter-7", "--data", text]);
    let rule = "\n[[retention.communication]]\ndays = 30\nlegal_basis = \"nobody needs it longer\"\n";
    configure(&base, rule);
    let killed = each_kill(&base, &["expire", "run"], |data| {
        let found = |word| lines(&good(&["search", word, "--json", "--data", data])).len();
        let begun = count(data, "PERIOD_ENDED", |_| true);
        // Before its entry nothing has ended; from it on all has but what is held.
        let others = if begun == 0 { 10 } else { 0 };
        assert_eq!((found("lantern"), found("umbrella"), found("blanket")), (others, others, 10));
        good(&["expire", "run", "--data", data]);
        assert_eq!(count(data, "PERIOD_ENDED", |_| true), 1);
        assert_eq!((found("lantern"), found("umbrella"), found("blanket")), (0, 0, 10));
        let id = lines(&good(&["hold", "list", "--json", "--data", data]))[0]["hold_id"].clone();
        good(&["hold", "release", id.as_str().expect("text"), "--reason", "closed", "--data", data]);
        assert_eq!(found("kettle"), 0);
        let report = &lines(&good(&["verify", "--json", data]))[0];
        assert_eq!(report["ended"].as_object().map(|ended| ended.len()), Some(1), "{report}");
    });
    println!("{killed} kills of an ending");
    assert!(killed > 15, "{killed}");
}

#[test]
fn a_rewrap_that_is_killed_anywhere_leaves_a_key_that_opens() {
    let folder = folder();
    let base = begun(folder.path());
    let old = std::fs::read(base.join("keys/master.key")).expect("read");
    let killed = each_kill(&base, &["keys", "rewrap"], |data| {
        good(&["keys", "list", "--data", data]);
        let key = Path::new(data).join("keys/master.key");
        good(&["keys", "rewrap", "--data", data]);
        assert!(std::fs::read(&key).expect("read") != old && !key.with_file_name("master.key.next").exists());
        good(&["keys", "list", "--data", data]);
        std::fs::write(&key, &old).expect("written");
        assert!(support::bad(1, &["keys", "list", "--data", data]).contains("master key"));
    });
    println!("{killed} kills of a rewrap");
    assert!(killed > 15, "{killed}");
}

#[test]
fn a_change_of_the_log_key_that_is_killed_anywhere_is_made_or_not_and_either_key_verifies() {
    let folder = folder();
    let base = begun(folder.path());
    let text = base.to_str().expect("UTF-8");
    let batch: String = (0..30).map(|number| mail(number) + "\n").collect();
    support::ingest(text, batch.as_bytes(), &[]);
    let keys = |data: &str| lines(&good(&["keys", "list", "--json", "--data", data])).remove(0);
    let first = keys(text)["vkey"].as_str().expect("a key").to_owned();
    let killed = each_kill(&base, &["keys", "change-log-key"], |data| {
        let after = keys(data);
        let held = after["log_keys"].as_array().expect("keys");
        let named = count(data, "LOG_KEY_CHANGED", |_| true);
        assert_eq!(held.len(), named + 1, "an entry names each key, and what an entry names is in effect: {after}");
        assert_eq!(after["both_sign_until"].is_null(), named == 0);
        if named == 0 {
            good(&["keys", "change-log-key", "--data", data]);
        }
        support::ingest(data, (mail(99) + "\n").as_bytes(), &[]);
        good(&["verify", data, "--key", &first]);
        let newest = keys(data)["log_keys"][1].as_str().expect("a key").to_owned();
        good(&["verify", data, "--key", &newest]);
        let (status, said) = support::python_with(Path::new(data), &["--key", &newest]);
        assert_eq!(status, 0, "{said}");
    });
    println!("{killed} kills of a change of the log's key");
    assert!(killed > 20);
}

#[test]
fn a_backup_that_is_killed_anywhere_is_there_or_not_and_the_next_one_is() {
    let folder = folder();
    let base = begun(folder.path());
    let text = base.to_str().expect("UTF-8");
    let batch: String = (0..30).map(|number| mail(number) + "\n").collect();
    support::ingest(text, batch.as_bytes(), &[]);
    let key = folder.path().join("recovery.key");
    let key = key.to_str().expect("UTF-8");
    let made = lines(&good(&["backup", "key", key, "--json"])).remove(0);
    let rule = format!("\n[backup]\nfolder = \"../backups\"\nrecipient = {}\n", made["recipient"]);
    configure(&base, &rule);
    let killed = each_kill(&base, &["backup", "run"], |data| {
        let beside = |name: &str| Path::new(data).with_file_name(name).to_str().expect("UTF-8").to_owned();
        let (backups, again) = (beside("backups"), beside("again"));
        let whole = || match Path::new(&backups).join("candor-backup.json").exists() {
            true => {
                good(&["backup", "check", &backups]);
                lines(&good(&["backup", "list", &backups, "--json"])).len()
            }
            false => 0,
        };
        let before = whole();
        good(&["backup", "run", "--data", data]);
        assert_eq!(whole(), before + 1);
        // What was recorded and did not come to be is recorded as gone.
        let (made, gone) = (count(data, "BACKUP_MADE", |_| true), count(data, "BACKUP_EXPIRED", |_| true));
        assert_eq!(made - gone, before + 1);
        good(&["restore", "--from", &backups, "--identity", key, "--data", &again, "--nothing-newer"]);
        assert_eq!(lines(&good(&["search", "kettle", "--limit", "100", "--json", "--data", &again])).len(), 30);
        good(&["verify", &again]);
    });
    println!("{killed} kills of a backup");
    assert!(killed > 15, "{killed}");
}

/// strace on a server that runs, from now on.
fn attach(server: &Server, call: &str, number: u32) -> Child {
    let mut strace = strace(call, number);
    strace.args(["-p", &server.process().to_string()]).stderr(Stdio::piped());
    let mut child = strace.spawn().expect("strace runs");
    let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    // It says so of each thread; what starts later is followed.
    let line = said.next().expect("it attaches").expect("text");
    assert!(line.contains("attached"), "{line}");
    std::thread::spawn(move || said.for_each(drop));
    child
}

struct Scene {
    folder: tempfile::TempDir,
    address: SocketAddr,
    cookies: [Option<String>; 3],
    change: String,
    read_key: String,
}

/// Two administrators, a reader, and the end of the reader's account that waits for the second.
fn scene() -> Scene {
    let folder = folder();
    let data = folder.path().join("base");
    let server = Server::start(&data);
    let read_key = server.read_key();
    let batch: Vec<String> = (0..6).map(mail).collect();
    server.lines(&server.append_key(), &batch.join("\n"));
    let mut one = first(&server);
    let legal = invited(&mut one, "Staff Three", "staff.three@shop.example", "legal");
    one.get("/users");
    let mut two = invited(&mut one, "Staff Two", "staff.two@shop.example", "administrator");
    let page = one.get("/users").text();
    let id = between(&page, "staff.three@shop.example</td><td><code>", "<").expect("an id").to_owned();
    let fields = [("user", id.as_str()), ("step", "end"), ("change_reference", "CH-9")];
    assert_eq!(one.post("/users/change", &fields).headers["location"], "/changes");
    let page = two.get("/changes").text();
    let change = between(&page, "name=\"change\" value=\"", "\"").expect("it waits").to_owned();
    let (address, cookies) = (server.address, [one.cookie.clone(), two.cookie.clone(), legal.cookie.clone()]);
    assert!(server.stop());
    Scene { folder, address, cookies, change, read_key }
}

#[test]
fn an_approval_and_a_read_that_are_killed_anywhere_are_whole_or_were_not() {
    let scene = scene();
    let (mut approvals, mut reads) = (0, 0);
    for (call, most) in CALLS {
        for number in 1..=most.min(5) {
            let data = scene.folder.path().join(format!("{call}-{number}"));
            copy_folder(&scene.folder.path().join("base"), &data);
            let server = Server::start_at(&data, scene.address);
            let browser =
                |who: usize| Browser { server: &server, cookie: scene.cookies[who].clone(), form_token: String::new() };
            let mut two = browser(1);
            two.get("/changes");
            let mut strace = attach(&server, call, number);
            let (approved, read) = std::thread::scope(|scope| {
                // Who is killed answers nothing: the client's own end is what says so.
                let fields = [("change", scene.change.as_str()), ("decision", "approve")];
                let approve = scope.spawn(move || two.post("/changes", &fields).status);
                let approved = approve.join().is_ok_and(|status| status == 200);
                let read = scope.spawn(|| {
                    let path = "/v1/customers/c-1/history?justification=case+7";
                    server.read(&scene.read_key, path).status
                });
                (approved, read.join().is_ok_and(|status| status == 200))
            });
            drop(server);
            let _ = strace.wait();
            let text = data.to_str().expect("UTF-8");
            let decided = count(text, "CHANGE_DECIDED", |record| record["decision"] == "approved");
            let ended = count(text, "USER_CHANGED", |record| record["change"] == "ended");
            assert_eq!(decided, ended, "{call} {number}: both or neither");
            assert!(!approved || ended == 1, "{call} {number}: what was answered is there");
            let seen = count(text, "ACCESS", |record| {
                record["filters"]["history"] == "person" || record["command"] == "api-history"
            });
            assert!(!read || seen > 0, "{call} {number}: nobody read unseen");
            good(&["verify", text]);
            // The next start makes the end whole: the session of the reader is over, or the change waits as it did.
            let server = Server::start_at(&data, scene.address);
            let [mut two, mut legal] = [1, 2].map(|who: usize| Browser {
                server: &server,
                cookie: scene.cookies[who].clone(),
                form_token: String::new(),
            });
            let page = two.get("/changes").text();
            assert_eq!(page.contains("Nothing waits"), ended == 1, "{call} {number}");
            assert_eq!(legal.get("/look").status, if ended == 1 { 303 } else { 200 }, "{call} {number}");
            approvals += u32::from(!approved);
            reads += u32::from(approved && !read);
            assert!(server.stop());
            std::fs::remove_dir_all(&data).expect("removed");
        }
    }
    println!("{approvals} kills during an approval, {reads} during a read");
    assert!(approvals > 4, "{approvals}");
}

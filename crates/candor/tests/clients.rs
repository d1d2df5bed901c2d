//! The client libraries against the real server, with both killed at random: what was handed over is there, once.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::http::{Server, certificate};
use support::{folder, good};

/// Records that each client hands over.
const TOTAL: u64 = 1500;
/// Kills of each client or its server.
const KILLS: u64 = 12;

/// A number stream that is the same everywhere.
fn noise(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

struct Driver<'d> {
    command: &'d dyn Fn() -> Command,
    arguments: Vec<String>,
    /// Ids that it said were taken.
    taken: BTreeSet<String>,
}

impl Driver<'_> {
    fn start(&self) -> Child {
        (self.command)().args(&self.arguments).stdout(Stdio::piped()).spawn().expect("the client runs")
    }

    /// Waits for a moment or the end, then kills it; whether it had ended well before.
    fn run_for(&mut self, moment: Duration) -> bool {
        let mut child = self.start();
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let reader = std::thread::spawn(move || out.lines().map_while(Result::ok).collect::<Vec<_>>());
        std::thread::park_timeout(moment);
        let ended = child.try_wait().expect("asked").is_some_and(|status| status.success());
        let _ = child.kill();
        let _ = child.wait();
        self.note(reader.join().expect("read"));
        ended
    }

    fn finish(&mut self) {
        let output = (self.command)().args(&self.arguments).output().expect("the client runs");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success() && text.trim_end().ends_with("sent"), "{text}");
        self.note(text.lines().map(str::to_owned).collect());
    }

    /// A last line that a kill cut off says nothing.
    fn note(&mut self, lines: Vec<String>) {
        let whole = |line: &String| line.strip_prefix("driver:").is_some_and(|number| number.parse::<u64>().is_ok());
        self.taken.extend(lines.into_iter().filter(whole));
    }
}

fn killed_at_random(folder: &Path, seed: u64, command: &dyn Fn() -> Command) {
    let data = folder.join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    std::fs::write(data.join("candor.toml"), "[sources.local]\nnumbered = true\n").expect("written");
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port");
    let mut server = Some(Server::start_at(&data, address));
    let key = server.as_ref().map(Server::append_key).expect("a server");
    let file = folder.join("key");
    std::fs::write(&file, key).expect("written");
    let spool = folder.join("spool");
    let word = |path: &PathBuf| path.to_str().expect("a path").to_owned();
    let arguments = vec![word(&spool), format!("http://{address}"), word(&file), TOTAL.to_string()];
    let mut driver = Driver { command, arguments, taken: BTreeSet::new() };
    let mut state = seed;
    for _ in 0..KILLS {
        // Now the client, now the server under it, now both.
        let choice = noise(&mut state) % 3;
        let moment = Duration::from_millis(80 + noise(&mut state) % 400);
        if choice > 0 {
            // Killed when the old one goes: Drop does not ask it to end well.
            server = None;
        }
        driver.run_for(moment);
        if server.is_none() && choice == 1 {
            server = Some(Server::start_at(&data, address));
        }
    }
    let server = server.unwrap_or_else(|| Server::start_at(&data, address));
    driver.finish();
    assert!(driver.taken.len() > TOTAL as usize / 2, "{} were said to be taken", driver.taken.len());
    let read = server.read_key();
    let (mut there, mut next) = (Vec::new(), None::<String>);
    loop {
        let cursor = next.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let page = server.get(&read, &format!("/v1/search?kind=SYSTEM_EVENT&limit=200{cursor}")).json();
        let ids = page["entries"].as_array().into_iter().flatten().map(|entry| entry["record"]["event_id"].clone());
        there.extend(ids.filter_map(|id| id.as_str().map(str::to_owned)));
        match page["next"].as_str() {
            Some(cursor) => next = Some(cursor.to_owned()),
            None => break,
        }
    }
    let all: BTreeSet<String> = (1..=TOTAL).map(|number| format!("driver:{number}")).collect();
    assert_eq!(there.len() as u64, TOTAL, "none twice");
    assert_eq!(there.into_iter().collect::<BTreeSet<_>>(), all, "none lost");
    assert!(driver.taken.is_subset(&all));
    let source: Value = server.get(&read, "/v1/sources/local").json();
    assert_eq!(source["streams"][0]["missing"], 0, "{source}");
    assert!(server.stop());
}

/// Sends over TLS to a server whose certificate is trusted, and to nobody else.
fn over_tls(folder: &Path, command: &dyn Fn() -> Command) {
    let data = folder.join("trail");
    let text = data.to_str().expect("a path");
    good(&["init", "--data", text]);
    std::fs::write(data.join("tested"), "").expect("written");
    let key = good(&["apikey", "add", "--data", text, "--scope", "append", "--source", "local"]);
    std::fs::write(folder.join("key"), key.trim()).expect("written");
    let (certificate, private) = certificate(folder);
    let config =
        format!("tls_certificate = {certificate:?}\ntls_key = {private:?}\n[sources.local]\nnumbered = true\n");
    std::fs::write(data.join("candor.toml"), config).expect("written");
    let server = Server::start(&data);
    let url = format!("https://{}", server.address);
    let (file, trusted) = (folder.join("key"), certificate.to_str().expect("a path"));
    let run = |spool: &str, more: &[&str]| {
        let mut client = command();
        client.arg(folder.join(spool)).arg(&url).arg(&file).arg("20").args(more);
        client.stderr(Stdio::null()).output().expect("the client runs")
    };
    let said = String::from_utf8(run("spool", &[trusted]).stdout).expect("text");
    assert!(said.trim_end().ends_with("sent"), "{said}");
    let said = String::from_utf8(run("distrustful", &[]).stdout).expect("text");
    assert!(!said.trim_end().ends_with("sent"), "{said}");
    assert!(server.stop());
    let found = good(&["search", "--data", text, "--kind", "SYSTEM_EVENT", "--limit", "100", "--json"]);
    assert_eq!(found.lines().count(), 20);
}

fn in_python() -> Command {
    let mut command = Command::new(support::interpreter());
    let home = support::root().join("clients/python");
    command.env("PYTHONPATH", &home).env("PYTHONDONTWRITEBYTECODE", "1").arg(home.join("tests/driver.py"));
    command
}

#[test]
fn the_python_client_loses_and_doubles_nothing() {
    let folder = folder();
    killed_at_random(folder.path(), 7, &in_python);
    over_tls(&folder.path().join("tls"), &in_python);
    let mut tests = Command::new(support::interpreter());
    let home = support::root().join("clients/python");
    let output = tests
        .env("PYTHONPATH", &home)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-m", "unittest"])
        .arg("tests/test_spool.py")
        .current_dir(&home)
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_rust_client_loses_and_doubles_nothing() {
    let folder = folder();
    // Beside this test's own binary: target/PROFILE/examples.
    let own = std::env::current_exe().expect("a path");
    let examples = own.parent().and_then(Path::parent).expect("target").join("examples");
    let build = Command::new(env!("CARGO"))
        .args(["build", "-q", "-p", "candor-client", "--example", "driver"])
        .current_dir(support::root())
        .status();
    assert!(build.expect("cargo runs").success());
    let driver = || Command::new(examples.join("driver"));
    killed_at_random(folder.path(), 11, &driver);
    over_tls(&folder.path().join("tls"), &driver);
}

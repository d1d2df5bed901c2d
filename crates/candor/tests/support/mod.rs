//! Running the real binary in a folder of its own.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod browser;
pub mod http;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub const CANDOR: &str = env!("CARGO_BIN_EXE_candor");

/// The Python of the tests' own environment.
pub fn interpreter() -> String {
    std::env::vars().find(|(name, _)| name == "CANDOR_PYTHON").map_or("python3".to_owned(), |(_, path)| path)
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

pub fn candor(arguments: &[&str]) -> Output {
    Command::new(CANDOR).args(arguments).env_remove("CANDOR_MASTER_KEY").output().expect("the binary runs")
}

/// Runs a command that must succeed; gives its standard output.
pub fn good(arguments: &[&str]) -> String {
    let output = candor(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs a command that must fail with this status; gives its standard error, which is one sentence.
pub fn bad(status: i32, arguments: &[&str]) -> String {
    let output = candor(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
    text
}

/// Feeds lines to `candor ingest`; gives status, standard output and standard error.
pub fn ingest(data: &str, lines: &[u8], more: &[&str]) -> (i32, String, String) {
    use std::io::Write;
    let mut arguments = vec!["ingest", "--data", data, "-"];
    arguments.extend(more);
    let mut child = Command::new(CANDOR)
        .args(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut input = child.stdin.take().expect("a pipe");
    let bytes = lines.to_vec();
    let feeder = std::thread::spawn(move || {
        let _ = input.write_all(&bytes);
    });
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("fed");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// What a command printed with --json: one value a line.
pub fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The second verifier; gives its status and what it says.
pub fn python(path: &Path) -> (i32, String) {
    python_with(path, &[])
}

/// The same with more arguments.
pub fn python_with(path: &Path, more: &[&str]) -> (i32, String) {
    let output = Command::new(interpreter())
        .arg(root().join("verifier/verify.py"))
        .arg(path)
        .args(more)
        .output()
        .expect("python3 runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code <= 2) && !text.contains("Traceback"), "{text}");
    (output.status.code().unwrap_or(-1), text)
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for item in std::fs::read_dir(from).expect("readable") {
        let path = item.expect("an item").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target)
        } else if path.is_file() {
            // The socket of a server that runs is no part of a copy.
            std::fs::copy(&path, &target).map(drop).expect("copied")
        }
    }
}

/// Every file below a folder; sockets are none.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).expect("readable") {
        let path = item.expect("an item").path();
        if path.is_dir() {
            found.extend(files(&path))
        } else if path.is_file() {
            found.push(path)
        }
    }
    found.sort();
    found
}

//! A server of the test's own, and a client that says exactly what it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// A running `candor serve`.
pub struct Server {
    pub address: SocketAddr,
    pub admin: String,
    /// What it says after its first lines.
    said: Arc<Mutex<Vec<String>>>,
    child: Child,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

impl Server {
    /// Starts a server; it answers when this returns.
    pub fn start(data: &Path) -> Server {
        Server::start_at(data, free_port())
    }

    pub fn start_at(data: &Path, address: SocketAddr) -> Server {
        let mut child = Command::new(super::CANDOR)
            .args(["serve", "--data", data.to_str().expect("UTF-8"), "--listen", &address.to_string()])
            .env_remove("CANDOR_MASTER_KEY")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut admin = String::new();
        // The line before the last of a first start has the key; a later start prints two lines.
        let first = lines.next().expect("it says where it listens").expect("text");
        assert!(first.contains(&address.to_string()), "{first}");
        lines.next();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        if !data.join("tested").exists() {
            let line = lines.next().expect("the admin key").expect("text");
            admin = line.split_whitespace().last().expect("a key").to_owned();
            std::fs::write(data.join("tested"), &admin).expect("written");
        } else {
            admin.push_str(&std::fs::read_to_string(data.join("tested")).expect("read"));
        }
        let heard = Arc::clone(&said);
        let hear = move |line: String| heard.lock().expect("whole").push(line);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(hear));
        Server { address, admin, said, child }
    }

    /// The way in for the first administrator, as the server says it at its start.
    pub fn first_link(&self) -> String {
        for _ in 0..100 {
            let said = self.said.lock().expect("whole").clone();
            if let Some(link) = said.iter().find_map(|line| line.strip_prefix("first link")) {
                let (_, path) = link.split_once("/join/").expect("a link");
                return format!("/join/{path}");
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("it says no first link");
    }

    /// Makes a key.
    pub fn key(&self, grant: Value) -> String {
        let reply = self.send(
            "POST",
            "/v1/keys",
            &[self.bearer(), ("Content-Type", "application/json".into())],
            grant.to_string().as_bytes(),
        );
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["key"].as_str().expect("a key").to_owned()
    }

    pub fn append_key(&self) -> String {
        self.key(json!({"scopes": ["append"], "sources": ["local"]}))
    }

    pub fn read_key(&self) -> String {
        self.key(json!({"scopes": ["read", "mirror"], "roles": ["compliance_officer"]}))
    }

    fn bearer(&self) -> (&'static str, String) {
        bearer(&self.admin)
    }

    /// The same by the address that a browser knows it by.
    pub fn send_to_host(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Reply {
        self.send_as(&self.address.to_string(), method, path, (headers, body))
    }

    /// A port that nothing listens at.
    pub fn free_port() -> SocketAddr {
        free_port()
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Reply {
        self.send_as("test", method, path, (headers, body))
    }

    fn send_as(&self, host: &str, method: &str, path: &str, (headers, body): (&[(&str, String)], &[u8])) -> Reply {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        // A server that refuses early may close before it has read all.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        read_reply(stream)
    }

    pub fn get(&self, key: &str, path: &str) -> Reply {
        self.send("GET", path, &[bearer(key)], b"")
    }

    /// The same with a reason, without which nothing personal is shown.
    pub fn read(&self, key: &str, path: &str) -> Reply {
        let joint = if path.contains('?') { '&' } else { '?' };
        self.get(key, &format!("{path}{joint}justification=test"))
    }

    /// Sends JSON; status and JSON of the answer.
    pub fn post_json(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let headers = [bearer(key), ("Content-Type", "application/json".to_owned())];
        let reply = self.send("POST", path, &headers, body.to_string().as_bytes());
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    pub fn get_json(&self, path: &str, key: &str) -> (u16, Value) {
        let reply = self.get(key, path);
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    pub fn post(&self, key: &str, kind: &str, more: &[(&str, String)], body: &[u8]) -> Reply {
        let mut headers = vec![bearer(key), ("Content-Type", kind.to_owned())];
        headers.extend(more.iter().map(|(name, value)| (*name, value.clone())));
        self.send("POST", "/v1/records", &headers, body)
    }

    pub fn lines(&self, key: &str, lines: &str) -> Value {
        let reply = self.post(key, "application/x-ndjson", &[], lines.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits; whether it ended well.
    pub fn stop(mut self) -> bool {
        self.terminate();
        self.child.wait().expect("it ends").success()
    }

    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn bearer(key: &str) -> (&'static str, String) {
    ("Authorization", format!("Bearer {key}"))
}

pub fn read_reply(stream: TcpStream) -> Reply {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status line");
    let status =
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {line:?}"));
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        // Several cookies: each on a line.
        let held: &mut String = headers.entry(name.to_ascii_lowercase()).or_default();
        *held = if held.is_empty() { value.to_owned() } else { format!("{held}\n{value}") };
    }
    let mut body = Vec::new();
    match headers.get("content-length").and_then(|length| length.parse::<u64>().ok()) {
        Some(length) => reader.take(length).read_to_end(&mut body).map(drop).expect("the body"),
        None => reader.read_to_end(&mut body).map(drop).expect("the body"),
    }
    Reply { status, headers, body }
}

/// A certificate for 127.0.0.1, made by the Python environment's library.
pub fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    const MAKE: &str = "
import datetime, ipaddress, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'test')])
now = datetime.datetime.now(datetime.timezone.utc)
made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(7).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address('127.0.0.1'))]), critical=False)
    .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True).sign(key, hashes.SHA256()))
open(sys.argv[1], 'wb').write(made.public_bytes(serialization.Encoding.PEM))
open(sys.argv[2], 'wb').write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
";
    let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
    let status = Command::new(super::interpreter())
        .args(["-c", MAKE])
        .arg(&certificate)
        .arg(&key)
        .status()
        .expect("python3 runs");
    assert!(status.success());
    (certificate, key)
}

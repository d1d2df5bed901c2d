//! The part of `candor bench` that measures the server: batches, singles at a steady rate, and more than it can take.
//!
//! The server is this same program in a process of its own; the clients are threads here, on the same cores, with
//! connections kept alive. What the clients cost is therefore in the figures.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::bench::{quantiles, resident_mib};
use crate::generate::Workload;

/// Lines of a batch, and connections that send them.
const BATCH: usize = 500;
const BATCH_CONNECTIONS: u64 = 4;
/// Connections of the singles, and how long.
const SINGLE_CONNECTIONS: u64 = 64;
const SINGLES_SECONDS: u64 = 20;
/// Connections of the overload: more than the server has places.
const FLOOD_CONNECTIONS: u64 = 320;
/// Lines of a request in the overload.
const FLOOD_LINES: usize = 50;

/// What is measured.
pub struct Load {
    pub records: u64,
    pub seed: u64,
    pub subjects: u64,
    pub singles_rate: u64,
    pub flood_seconds: u64,
}

struct Server {
    child: Child,
    address: SocketAddr,
    admin: String,
}

impl Server {
    fn start(data: &Path) -> Result<Server> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let program = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--listen", &address.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .context("start the server")?;
        let mut lines = BufReader::new(child.stdout.take().context("the server's output")?).lines();
        let admin = loop {
            let line = lines.next().context("the server ended")??;
            if let Some(key) = line.strip_prefix("admin key  ") {
                break key.to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Server { child, address, admin })
    }

    fn key(&self, grant: &Value) -> Result<String> {
        let mut client = Client::connect(self.address, &self.admin)?;
        let (status, body) = client.send("/v1/keys", "application/json", grant.to_string().as_bytes())?;
        let made: Value = serde_json::from_slice(&body)?;
        made["key"].as_str().map(str::to_owned).with_context(|| format!("make a key: answered {status}"))
    }

    fn resident_mib(&self) -> f64 {
        resident_mib(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

/// One connection, kept alive.
struct Client {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Client {
    fn connect(address: SocketAddr, key: &str) -> Result<Client> {
        let stream = TcpStream::connect(address).context("connect")?;
        stream.set_nodelay(true)?;
        let head = format!("HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n");
        Ok(Client { stream: BufReader::with_capacity(64 << 10, stream), head })
    }

    /// Sends a body; gives status and answer.
    fn send(&mut self, path: &str, kind: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let head = format!("POST {path} {}Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n", self.head, body.len());
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).context("read an answer")?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().context("read an answer's length")?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status, answer))
    }
}

fn workload(load: &Load, part: u64) -> Workload {
    let start = ledger::clock::Clock::now(&ledger::clock::SystemClock).0 - 86_400_000;
    Workload::new(load.seed + part, load.subjects, start)
}

/// The next line of one part's workload; ids of different parts never meet.
fn line(workload: &mut Workload, part: u64) -> String {
    workload.line().replacen("\"event_id\":\"ev-", &format!("\"event_id\":\"ev{part}-"), 1)
}

/// Runs `work` on so many threads, each with its number; the first failure is the whole's.
fn each(threads: u64, work: impl Fn(u64) -> Result<()> + Sync) -> Result<()> {
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (work, failed) = (&work, &failed);
            scope.spawn(move || {
                if let (Err(error), Ok(mut failed)) = (work(thread), failed.lock()) {
                    failed.get_or_insert(error);
                }
            });
        }
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

/// Measures a server of its own in `folder`.
pub fn measure(folder: &Path, load: &Load, in_process: f64) -> Result<Value> {
    let server = Server::start(&folder.join("served"))?;
    let key = server.key(&json!({"scopes": ["append"], "sources": ["local"]}))?;
    let batches = batches(&server, &key, load)?;
    let singles = singles(&server, &key, load)?;
    let flood = flood(&server, &key, load)?;
    Ok(json!({
        "batches_of_500": {"records_a_second": batches as u64, "share_of_in_process": batches / in_process},
        "singles": singles, "overload": flood, "resident_mib": server.resident_mib(),
    }))
}

fn batches(server: &Server, key: &str, load: &Load) -> Result<f64> {
    // Made beforehand, as for the in-process figure.
    let bodies: Vec<Vec<Vec<u8>>> = (0..BATCH_CONNECTIONS)
        .map(|thread| {
            let mut workload = workload(load, 1000 + thread);
            let count = load.records / BATCH_CONNECTIONS / BATCH as u64;
            (0..count)
                .map(|_| (0..BATCH).map(|_| line(&mut workload, 1000 + thread) + "\n").collect::<String>().into_bytes())
                .collect()
        })
        .collect();
    let sent: usize = bodies.iter().map(Vec::len).sum::<usize>() * BATCH;
    let start = Instant::now();
    each(BATCH_CONNECTIONS, |thread| {
        let mut client = Client::connect(server.address, key)?;
        for body in &bodies[thread as usize] {
            let (status, _) = client.send("/v1/records", "application/x-ndjson", body)?;
            if status != 200 {
                bail!("a batch was answered {status}");
            }
        }
        Ok(())
    })?;
    Ok(sent as f64 / start.elapsed().as_secs_f64())
}

fn singles(server: &Server, key: &str, load: &Load) -> Result<Value> {
    let times = Mutex::new(Vec::new());
    let gap = Duration::from_micros(1_000_000 * SINGLE_CONNECTIONS / load.singles_rate);
    let start = Instant::now();
    each(SINGLE_CONNECTIONS, |thread| {
        let mut client = Client::connect(server.address, key)?;
        let mut workload = workload(load, 2000 + thread);
        let mut own = Vec::new();
        // Spread over the gap, so that the rate is steady; late ones count from when they were due.
        let mut due = start + gap * thread as u32 / SINGLE_CONNECTIONS as u32;
        while due < start + Duration::from_secs(SINGLES_SECONDS) {
            let line = line(&mut workload, 2000 + thread);
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(wait);
            }
            let (status, _) = client.send("/v1/records", "application/json", line.as_bytes())?;
            if status != 200 && status != 201 {
                bail!("a record was answered {status}");
            }
            own.push(due.elapsed().as_secs_f64() * 1000.0);
            due += gap;
        }
        if let Ok(mut times) = times.lock() {
            times.extend(own);
        }
        Ok(())
    })?;
    let times = times.into_inner().unwrap_or_default();
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    Ok(json!({"connections": SINGLE_CONNECTIONS, "a_second": rate as u64, "ms_from_due": quantiles(times)}))
}

/// More connections than there are places, each as fast as it may; then everything that was answered is asked for.
fn flood(server: &Server, key: &str, load: &Load) -> Result<Value> {
    let (taken, refused, cut) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let answered: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let before = server.resident_mib();
    let start = Instant::now();
    let until = start + Duration::from_secs(load.flood_seconds);
    let memory = Mutex::new(Vec::new());
    each(FLOOD_CONNECTIONS + 1, |thread| {
        if thread == FLOOD_CONNECTIONS {
            while Instant::now() < until {
                std::thread::park_timeout(Duration::from_secs(1));
                if let Ok(mut memory) = memory.lock() {
                    memory.push(server.resident_mib());
                }
            }
            return Ok(());
        }
        let mut client = Client::connect(server.address, key)?;
        let mut workload = workload(load, 10_000 + thread);
        while Instant::now() < until {
            let lines: Vec<String> = (0..FLOOD_LINES).map(|_| line(&mut workload, 10_000 + thread)).collect();
            let sent = client.send("/v1/records", "application/x-ndjson", lines.join("\n").as_bytes());
            let Ok((status, _)) = sent else {
                // Cut off: nothing was answered, so nothing may be missed.
                cut.fetch_add(1, Ordering::Relaxed);
                client = Client::connect(server.address, key)?;
                continue;
            };
            match status {
                200 => {
                    taken.fetch_add(FLOOD_LINES as u64, Ordering::Relaxed);
                    // One of each request is asked for again at the end.
                    if let (Some(line), Ok(mut answered)) = (lines.into_iter().next(), answered.lock()) {
                        answered.push(line);
                    }
                }
                429 | 503 => {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                other => bail!("a request was answered {other}"),
            }
        }
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let answered = answered.into_inner().unwrap_or_default();
    let mut client = Client::connect(server.address, key)?;
    let mut lost = 0;
    for lines in answered.chunks(BATCH) {
        let (_, body) = client.send("/v1/records", "application/x-ndjson", lines.join("\n").as_bytes())?;
        let result: Value = serde_json::from_slice(&body)?;
        lost += lines.len() as u64 - result["repeated"].as_u64().unwrap_or(0);
    }
    let memory = memory.into_inner().unwrap_or_default();
    let peak = memory.iter().copied().fold(before, f64::max);
    Ok(json!({
        "seconds": seconds as u64, "connections": FLOOD_CONNECTIONS, "records_a_second": (taken.load(Ordering::Relaxed) as f64 / seconds) as u64,
        "requests_refused": refused.load(Ordering::Relaxed), "connections_cut": cut.load(Ordering::Relaxed), "answered_and_asked_again": answered.len(), "answered_and_lost": lost,
        "resident_mib": {"before": before, "peak": peak, "end": memory.last()},
    }))
}

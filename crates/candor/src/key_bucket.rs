//! The key store's pages in a bucket: one that keeps the newest version of an object alone, so that what is destroyed is
//! gone.

use std::io;
use std::path::Path;
use std::sync::Barrier;

use anyhow::{Context, Result, anyhow, bail};
use ledger::objects::{Bucket, BucketUrl, Bytes, Locking, NotMade, Seen, settle};
use seal::elsewhere::{Elsewhere, Held};
use seal::random::RandomPool;

use crate::config::Config;

/// Writers that race to write over one version.
const RACERS: usize = 8;

/// The bucket of `keys`, if the configuration names one.
pub fn of(data: &Path, config: &Config) -> Result<Option<Box<dyn Elsewhere>>> {
    Ok(match bucket(data, config)? {
        Some(bucket) => Some(Box::new(KeyBucket { bucket })),
        None => None,
    })
}

/// Whether the bucket has a trail's keys.
pub fn has_keys(data: &Path, config: &Config) -> Result<bool> {
    let Some(bucket) = bucket(data, config)? else { return Ok(false) };
    seal::elsewhere::is_begun(&KeyBucket { bucket }).context("keys: read the bucket")
}

fn bucket(data: &Path, config: &Config) -> Result<Option<Bucket>> {
    let Some(url) = &config.keys else { return Ok(None) };
    let url = BucketUrl::parse(url).map_err(|why| anyhow!("keys: {why}"))?;
    let roots = crate::tls::roots(data, config.journal_ca_file.as_deref())?;
    let file = config.keys_credentials.as_deref().or(config.journal_credentials.as_deref());
    let credentials = crate::home::credentials(data, file)?;
    Ok(Some(Bucket::open(url, &credentials, roots).context("keys: open the bucket")?))
}

/// Tries in the bucket itself whether it keeps what keys in it rest on: a version is written over by one writer alone, and
/// nothing of it stays.
pub fn probe(data: &Path, config: &Config) -> Result<()> {
    let Some(bucket) = bucket(data, config)? else { return Ok(()) };
    let unread = |error: io::Error| anyhow!(error).context("keys: try the bucket");
    if bucket.locking().map_err(unread)? != Locking::None {
        bail!("keys: the bucket has Object Lock, so what is to be destroyed would stay: name one without");
    }
    // Versions that were kept for a time stay when no more are kept.
    if bucket.versions("head").map_err(unread)?.iter().filter(|version| version.name == "head").count() > 1 {
        bail!(
            "keys: the bucket has older versions of the keys' head, by which what was destroyed since can be opened: delete all its versions but the newest"
        );
    }
    let name = format!("probe/{}", proof::encoding::hex(&RandomPool::default().take::<8>()));
    let swap = |bytes: String, before: Option<&str>| bucket.swap(&name, &Bytes::from(bytes), before);
    let first = match swap("first".into(), None) {
        Ok(tag) => tag,
        Err(NotMade::Unclear(error)) => return Err(unread(error)),
        Err(NotMade::Taken) => {
            bail!("keys: the bucket says that an object of a random name is there: it is none of ours")
        }
    };
    let gate = Barrier::new(RACERS);
    let ends: Vec<bool> = std::thread::scope(|scope| {
        let (gate, swap, first) = (&gate, &swap, &first);
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                scope.spawn(move || {
                    gate.wait();
                    swap(format!("racer {racer}"), Some(first)).is_ok()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap_or(false)).collect()
    });
    let held = bucket.get_tagged(&name).map_err(unread)?;
    let versions = bucket.versions(&name).map_err(unread)?.len();
    let late = swap("late".into(), Some(&first)).is_ok();
    let again = swap("again".into(), None).is_ok();
    bucket.delete(&name).map_err(unread)?;
    let won: Vec<usize> = ends.iter().enumerate().filter(|(_, won)| **won).map(|(racer, _)| racer).collect();
    let is_whole = match (&won[..], &held) {
        ([racer], Some((bytes, _))) => *bytes == format!("racer {racer}"),
        _ => false,
    };
    if !is_whole || late || again {
        bail!(
            "keys: the bucket's store does not keep `If-Match` and `If-None-Match`: {} of {RACERS} writers wrote over one version",
            won.len()
        );
    }
    if versions > 1 {
        bail!("keys: the bucket keeps versions, so what is to be destroyed would stay: name one without versioning");
    }
    Ok(())
}

struct KeyBucket {
    bucket: Bucket,
}

impl Elsewhere for KeyBucket {
    fn make(&self, name: &str, bytes: Vec<u8>) -> io::Result<bool> {
        let bytes = Bytes::from(bytes);
        let look = || {
            Ok(match self.bucket.get(name, None, None)? {
                Some(held) if held == bytes => Seen::Ours(()),
                Some(_) => Seen::Another,
                None => Seen::Before,
            })
        };
        let made = settle(|| self.bucket.create(name, &bytes).map(drop), look, std::thread::park_timeout)?;
        Ok(made.is_some())
    }

    fn get(&self, name: &str) -> io::Result<Option<Held>> {
        Ok(self.bucket.get_tagged(name)?.map(|(bytes, tag)| Held { bytes: bytes.to_vec(), tag }))
    }

    fn swap(&self, name: &str, bytes: Vec<u8>, before: Option<&str>) -> io::Result<Option<String>> {
        let bytes = Bytes::from(bytes);
        let look = || {
            Ok(match self.bucket.get_tagged(name)? {
                Some((held, tag)) if held == bytes => Seen::Ours(tag),
                Some((_, tag)) if Some(&*tag) == before => Seen::Before,
                None if before.is_none() => Seen::Before,
                _ => Seen::Another,
            })
        };
        settle(|| self.bucket.swap(name, &bytes, before), look, std::thread::park_timeout)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self.bucket.delete(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

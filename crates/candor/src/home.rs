//! Where the journal is: a folder of the data directory, or a bucket of an object store.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use ledger::clock::{Clock, SystemClock};
use ledger::disk::{Disk, RealDisk};
use ledger::home::Home;
use ledger::objects::{Bucket, BucketUrl, Credentials, Locking, Objects};
use seal::random::RandomPool;

use crate::config::Config;
use crate::trail::Paths;

/// Bytes of a file of credentials, at most.
const CREDENTIALS_BYTES_MAX: usize = 64 << 10;

/// The journal of a data directory, to be read and written.
pub fn of(paths: &Paths, config: &Config) -> Result<Home> {
    Ok(match &config.journal {
        None => Home::Directory(Arc::new(RealDisk::new(&paths.journal()))),
        Some(url) => Home::Objects(objects(&paths.data, config, url)?),
    })
}

/// The same to be read alone, by nothing that another reading left in memory.
pub fn to_read(paths: &Paths, config: &Config) -> Result<Arc<dyn Disk>> {
    Ok(match &config.journal {
        None => Arc::new(RealDisk::read_only(&paths.journal())),
        Some(url) => objects(&paths.data, config, url)?,
    })
}

/// The trail in a bucket.
pub fn objects(data: &Path, config: &Config, url: &str) -> Result<Arc<Objects>> {
    let url = BucketUrl::parse(url).map_err(|why| anyhow!("journal: {why}"))?;
    let roots = crate::tls::roots(data, config.journal_ca_file.as_deref())?;
    let credentials = credentials(data, config.journal_credentials.as_deref())?;
    let bucket = Bucket::open(url, &credentials, roots).context("journal: open the bucket")?;
    Ok(Objects::new(bucket, usize::from(config.journal_memory_mib) << 20))
}

/// Tries in the bucket itself whether it keeps what the journal rests on, and says how it locks.
pub fn probe(home: &Home) -> Result<()> {
    let Home::Objects(objects) = home else { return Ok(()) };
    let nonce = u64::from_be_bytes(RandomPool::default().take());
    let said = match objects.probe(nonce, SystemClock.now()).context("journal")? {
        Locking::Compliance(days) => format!("locked in compliance mode for {days} days"),
        Locking::Governance(days) => {
            format!(
                "locked in governance mode for {days} days: who has the right to pass it by can write over the trail"
            )
        }
        Locking::OnRequest => "not locked: Object Lock is on, but the bucket has no default retention".to_owned(),
        Locking::None => {
            "not locked: who has these credentials can write over the trail, which verification notices".to_owned()
        }
    };
    eprintln!("candor: the journal's bucket keeps what is made once; it is {said}");
    Ok(())
}

/// What requests to the bucket are signed with: the environment, or a file in AWS's format.
pub fn credentials(data: &Path, file: Option<&Path>) -> Result<Credentials> {
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (mut id, mut secret, mut token) =
        (named("AWS_ACCESS_KEY_ID"), named("AWS_SECRET_ACCESS_KEY"), named("AWS_SESSION_TOKEN"));
    if let Some(path) = file {
        let path = data.join(path);
        let read = || format!("read {}", path.display());
        let text = zeroize::Zeroizing::new(std::fs::read_to_string(&path).with_context(read)?);
        if text.len() > CREDENTIALS_BYTES_MAX {
            bail!("read {}: more than {CREDENTIALS_BYTES_MAX} bytes are no credentials", path.display());
        }
        // Of one origin, all of them.
        (id, secret, token) = (None, None, None);
        let mut is_default = true;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                is_default = line == "[default]";
            }
            if let Some((name, value)) = line.split_once('=').filter(|_| is_default) {
                let value = Some(value.trim().to_owned());
                match name.trim() {
                    "aws_access_key_id" => id = value,
                    "aws_secret_access_key" => secret = value,
                    "aws_session_token" => token = value,
                    _ => {}
                }
            }
        }
    }
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Credentials { id, secret: secret.into(), token: token.map(Into::into) }),
        _ => bail!(
            "the bucket's credentials are missing: name a file by journal_credentials (keys_credentials for that of the keys), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ),
    }
}

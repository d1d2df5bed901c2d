//! The one typed configuration: `DIR/candor.toml`, with every key's meaning and default (`docs/configuration.md` is
//! written from [`REFERENCE`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use access::change::Sort;
use access::place::{Place, Places, Point, Range};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use proof::encoding::is_token;
use record::class::{CLASSES, ClassId, Retention};
use record::minimal::RecipientMode;
use serde::{Deserialize, Serialize};

/// Every key: name, default, meaning. A test holds it against the struct.
pub const REFERENCE: &[(&str, &str, &str)] = &[
    ("environment", "\"production\"", "The environment that Candor's own records name, a token of 1 to 64 characters."),
    ("site", "none", "Where this server stands, a token; given to records that do not name a site themselves."),
    (
        "master_key_file",
        "\"keys/master.key\" in the data directory",
        "File with the master key, 64 hexadecimal digits, mode 0600. The environment variable CANDOR_MASTER_KEY (the digits themselves) wins over it. Keep it off the data disk: who has both can read everything.",
    ),
    (
        "high_water_copy",
        "none",
        "A second file for the high-water mark, on another disk: who rolls back the data directory with its keys is noticed by it. Where it can't be written nothing is taken.",
    ),
    (
        "journal",
        "the folder journal/ of the data directory",
        "Bucket that has the journal instead: \"s3://BUCKET/PREFIX?endpoint=URL&region=NAME&timeout_s=10\" (docs/operations.md). It is chosen at `candor init` and stays.",
    ),
    (
        "journal_credentials",
        "the environment",
        "File with the bucket's credentials in AWS's format (aws_access_key_id, aws_secret_access_key), mode 0600; it wins over AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    ),
    (
        "journal_ca_file",
        "those that the system trusts",
        "PEM file of the authorities that the object store's certificate is held against.",
    ),
    (
        "keys",
        "the data directory alone",
        "Second, unlocked and unversioned bucket that the key store is kept in too, as a URL like journal's (docs/operations.md): with it, the master key and a journal in a bucket another machine goes on.",
    ),
    (
        "keys_credentials",
        "journal_credentials",
        "File with the credentials of the bucket of keys, which should be others than the journal's.",
    ),
    ("journal_memory_mib", "256", "Mebibytes of a bucket's journal that are kept in memory, 16 to 65535."),
    ("kinds_folder", "none", "Folder of further kinds, one JSON Schema each (docs/formats/kinds.md)."),
    (
        "rules_file",
        "none",
        "A file of rules that adds to the shipped ones, replaces one by its name, or puts it out of use (docs/watch.md).",
    ),
    (
        "policy_file",
        "none",
        "File of Cedar policies that stands whole in the place of the shipped ones (docs/policy.md); `candor policy show` prints what holds.",
    ),
    ("listen", "\"127.0.0.1:8420\"", "Address and port that `candor serve` listens on."),
    (
        "tls_certificate",
        "none",
        "PEM file with the server's certificate and its chain; together with tls_key it makes `candor serve` speak TLS 1.2 and 1.3.",
    ),
    ("tls_key", "none", "PEM file with the certificate's private key, mode 0600."),
    (
        "proxies",
        "[]",
        "Ranges of addresses of proxies before this server, such as \"10.0.0.5/32\": of a request that they hand on, the last address in X-Forwarded-For that is none of theirs is taken for who asks.",
    ),
    (
        "verify_days",
        "7",
        "Days between two verifications of the whole journal by `candor serve`, 1 to 365; the first is a minute after its start.",
    ),
    (
        "answer",
        "\"durable\"",
        "When a record that was sent to `candor serve` is answered: once it is on this machine's disk (\"durable\"), or once a mirror has it too (\"mirrored\"); what no mirror has within ten seconds is answered 503, stays, and is answered when it is sent again.",
    ),
    (
        "expiry",
        "\"on_time\"",
        "Whether `candor serve` ends keys that are due by itself, each hour (\"on_time\"), or `candor expire run` alone does (\"by_hand\").",
    ),
    (
        "retention.CLASS",
        "365 days for mail_event, 90 for mail_address, 30 for quarantine, 7 years for communication, access and compliance",
        "Why and how long the keys of a class live after their period: a list of `days` (1 to 36500) with their `legal_basis`; the longest counts. The class trail lives as long as the trail.",
    ),
    (
        "breached_passwords",
        "none",
        "File of breached passwords, ordered by their SHA-1 as Have I Been Pwned gives it: nobody takes one of them (docs/people.md).",
    ),
    (
        "second_person",
        "[\"users\", \"keys\", \"grants\"]",
        "What takes a second person once two people here may decide it: \"users\" (invitations, roles, ways in, ends), \"keys\" (made or renewed), \"grants\" (given), \"settings\" (sources, policies and who takes a second person, as files have them); [] for nothing (docs/people.md).",
    ),
    (
        "public_url",
        "none",
        "Address of this server as customers see it, such as \"https://history.shop.example\"; together with mail it lets them in at /my (docs/own-history.md); passkeys and single sign-on are of this address (docs/people.md).",
    ),
    ("mail.relay", "none", "Relay, HOST:PORT, that takes the links sent to customers."),
    ("mail.from", "none", "Address that these mails are from."),
    (
        "mail.tls",
        "\"none\" to this machine, else none: it must be said",
        "How the relay is spoken to: \"none\", \"starttls\" (refused where the relay offers none) or \"tls\" from the start.",
    ),
    (
        "mail.ca_file",
        "those that the system trusts",
        "PEM file of the authorities that the relay's certificate is held against.",
    ),
    ("mail.user", "none", "Name to sign in to the relay with; together with password_file."),
    ("mail.password_file", "none", "File with the password for the relay, mode 0600."),
    (
        "places.file",
        "none",
        "File in MaxMind's format (GeoLite2-City and others) that says where addresses are; it is read into memory (docs/people.md).",
    ),
    (
        "places.ranges.RANGE",
        "none",
        "A range of addresses such as \"10.1.0.0/16\" with `name`, `country` (two letters), `latitude`, `longitude`, all but the name left out at will; the narrowest counts, before the file.",
    ),
    (
        "oidc.issuer",
        "none",
        "Provider of single sign-on (OpenID Connect), as its discovery document names it (docs/people.md).",
    ),
    ("oidc.client_id", "none", "What this server is called there."),
    ("oidc.client_secret_file", "none", "File with its secret, mode 0600; none of a public client."),
    ("oidc.name", "\"your work account\"", "What people call it: \"Sign in with ...\"."),
    ("oidc.scopes", "[\"email\", \"profile\"]", "Scopes asked for beside openid."),
    (
        "oidc.role_claim",
        "\"groups\"",
        "Claim that says what somebody is, a text or a list; a dot leads into an object, as in \"realm_access.roles\".",
    ),
    (
        "oidc.roles.VALUE",
        "none",
        "Roles here of whom the claim gives this value, such as [\"customer_service\"]; who has none of them does not come in.",
    ),
    (
        "oidc.hosts",
        "[]",
        "Hosts (with a port where it is not the usual one) beside the issuer's own that its discovery document may name.",
    ),
    (
        "oidc.ca_file",
        "those that the system trusts",
        "PEM file of the authorities that the provider's certificate is held against.",
    ),
    (
        "backup.folder",
        "none",
        "Folder of backups, on another disk or machine; `candor serve` makes one `backup.every_hours`, and `candor backup run` at once (docs/operations.md).",
    ),
    (
        "backup.recipient",
        "none",
        "Public half of the recovery key that backups are encrypted to, age1...; `candor backup key FILE` makes one.",
    ),
    ("backup.every_hours", "24", "Hours between two backups by `candor serve`, 1 to 720."),
    (
        "backup.keep_days",
        "30",
        "Days after which a backup is removed, 1 to 3650; an erased person is beyond recovery then.",
    ),
    ("workers", "2", "Threads that validate and seal, 1 to 64."),
    (
        "sources.NAME.recipients",
        "\"count\"",
        "How document 2's kinds keep recipients of this source: \"count\", \"hash\" or \"full_address\".",
    ),
    ("sources.NAME.environment", "the top one", "The environment that records made of this source's log name."),
    (
        "sources.NAME.component",
        "\"smtp-relay\"",
        "The source_component that records made of this source's log name, a token.",
    ),
    (
        "sources.NAME.log",
        "none",
        "Log of a Postfix relay that `candor serve` follows for this source (docs/sources/postfix.md).",
    ),
    (
        "sources.NAME.zone",
        "\"+00:00\"",
        "Offset from UTC of log stamps that have none, such as \"+02:00\". A zone with summer time is better left to a log whose stamps carry their offset.",
    ),
    (
        "sources.NAME.hops",
        "none",
        "Names or addresses of relays that are hops inside your own mail system, such as a content filter: what they take is not yet sent. Loopback addresses and hosts whose log is read always are.",
    ),
    (
        "sources.NAME.clients",
        "none",
        "Names or addresses of clients whose mail is yours: a refusal of it is a failed notification. Loopback addresses and whoever signs in always are.",
    ),
    (
        "sources.NAME.open_messages_max",
        "1000000",
        "Messages of a relay's log that are held open at once; about 170 bytes of memory each. What has to be given up is recorded as a gap.",
    ),
    (
        "sources.NAME.quiet_after_s",
        "none",
        "Seconds of silence after which `candor serve` raises an alert (ALERT_RAISED, rule source_quiet); it is resolved when the source speaks again.",
    ),
    (
        "sources.NAME.numbered",
        "false",
        "The source gives its records event ids of the form STREAM:NUMBER, each stream counting from 1: numbers that are missing for a minute or two are recorded (INGEST_GAP).",
    ),
    (
        "sources.NAME.quarantine",
        "true",
        "What is refused is kept for 30 days, sealed and with secrets cut, to be taken in when its cause is mended (`candor quarantine`).",
    ),
    (
        "sources.NAME.claimed",
        "false",
        "In this source's records people say themselves who they are (a form, a call): a customer number and an address that stand in one record are not taken to be of one person (docs/own-history.md).",
    ),
    ("sources.NAME.out_of_use", "false", "Nothing is expected of the source any more: its silence is no alert."),
];

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub environment: String,
    pub site: Option<String>,
    pub master_key_file: Option<PathBuf>,
    pub high_water_copy: Option<PathBuf>,
    pub journal: Option<String>,
    pub journal_credentials: Option<PathBuf>,
    pub journal_ca_file: Option<PathBuf>,
    pub keys: Option<String>,
    pub keys_credentials: Option<PathBuf>,
    pub journal_memory_mib: u16,
    pub kinds_folder: Option<PathBuf>,
    pub rules_file: Option<PathBuf>,
    pub policy_file: Option<PathBuf>,
    pub listen: SocketAddr,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub proxies: Vec<String>,
    pub verify_days: u16,
    pub workers: usize,
    pub answer: web::mirrors::AnswerWhen,
    pub expiry: Expiry,
    pub breached_passwords: Option<PathBuf>,
    pub second_person: Vec<Sort>,
    pub public_url: Option<String>,
    pub mail: Option<Mail>,
    pub oidc: Option<Oidc>,
    pub places: Option<PlacesConfig>,
    pub backup: Option<Backup>,
    pub retention: BTreeMap<String, Vec<Basis>>,
    pub sources: BTreeMap<String, Source>,
}

/// Where backups go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    pub folder: PathBuf,
    pub recipient: String,
    #[serde(default = "backup_hours")]
    pub every_hours: u16,
    #[serde(default = "backup_days")]
    pub keep_days: u16,
}

fn backup_hours() -> u16 {
    24
}

fn backup_days() -> u16 {
    30
}

/// Who ends keys that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    OnTime,
    ByHand,
}

/// Why keys of a class live so long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    pub days: u32,
    pub legal_basis: String,
}

/// Where addresses are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlacesConfig {
    pub file: Option<PathBuf>,
    pub ranges: BTreeMap<String, PlaceConfig>,
}

/// A place of a range.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceConfig {
    pub name: String,
    pub country: Option<String>,
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
}

/// The ranges of proxies, as they are configured.
pub fn proxies(config: &Config) -> Result<Vec<Range>> {
    let ranges = config.proxies.iter().map(|text| Range::parse(text));
    ranges.collect::<Result<_, _>>().map_err(|why| anyhow::anyhow!("serve: proxies: {why}"))
}

/// Where addresses are, as it is configured.
pub fn places(data: &Path, config: &Config) -> Result<Places> {
    let configured = config.places.clone().unwrap_or_default();
    let mut ranges = Vec::new();
    for (range, of) in configured.ranges {
        if of.name.is_empty() || of.name.chars().count() > 128 || of.name.chars().any(char::is_control) {
            bail!("serve: places.ranges.{range:?}: name must have 1 to 128 characters");
        }
        let is_code = |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        if of.country.as_ref().is_some_and(|code| !is_code(code)) {
            bail!("serve: places.ranges.{range:?}: country must be two capital letters (ISO 3166-1), such as \"ZA\"");
        }
        let point = match of.latitude.zip(of.longitude) {
            Some((north, east)) => {
                let bad = || format!("serve: places.ranges.{range:?}: latitude or longitude is none");
                Some(Point::of(north, east).with_context(bad)?)
            }
            None => None,
        };
        ranges.push((range, Place { name: of.name, country: of.country, point }));
    }
    let file = configured.file.map(|file| data.join(file));
    Places::new(ranges, file.as_deref()).map_err(|why| anyhow::anyhow!("serve: places: {why}"))
}

/// Single sign-on by OpenID Connect.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    #[serde(default = "provider_name")]
    pub name: String,
    pub issuer: String,
    pub client_id: String,
    pub client_secret_file: Option<PathBuf>,
    #[serde(default = "provider_scopes")]
    pub scopes: Vec<String>,
    #[serde(default = "provider_claim")]
    pub role_claim: String,
    pub roles: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub hosts: Vec<String>,
    pub ca_file: Option<PathBuf>,
}

fn provider_name() -> String {
    "your work account".into()
}

fn provider_scopes() -> Vec<String> {
    vec!["email".into(), "profile".into()]
}

fn provider_claim() -> String {
    "groups".into()
}

/// How mail is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub relay: String,
    pub from: String,
    pub tls: Option<Transport>,
    pub ca_file: Option<PathBuf>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
}

/// How a relay is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    None,
    Starttls,
    Tls,
}

/// A source of records.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    pub recipients: Recipients,
    pub environment: Option<String>,
    pub component: Option<String>,
    pub log: Option<PathBuf>,
    pub zone: Option<String>,
    pub hops: Vec<String>,
    pub clients: Vec<String>,
    pub open_messages_max: Option<usize>,
    pub quiet_after_s: Option<u64>,
    pub out_of_use: bool,
    pub quarantine: bool,
    pub numbered: bool,
    pub claimed: bool,
}

impl Default for Source {
    fn default() -> Self {
        Source {
            recipients: Recipients::default(),
            environment: None,
            component: None,
            log: None,
            zone: None,
            hops: Vec::new(),
            clients: Vec::new(),
            open_messages_max: None,
            quiet_after_s: None,
            out_of_use: false,
            quarantine: true,
            numbered: false,
            claimed: false,
        }
    }
}

impl Source {
    /// Minutes east of UTC of stamps without a zone.
    pub fn zone_east_minutes(&self) -> Option<i32> {
        let Some(zone) = &self.zone else { return Some(0) };
        let (sign, rest) = match zone.split_at_checked(1)? {
            ("+", rest) => (1, rest),
            ("-", rest) => (-1, rest),
            _ => return None,
        };
        let (hours, minutes) = rest.split_once(':')?;
        let number = |text: &str, limit: i32| {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number: &i32| digits && *number <= limit)
        };
        Some(sign * (60 * number(hours, 14)? + number(minutes, 59)?))
    }
}

/// How recipients are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Recipients {
    #[default]
    Count,
    Hash,
    #[value(alias = "full-address")]
    FullAddress,
}

impl Recipients {
    /// As the configuration and the trail spell it.
    pub fn name(self) -> &'static str {
        match self {
            Recipients::Count => "count",
            Recipients::Hash => "hash",
            Recipients::FullAddress => "full_address",
        }
    }
}

impl From<Recipients> for RecipientMode {
    fn from(mode: Recipients) -> Self {
        match mode {
            Recipients::Count => RecipientMode::Count,
            Recipients::Hash => RecipientMode::Hash,
            Recipients::FullAddress => RecipientMode::FullAddress,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let sources = BTreeMap::from([("local".to_owned(), Source::default())]);
        Config {
            environment: "production".into(),
            site: None,
            master_key_file: None,
            high_water_copy: None,
            journal: None,
            journal_credentials: None,
            journal_ca_file: None,
            keys: None,
            keys_credentials: None,
            journal_memory_mib: 256,
            kinds_folder: None,
            rules_file: None,
            policy_file: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8420)),
            tls_certificate: None,
            tls_key: None,
            proxies: Vec::new(),
            verify_days: 7,
            workers: 2,
            answer: web::mirrors::AnswerWhen::Durable,
            expiry: Expiry::OnTime,
            breached_passwords: None,
            second_person: Sort::DEFAULT.to_vec(),
            public_url: None,
            mail: None,
            oidc: None,
            places: None,
            backup: None,
            retention: BTreeMap::new(),
            sources,
        }
    }
}

impl Config {
    /// Reads and checks the file; a missing one is the defaults.
    pub fn read(data: &Path) -> Result<Config> {
        let path = data.join("candor.toml");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        Config::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Reads and checks the text of a configuration.
    pub fn parse(text: &str) -> Result<Config> {
        let mut config: Config = toml::from_str(text)?;
        config.sources.entry("local".into()).or_default();
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if !is_token(&self.environment) || self.site.as_ref().is_some_and(|site| !is_token(site)) {
            bail!("check configuration: environment and site must be 1 to 64 letters, digits or _.:/+-");
        }
        if !(1..=365).contains(&self.verify_days) {
            bail!("check configuration: verify_days is {}, it must be 1 to 365", self.verify_days);
        }
        if self.journal_memory_mib < 16 {
            bail!("check configuration: journal_memory_mib is {}, it must be 16 to 65535", self.journal_memory_mib);
        }
        if let Some(url) = &self.journal {
            ledger::objects::BucketUrl::parse(url)
                .map_err(|why| anyhow::anyhow!("check configuration: journal: {why}"))?;
        }
        if let Some(backup) = &self.backup {
            crate::backup::recipient(&backup.recipient).context("check configuration")?;
            if !(1..=720).contains(&backup.every_hours) || !(1..=3650).contains(&backup.keep_days) {
                bail!("check configuration: backup.every_hours must be 1 to 720, backup.keep_days 1 to 3650");
            }
        }
        for (name, bases) in &self.retention {
            if ClassId::by_name(name).is_none_or(|class| class.class().keys_live_days.is_none()) {
                let known: Vec<&str> =
                    CLASSES.iter().filter(|class| class.keys_live_days.is_some()).map(|class| class.name).collect();
                bail!("check configuration: retention.{name}: the classes whose keys end are {}", known.join(", "));
            }
            let good = |basis: &Basis| {
                (1..=36_500).contains(&basis.days) && (1..=512).contains(&basis.legal_basis.chars().count())
            };
            if bases.is_empty() || !bases.iter().all(good) {
                bail!(
                    "check configuration: retention.{name}: each has days, 1 to 36500, and a legal_basis of 1 to 512 characters"
                );
            }
        }
        if !(1..=64).contains(&self.workers) {
            bail!("check configuration: workers is {}, it must be 1 to 64", self.workers);
        }
        for (name, source) in &self.sources {
            if !is_token(name) || name.contains('/') || name.starts_with('.') {
                bail!(
                    "check configuration: a source's name must be 1 to 64 letters, digits or _.:+-, the first no dot"
                );
            }
            let words = [&source.environment, &source.component];
            if words.into_iter().flatten().any(|word| !is_token(word)) {
                bail!(
                    "check configuration: sources.{name}: environment and component must be 1 to 64 letters, digits or _.:/+-"
                );
            }
            if source.zone_east_minutes().is_none() {
                bail!("check configuration: sources.{name}.zone must be an offset such as +02:00, at most 14:59");
            }
            if source.quiet_after_s.is_some_and(|seconds| !(1..=31_536_000).contains(&seconds)) {
                bail!("check configuration: sources.{name}.quiet_after_s must be 1 to 31536000");
            }
            if source.open_messages_max.is_some_and(|max| !(1..=100_000_000).contains(&max)) {
                bail!("check configuration: sources.{name}.open_messages_max must be 1 to 100000000");
            }
        }
        Ok(())
    }

    /// How long keys live here.
    pub fn retention_of_classes(&self) -> Retention {
        let mut retention = Retention::default();
        for (name, bases) in &self.retention {
            if let (Some(class), Some(longest)) = (ClassId::by_name(name), bases.iter().map(|basis| basis.days).max()) {
                retention.set(class, longest);
            }
        }
        retention
    }

    /// By class, why its keys live as long as they do.
    pub fn legal_bases(&self) -> BTreeMap<ClassId, String> {
        let longest = |(name, bases): (&String, &Vec<Basis>)| {
            let basis = bases.iter().max_by_key(|basis| basis.days)?;
            Some((ClassId::by_name(name)?, basis.legal_basis.clone()))
        };
        self.retention.iter().filter_map(longest).collect()
    }

    /// The file that `init` writes: every key, commented out.
    pub fn template() -> String {
        let mut text = String::from(
            "# Candor's configuration. Every key is optional; `candor config check` reads this file as a start would.\n",
        );
        for (key, default, meaning) in REFERENCE.iter().filter(|(key, _, _)| !key.contains('.')) {
            text.push_str(&format!("\n# {meaning}\n# Default: {default}\n#{key} =\n"));
        }
        text.push_str("\n# A section for each source.\n#[sources.local]\n#recipients = \"count\"\n");
        text
    }

    /// `docs/configuration.md`.
    pub fn reference() -> String {
        let mut text = String::from(
            "# Configuration\n\n`DIR/candor.toml`; written from the code by `candor config reference`.\n\n| key | default | meaning |\n|---|---|---|\n",
        );
        for (key, default, meaning) in REFERENCE {
            text.push_str(&format!("| `{key}` | {default} | {meaning} |\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_reference() {
        let full = Config {
            site: Some("s".into()),
            master_key_file: Some("m".into()),
            high_water_copy: Some("h".into()),
            journal: Some("s3://bucket".into()),
            journal_credentials: Some("c".into()),
            journal_ca_file: Some("c".into()),
            keys: Some("s3://keys".into()),
            keys_credentials: Some("c".into()),
            kinds_folder: Some("k".into()),
            rules_file: Some("r".into()),
            policy_file: Some("p".into()),
            tls_certificate: Some("c".into()),
            tls_key: Some("t".into()),
            ..Config::default()
        };
        let text = toml::to_string(&full).expect("TOML");
        let value: toml::Table = text.parse().expect("TOML");
        for key in value.keys() {
            assert!(REFERENCE.iter().any(|(name, _, _)| name.split('.').next() == Some(key)), "{key}");
        }
        assert!(toml::from_str::<Config>("no_such_key = 1").is_err());
        assert!(toml::from_str::<Config>(&Config::template()).is_ok());
    }
}

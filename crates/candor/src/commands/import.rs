//! `candor import`: what an old system knew.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, bail};
use clap::Args;
use record::minimal::IMPORTED;
use serde_json::json;
use sources::import::mail::Archive;
use sources::import::mapping::Mapping;

use super::{Data, Output};
use crate::config::Source;
use crate::import::{Format, Import as Importing, record};
use crate::ingest::{BATCH_LINES, Input, Shown};
use crate::trail::{OpenMode, Trail};

/// `candor import`
#[derive(Args)]
pub struct Import {
    #[command(flatten)]
    data: Data,
    /// How it is stored.
    #[arg(long, value_enum)]
    format: Format,
    /// Name of the archive, 1 to 57 letters, digits or _.:+-: its records have the source import.NAME.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Which columns are which fields (docs/import.md); a table needs it.
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// A domain of the business: mail from it was sent, all other mail was received. May be given again.
    #[arg(long = "own-domain", value_name = "DOMAIN")]
    own_domains: Vec<String>,
    /// File or folder to read.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Import {
    pub fn run(self) -> Result<ExitCode> {
        let token = !self.name.contains('/') && self.name.bytes().all(proof::encoding::is_token_byte);
        if !token || !(1..=57).contains(&self.name.len()) {
            bail!("import: --name must be 1 to 57 letters, digits or _.:+-");
        }
        let mail = matches!(self.format, Format::Mbox | Format::Maildir);
        if mail == self.own_domains.is_empty() {
            bail!("import: mail needs --own-domain, at least one, and nothing else takes it");
        }
        if mail && self.mapping.is_some() || self.format == Format::Csv && self.mapping.is_none() {
            bail!("import: a table needs --mapping, and mail takes none");
        }
        let mapping = self.mapping.as_ref().map(|path| -> Result<(Mapping, String)> {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            let mapping = toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
            Ok((mapping, proof::hash::sha256(text.as_bytes()).hex()))
        });
        let mapping = mapping.transpose()?;
        let zone = Source { zone: mapping.as_ref().and_then(|(mapping, _)| mapping.zone.clone()), ..Source::default() };
        let zone_minutes = zone.zone_east_minutes().context("import: zone must be an offset such as +02:00")?;
        let stop = super::interrupts()?;
        let trail = Trail::open(&self.data.data, OpenMode::default())?;
        let own_domains = self.own_domains.iter().map(|domain| domain.to_lowercase()).collect();
        let archive = Archive { own_domains, environment: trail.config.environment.clone() };
        let import = Importing {
            format: self.format,
            path: self.path.clone(),
            mapping,
            zone_minutes: zone_minutes.into(),
            archive,
        };
        let source = format!("{IMPORTED}{}", self.name);
        let bytes = AtomicU64::new(0);
        let input = Input {
            source: &source,
            workers: trail.config.workers,
            stop: &stop,
            shown: Shown::Refusals,
            batch_lines: BATCH_LINES,
            derived_ids: false,
            bytes: import.bytes().map(|total| (total, &bytes)),
        };
        let done = crate::ingest::ingest_items(&trail.intake, &input, &import);
        let closing = done.and_then(|(summary, read)| {
            let refused = summary.refused + read.unread;
            let fields = record(&import, &source, &read, [summary.accepted, summary.repeated, refused]);
            let entry = trail.intake.own_one("IMPORT_MADE", fields.clone())?;
            Ok((summary, read, fields, entry))
        });
        trail.close()?;
        let (summary, read, mut fields, entry) = closing?;
        if self.output.json {
            fields["entry"] = json!(entry);
            fields["interrupted"] = json!(summary.interrupted);
            fields["refused_by_reason"] = json!(summary.refused_by_reason);
            fields["unread"] = json!(read.unread);
            println!("{fields}");
        } else {
            println!(
                "{} items: {} accepted, {} repeated, {} refused, {} unread; entry {entry}",
                read.items, summary.accepted, summary.repeated, summary.refused, read.unread
            );
            if let Some((first, last)) = read.span {
                println!("from {} to {}", first.rfc3339(), last.rfc3339());
            }
        }
        if summary.interrupted {
            eprintln!("candor: interrupted: run it again to go on, what is in the trail is repeated and not doubled");
        }
        Ok(if summary.refused + read.unread > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS })
    }
}

//! `candor backup` and `candor restore`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Data, Output};
use crate::backup::{self, Asked, Folder, How, Manifest};
use crate::config::Config;
use crate::control::{self, On, OnTrail};
use crate::progress::Progress;

/// `candor backup`
#[derive(Args)]
pub struct Backup {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Subcommand)]
enum BackupCommand {
    /// Make a recovery key; backups are encrypted to its public half.
    ///
    /// The file has the secret half: who has it and a backup reads everything, and without it a backup is noise. Keep it
    /// off this machine, in two places.
    Key {
        /// File that the key is written to; it must not exist.
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Make a backup now, and remove those whose time is over; also while the server runs.
    Run {
        #[command(flatten)]
        data: Data,
        /// The folder has no backups yet although this trail made some elsewhere: it was changed in candor.toml. Without
        /// this an empty folder is taken for a disk that is not mounted.
        #[arg(long)]
        new_folder: bool,
        #[command(flatten)]
        output: Output,
    },
    /// List the backups of a folder; needs no key.
    List {
        /// Folder of backups.
        folder: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Check that every file of the backups of a folder is what was written; needs no key.
    Check {
        /// Folder of backups.
        folder: PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

impl OnTrail for Backup {
    fn data(&self) -> &Path {
        match &self.command {
            BackupCommand::Run { data, .. } => &data.data,
            _ => Path::new("."),
        }
    }

    fn alone(&self) -> bool {
        false
    }

    fn work(&self, on: &On<'_>, out: &mut dyn Write) -> Result<()> {
        let BackupCommand::Run { output, new_folder, .. } = &self.command else {
            bail!("backup: this command needs no server");
        };
        let config = on.trail.config.backup.as_ref().context(
            "backup: candor.toml does not say where: set backup.folder and backup.recipient (candor backup key FILE makes one)",
        )?;
        let mut progress = Progress::new("writing", None);
        let how = How { new_folder: *new_folder, stop: on.stop, told: &mut |bytes| progress.set(bytes) };
        let made = backup::make(on.trail, config, how)?;
        let manifest = &made.manifest;
        if output.json {
            let expired = &made.expired;
            let row = json!({"backup_id": manifest.backup_id, "entry": made.entry, "size": manifest.size, "expires": manifest.expires, "segments_copied": made.copied, "bytes_copied": made.copied_bytes, "expired": expired});
            writeln!(out, "{row}")?;
        } else {
            let (id, size, entry) = (&manifest.backup_id, manifest.size, made.entry);
            writeln!(out, "backup {id}: {size} entries, {} segments copied (entry {entry})", made.copied)?;
            writeln!(out, "it is kept until {}; {} older ones were removed", manifest.expires, made.expired.len())?;
        }
        Ok(())
    }
}

fn line(manifest: &Manifest) -> String {
    format!(
        "{}  {}  kept until {}  {:>9} entries  {:>6} MiB",
        manifest.backup_id,
        manifest.made,
        manifest.expires,
        manifest.size,
        manifest.bytes() >> 20
    )
}

fn row(manifest: &Manifest) -> serde_json::Value {
    json!({"backup_id": manifest.backup_id, "made": manifest.made, "expires": manifest.expires, "size": manifest.size, "generation": manifest.generation, "bytes": manifest.bytes()})
}

impl Backup {
    pub fn run(self) -> Result<ExitCode> {
        match &self.command {
            BackupCommand::Run { .. } => return control::run(&self),
            BackupCommand::Key { file, output } => {
                let recipient = backup::make_key(file)?;
                if output.json {
                    println!("{}", json!({"recipient": recipient, "file": file}));
                } else {
                    println!("recipient  {recipient}");
                    println!("the secret half is in {}: move it off this machine, to two places", file.display());
                }
            }
            BackupCommand::List { folder, output } => {
                for manifest in Folder::read(folder)?.manifests()? {
                    if output.json { println!("{}", row(&manifest)) } else { println!("{}", line(&manifest)) }
                }
            }
            BackupCommand::Check { folder, output } => {
                let folder = Folder::read(folder)?;
                let manifests = folder.manifests()?;
                let total = manifests.iter().map(Manifest::bytes).sum();
                let mut progress = Progress::new("checking", Some(total));
                let (mut before, mut bad) = (0, false);
                for manifest in &manifests {
                    let checked = folder.check_all(manifest, |done| progress.set(before + done));
                    before += manifest.bytes();
                    let why = checked.as_ref().err().map(|error| format!("{error:#}"));
                    bad |= why.is_some();
                    if output.json {
                        println!(
                            "{}",
                            json!({"backup_id": manifest.backup_id, "holds": why.is_none(), "finding": why})
                        );
                    } else {
                        println!("{}  {}", manifest.backup_id, why.as_deref().unwrap_or("holds"));
                    }
                }
                return Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `candor restore`
#[derive(Args)]
pub struct Restore {
    /// Data directory that is made; it must not exist or be empty.
    #[command(flatten)]
    data: Data,
    /// Folder of backups.
    #[arg(long, value_name = "FOLDER", required_unless_present = "nothing_newer", requires = "identity")]
    from: Option<PathBuf>,
    /// File with the recovery key.
    #[arg(long, value_name = "FILE", requires = "from")]
    identity: Option<PathBuf>,
    /// Which backup. Default: the newest.
    #[arg(long, value_name = "ID", requires = "from")]
    backup: Option<String>,
    /// Take the journal from here, such as the folder journal/ of a mirror, where it is newer than the backup's.
    #[arg(long, value_name = "FOLDER", requires = "from")]
    journal: Option<PathBuf>,
    /// Verifier key that the trail must have had: who can write into the folder can put another trail's backup there.
    #[arg(long, value_name = "VKEY", requires = "from")]
    key: Option<String>,
    /// Nothing was signed after this backup, and you answer for that: the trail goes on. Alone, of what was restored before.
    #[arg(long)]
    nothing_newer: bool,
    #[command(flatten)]
    output: Output,
}

impl Restore {
    pub fn run(self) -> Result<ExitCode> {
        let data = &self.data.data;
        if let (Some(from), Some(identity)) = (&self.from, &self.identity) {
            let mut progress = Progress::new("reading", None);
            let (id, journal) = (self.backup.as_deref(), self.journal.as_deref());
            let asked = Asked { from, identity, data, id, journal, key: self.key.as_deref() };
            let restored = backup::restore(&asked, &mut |bytes| progress.set(bytes))?;
            let manifest = &restored.manifest;
            if self.output.json {
                println!(
                    "{}",
                    json!({"backup_id": manifest.backup_id, "size": restored.size, "made": manifest.made, "vkey": manifest.vkey, "missing": restored.missing, "unsigned": restored.unsigned})
                );
            } else {
                println!(
                    "restored  {} entries of {}, and the keys to them; the journal holds",
                    restored.size, manifest.made
                );
                if restored.unsigned > 0 {
                    println!(
                        "its last {} entries are not signed yet: who had write access to that journal can have put them there; the first start signs them",
                        restored.unsigned
                    );
                }
                if self.key.is_none() {
                    println!("its key is  {}: compare it with what you have from before (--key does)", manifest.vkey);
                }
                let data = data.display();
                match restored.missing {
                    Some(0) => println!("the high-water mark elsewhere knows of nothing newer: start it as before"),
                    Some(missing) => println!(
                        "{missing} signed entries after it are missing: this trail does not go on; candor init --data NEW --succeeds {data}"
                    ),
                    None if self.nothing_newer => {}
                    None => println!(
                        "if nothing was signed after it: candor restore --nothing-newer --data {data}; else: candor init --data NEW --succeeds {data}"
                    ),
                }
                let config = Config::read(&self.data.data)?;
                if let Some(path) = config.master_key_file {
                    println!(
                        "the master key is in {data}/keys/master.key; candor.toml expects it in {}",
                        path.display()
                    );
                }
            }
        }
        if self.nothing_newer {
            let entry = backup::accept(data)?;
            if !self.output.json {
                println!("it goes on (entry {entry})");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

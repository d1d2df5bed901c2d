//! The candor binary: configuration, commands, wiring.

mod alerts;
mod backup;
mod beat;
mod bench;
mod bench_http;
mod bench_log;
mod bench_registers;
mod clock_state;
mod commands;
mod completeness;
mod config;
mod control;
mod ending;
mod erase;
mod follow;
mod generate;
mod hold;
mod home;
mod import;
mod ingest;
mod intake;
mod key_bucket;
mod log_key;
mod mail;
mod mirror;
mod mirrors;
mod past;
mod people;
mod policy;
mod postfix;
mod progress;
mod quarantine;
mod reviews;
mod scrub;
mod serve;
mod settings;
mod silence;
mod source_state;
mod space;
mod sso;
mod tls;
mod trail;
mod workers;

use std::process::ExitCode;

/// A record is made of many small pieces that one thread allocates and another frees (docs/decisions/0006).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run()
}

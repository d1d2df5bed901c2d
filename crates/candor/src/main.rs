//! The candor binary: configuration, commands, wiring.

mod bench;
mod commands;
mod config;
mod erase;
mod generate;
mod ingest;
mod intake;
mod progress;
mod trail;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run()
}

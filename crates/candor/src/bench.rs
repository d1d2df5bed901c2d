//! `candor bench`: the write path in this process, beside probes of the machine's limits.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

/// `candor bench`
#[derive(Args)]
pub struct Bench {
    /// Print lines of the workload instead of measuring.
    #[arg(long, value_name = "COUNT")]
    generate: Option<u64>,
    /// Seed of the workload.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Subjects of the workload.
    #[arg(long, default_value_t = 200_000)]
    subjects: u64,
}

impl Bench {
    pub fn run(self) -> Result<ExitCode> {
        use std::io::Write;
        if let Some(count) = self.generate {
            let start = ledger::clock::Clock::now(&ledger::clock::SystemClock).0 - 86_400_000;
            let mut workload = crate::generate::Workload::new(self.seed, self.subjects, start);
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            for _ in 0..count {
                writeln!(out, "{}", workload.line())?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Ok(ExitCode::SUCCESS)
    }
}

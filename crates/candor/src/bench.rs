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
    /// Train a compression dictionary on the workload and write it to this file, instead of measuring.
    #[arg(long, value_name = "FILE", hide = true)]
    dictionary: Option<std::path::PathBuf>,
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
        if let Some(file) = &self.dictionary {
            std::fs::write(file, self.train()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// 16 KiB trained on the bodies of synthetic records; a record names the dictionary it needs by id for ever.
    fn train(&self) -> Result<Vec<u8>> {
        use record::schema::FieldClass;
        let (catalogue, detector) = (record::kinds::Catalogue::shipped()?, record::detect::Detector::new());
        let mut workload = crate::generate::Workload::new(self.seed, self.subjects, 1_763_000_000_000);
        let mut reader = record::minimal::Reader::default();
        let hash = |_: &str| [0; 16];
        let mut samples = Vec::new();
        for _ in 0..20_000 {
            let context = record::minimal::Context {
                source: "local",
                recipients: Default::default(),
                site: None,
                authority: record::schema::Authority::Source,
                now: proof::time::UnixMillis(1_763_000_000_000),
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

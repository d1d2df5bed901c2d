//! `cargo xtask ci`: exactly what CI runs, in the same order. `cargo xtask licences` alone is its third step.
#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Licences that a dependency may have, alone or as one side of an OR.
const LICENCES: [&str; 11] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "0BSD",
    "CDLA-Permissive-2.0",
    "Apache-2.0 WITH LLVM-exception",
];
/// Packages whose licence is written in another way, looked at by hand; each has a line in docs/decisions.
const EXCEPTIONS: [(&str, &str); 1] = [("borrow-or-share", "MIT-0")];

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?.to_owned();
    match std::env::args().nth(1).as_deref() {
        Some("ci") => ci(&root),
        Some("licences") => licences(&root),
        _ => bail!("usage: cargo xtask ci | licences"),
    }
}

fn ci(root: &Path) -> Result<()> {
    let python = python(root)?;
    step("format", || run(root, "cargo", &["fmt", "--all", "--check"]))?;
    step("licences and sources", || licences(root))?;
    step("lints", || run(root, "cargo", &["clippy", "--workspace", "--all-targets", "-q", "--", "-D", "warnings"]))?;
    step("fuzz targets are replayed by tests", || fuzz_targets(root))?;
    step("tests", || {
        let status = Command::new("cargo")
            .args(["test", "--workspace", "--", "--nocapture"])
            .current_dir(root)
            .env("CANDOR_PYTHON", &python)
            .env("RUST_BACKTRACE", "0")
            .status()
            .context("run cargo test")?;
        if status.success() { Ok(()) } else { bail!("tests failed") }
    })?;
    println!("ci: all steps passed");
    Ok(())
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let start = Instant::now();
    run().with_context(|| format!("step {name}"))?;
    println!("== {name}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn run(root: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    let status =
        Command::new(program).args(arguments).current_dir(root).status().with_context(|| format!("run {program}"))?;
    if status.success() { Ok(()) } else { bail!("{program} {} failed", arguments.join(" ")) }
}

/// A virtual environment with the second verifier's one dependency.
fn python(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/python");
    let python = folder.join("bin/python3");
    let ready = |python: &Path| {
        Command::new(python).args(["-c", "import cryptography"]).output().is_ok_and(|output| output.status.success())
    };
    if !ready(&python) {
        step("python environment", || {
            run(root, "python3", &["-m", "venv", "target/python"])?;
            run(
                root,
                "target/python/bin/pip",
                &["install", "-q", "--disable-pip-version-check", "cryptography==44.0.0"],
            )
        })?;
    }
    Ok(python)
}

/// Every dependency comes from the registry and has an allowed licence. Advisories need a database that is not
/// reachable where this runs; SECURITY.md says so.
fn licences(root: &Path) -> Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: is Cargo.lock up to date?");
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let source = package["source"].as_str();
        if source.is_none() {
            continue;
        }
        if !source.is_some_and(|source| {
            source.starts_with("registry+https://github.com/rust-lang/crates.io-index") || source.starts_with("sparse+")
        }) {
            wrong.push(format!("{name}: not from the registry"));
        }
        let licence = package["license"].as_str().unwrap_or("none");
        if !allowed(licence) && !EXCEPTIONS.contains(&(name, licence)) {
            wrong.push(format!("{name}: {licence}"));
        }
    }
    if !wrong.is_empty() {
        bail!("not allowed:\n  {}", wrong.join("\n  "));
    }
    println!("{} packages, all from the registry, all licences allowed", packages.len());
    Ok(())
}

/// An SPDX expression: every AND part must have an allowed OR alternative.
fn allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

/// Each fuzz target has a seed corpus, which a plain test replays.
fn fuzz_targets(root: &Path) -> Result<()> {
    for item in std::fs::read_dir(root.join("fuzz/fuzz_targets")).context("read fuzz/fuzz_targets")? {
        let name = item?.path().file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let corpus = root.join("fuzz/corpus").join(&name);
        if std::fs::read_dir(&corpus).map(|items| items.count()).unwrap_or(0) == 0 {
            bail!("fuzz target {name} has no corpus in {}", corpus.display());
        }
    }
    Ok(())
}

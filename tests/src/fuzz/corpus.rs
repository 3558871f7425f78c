//! The inputs of a target that are kept: `fuzz/corpus/<target>/`, a file each.
//!
//! The first ones are [`Target::seeds`](super::Target::seeds), written once by the encoders of then: bytes of older versions stay. What
//! a fuzzer or a mutation found wrong is added under a name that says what it was.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Seed, Target};

/// The folder of a target.
#[must_use]
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name)
}

/// The files of a target, by name.
///
/// # Panics
/// When one can't be read.
#[must_use]
pub fn files(target: &Target) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder(target)) else { return Vec::new() };
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Writes the seeds, each under its name, in place of what had it; other files stay.
///
/// # Panics
/// When one can't be written.
pub fn write(target: &Target, seeds: &[Seed]) {
    let folder = folder(target);
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in seeds {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

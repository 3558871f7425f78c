//! The file that remembers what was typed: `$XDG_STATE_HOME/cairn/history`, readable by its owner only.
//!
//! A history that can't be read or written is never a reason to stop.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Entries kept.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// The history file, made when there is none; None when there is no place for it.
pub(crate) fn file() -> Option<PathBuf> {
    let path = path(env::var_os("XDG_STATE_HOME"), env::var_os("HOME"))?;
    private(&path).ok()?;
    Some(path)
}

fn path(state: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // The XDG rules: a relative path in the variable is to be ignored.
    let absolute = |dir: OsString| Some(PathBuf::from(dir)).filter(|dir| dir.is_absolute());
    let state = state.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".local/state")))?;
    Some(state.join("cairn").join("history"))
}

/// Makes sure the file exists and that only its owner reads it.
fn private(path: &Path) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn where_it_lies() {
        let some = |text: &str| Some(OsString::from(text));
        assert_eq!(path(some("/s"), some("/h")), Some("/s/cairn/history".into()));
        assert_eq!(path(None, some("/h")), Some("/h/.local/state/cairn/history".into()));
        assert_eq!(path(some("relative"), some("/h")), Some("/h/.local/state/cairn/history".into()));
        assert_eq!(path(None, None), None);
    }

    #[test]
    fn only_the_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/history");
        private(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

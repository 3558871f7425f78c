//! Where journals are.
//!
//! Owns: the directory of each, named by the id of its database and by the address it is written at: a copy of a bucket has the same id,
//! and must not get commits that were made for the other. It is state of this machine, not a cache: nothing may clean it up.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{OpenOptions, Root};
use crate::fs::{FileSystem, OsFileSystem};
use crate::id::DatabaseId;

/// A journal's directory.
pub(super) struct Place {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) name: String,
}

impl Place {
    /// That of the database `id` at `root`; None: there is no place for one.
    pub(super) fn of(id: DatabaseId, root: &Root, options: &OpenOptions) -> Option<Self> {
        if let Some(fs) = &options.fs {
            return Some(Self { fs: Arc::clone(fs), name: "in the file system that was given".to_owned() });
        }
        let path = options.journal_directory.as_ref()?.join(directory_name(id, root));
        let name = path.display().to_string();
        Some(Self { fs: Arc::new(OsFileSystem::new(path)), name })
    }
}

/// Where journals are when nobody says where: `journal` in `$CAIRN_STATE_DIR`, else in `$XDG_STATE_HOME/cairn`, else in
/// `$HOME/.local/state/cairn`. None: none of them is set.
#[must_use]
pub fn default_journal_directory() -> Option<PathBuf> {
    directory_from(|name| std::env::var_os(name))
}

fn directory_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG base directory specification has relative paths ignored.
    let xdg = || path("XDG_STATE_HOME").filter(|home| home.is_absolute()).map(|home| home.join("cairn"));
    let home = || path("HOME").map(|home| home.join(".local").join("state").join("cairn"));
    path("CAIRN_STATE_DIR").or_else(xdg).or_else(home).map(|state| state.join("journal"))
}

fn directory_name(id: DatabaseId, root: &Root) -> String {
    format!("{id}-{}", address_hash(root))
}

fn address_hash(root: &Root) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(root.to_string().as_bytes()))
}

/// What to tell of journals with commits that are near this one's and not its own: of the same database at another address, or of
/// another database at the same address. They are left alone.
pub(in crate::database) fn others(id: DatabaseId, root: &Root, options: &OpenOptions) -> Vec<String> {
    let Some(directory) = options.journal_directory.as_ref().filter(|_| options.fs.is_none()) else {
        return Vec::new();
    };
    // Where there is none, or none that can be read, there is nothing to tell.
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let (own, id, address) = (directory_name(id, root), id.to_string(), address_hash(root));
    let mut notes = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name == own || !holds_files(&path) {
            continue;
        }
        let shown = path.display();
        if name.starts_with(&id) {
            notes.push(format!(
                "the journal {shown} is of this database at another address; it is left alone"
            ));
        } else if name.ends_with(&address) {
            notes.push(format!(
                "the journal {shown} is of another database at this address; it is left alone"
            ));
        }
    }
    notes.sort();
    notes
}

fn holds_files(journal: &Path) -> bool {
    fs::read_dir(journal.join("wal")).is_ok_and(|mut files| files.next().is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn it_is_state_not_cache() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(n, v)| ((*n).to_owned(), OsString::from(v))).collect();
            directory_from(|name| set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HOME", "/h")]), Some("/h/.local/state/cairn/journal".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]), Some("/s/cairn/journal".into()));
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_STATE_HOME", "s")]),
            Some("/h/.local/state/cairn/journal".into())
        );
        assert_eq!(of(&[("XDG_STATE_HOME", "/s"), ("CAIRN_STATE_DIR", "/c")]), Some("/c/journal".into()));
    }

    #[test]
    fn each_database_and_address_has_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let options =
            OpenOptions { journal_directory: Some(directory.path().to_path_buf()), ..OpenOptions::default() };
        let (one, two) = (DatabaseId(Uuid::from_u128(1)), DatabaseId(Uuid::from_u128(2)));
        let (here, there) =
            (Root::parse("s3://bucket/here").unwrap(), Root::parse("s3://bucket/there").unwrap());
        for (id, root) in [(one, &there), (two, &here), (two, &there)] {
            let path = directory.path().join(directory_name(id, root)).join("wal");
            fs::create_dir_all(&path).unwrap();
            let told = others(one, &here, &options);
            assert!(
                !told.iter().any(|note| note.contains(&directory_name(id, root))),
                "it is empty: {told:?}"
            );
            fs::write(path.join("00000000000000000001"), b"x").unwrap();
            let told = others(one, &here, &options);
            let is_near = id == one || root == &here;
            assert_eq!(told.iter().any(|note| note.contains(&directory_name(id, root))), is_near, "{told:?}");
        }
        assert_ne!(directory_name(one, &here), directory_name(one, &there));
    }
}

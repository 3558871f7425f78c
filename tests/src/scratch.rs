//! Where databases of a test lie that are soon gone.
//!
//! Owns: a directory in memory where the system has room for one. Nothing is lost there that a process could see: what a sync is worth
//! is tested on simulated disks (`loss`, and those of storage), and on the machine's own by whoever takes a directory of `tempfile`.

use std::path::Path;

use tempfile::TempDir;

/// Directories of a file system in memory.
const MEMORY: &str = "/dev/shm";
/// Room that all tests of a program need at the same time, and more.
const ROOM_KIB_MIN: u64 = 2 << 20;

/// An empty directory, gone when it is dropped: in memory where there is room, else where `tempfile` puts it.
///
/// # Errors
/// When it can't be made.
pub fn scratch() -> std::io::Result<TempDir> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    if has_room(&mounts)
        && let Ok(directory) = tempfile::tempdir_in(Path::new(MEMORY))
    {
        return Ok(directory);
    }
    tempfile::tempdir()
}

/// Whether these mounts, as Linux lists them, have a large file system in memory: a container's is often small.
fn has_room(mounts: &str) -> bool {
    // Of each: device, place, kind, options. The last one covers those before it.
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of_memory = mounts.rfind(|fields| fields.get(1) == Some(&MEMORY));
    let Some([_, _, "tmpfs", options, ..]) = of_memory.as_deref() else { return false };
    let size = options.split(',').find_map(|option| option.strip_prefix("size="));
    let kib = |size: &str| size.strip_suffix('k')?.parse::<u64>().ok();
    // Without a size it is half of the memory.
    size.is_none_or(|size| kib(size).is_some_and(|kib| kib >= ROOM_KIB_MIN))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn small_file_systems_are_left_alone() {
        let mounts = |options: &str| {
            format!(
                "/dev/vda / ext4 rw,size=1k 0 0\ntmpfs /dev/shm tmpfs {options} 0 0\nproc /proc proc rw 0 0\n"
            )
        };
        assert!(has_room(&mounts("rw,nosuid")) && has_room(&mounts("rw,relatime,size=24684092k")));
        assert!(!has_room(&mounts("rw,size=65536k")) && !has_room(&mounts("rw,size=much")));
        assert!(!has_room(&(mounts("rw") + "overlay /dev/shm overlay rw 0 0\n")));
        assert!(!has_room("") && !has_room("tmpfs /run tmpfs rw 0 0\n"));
        assert!(scratch().unwrap().path().is_dir());
    }
}

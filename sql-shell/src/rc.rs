//! The file with which a user sets the shell up: `$XDG_CONFIG_HOME/cairn/shellrc`, or the one that `--rc` names.
//!
//! Owns: where it is. It is read only where somebody types: a script means the same for everybody.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::args::Args;

/// The file to run; None: there is none, or the user wants none. One that was named is run, there or not.
pub(crate) fn file(args: &Args) -> Option<PathBuf> {
    if args.no_rc {
        return None;
    }
    let usual = || path(env::var_os("XDG_CONFIG_HOME"), env::var_os("HOME")).filter(|path| path.exists());
    args.rc.clone().or_else(usual)
}

fn path(config: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // The XDG rules: a relative path in the variable is to be ignored.
    let absolute = |dir: OsString| Some(PathBuf::from(dir)).filter(|dir| dir.is_absolute());
    let config = config.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".config")))?;
    Some(config.join("cairn").join("shellrc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_lies() {
        let some = |text: &str| Some(OsString::from(text));
        assert_eq!(path(some("/c"), some("/h")), Some("/c/cairn/shellrc".into()));
        assert_eq!(path(some("c"), some("/h")), Some("/h/.config/cairn/shellrc".into()));
        assert_eq!(path(None, None), None);
    }
}

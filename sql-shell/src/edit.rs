//! Text in the user's editor.

use std::env;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Variables that name the editor, the first that is set.
const VARIABLES: [&str; 3] = ["CAIRN_EDITOR", "VISUAL", "EDITOR"];
const USUAL: &str = "vi";

/// What `file` holds when the user leaves the editor; None: a file that begins with `begin` and goes away afterwards.
///
/// # Errors
/// A sentence: no editor, or a file that can't be read or written.
pub(crate) fn edited(file: Option<&str>, begin: &str) -> Result<String, String> {
    let named = |value: String| (!value.trim().is_empty()).then_some(value);
    let editor = VARIABLES.iter().find_map(|name| env::var(name).ok().and_then(named));
    edited_by(editor.as_deref().unwrap_or(USUAL), file, begin)
}

fn edited_by(editor: &str, file: Option<&str>, begin: &str) -> Result<String, String> {
    let Some(file) = file else {
        let wrong = |error: std::io::Error| format!("no file can be made to edit: {error}");
        let mut file = tempfile::Builder::new().prefix("cairn-").suffix(".sql").tempfile().map_err(wrong)?;
        file.write_all(begin.as_bytes()).map_err(wrong)?;
        return run(editor, file.path());
    };
    run(editor, Path::new(file))
}

fn run(editor: &str, file: &Path) -> Result<String, String> {
    // The editor may be given with options; the file is no part of what the system's shell reads.
    let command = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file).status();
    match command {
        Err(error) => Err(format!("{editor} can't be run: {error}")),
        Ok(status) if !status.success() => {
            Err(format!("{editor} ended with {status}; set EDITOR to the editor that you want"))
        }
        Ok(_) => {
            fs::read_to_string(file).map_err(|error| format!("{} can't be read: {error}", file.display()))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_editor_leaves_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a file; $x.sql");
        fs::write(&file, "SELECT 1;\n").unwrap();
        let editor = "sed -i s/1/2/";
        assert_eq!(edited_by(editor, file.to_str(), "").unwrap(), "SELECT 2;\n");
        assert_eq!(edited_by(editor, None, "SELECT 1 + 1;\n").unwrap(), "SELECT 2 + 1;\n");
        assert!(edited_by("false", None, "").unwrap_err().contains("set EDITOR"));
    }
}

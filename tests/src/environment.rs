//! What a process of a test does not find in its environment.
//!
//! Owns: which variables of whoever runs the tests are theirs alone. Does not own: those that a test gives to its process.

use std::process::Command;

/// Variables that begin so lead a Cairn to other settings, files or stores than a test means: a developer's own, what `.ci/run` sets, and
/// what cargo gives to tests.
const PREFIXES: [&str; 4] = ["CAIRN_", "AWS_", "AZURE_", "GOOGLE_"];

/// Takes these variables from `command`. What a test gives to its process comes behind this.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let is_setting = PREFIXES.iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
        if is_setting {
            command.env_remove(name);
        }
    }
    command
}

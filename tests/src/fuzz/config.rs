//! What a server is configured with: the TOML file, and variables of the environment.

use std::cell::RefCell;
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use cairn_engine::config::{parse_bytes, parse_duration, show_duration};
use cairn_server::Config;
use cairn_storage::Root;
use tempfile::NamedTempFile;

use super::{Seed, is_statement_error};

thread_local! {
    /// Rewritten for each input.
    static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("a temporary file"));
}

pub(super) fn run(bytes: &[u8]) {
    FILE.with_borrow_mut(|file| {
        file.as_file().set_len(0).expect("an empty file");
        file.seek(SeekFrom::Start(0)).expect("the beginning");
        file.write_all(bytes).expect("room");
        if let Err(error) = Config::read(Some(file.path()), std::iter::empty(), &[]) {
            is_statement_error(&error);
        }
    });
    let text = String::from_utf8_lossy(bytes);
    let variables = text.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    if let Err(error) = Config::read(None, variables, &[]) {
        is_statement_error(&error);
    }
    for line in text.lines() {
        let value = line.split_once('=').map_or(line, |(_, value)| value).trim().trim_matches('"');
        let _may_be_no_size = parse_bytes(value);
        if let Ok(duration) = parse_duration(value, Duration::from_secs(1)) {
            let shown = show_duration(duration);
            assert!(parse_duration(&shown, Duration::from_secs(1)).is_ok(), "{value} is shown as {shown}");
        }
        if let Ok(root @ Root::Store(_)) = Root::parse(value) {
            let shown = root.to_string();
            assert_eq!(Root::parse(&shown).ok(), Some(root), "{value} is shown as {shown}");
        }
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let file = "memory_limit = \"1 GiB\"\npartitions = 4\n\n[flight]\nlisten = \"127.0.0.1:8815\"\n\n\
                [session]\nmax = 5\nidle = \"7 min\"\n\n[limit]\ntime = \"250ms\"\nrows = 1_000_000\n";
    let lists = "read_only = true\n[copy]\nurls = [\"s3://bucket/data\", \"gs://other\"]\n[storage]\ndurability = \"local\"\n";
    let variables = "CAIRN_SESSION_MAX=6\nCAIRN_FLIGHT_LISTEN=off\nCAIRN_MEMORY_LIMIT=512 MiB\nPATH=x\n";
    let values =
        "a=s3://bucket/prefix/of it\nb=file:///a/b\nc=memory://\nd=1.5 GB\ne=100 days\nf=az://c/d?x=1\n";
    vec![
        ("file", file.into()),
        ("lists", lists.into()),
        ("variables", variables.into()),
        ("values", values.into()),
        ("nested", "a.b.c = { d = [ { e = 1 } ], f = 1979-05-27T07:32:00Z }\n".into()),
    ]
}

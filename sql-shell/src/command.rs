//! The shell's own commands: `.tables`, `\dt` and the like.
//!
//! Owns: their names, arguments and help. Does not own: carrying them out (`shell`).

use clap::ValueEnum;

use crate::format::Format;

/// A command, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Show the commands.
    Help,
    /// List tables and views.
    Tables,
    /// Describe one table, or list every column.
    Schema(Option<String>),
    /// Set or show the output format.
    Mode(Option<Format>),
    /// Between box and vertical.
    Expanded,
    /// Times after each statement; None: the other way round.
    Timer(Option<bool>),
    /// Most rows a box shows; None: say it.
    RowsShown(Option<usize>),
    /// Run a file.
    Read(String),
    /// Write results into a file; None: to standard output again.
    Output(Option<String>),
    /// List functions.
    Functions,
    /// List vector indexes.
    Indexes,
    /// List background work.
    Jobs,
    /// Leave with this exit code.
    Exit(u8),
}

/// What a command's argument is, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    File,
    Table,
    Format,
    Switch,
    Other,
}

/// Names, argument as shown in the help, its kind, what it does.
type Row = (&'static [&'static str], &'static str, Argument, &'static str);

const COMMANDS: &[Row] = &[
    (&[".help", "\\?"], "", Argument::Other, "show this"),
    (&[".tables", "\\dt"], "", Argument::Other, "list tables and views"),
    (&[".schema", "\\d"], "[TABLE]", Argument::Table, "describe a table; without one, list every column"),
    (&[".indexes", "\\di"], "", Argument::Other, "list vector indexes"),
    (&[".functions", "\\df"], "", Argument::Other, "list functions"),
    (&[".jobs"], "", Argument::Other, "list background work"),
    (&[".mode"], "[FORMAT]", Argument::Format, "box, csv, tsv, json, ndjson, vertical or markdown"),
    (&["\\x"], "", Argument::Other, "between box and vertical"),
    (&[".maxrows"], "[N]", Argument::Other, "most rows a box shows"),
    (&[".timer", "\\timing"], "[on|off]", Argument::Switch, "show how long each statement took"),
    (&[".read", "\\i"], "FILE", Argument::File, "run the statements of a file"),
    (
        &[".output", "\\o"],
        "[FILE]",
        Argument::File,
        "write results into a file; without one, to the screen again",
    ),
    (&[".exit", ".quit", "\\q"], "[CODE]", Argument::Other, "leave (also Ctrl-D)"),
];

/// Every command's name.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().flat_map(|(names, ..)| names.iter().copied())
}

/// What the command `name` takes.
pub(crate) fn argument_of(name: &str) -> Argument {
    let row = COMMANDS.iter().find(|(names, ..)| names.contains(&name));
    row.map_or(Argument::Other, |(_, _, argument, _)| *argument)
}

/// The text of `.help`.
pub(crate) fn help() -> String {
    let mut text =
        String::from("Statements end with ; and may span lines. Commands stand on a line of their own:\n\n");
    for (names, argument, _, does) in COMMANDS {
        let usage = format!("{} {argument}", names.join(" "));
        text.push_str(&format!("  {usage:<28} {does}\n"));
    }
    text.push_str("\nCtrl-C cancels a running statement or clears the line. Tab completes.\n");
    text
}

impl Command {
    /// Reads one line; the error is a sentence for the user.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim().trim_end_matches(';').trim_end();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = Some(unquoted(rest.trim())).filter(|a| !a.is_empty());
        let switch = || match argument {
            None => Ok(None),
            Some("on") => Ok(Some(true)),
            Some("off") => Ok(Some(false)),
            Some(other) => Err(format!("{name} takes on or off, not {other}")),
        };
        let needed = || argument.map(str::to_owned).ok_or_else(|| format!("{name} needs the name of a file"));
        let owned = argument.map(str::to_owned);
        Ok(match name {
            ".help" | "\\?" => Self::Help,
            ".tables" | "\\dt" => Self::Tables,
            ".schema" | "\\d" => Self::Schema(owned),
            ".indexes" | "\\di" => Self::Indexes,
            ".functions" | "\\df" => Self::Functions,
            ".jobs" => Self::Jobs,
            ".mode" => Self::Mode(argument.map(format).transpose()?),
            "\\x" => Self::Expanded,
            ".maxrows" => Self::RowsShown(argument.map(rows_shown).transpose()?),
            ".timer" | "\\timing" => Self::Timer(switch()?),
            ".read" | "\\i" => Self::Read(needed()?),
            ".output" | "\\o" => Self::Output(owned),
            ".exit" | ".quit" | "\\q" => Self::Exit(match argument {
                None => 0,
                Some(code) => {
                    code.parse().map_err(|_| format!("{name} takes a code from 0 to 255, not {code}"))?
                }
            }),
            _ => {
                let near = words().find(|w| w.len() > 2 && name.len() > 1 && w.starts_with(name));
                let hint = near.map(|w| format!("; did you mean {w}?")).unwrap_or_default();
                return Err(format!("there is no command {name}{hint} (.help lists them)"));
            }
        })
    }
}

fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote));
    inner('\'').unwrap_or(text)
}

fn format(name: &str) -> Result<Format, String> {
    <Format as ValueEnum>::from_str(name, true)
        .map_err(|_| format!("there is no format {name}: {}", argument_list()))
}

fn argument_list() -> String {
    Format::value_variants().iter().map(|f| f.name()).collect::<Vec<_>>().join(", ")
}

fn rows_shown(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n >= 2 => Ok(n),
        _ => Err(format!(".maxrows takes a number from 2 up, not {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        for (line, expected) in [
            (".help", Command::Help),
            ("\\dt", Command::Tables),
            ("\\di", Command::Indexes),
            (".schema", Command::Schema(None)),
            ("\\d app.notes;", Command::Schema(Some("app.notes".into()))),
            (".mode ndjson", Command::Mode(Some(Format::Ndjson))),
            (".mode", Command::Mode(None)),
            (".timer off", Command::Timer(Some(false))),
            ("\\timing", Command::Timer(None)),
            (".read 'a b.sql'", Command::Read("a b.sql".into())),
            (".output", Command::Output(None)),
            (".quit", Command::Exit(0)),
            (".exit 3", Command::Exit(3)),
            (".maxrows 50", Command::RowsShown(Some(50))),
        ] {
            assert_eq!(Command::parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, part) in [
            (".tab", "did you mean .tables?"),
            (".mode xml", "box, csv"),
            (".read", "needs the name of a file"),
            (".timer maybe", "on or off"),
            (".exit 999", "from 0 to 255"),
            (".maxrows 0", "from 2 up"),
        ] {
            let error = Command::parse(line).err().unwrap_or_default();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn every_command_is_read_and_explained() {
        for word in words() {
            let line =
                if argument_of(word) == Argument::File { format!("{word} x") } else { word.to_owned() };
            assert!(Command::parse(&line).is_ok(), "{word}");
            assert!(help().contains(word), "{word}");
        }
    }
}

//! The shell's own commands: `.tables`, `\dt` and the like.
//!
//! Owns: their names, arguments and help. Does not own: carrying them out (`shell`).

use std::time::Duration;

use clap::ValueEnum;

use crate::chart;
use crate::format::Format;
use crate::pager;
use crate::suggest;

/// A command, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Show the commands, or those whose name begins so.
    Help(Option<String>),
    /// List tables and views; those whose name is like this.
    Tables(Option<String>),
    /// List views; those whose name is like this.
    Views(Option<String>),
    /// List schemas.
    Schemas,
    /// Show the statement that makes a table or view; None: that of each.
    Schema(Option<String>),
    /// Describe one table, or list every column.
    Describe(Option<String>),
    /// Set or show the output format, and the table that INSERT statements name.
    Mode(Option<Format>, Option<String>),
    /// Between box and vertical.
    Expanded,
    /// Whether CSV and TSV begin with names; None: the other way round.
    Headers(Option<bool>),
    /// What NULL looks like to people.
    NullValue(String),
    /// Times after each statement; None: the other way round.
    Timer(Option<bool>),
    /// Most rows a box shows; None: say it.
    RowsShown(Option<usize>),
    /// When results are paged, or by what; None: say it.
    Pager(Option<PagerChoice>),
    /// Run a file.
    Read(String),
    /// Write results into a file; None: to standard output again.
    Output(Option<String>),
    /// Write the next statement's results into a file.
    Once(String),
    /// Show the last result in full.
    Last,
    /// Draw the last result.
    Chart(chart::Kind, Vec<String>),
    /// Run the last statement again and again.
    Watch(Duration, Option<u64>),
    /// Write a file, or the last statement, in an editor, and run it.
    Edit(Option<String>),
    /// List what was typed: the last so many.
    History(Option<usize>),
    /// Write this to where results go.
    Print(String),
    /// Run a command of the system's.
    System(String),
    /// Work in another directory; None: in the user's own.
    ChangeDirectory(Option<String>),
    /// Whether a script ends at the first error; None: say it.
    Bail(Option<bool>),
    /// List functions; those whose name is like this.
    Functions(Option<String>),
    /// List vector indexes.
    Indexes,
    /// List background work.
    Jobs,
    /// List settings.
    Settings,
    /// List users.
    Users,
    /// What the shell is connected to, and how it is set.
    Show,
    /// Leave with this exit code.
    Exit(u8),
}

/// What `.pager` can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PagerChoice {
    When(pager::When),
    Program(String),
}

/// What a command's argument is, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    File,
    /// A file of statements.
    Script,
    Table,
    Format,
    Switch,
    Pager,
    Chart,
    Command,
    Other,
}

/// Names, argument as shown in the help, its kind, what it does.
type Row = (&'static [&'static str], &'static str, Argument, &'static str);

const COMMANDS: &[Row] = &[
    (&[".help", "\\?"], "[COMMAND]", Argument::Command, "show this"),
    (&[".tables", "\\dt"], "[LIKE]", Argument::Other, "list tables and views"),
    (&[".views", "\\dv"], "[LIKE]", Argument::Other, "list views"),
    (&["\\d"], "[TABLE]", Argument::Table, "describe a table; without one, list every column"),
    (&[".schema"], "[TABLE]", Argument::Table, "the statement that makes a table; without one, those of all"),
    (&[".schemas", "\\dn"], "", Argument::Other, "list schemas"),
    (&[".indexes", "\\di"], "", Argument::Other, "list vector indexes"),
    (
        &[".functions", "\\df"],
        "[LIKE]",
        Argument::Other,
        "list functions, how they are called and what they do",
    ),
    (&[".jobs"], "", Argument::Other, "list background work"),
    (&[".settings", "\\dconfig"], "", Argument::Other, "list settings of the session"),
    (&[".users", "\\du"], "", Argument::Other, "list users"),
    (
        &[".mode"],
        "[FORMAT] [TABLE]",
        Argument::Format,
        "box, table, csv, tsv, json, ndjson, markdown, vertical or insert (into TABLE)",
    ),
    (&["\\x"], "", Argument::Other, "between box and vertical"),
    (&[".maxrows"], "[N]", Argument::Other, "most rows a box shows"),
    (&[".headers"], "[on|off]", Argument::Switch, "names of the columns in csv and tsv"),
    (&[".nullvalue"], "TEXT", Argument::Other, "what NULL looks like to people"),
    (&[".timer", "\\timing"], "[on|off]", Argument::Switch, "show how long each statement took"),
    (
        &[".pager"],
        "[on|off|auto|PROGRAM]",
        Argument::Pager,
        "show results by $PAGER: all, none, or those that do not fit",
    ),
    (&[".last"], "", Argument::Other, "the last result again, all of it"),
    (&[".chart"], "[bar|spark] [COLUMN…]", Argument::Chart, "draw the last result"),
    (
        &[".watch", "\\watch"],
        "[SECONDS] [TIMES]",
        Argument::Other,
        "run the last statement again and again, until Ctrl-C",
    ),
    (
        &[".edit", "\\e"],
        "[FILE]",
        Argument::File,
        "write the last statement, or a file, in $EDITOR and run it",
    ),
    (&[".history", "\\s"], "[N]", Argument::Other, "list what was typed"),
    (&[".read", "\\i"], "FILE", Argument::Script, "run the statements of a file"),
    (
        &[".output", "\\o"],
        "[FILE]",
        Argument::File,
        "write results into a file; without one, to the screen again",
    ),
    (&[".once"], "FILE", Argument::File, "write the results of the next statement into a file"),
    (&[".print", "\\echo", "\\qecho"], "[TEXT]", Argument::Other, "write text to where results go"),
    (&[".shell", ".system", "\\!"], "COMMAND", Argument::File, "run a command of the system's"),
    (&[".cd", "\\cd"], "[DIRECTORY]", Argument::File, "work in another directory"),
    (&[".bail"], "[on|off]", Argument::Switch, "end scripts at the first error"),
    (
        &[".show", ".databases", "\\conninfo", "\\l"],
        "",
        Argument::Other,
        "what this is connected to, and how it is set",
    ),
    (&[".exit", ".quit", "\\q"], "[CODE]", Argument::Other, "leave (also Ctrl-D)"),
];

/// Between two runs of `.watch`.
const WATCH: Duration = Duration::from_secs(2);
const WATCH_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Every command's name.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().flat_map(|(names, ..)| names.iter().copied())
}

/// What the command `name` takes.
pub(crate) fn argument_of(name: &str) -> Argument {
    let row = COMMANDS.iter().find(|(names, ..)| names.contains(&name));
    row.map_or(Argument::Other, |(_, _, argument, _)| *argument)
}

/// The text of `.help`, about the commands whose name begins with `name`; None: there is none.
pub(crate) fn help(name: Option<&str>) -> Option<String> {
    let wanted = name.map(|name| name.trim_start_matches(['.', '\\']));
    let is_meant = |names: &[&str]| {
        wanted
            .is_none_or(|wanted| names.iter().any(|n| n.trim_start_matches(['.', '\\']).starts_with(wanted)))
    };
    let mut lines = String::new();
    for (names, argument, _, does) in COMMANDS.iter().filter(|(names, ..)| is_meant(names)) {
        let usage = format!("{} {argument}", names.join(" "));
        // What is longer has its explanation on the next line.
        let gap = if usage.chars().count() > 32 { format!("\n{:35}", "") } else { String::new() };
        lines.push_str(&format!("  {usage:<32} {gap}{does}\n"));
    }
    match wanted {
        Some(_) if lines.is_empty() => None,
        Some(_) => Some(lines),
        None => Some(format!(
            "Statements end with ; and may span lines. Commands stand on a line of their own:\n\n{lines}\n\
             Ctrl-C cancels a running statement or clears the line. Ctrl-R searches what was typed. Tab completes.\n"
        )),
    }
}

impl Command {
    /// Reads one line; the error is a sentence for the user.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let (name, written) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let (name, written) = (name.trim_end_matches(';'), written.trim());
        // psql's fingers ask for more than there is in `\dt`: nothing is left out of it.
        let name = name.strip_suffix('+').filter(|name| name.starts_with("\\d")).unwrap_or(name);
        let rest = written.trim_end_matches(';').trim_end();
        let argument = Some(unquoted(rest)).filter(|a| !a.is_empty());
        let switch = || match argument {
            None => Ok(None),
            Some("on" | "true" | "yes") => Ok(Some(true)),
            Some("off" | "false" | "no") => Ok(Some(false)),
            Some(other) => Err(format!("{name} takes on or off, not {other}")),
        };
        let needed = |what: &str| argument.map(str::to_owned).ok_or_else(|| format!("{name} needs {what}"));
        let owned = argument.map(str::to_owned);
        Ok(match name {
            ".help" | "\\?" => Self::Help(owned),
            ".tables" | "\\dt" => Self::Tables(owned),
            ".views" | "\\dv" => Self::Views(owned),
            ".schemas" | "\\dn" => Self::Schemas,
            ".schema" => Self::Schema(owned),
            "\\d" => Self::Describe(owned),
            ".indexes" | "\\di" => Self::Indexes,
            ".functions" | "\\df" => Self::Functions(owned),
            ".jobs" => Self::Jobs,
            ".settings" | "\\dconfig" => Self::Settings,
            ".users" | "\\du" => Self::Users,
            ".mode" => mode(rest)?,
            "\\x" => Self::Expanded,
            ".headers" => Self::Headers(switch()?),
            // A text may be empty, or blanks.
            ".nullvalue" => Self::NullValue(unquoted(rest).to_owned()),
            ".maxrows" => Self::RowsShown(argument.map(rows_shown).transpose()?),
            ".timer" | "\\timing" => Self::Timer(switch()?),
            ".pager" => Self::Pager(argument.map(pager_choice)),
            ".last" => Self::Last,
            ".chart" => chart(rest),
            ".watch" | "\\watch" => watch(name, rest)?,
            ".edit" | "\\e" => Self::Edit(owned),
            ".history" | "\\s" => Self::History(argument.map(|n| positive(name, n)).transpose()?),
            ".read" | "\\i" => Self::Read(needed("the name of a file")?),
            ".output" | "\\o" => Self::Output(owned),
            ".once" => Self::Once(needed("the name of a file")?),
            ".print" | "\\echo" | "\\qecho" => Self::Print(unquoted(written).to_owned()),
            ".shell" | ".system" | "\\!" => match written {
                "" => return Err(format!("{name} needs a command of the system's")),
                command => Self::System(command.to_owned()),
            },
            ".cd" | "\\cd" => Self::ChangeDirectory(owned),
            ".bail" => Self::Bail(switch()?),
            ".show" | ".databases" | "\\conninfo" | "\\l" => Self::Show,
            ".exit" | ".quit" | "\\q" => Self::Exit(match argument {
                None => 0,
                Some(code) => {
                    code.parse().map_err(|_| format!("{name} takes a code from 0 to 255, not {code}"))?
                }
            }),
            _ => {
                let begun = words().find(|w| w.len() > 2 && name.len() > 1 && w.starts_with(name));
                let near = begun.or_else(|| suggest::nearest(name, words()));
                let hint = near.map(|w| format!("; did you mean {w}?")).unwrap_or_default();
                return Err(format!("there is no command {name}{hint} (.help lists them)"));
            }
        })
    }
}

fn mode(rest: &str) -> Result<Command, String> {
    let (name, table) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let format = Some(unquoted(name)).filter(|name| !name.is_empty()).map(format).transpose()?;
    let table = Some(table.trim()).filter(|table| !table.is_empty());
    match (format, table) {
        (Some(other), Some(table)) if other != Format::Insert => {
            Err(format!(".mode {} takes no {table}", other.name()))
        }
        _ => Ok(Command::Mode(format, table.map(str::to_owned))),
    }
}

fn pager_choice(text: &str) -> PagerChoice {
    match text {
        "on" => PagerChoice::When(pager::When::On),
        "off" => PagerChoice::When(pager::When::Off),
        "auto" => PagerChoice::When(pager::When::Auto),
        program => PagerChoice::Program(program.to_owned()),
    }
}

fn chart(rest: &str) -> Command {
    let mut words = rest.split_whitespace().map(unquoted_name).peekable();
    let kind = match words.peek().map(String::as_str) {
        Some("bar") => Some(chart::Kind::Bar),
        Some("spark") => Some(chart::Kind::Spark),
        _ => None,
    };
    Command::Chart(kind.unwrap_or_default(), words.skip(usize::from(kind.is_some())).collect())
}

fn unquoted_name(text: &str) -> String {
    text.trim_end_matches(',').trim_matches('"').to_owned()
}

fn watch(name: &str, rest: &str) -> Result<Command, String> {
    let mut words = rest.split_whitespace();
    let wrong = |text: &str| format!("{name} takes seconds, such as 0.5, not {text}");
    let every = match words.next() {
        None => WATCH,
        Some(text) => {
            let seconds = text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
            seconds.filter(|s| !s.is_zero() && *s <= WATCH_MAX).ok_or_else(|| wrong(text))?
        }
    };
    let times = words.next().map(|text| positive(name, text)).transpose()?;
    match words.next() {
        Some(more) => Err(format!("{name} takes seconds and times, and no {more}")),
        None => Ok(Command::Watch(every, times.map(|n| n as u64))),
    }
}

fn positive(name: &str, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{name} takes a number from 1 up, not {text}")),
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
    Format::names().collect::<Vec<_>>().join(", ")
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
            (".help", Command::Help(None)),
            (".help mode", Command::Help(Some("mode".into()))),
            ("\\dt", Command::Tables(None)),
            (".tables no%", Command::Tables(Some("no%".into()))),
            ("\\di", Command::Indexes),
            ("\\d+ notes", Command::Describe(Some("notes".into()))),
            ("\\dt+", Command::Tables(None)),
            ("\\dv", Command::Views(None)),
            ("\\l", Command::Show),
            (".schema", Command::Schema(None)),
            ("\\d app.notes;", Command::Describe(Some("app.notes".into()))),
            (".mode ndjson", Command::Mode(Some(Format::Ndjson), None)),
            (".mode line", Command::Mode(Some(Format::Vertical), None)),
            (".mode insert app.t", Command::Mode(Some(Format::Insert), Some("app.t".into()))),
            (".mode", Command::Mode(None, None)),
            (".nullvalue", Command::NullValue(String::new())),
            (".nullvalue '-'", Command::NullValue("-".into())),
            (".headers off", Command::Headers(Some(false))),
            (".pager", Command::Pager(None)),
            (".pager off", Command::Pager(Some(PagerChoice::When(pager::When::Off)))),
            (".pager less -S", Command::Pager(Some(PagerChoice::Program("less -S".into())))),
            (".chart", Command::Chart(chart::Kind::Bar, vec![])),
            (".chart spark a, b", Command::Chart(chart::Kind::Spark, vec!["a".into(), "b".into()])),
            (".chart n", Command::Chart(chart::Kind::Bar, vec!["n".into()])),
            ("\\watch", Command::Watch(Duration::from_secs(2), None)),
            (".watch 0.5 3", Command::Watch(Duration::from_millis(500), Some(3))),
            ("\\e", Command::Edit(None)),
            (".history 5", Command::History(Some(5))),
            (".once x.csv", Command::Once("x.csv".into())),
            ("\\echo a;", Command::Print("a;".into())),
            ("\\! ls -l;", Command::System("ls -l;".into())),
            ("\\cd", Command::ChangeDirectory(None)),
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
            (".tabels", "did you mean .tables?"),
            (".mode xml", "box, table, csv"),
            (".mode csv t", "takes no t"),
            (".watch soon", "takes seconds"),
            (".watch -1", "takes seconds"),
            (".watch 1 2 3", "no 3"),
            (".history 0", "from 1 up"),
            (".shell", "needs a command"),
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
        let all = help(None).unwrap_or_default();
        for word in words() {
            let line = match argument_of(word) {
                Argument::File | Argument::Script => format!("{word} x"),
                _ => word.to_owned(),
            };
            assert!(Command::parse(&line).is_ok(), "{word}");
            assert!(all.contains(word), "{word}");
        }
        let book = include_str!("../../docs/src/shell.md");
        for word in words() {
            assert!(book.contains(&format!("`{word}")), "docs/src/shell.md should have {word}");
        }
        for format in Format::names() {
            assert!(book.contains(&format!("`{format}`")), "docs/src/shell.md should have {format}");
        }
        assert!(help(Some(".pag")).is_some_and(|text| text.contains(".pager") && !text.contains(".mode")));
        assert_eq!(help(Some("nothing")), None);
    }
}

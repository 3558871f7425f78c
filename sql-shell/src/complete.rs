//! What can stand at the cursor.
//!
//! Owns: reading the statement around the cursor and choosing candidates. Pure: names come in as a [`Names`], and file
//! names are left to the editor ([`Completion::File`]).

mod files;
mod follow;
mod scope;

use cairn_engine::Session;

use crate::command;
use crate::format::Format;
use crate::keywords::STARTS;
use crate::lex::{self, Kind, Token};
use crate::names::{Names, TableName, meant, quoted};
use crate::vectors::{self, Place};
use follow::Next;
use scope::Scope;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// Replace the text from byte `start` to the cursor by one of these.
    Words {
        /// Byte offset in the text up to the cursor.
        start: usize,
        /// Best first.
        candidates: Vec<String>,
    },
    /// The name of a file, or of a directory on the way to one.
    File {
        /// Byte at which it begins.
        start: usize,
        /// How the names of the files end that are meant; empty: any do.
        kinds: &'static [&'static str],
    },
}

/// Whether `text` begins a command of the shell's own.
pub(crate) fn is_command(text: &str) -> bool {
    text.trim_start().starts_with(['.', '\\'])
}

/// What can stand at the end of `before`, the text of the statement up to the cursor; `after` is the rest of it, which
/// may name tables.
pub(crate) fn at_cursor(before: &str, after: &str, names: &Names) -> Completion {
    if is_command(before) {
        return command_words(before, names);
    }
    let tokens = lex::tokens(before);
    if let Some(open) = tokens.last().filter(|t| !t.closed) {
        match open.kind {
            Kind::Text => {
                let start = open.range.start + open_quote_length(&before[open.range.clone()]);
                let words = significant(before, &tokens[..tokens.len() - 1]);
                return match (vectors::place(&words, true), files::kinds(&words, names)) {
                    (Some(place), _) => in_text(&place, before, start, names),
                    (None, Some(kinds)) => Completion::File { start, kinds },
                    (None, None) if follow::takes_zone(&words) => {
                        Completion::Words { start, candidates: zones(&before[start..]) }
                    }
                    (None, None) => {
                        let values = files::values(&words).iter().chain(follow::texts(&words));
                        let values = values.map(|v| (*v).to_owned()).collect();
                        Completion::Words { start, candidates: beginning(&before[start..], values) }
                    }
                };
            }
            Kind::Comment => return Completion::Words { start: before.len(), candidates: Vec::new() },
            Kind::QuotedName
            | Kind::Space
            | Kind::Word
            | Kind::Number
            | Kind::Semicolon
            | Kind::Punctuation => {}
        }
    }
    if let Some(last) = tokens.last().filter(|t| t.kind == Kind::Punctuation)
        && let Some((typed, candidates)) = vectors::operators(before)
    {
        return Completion::Words { start: last.range.end - typed, candidates };
    }
    let (start, done) = match tokens.last() {
        Some(last) if matches!(last.kind, Kind::Word | Kind::QuotedName) => {
            (last.range.start, &tokens[..tokens.len() - 1])
        }
        _ => (before.len(), &tokens[..]),
    };
    let prefix = &before[start..];
    let words = significant(before, done);
    // As the letters that are typed, or else the statement's first word.
    let cased = if prefix.is_empty() { words.first().copied().unwrap_or("") } else { prefix };
    let lower = cased.chars().any(char::is_lowercase);
    if let Some(place) = vectors::place(&words, false) {
        return Completion::Words { start, candidates: at_place(&place, prefix, lower, names) };
    }
    if let Some(words) = files::words(&words, prefix, lower) {
        return Completion::Words { start, candidates: words };
    }
    // The word being typed names nothing yet.
    let scope = Scope::of(&before[..start], after, names);
    let likely = follow::next(&words).map(|next| pick(prefix, lower, followers(next, &scope, names)));
    // What is typed otherwise may be right all the same.
    let candidates = likely.filter(|found| prefix.is_empty() || !found.is_empty());
    let candidates = candidates.unwrap_or_else(|| pick(prefix, lower, candidates_of(&words, &scope, names)));
    Completion::Words { start, candidates }
}

/// What `next` is in this statement.
fn followers<'a>(next: Next, scope: &'a Scope<'a>, names: &'a Names) -> Vec<Candidate<'a>> {
    let columns = || scope.tables.iter().flat_map(|t| &t.columns).map(|c| Candidate::Name(c));
    let of_kind = move |is_view: bool| {
        let tables = names.tables.iter().filter(move |t| t.schema == names.current_schema);
        tables.filter(move |t| t.is_view == is_view).map(|t| Candidate::Name(&t.name))
    };
    let schemas = names.schemas.iter().map(|s| Candidate::Name(s));
    let listed = |list: &'a [String]| list.iter().map(|name| Candidate::Name(name));
    match next {
        Next::Words(words) => words.into_iter().map(Candidate::Keyword).collect(),
        Next::Column => columns().collect(),
        Next::Table(more) => of_kind(false).chain(schemas).chain(keywords(more)).collect(),
        Next::View(more) => of_kind(true).chain(schemas).chain(keywords(more)).collect(),
        Next::Relation(more) => relations(names).chain(keywords(more)).collect(),
        Next::Account(more) => listed(&names.accounts).chain(keywords(more)).collect(),
        Next::Prepared(more) => listed(&names.prepared).chain(keywords(more)).collect(),
        Next::Value(words) => {
            let found = vectors::SEARCH_COLUMNS.iter().filter(|_| !scope.searches.is_empty());
            let aliases = scope.aliases.iter().map(|(alias, _)| Candidate::Name(alias));
            let tables = scope.tables.iter().map(|t| Candidate::Name(&t.name));
            // Before there is a FROM, a name may be meant of one.
            let all = relations(names).filter(|_| scope.tables.is_empty());
            columns()
                .chain(found.map(|c| Candidate::Name(c)))
                .chain(aliases)
                .chain(tables)
                .chain(words.into_iter().map(Candidate::Keyword))
                .chain(names.functions.iter().map(|f| Candidate::Function(f)))
                .chain(all)
                .collect()
        }
    }
}

/// What SHOW shows besides settings.
const SHOWN: &[&str] = &[
    "ALL",
    "COLUMNS",
    "COMMIT",
    "CREATE",
    "FUNCTIONS",
    "JOBS",
    "SCHEMAS",
    "SECRETS",
    "STATS",
    "TABLES",
    "VERSIONS",
];

/// Names of types.
const TYPES: &[&str] = &[
    "BIGINT",
    "BOOLEAN",
    "BYTEA",
    "DATE",
    "DECIMAL",
    "DOUBLE",
    "INTEGER",
    "INTERVAL",
    "JSON",
    "REAL",
    "SMALLINT",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "TINYINT",
    "VECTOR",
];

/// Whether the AS at the end is that of `CAST(… AS`.
fn in_cast(words: &[&str]) -> bool {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().rev() {
        match *word {
            ")" => depth += 1,
            "(" if depth == 0 => {
                let call = at.checked_sub(1).and_then(|before| words.get(before));
                return call
                    .is_some_and(|w| w.eq_ignore_ascii_case("cast") || w.eq_ignore_ascii_case("try_cast"));
            }
            "(" => depth -= 1,
            _ => {}
        }
    }
    false
}

/// Options of CREATE SECRET.
const SECRET_OPTIONS: &[&str] =
    &["ENDPOINT", "KEY_ID", "REGION", "SCOPE", "SECRET", "SESSION_TOKEN", "TYPE", "URL_STYLE", "USE_SSL"];

/// Whether a statement begins with one of `verbs`.
fn is_of(words: &[&str], verbs: &[&str]) -> bool {
    words.first().is_some_and(|word| verbs.iter().any(|verb| word.eq_ignore_ascii_case(verb)))
}

/// Whether the statement is a SET with its value, or a RESET with its setting.
fn sets(words: &[&str]) -> bool {
    let is = |word: &&str, these: &[&str]| these.iter().any(|this| word.eq_ignore_ascii_case(this));
    let ends = words.last().is_some_and(|last| is(last, &["=", "TO", "SET", "RESET", "FOR", "DATABASE"]));
    let has_value = words.iter().any(|word| is(word, &["=", "TO"]));
    !ends && (is_of(words, &["RESET"]) || is_of(words, &["SET"]) && has_value)
}

/// Whether the statement is ALTER TABLE.
fn alters_table(words: &[&str]) -> bool {
    is_of(words, &["ALTER"]) && words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("TABLE"))
}

/// Columns of the table that ALTER TABLE names.
fn columns_of_altered<'a>(words: &[&str], names: &'a Names) -> impl Iterator<Item = Candidate<'a>> {
    let optional = |word: &&&str| ["IF", "EXISTS"].iter().any(|w| word.eq_ignore_ascii_case(w));
    let skipped = words.iter().skip(2).take(2).filter(optional).count();
    let table = match words.get(2 + skipped..) {
        Some([schema, ".", table, ..]) => names.table(Some(&meant(schema)), &meant(table)),
        Some([table, ..]) => names.table(None, &meant(table)),
        Some([]) | None => None,
    };
    table.into_iter().flat_map(|table| &table.columns).map(|column| Candidate::Name(column))
}

/// Whether the cursor is in the parentheses of CREATE SECRET.
fn makes_secret(words: &[&str]) -> bool {
    let Some(open) = words.iter().position(|w| *w == "(") else { return false };
    is_of(words, &["CREATE"])
        && words[..open].iter().take(5).any(|w| w.eq_ignore_ascii_case("SECRET"))
        && !words[open..].contains(&")")
}

/// Rights that GRANT gives.
const RIGHTS: &[&str] = &["ALL", "CREATE", "DELETE", "INSERT", "SELECT", "TRUNCATE", "UPDATE"];

/// Whether a statement gives or takes rights.
fn gives_rights(words: &[&str]) -> bool {
    is_of(words, &["GRANT", "REVOKE"])
}

/// What can stand inside CREATE INDEX and `vector_search(…)`.
fn at_place(place: &Place<'_>, prefix: &str, lower: bool, names: &Names) -> Vec<String> {
    // A name that is typed needs no quotes; where nothing is, it is offered as the text that the book writes.
    let texts = |found: &[&str]| match prefix {
        "" => found.iter().map(|name| format!("'{}'", quoted(name).replace('\'', "''"))).collect(),
        _ => pick(prefix, lower, found.iter().map(|name| Candidate::Name(name)).collect()),
    };
    match place {
        Place::Keywords(words) => pick(prefix, lower, keywords(words).collect()),
        Place::Words(words) => beginning(prefix, words.clone()),
        Place::Table => pick(prefix, lower, relations(names).collect()),
        Place::VectorColumn(table) => {
            let columns = written_table(table, names).into_iter().flat_map(|t| &t.vectors);
            pick(prefix, lower, columns.map(|c| Candidate::Name(c)).collect())
        }
        Place::TableText => texts(&with_vectors(&names.current_schema, names)),
        Place::ColumnText(table) => texts(&vectors_of(table, names)),
        Place::Condition(_) | Place::Nothing => Vec::new(),
    }
}

/// The same inside a string that begins at byte `start`.
fn in_text(place: &Place<'_>, before: &str, start: usize, names: &Names) -> Completion {
    let typed = &before[start..];
    let named = |found: Vec<&str>| found.into_iter().map(quoted).collect::<Vec<_>>();
    match place {
        Place::Words(words) => Completion::Words { start, candidates: beginning(typed, words.clone()) },
        Place::TableText => {
            let (from, schema) = match typed.rfind('.') {
                Some(dot) => (dot + 1, meant(&typed[..dot])),
                None => (0, names.current_schema.clone()),
            };
            let candidates = beginning(&typed[from..], named(with_vectors(&schema, names)));
            Completion::Words { start: start + from, candidates }
        }
        Place::ColumnText(table) => {
            Completion::Words { start, candidates: beginning(typed, named(vectors_of(table, names))) }
        }
        Place::Condition(table) => {
            let from = typed
                .rfind(|c: char| !c.is_alphanumeric() && c != '_')
                .map_or(0, |at| at + typed[at..].chars().next().map_or(1, char::len_utf8));
            let columns = written_table(table, names).into_iter().flat_map(|t| &t.columns);
            let candidates = beginning(&typed[from..], columns.map(|c| quoted(c)).collect());
            Completion::Words { start: start + from, candidates }
        }
        Place::Keywords(_) | Place::Table | Place::VectorColumn(_) | Place::Nothing => {
            Completion::Words { start, candidates: Vec::new() }
        }
    }
}

/// Those that begin with `prefix`, in any case.
fn beginning(prefix: &str, mut words: Vec<String>) -> Vec<String> {
    let wanted = prefix.to_lowercase();
    words.retain(|word| word.to_lowercase().starts_with(&wanted));
    words
}

/// Time zones whose name, or else whose city, begins with `prefix`.
fn zones(prefix: &str) -> Vec<String> {
    let all = || Session::time_zones().into_iter().map(str::to_owned);
    let found = beginning(prefix, all().collect());
    if !found.is_empty() {
        return found;
    }
    let wanted = prefix.to_lowercase();
    let city =
        |zone: &String| zone.rsplit('/').next().is_some_and(|city| city.to_lowercase().starts_with(&wanted));
    all().filter(city).collect()
}

/// Tables of a schema that have VECTOR columns.
fn with_vectors<'a>(schema: &str, names: &'a Names) -> Vec<&'a str> {
    let tables = names.tables.iter().filter(|t| t.schema == schema && !t.vectors.is_empty());
    tables.map(|t| t.name.as_str()).collect()
}

fn vectors_of<'a>(table: &[&str], names: &'a Names) -> Vec<&'a str> {
    written_table(table, names).into_iter().flat_map(|t| &t.vectors).map(String::as_str).collect()
}

/// The table written as `name`, `schema.name` or a text of one of them.
fn written_table<'a>(words: &[&str], names: &'a Names) -> Option<&'a TableName> {
    match words {
        [text] if text.starts_with('\'') => {
            let written = text.trim_matches('\'');
            match written.split_once('.') {
                Some((schema, table)) => names.table(Some(&meant(schema)), &meant(table)),
                None => names.table(None, &meant(written)),
            }
        }
        [table] => names.table(None, &meant(table)),
        [schema, ".", table] => names.table(Some(&meant(schema)), &meant(table)),
        _ => None,
    }
}

/// Length of the opening quote of a string: `'`, `E'` or `$tag$`.
fn open_quote_length(text: &str) -> usize {
    match text.find('\'') {
        Some(at) if at <= 1 => at + 1,
        _ => text.get(1..).and_then(|rest| rest.find('$')).map_or(1, |at| at + 2),
    }
}

/// Words and punctuation of the statement the cursor is in.
fn significant<'a>(text: &'a str, tokens: &[Token]) -> Vec<&'a str> {
    let begin = tokens.iter().rposition(|t| t.kind == Kind::Semicolon).map_or(0, |i| i + 1);
    tokens[begin..]
        .iter()
        .filter(|t| !matches!(t.kind, Kind::Space | Kind::Comment))
        .map(|t| &text[t.range.clone()])
        .collect()
}

/// One thing that can stand at the cursor.
enum Candidate<'a> {
    Keyword(&'a str),
    Name(&'a str),
    Function(&'a str),
}

fn candidates_of<'a>(words: &[&str], scope: &'a Scope<'a>, names: &'a Names) -> Vec<Candidate<'a>> {
    let last = words.last().copied().unwrap_or("");
    if last == "." {
        return members(&words[..words.len() - 1], scope, names);
    }
    if words.is_empty() {
        return keywords(STARTS).collect();
    }
    if sets(words) {
        return keywords(&["FOR"]).collect();
    }
    let upper = last.to_ascii_uppercase();
    match upper.as_str() {
        "FOR" if is_of(words, &["SET", "RESET"]) => return keywords(&["DATABASE"]).collect(),
        "FROM" | "JOIN" | "INTO" | "UPDATE" | "TABLE" | "DESCRIBE" | "COPY" | "TRUNCATE" | "VIEW"
        | "EXISTS" => {
            let more: &[&str] = match upper.as_str() {
                "TRUNCATE" | "DESCRIBE" => &["TABLE"],
                "FROM" | "JOIN" => &["LATERAL"],
                "EXISTS" => &["SELECT"],
                _ => &["IF"],
            };
            let in_from = matches!(upper.as_str(), "FROM" | "JOIN");
            let functions = names.table_functions.iter().filter(|_| in_from).map(|f| Candidate::Function(f));
            return relations(names).chain(keywords(more)).chain(functions).collect();
        }
        "USING" if is_of(words, &["MERGE", "DELETE"]) => return relations(names).collect(),
        "KILL" => return keywords(&["QUERY"]).collect(),
        "REINDEX" => return keywords(&["INDEX", "TABLE"]).collect(),
        "COMPACT" | "WARM" => return keywords(&["TABLE"]).collect(),
        "VERIFY" if words.len() == 1 => return keywords(&["DATABASE", "DEEP", "REPAIR", "TABLE"]).collect(),
        "DATABASE" if is_of(words, &["VERIFY"]) => return keywords(&["DEEP", "REPAIR"]).collect(),
        "DEEP" if is_of(words, &["VERIFY"]) => return keywords(&["REPAIR"]).collect(),
        "REPAIR" if is_of(words, &["VERIFY"]) => return keywords(&["DRY"]).collect(),
        "DRY" if is_of(words, &["VERIFY"]) => return keywords(&["RUN"]).collect(),
        "VACUUM" if words.len() == 1 => return keywords(&["TABLE"]).chain(relations(names)).collect(),
        "CANCEL" if words.len() == 1 => return keywords(&["JOB"]).collect(),
        "PAUSE" | "RESUME" | "RETRY" | "RUN" if words.len() == 1 => {
            return keywords(&["JOB", "JOBS"]).collect();
        }
        "JOB" if is_of(words, &["RUN"]) => return job_kinds(),
        "JOBS" if is_of(words, &["PAUSE", "RESUME"]) => return job_kinds(),
        "JOBS" if is_of(words, &["SHOW"]) => return keywords(&["FOR", "LIKE", "WHERE"]).collect(),
        "JOBS" if is_of(words, &["RUN"]) => return keywords(&["FOR", "LIMIT", "STRICT"]).collect(),
        "JOBS" if is_of(words, &["RETRY"]) => return keywords(&["FOR"]).collect(),
        "INDEX" => {
            let own = names.indexes.iter().filter(|(schema, _)| *schema == names.current_schema);
            let more: &[&str] = if is_of(words, &["DROP"]) { &["IF"] } else { &[] };
            return own.map(|(_, name)| Candidate::Name(name)).chain(keywords(more)).collect();
        }
        "SHOW" => {
            return keywords(SHOWN).chain(names.settings.iter().map(|s| Candidate::Name(s))).collect();
        }
        "SET" | "RESET" if words.len() == 1 => {
            let settings = names.changeable.iter().map(|s| Candidate::Name(s));
            return settings.chain(keywords(&["TIME ZONE"])).collect();
        }
        "USE" | "SCHEMA" => return names.schemas.iter().map(|s| Candidate::Name(s)).collect(),
        "EXPLAIN" => return keywords(&["ANALYZE"]).chain(keywords(STARTS)).collect(),
        "CREATE" if is_of(words, &["SHOW"]) => return keywords(&["TABLE", "VIEW"]).collect(),
        "CREATE" => {
            return keywords(&["INDEX", "OR", "ROLE", "SCHEMA", "SECRET", "TABLE", "USER", "VIEW"]).collect();
        }
        "DROP" if !alters_table(words) => {
            return keywords(&["INDEX", "ROLE", "SCHEMA", "SECRET", "TABLE", "USER", "VIEW"]).collect();
        }
        "SECRET" if is_of(words, &["CREATE", "DROP"]) && !words.contains(&"(") => {
            return keywords(&["IF"]).collect();
        }
        "(" | "," if makes_secret(words) => return keywords(SECRET_OPTIONS).collect(),
        "ALTER" if alters_table(words) => {
            return keywords(&["COLUMN"]).chain(columns_of_altered(words, names)).collect();
        }
        "ALTER" => return keywords(&["TABLE", "USER"]).collect(),
        "COLUMN" if alters_table(words) => {
            let before = words.get(words.len().saturating_sub(2)).copied().unwrap_or("");
            let more: &[&str] = match before.to_ascii_uppercase().as_str() {
                "ADD" | "DROP" => &["IF"],
                _ => &[],
            };
            return columns_of_altered(words, names).chain(keywords(more)).collect();
        }
        "ADD" if alters_table(words) => return keywords(&["COLUMN", "IF"]).collect(),
        "RENAME" if alters_table(words) => {
            return keywords(&["COLUMN", "TO"]).chain(columns_of_altered(words, names)).collect();
        }
        "DROP" if alters_table(words) => {
            let rest = keywords(&["COLUMN", "DEFAULT", "IF", "NOT"]);
            return rest.chain(columns_of_altered(words, names)).collect();
        }
        "INSERT" if words.len() == 1 => return keywords(&["INTO"]).collect(),
        "DELETE" if words.len() == 1 => return keywords(&["FROM"]).collect(),
        // Also functions, but those stand before FROM.
        "LEFT" | "RIGHT" | "FULL" if words.iter().any(|w| w.eq_ignore_ascii_case("from")) => {
            return keywords(&["JOIN", "OUTER"]).collect();
        }
        "INNER" | "CROSS" | "OUTER" => return keywords(&["JOIN"]).collect(),
        "IS" => return keywords(&["DISTINCT", "FALSE", "NOT", "NULL", "TRUE"]).collect(),
        "PRIMARY" => return keywords(&["KEY"]).collect(),
        "AS" if in_cast(words) => return keywords(TYPES).collect(),
        ":" if words.len() > 1 && words[words.len() - 2] == ":" => return keywords(TYPES).collect(),
        "COLUMNS" if is_of(words, &["SHOW"]) => return keywords(&["FROM"]).collect(),
        "GRANT" | "REVOKE" => return keywords(RIGHTS).collect(),
        "ON" if gives_rights(words) => {
            return keywords(&["DATABASE", "SCHEMA"]).chain(relations(names)).collect();
        }
        "ORDER" | "GROUP" | "PARTITION" => return keywords(&["BY"]).collect(),
        "," if in_from_list(words) => return relations(names).collect(),
        _ => {}
    }
    if let Some(table) = columns_listed_of(words, names) {
        return table.columns.iter().map(|c| Candidate::Name(c)).collect();
    }
    let columns = scope.tables.iter().flat_map(|t| &t.columns).map(|c| Candidate::Name(c));
    let aliases = scope.aliases.iter().map(|(alias, _)| Candidate::Name(alias));
    let functions = names.functions.iter().map(|f| Candidate::Function(f));
    let found = vectors::SEARCH_COLUMNS.iter().filter(|_| !scope.searches.is_empty());
    columns
        .chain(found.map(|c| Candidate::Name(c)))
        .chain(aliases)
        .chain(keywords(Session::keywords()))
        .chain(functions)
        .chain(relations(names))
        .collect()
}

fn keywords<'a>(words: &'a [&'a str]) -> impl Iterator<Item = Candidate<'a>> {
    words.iter().map(|w| Candidate::Keyword(w))
}

/// Kinds of jobs.
fn job_kinds<'a>() -> Vec<Candidate<'a>> {
    Session::job_kinds().into_iter().map(Candidate::Name).collect()
}

/// Tables of the current schema, and schemas to go on with.
fn relations(names: &Names) -> impl Iterator<Item = Candidate<'_>> {
    let tables = names.tables.iter().filter(|t| t.schema == names.current_schema);
    tables.map(|t| Candidate::Name(&t.name)).chain(names.schemas.iter().map(|s| Candidate::Name(s)))
}

/// What can follow `path.`: columns of a table or alias, tables of a schema, columns of `schema.table`.
fn members<'a>(path: &[&str], scope: &Scope<'a>, names: &'a Names) -> Vec<Candidate<'a>> {
    let Some((last, before)) = path.split_last() else { return Vec::new() };
    let name = meant(last);
    if let [.., schema, "."] = before {
        let table = names.table(Some(&meant(schema)), &name);
        return table.into_iter().flat_map(|t| &t.columns).map(|c| Candidate::Name(c)).collect();
    }
    let columns = scope.named(&name).or_else(|| names.table(None, &name));
    let columns = columns.into_iter().flat_map(|t| &t.columns).map(|c| Candidate::Name(c));
    let found = vectors::SEARCH_COLUMNS.iter().filter(|_| scope.searches.contains(&name));
    let found = found.map(|c| Candidate::Name(c));
    let tables = names.tables.iter().filter(|t| t.schema == name).map(|t| Candidate::Name(&t.name));
    columns.chain(found).chain(tables).collect()
}

/// Whether a comma at the end separates tables: the nearest clause word before it is FROM.
fn in_from_list(words: &[&str]) -> bool {
    let clause = words.iter().rev().map(|w| w.to_ascii_uppercase()).find(|w| {
        matches!(
            w.as_str(),
            "FROM" | "SELECT" | "WHERE" | "BY" | "HAVING" | "SET" | "VALUES" | "ON" | "USING" | "("
        )
    });
    clause.is_some_and(|word| word == "FROM")
}

/// The table of `INSERT INTO t (…` or `COPY t (…`, with the cursor in its column list.
fn columns_listed_of<'a>(words: &[&str], names: &'a Names) -> Option<&'a TableName> {
    let open = words.iter().position(|w| *w == "(")?;
    let begin = match *words.first()? {
        verb if verb.eq_ignore_ascii_case("insert") => 2,
        verb if verb.eq_ignore_ascii_case("copy") => 1,
        _ => return None,
    };
    if words[open + 1..].contains(&")") {
        return None;
    }
    match words.get(begin..open)? {
        [table] => names.table(None, &meant(table)),
        [schema, ".", table] => names.table(Some(&meant(schema)), &meant(table)),
        _ => None,
    }
}

/// Those that begin with `prefix`, written as they go into the text, each once.
fn pick(prefix: &str, lower: bool, candidates: Vec<Candidate<'_>>) -> Vec<String> {
    let wanted = prefix.trim_start_matches('"').to_lowercase();
    let mut picked: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for candidate in candidates {
        let name = match candidate {
            Candidate::Keyword(n) | Candidate::Name(n) | Candidate::Function(n) => n,
        };
        if !name.to_lowercase().starts_with(&wanted) {
            continue;
        }
        let text = match candidate {
            Candidate::Name(name) if prefix.starts_with('"') => format!("\"{}\"", name.replace('"', "\"\"")),
            Candidate::Name(name) => quoted(name),
            // Nobody wants four hundred names before the first letter.
            Candidate::Keyword(_) | Candidate::Function(_) if prefix.starts_with('"') => continue,
            Candidate::Function(_) if prefix.is_empty() => continue,
            Candidate::Keyword(word) => {
                if lower {
                    word.to_lowercase()
                } else {
                    word.to_owned()
                }
            }
            Candidate::Function(name) => format!("{name}("),
        };
        if seen.insert(text.clone()) {
            picked.push(text);
        }
    }
    picked
}

/// Tables whose name begins with what is written, and the byte of it from which on they replace it.
fn written_tables(written: &str, names: &Names) -> (usize, Vec<String>) {
    let (from, schema) = match written.rfind('.') {
        Some(dot) => (dot + 1, meant(&written[..dot])),
        None => (0, names.current_schema.clone()),
    };
    let tables = names.tables.iter().filter(|t| t.schema == schema);
    (from, pick(&written[from..], false, tables.map(|t| Candidate::Name(&t.name)).collect()))
}

fn command_words(before: &str, names: &Names) -> Completion {
    let offset = before.len() - before.trim_start().len();
    let Some((name, argument)) = before.trim_start().split_once(' ') else {
        let typed = before.trim_start();
        let candidates = command::words().filter(|w| w.starts_with(typed)).map(str::to_owned).collect();
        return Completion::Words { start: offset, candidates };
    };
    let start = before.len() - argument.trim_start().len();
    let argument = argument.trim_start();
    let fixed = |words: &[&str]| {
        words.iter().filter(|w| w.starts_with(argument)).map(|w| (*w).to_owned()).collect::<Vec<_>>()
    };
    let candidates = match command::argument_of(name) {
        command::Argument::File => return Completion::File { start, kinds: files::ALL },
        command::Argument::Script => return Completion::File { start, kinds: files::SCRIPTS },
        command::Argument::Table => {
            let (from, candidates) = written_tables(argument, names);
            return Completion::Words { start: start + from, candidates };
        }
        command::Argument::Format => match argument.strip_prefix("insert ") {
            Some(table) => {
                let (from, candidates) = written_tables(table, names);
                let start = before.len() - table.len() + from;
                return Completion::Words { start, candidates };
            }
            None => fixed(&Format::names().collect::<Vec<_>>()),
        },
        command::Argument::Switch => fixed(&["on", "off"]),
        command::Argument::Pager => fixed(&["on", "off", "auto"]),
        command::Argument::Chart => fixed(&["bar", "spark"]),
        command::Argument::Command => fixed(&command::words().collect::<Vec<_>>()),
        command::Argument::Other => Vec::new(),
    };
    Completion::Words { start, candidates }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let table = |schema: &str, name: &str, columns: &[&str]| TableName {
            schema: schema.into(),
            name: name.into(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            vectors: columns.iter().filter(|c| c.ends_with("vec")).map(|c| (*c).to_owned()).collect(),
            is_view: name == "titles",
        };
        Names {
            current_schema: "public".into(),
            schemas: vec!["public".into(), "app".into(), "system".into()],
            tables: vec![
                table("public", "notes", &["id", "title", "Body Text"]),
                table("public", "tags", &["note_id", "tag"]),
                table("public", "pages", &["id", "lang", "text_vec"]),
                table("public", "titles", &["title"]),
                table("app", "users", &["user_id", "email"]),
                table("app", "Faces", &["id", "face_vec"]),
                table("system", "indexes", &["index_name"]),
            ],
            indexes: vec![("public".into(), "pages_text_vec_idx".into()), ("app".into(), "faces_idx".into())],
            functions: vec!["lower".into(), "length".into(), "l2_distance".into(), "vector_search".into()],
            table_functions: vec!["read_csv".into(), "vector_search".into()],
            settings: vec!["search_path".into(), "sync".into()],
            changeable: vec!["search_path".into()],
            accounts: vec!["anna".into(), "readers".into()],
            prepared: vec!["find".into()],
        }
    }

    /// `|` marks the cursor; the candidates must begin with these, in this order.
    fn check(text: &str, expected: &[&str]) {
        let (before, after) = text.split_once('|').unwrap_or((text, ""));
        match at_cursor(before, after, &names()) {
            Completion::Words { candidates, .. } => {
                let shown: Vec<&str> = candidates.iter().map(String::as_str).take(expected.len()).collect();
                // Where no letter tells, words are written as the statement is.
                let is_begun = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"');
                let same = |a: &str, b: &str| a == b || !is_begun && a.eq_ignore_ascii_case(b);
                let all_same = shown.iter().zip(expected).all(|(a, b)| same(a, b));
                assert!(
                    all_same && shown.len() == expected.len(),
                    "{text}: {shown:?} instead of {expected:?}"
                );
                assert!(!expected.is_empty() || candidates.is_empty(), "{text}: {candidates:?}");
            }
            Completion::File { start, .. } => {
                assert_eq!(expected, [format!("file at {start}")], "{text}");
            }
        }
    }

    #[test]
    fn statements_begin_with_a_verb() {
        check("SEL|", &["SELECT"]);
        check("sel|", &["select"]);
        check("select 1; cop|", &["copy"]);
        check("EXPLAIN A|", &["ANALYZE"]);
    }

    #[test]
    fn zones_where_zones_stand() {
        check("set time zone 'europe/zu|", &["Europe/Zurich"]);
        check("SET timezone = 'zuri|", &["Europe/Zurich"]);
        check("select now() at time zone 'Pacific/Api|", &["Pacific/Apia"]);
        check("set search_path = 'euro|", &[]);
        check("create table n (a bigint gen|", &["generated"]);
        check("SET TIME Z|", &["ZONE"]);
    }

    #[test]
    fn tables_where_tables_stand() {
        check("select * from |", &["notes", "tags", "pages", "titles", "public", "app"]);
        check("select * from vec|", &["vector_search("]);
        check("select * from system.|", &["indexes"]);
        check("select * from notes, t|", &["tags"]);
        check("insert into n|", &["notes"]);
        check("COPY |", &["notes", "tags"]);
        check("describe t|", &["tags", "titles", "table"]);
        check("select * from app.|", &["users"]);
        check("drop table app.u|", &["users"]);
    }

    #[test]
    fn columns_of_the_tables_in_scope() {
        check("select ti| from notes", &["title"]);
        check("select * from notes n where n.|", &["id", "title", "\"Body Text\""]);
        check("select * from notes as n join tags t on t.n|", &["note_id"]);
        check("select app.users.e| from app.users", &["email"]);
        check("select u.| from app.users u; select 1", &["user_id", "email"]);
        check("insert into notes (id, t|", &["title"]);
        check("update notes set ti|", &["title"]);
        check("select \"B| from notes", &["\"Body Text\""]);
    }

    #[test]
    fn functions_and_keywords() {
        check("select low|", &["lower("]);
        check("select * from notes wh|", &["where"]);
        check("select * from notes whe|re", &["where"]);
        check("select * from notes order |", &["BY"]);
        check("show |", &[SHOWN, &["search_path"]].concat());
        check("SET |", &["search_path"]);
        check("SET sy|", &[]);
        check("SHOW sy|", &["sync"]);
        check("SET search_path = app |", &["FOR"]);
        check("reset search_path for |", &["DATABASE"]);
        check("gr|", &["grant"]);
        check("grant sel|", &["select"]);
        check("GRANT SELECT ON D|", &["DATABASE"]);
        check("revoke insert on no|", &["notes"]);
        check("alter |", &["TABLE", "USER"]);
        check("insert |", &["INTO"]);
        check("delete |", &["FROM"]);
        check("select * from notes left |", &["JOIN", "OUTER"]);
        check("select cast(id as b|", &["bigint", "boolean"]);
        check("select id::Te|", &["text"]);
        check("select a as b|", &["begin"]);
        check("show create |", &["TABLE", "VIEW"]);
        check("show columns |", &["FROM"]);
    }

    #[test]
    fn indexes_are_made_and_made_anew() {
        check("create i|", &["index"]);
        check("create index |", &["IF", "ON"]);
        check("create index if |", &["NOT"]);
        check("create index i |", &["ON"]);
        check("create index on p|", &["pages", "public"]);
        check("create index on app.|", &["users", "\"Faces\""]);
        check("create index on pages |", &["USING"]);
        check("create index on pages using |", &["hnsw"]);
        check("create index on pages using hnsw |", &["("]);
        check("create index on pages using hnsw (|", &["text_vec"]);
        check("create index on app.\"Faces\" using hnsw (|", &["face_vec"]);
        check("create index on pages using hnsw (text_vec v|", &["vector_l2_ops", "vector_cosine_ops"]);
        check("create index on pages using hnsw (text_vec) w|", &["with"]);
        check("create index on pages using hnsw (text_vec) with |", &["("]);
        check(
            "create index on pages using hnsw (text_vec) with (|",
            &["metric = ", "target_recall = ", "m = ", "ef_construction = ", "builder = ", "memory_limit = "],
        );
        check(
            "create index on pages using hnsw (text_vec) with (m = 8, m|",
            &["metric = ", "memory_limit = "],
        );
        check("create index on pages using hnsw (text_vec) with (metric |", &["= "]);
        check("create index on pages using hnsw (text_vec) with (metric = |", &["'l2'", "'cosine'", "'ip'"]);
        check("create index on pages using hnsw (text_vec) with (builder = 'h|')", &["hnsw_rs"]);
        check("create index on pages using hnsw (text_vec) with (m = 8)|", &[]);
        check("explain create index on pages u|", &["using"]);
        check("reindex |", &["INDEX", "TABLE"]);
        check("warm |", &["TABLE"]);
        check("kill |", &["QUERY"]);
        check("merge into n|", &["notes"]);
        check("merge into notes using t|", &["tags"]);
        check("delete from notes using t|", &["tags"]);
        check("compact |", &["TABLE"]);
        check("warm table pa|", &["pages"]);
        check("reindex table p|", &["pages", "public"]);
        check("reindex index p|", &["pages_text_vec_idx"]);
        check("reindex index i|", &[]);
        check("drop index |", &["pages_text_vec_idx", "IF"]);
        check("re|", &["reindex", "release", "reset"]);
    }

    #[test]
    fn secrets() {
        check("create se|", &["secret"]);
        check("DROP SEC|", &["SECRET"]);
        check("drop secret |", &["IF"]);
        check("select secret fr|", &["from"]);
        check("show sec|", &["secrets"]);
        check("CREATE SECRET a (|", SECRET_OPTIONS);
        check("create or replace secret a (type s3, k|", &["key_id"]);
        check("create secret a (type s3, secret 'x', reg|", &["region"]);
    }

    #[test]
    fn searches() {
        check("select * from vector_search(|", &["'pages'"]);
        check("select * from vector_search(p|", &["pages"]);
        check("select * from vector_search('|", &["pages"]);
        check("select * from vector_search('app.|", &["\"Faces\""]);
        check("select * from vector_search('pages', |", &["'text_vec'"]);
        check("select * from vector_search('pages', 't|', ", &["text_vec"]);
        check("select * from vector_search('app.\"Faces\"', '|", &["face_vec"]);
        check("select * from vector_search('pages', 'text_vec', '|", &[]);
        check(
            "select * from vector_search('pages', 'text_vec', '[1,2]', |",
            &["k => ", "filter => ", "metric => ", "mode => ", "ef => "],
        );
        check(
            "select * from vector_search('pages', 'text_vec', array[1, 2], k => 3, m|",
            &["metric => ", "mode => "],
        );
        check(
            "select * from vector_search('pages', 'text_vec', $1, mode => |",
            &["'auto'", "'ann'", "'exact'"],
        );
        check("select * from vector_search('pages', 'text_vec', $1, metric => 'c|')", &["cosine"]);
        check("select * from vector_search('pages', 'text_vec', $1, filter => 'id > 3 and l|')", &["lang"]);
        check("select _d| from vector_search('pages', 'text_vec', $1)", &["_distance"]);
        check("select la| from vector_search('pages', 'text_vec', $1)", &["lang"]);
        check(
            "select n.| from vector_search('pages', 'text_vec', $1, k => 3) as n",
            &["id", "lang", "text_vec", "_distance", "_rank"],
        );
        check("select * from vector_search('pages', 'text_vec', $1) n join tags t on t.n|", &["note_id"]);
        check(
            "select * from pages where id in (select id from vector_search('pages', 'text_vec', $1)) and la|",
            &["lang"],
        );
        check("select _d| from pages", &[]);
    }

    #[test]
    fn distances() {
        check("select text_vec <| from pages", &["<->", "<=>", "<#>", "<+>"]);
        check("select text_vec <-| from pages", &["<->"]);
        check("select text_vec <->| from pages", &["id"]);
        check("select '<|", &[]);
        check("select l2_d|", &["l2_distance("]);
        check("create table t (e vec|", &["vector"]);
    }

    #[test]
    fn files_inside_quotes() {
        check("copy notes from 'da|", &["file at 17"]);
        check("copy notes to 'da|", &["file at 15"]);
        check("copy (select 'a' from notes) to 'da|", &["file at 33"]);
        check("select * from '|", &["file at 15"]);
        check("select * from notes join 'x|", &["file at 26"]);
        check("select * from notes, 'x|", &["file at 22"]);
        check("select * from read_csv('x|", &["file at 24"]);
        check(".read x|", &["file at 6"]);
        check(".once x|", &["file at 6"]);
        check("select * from notes where title = 'x|", &[]);
        check("insert into notes values (1, 'x|", &[]);
    }

    #[test]
    fn files_of_the_kind_that_is_read() {
        let kinds = |text: &str| match at_cursor(text, "", &names()) {
            Completion::File { kinds, .. } => kinds,
            Completion::Words { candidates, .. } => panic!("{text}: {candidates:?}"),
        };
        assert_eq!(kinds("select * from read_csv('"), ["csv", "tsv", "tbl"]);
        assert!(kinds("select * from '").contains(&"parquet"));
        assert!(!kinds("select * from '").contains(&"gz"));
        assert!(kinds("copy notes from '").contains(&"gz"));
        assert_eq!(kinds(".read "), ["sql"]);
        assert!(kinds(".output ").is_empty());
    }

    #[test]
    fn copy_is_written_step_by_step() {
        check("copy |", &["notes", "tags"]);
        check("copy notes |", &["FROM", "TO", "("]);
        check("copy app.users t|", &["to"]);
        check("copy notes (|", &["id", "title"]);
        check("copy (select * from |", &["notes"]);
        check("copy (select * from notes) |", &["TO"]);
        check("copy notes from |", &["'"]);
        check("copy notes to |", &["'"]);
        check("copy notes from 'a.csv' |", &["WITH ("]);
        check("copy notes from 'a.csv' with (|", &["format '", "header "]);
        check("copy notes from 'a.csv' with (format '|", &["csv", "parquet", "ndjson", "arrow"]);
        check("copy notes from 'a.csv' with (format 'csv', de|", &["delimiter '"]);
    }

    #[test]
    fn commands() {
        check(".ta|", &[".tables"]);
        check(".schema t|", &["tags"]);
        check(".schema app.|", &["users"]);
        check(".mode nd|", &["ndjson"]);
        check(".mode insert app.u|", &["users"]);
        check(".pager o|", &["on", "off"]);
        check(".chart s|", &["spark"]);
        check(".help .ti|", &[".timer"]);
        check("\\d n|", &["notes"]);
        check(".timer o|", &["on", "off"]);
    }

    #[test]
    fn comments_complete_nothing() {
        assert_eq!(at_cursor("/* sel", "", &names()), Completion::Words { start: 6, candidates: Vec::new() });
    }

    #[test]
    fn words_are_written_as_the_statement_is() {
        let first = |text: &str| match at_cursor(text, "", &names()) {
            Completion::Words { candidates, .. } => candidates.into_iter().next(),
            Completion::File { .. } => None,
        };
        for (text, expected) in [
            ("", "ALTER"),
            ("insert ", "into"),
            ("INSERT ", "INTO"),
            ("insert into notes v", "values"),
            ("insert into notes V", "VALUES"),
            ("Select * from notes ", "as"),
            ("copy notes ", "from"),
            ("COPY notes ", "FROM"),
            ("create index ", "if"),
        ] {
            assert_eq!(first(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_goes_on_is_offered_first() {
        check("select * from notes |", &["AS", "WHERE", "CROSS"]);
        check("select * from notes where |", &["id", "title", "\"Body Text\"", "notes", "ARRAY"]);
        check("select * from notes where low|", &["lower("]);
        check("select id from notes where id = 1 |", &["AND"]);
        check("select | from notes", &["id", "title"]);
        check("select no|", &["not", "notes"]);
        check("insert into notes |", &["(", "DEFAULT VALUES", "SELECT", "VALUES"]);
        check("insert into notes (id) v|", &["values"]);
        check("insert into notes values (1) on conflict (id) do update set |", &["id", "title"]);
        check("update notes |", &["AS", "SET"]);
        check("update notes set |", &["id", "title"]);
        check("create table t (a |", TYPES);
        check("create table t (a int) with (layout = '|", &["columns", "rows"]);
        check("alter table notes set (|", &["layout = '", "sort = '"]);
        check("alter table notes set (layout = 'r|", &["rows"]);
        check("verify table notes |", &["DEEP", "REPAIR"]);
        check("verify table notes repair |", &["DRY"]);
        check("run job compact o|", &["on"]);
    }

    #[test]
    fn names_of_their_kind() {
        check("drop table t|", &["tags"]);
        check("drop view |", &["titles", "public", "app", "system", "IF"]);
        check("drop table if exists no|", &["notes"]);
        check("describe table t|", &["tags", "titles"]);
        check("select ti| from titles", &["title"]);
        check("execute |", &["find"]);
        check("deallocate |", &["find", "ALL"]);
        check("grant select on notes to |", &["anna", "readers"]);
        check("drop user a|", &["anna"]);
        check("alter user |", &["anna", "readers"]);
        // What is typed against all likelihood is completed too.
        check("select * from notes lat|", &["lateral"]);
    }

    #[test]
    fn a_thousand_tables_are_fast() {
        let mut names = names();
        for i in 0..1000 {
            let columns = (0..20).map(|c| format!("column_{c}")).collect();
            names.tables.push(TableName {
                schema: "public".into(),
                name: format!("table_{i}"),
                columns,
                ..TableName::default()
            });
        }
        let begun = std::time::Instant::now();
        at_cursor("select * from table_999 a, table_", "", &names);
        // Some milliseconds in a release build; whoever types waits for it.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

//! DataFusion's and Arrow's errors in Cairn's words.
//!
//! Owns: finding an error of ours inside theirs, SQLSTATEs of PostgreSQL, places from spans, hints. What isn't recognised
//! keeps its text and gets the SQLSTATE of its family.

use std::error::Error as StdError;
use std::sync::Arc;

use cairn_storage::ErrorKind;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

use super::unplanned::unplanned;
use super::{Error, Position, closest};

/// Holders of memory that an error names at most.
const HOLDERS_NAMED: usize = 3;

pub(super) fn translate(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let made = translate(inner);
            match (made.position(), diagnostic.span) {
                (None, Some(span)) if span.start.line > 0 => {
                    made.at(Position { line: span.start.line, column: span.start.column })
                }
                _ => made,
            }
        }
        DataFusionError::Context(_, inner) => translate(inner),
        DataFusionError::Shared(inner) => translate(inner),
        DataFusionError::Collection(errors) => {
            errors.first().map_or_else(|| internal("several errors at once"), translate)
        }
        DataFusionError::External(inner) => external(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => arrow(inner),
        DataFusionError::ParquetError(inner) => parquet(inner),
        DataFusionError::ObjectStore(inner) => object_store(inner),
        DataFusionError::IoError(inner) => io(inner),
        DataFusionError::SQL(inner, _) => crate::statement::syntax_of(inner),
        DataFusionError::NotImplemented(text) => {
            unplanned(text).unwrap_or_else(|| make(ErrorKind::Unsupported, "0A000", text))
        }
        DataFusionError::Internal(text) => internal(text),
        DataFusionError::Plan(text) if nests_too_deeply(text) => crate::plans::nested_too_deeply(),
        DataFusionError::Plan(text) => unplanned(text).unwrap_or_else(|| plan(text)),
        DataFusionError::Configuration(text) => make(ErrorKind::InvalidInput, "22023", text),
        DataFusionError::SchemaError(inner, _) => schema(inner),
        DataFusionError::Execution(text) => execution(text),
        DataFusionError::ExecutionJoin(inner) => internal(&format!("a part of the query stopped: {inner}")),
        DataFusionError::ResourcesExhausted(text) => {
            make(ErrorKind::ResourceExhausted, "53200", "the query needs more memory than the limit allows")
                .map(|e| e.with_detail(shortage(text)).with_hint("raise the memory limit when opening the database, or reduce what is sorted, joined or grouped at once"))
        }
        DataFusionError::Substrait(text) | DataFusionError::Ffi(text) => internal(text),
        // Variants that only exist with features of DataFusion that are off.
        #[allow(unreachable_patterns)]
        other => internal(&other.strip_backtrace()),
    }
}

fn make(kind: ErrorKind, sqlstate: &'static str, text: &str) -> Error {
    // Backtraces and DataFusion's own advice are not for users.
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    Error::new(kind, lower_first(text.trim())).map(|e| e.with_sqlstate(sqlstate))
}

fn internal(text: &str) -> Error {
    let text = text.split("This issue was likely caused by a bug").next().unwrap_or(text);
    make(ErrorKind::Internal, "XX000", text.trim().trim_end_matches('.'))
        .map(|e| e.with_hint("this is a fault of Cairn's own; please report it with the statement"))
}

/// Who could not have which memory, and who held most of it: DataFusion lists them on lines of their own.
fn shortage(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or("not enough memory");
    let listed = first
        .strip_prefix("Additional allocation failed for ")
        .and_then(|rest| rest.strip_suffix(" with top memory consumers (across reservations) as:"));
    let Some(who) = listed else { return first.to_owned() };
    let (mut held, mut asked) = (Vec::new(), "");
    for line in lines {
        if let Some(error) = line.strip_prefix("Error: ") {
            let bytes =
                error.strip_prefix("Failed to allocate additional ").and_then(|e| e.split_once(" for "));
            asked = bytes.map_or("", |(bytes, _)| bytes);
            break;
        }
        // name#id(can spill: false) consumed 1.0 MB, peak 2.0 MB,
        let consumer = line.trim().split_once('#').zip(line.split_once(" consumed "));
        if let Some(((name, _), (_, figures))) = consumer
            && let Some((bytes, _)) = figures.split_once(", peak ")
            && !bytes.starts_with("0.0 ")
            && held.len() < HOLDERS_NAMED
        {
            held.push(format!("{name} {bytes}"));
        }
    }
    let needs = format!("{who} needs {asked} more").replace("  ", " ");
    if held.is_empty() { needs } else { format!("{needs}; most is held by {}", held.join(", ")) }
}

/// Messages begin small, as ours do; names in capitals stay.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(std::iter::once(second)).chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// Looks for an error of ours, or one we know, inside a boxed one and its causes.
fn external(error: &(dyn StdError + Send + Sync + 'static)) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(known) = known(current) {
            return known;
        }
        cause = current.source();
    }
    make(ErrorKind::InvalidInput, "22000", &error.to_string())
}

fn known(error: &(dyn StdError + 'static)) -> Option<Error> {
    if let Some(ours) = error.downcast_ref::<Error>() {
        return Some(ours.clone());
    }
    if let Some(storage) = error.downcast_ref::<cairn_storage::Error>() {
        return Some(storage.clone().into());
    }
    if let Some(vector) = error.downcast_ref::<cairn_udfs::vector::InvalidVector>() {
        return Some(make(ErrorKind::InvalidInput, vector.sqlstate, &vector.message));
    }
    if let Some(argument) = error.downcast_ref::<cairn_udfs::InvalidArgument>() {
        return Some(make(ErrorKind::InvalidInput, argument.sqlstate, &argument.message));
    }
    if let Some(large) = error.downcast_ref::<cairn_udfs::TooLarge>() {
        return Some(make(ErrorKind::ResourceExhausted, "54000", &large.message));
    }
    if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        return Some(translate(inner));
    }
    if let Some(inner) = error.downcast_ref::<Arc<DataFusionError>>() {
        return Some(translate(inner));
    }
    if let Some(inner) = error.downcast_ref::<ArrowError>() {
        return Some(arrow(inner));
    }
    if let Some(inner) = error.downcast_ref::<ParquetError>() {
        return Some(parquet(inner));
    }
    if let Some(inner) = error.downcast_ref::<datafusion::object_store::Error>() {
        return Some(object_store(inner));
    }
    error.downcast_ref::<std::io::Error>().map(io)
}

pub(super) fn arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => external(inner.as_ref()),
        ArrowError::DivideByZero => make(ErrorKind::InvalidInput, "22012", "division by zero"),
        // Of our own integer functions, which name the type.
        ArrowError::ArithmeticOverflow(text) if text.contains(" out of range: ") => {
            make(ErrorKind::InvalidInput, "22003", text)
        }
        ArrowError::ArithmeticOverflow(text) => {
            make(ErrorKind::InvalidInput, "22003", "a number is out of the range of its type")
                .map(|e| e.with_detail(text.clone()))
        }
        ArrowError::CastError(text) => cast(text),
        ArrowError::ParseError(text) => cast(text),
        ArrowError::CsvError(text) | ArrowError::JsonError(text) => {
            make(ErrorKind::InvalidInput, "22P02", text)
        }
        ArrowError::IoError(_, inner) => io(inner),
        ArrowError::NotYetImplemented(text) => make(ErrorKind::Unsupported, "0A000", text),
        ArrowError::MemoryError(text) => make(ErrorKind::ResourceExhausted, "53200", text),
        ArrowError::OffsetOverflowError(_)
        | ArrowError::DictionaryKeyOverflowError
        | ArrowError::RunEndIndexOverflowError => {
            make(ErrorKind::ResourceExhausted, "54000", &error.to_string())
        }
        ArrowError::ParquetError(text) | ArrowError::IpcError(text) => {
            make(ErrorKind::InvalidInput, "22000", text)
        }
        ArrowError::InvalidArgumentError(text)
            if text.contains("too large to store") || text.contains("too small to store") =>
        {
            make(ErrorKind::InvalidInput, "22003", text)
        }
        ArrowError::InvalidArgumentError(text) | ArrowError::ComputeError(text) => execution(text),
        ArrowError::SchemaError(text) | ArrowError::CDataInterface(text) | ArrowError::AvroError(text) => {
            internal(text)
        }
    }
}

/// `Cannot cast string 'abc' to value of Int32 type` and its like.
fn cast(text: &str) -> Error {
    if let Some((value, rest)) =
        text.strip_prefix("Cannot cast string '").and_then(|t| t.rsplit_once("' to value of "))
    {
        let arrow_type = rest.trim_end_matches(" type");
        return make(ErrorKind::InvalidInput, "22P02", "").map(|_| {
            cairn_storage::Error::new(
                ErrorKind::InvalidInput,
                format!("'{value}' is not a valid {}", sql_name(arrow_type)),
            )
            .with_sqlstate("22P02")
        });
    }
    let overflow =
        ["Can't cast value", "out of range", "overflow", "exceeds"].iter().any(|w| text.contains(w));
    let time = ["timestamp", "date", "time", "Timestamp", "Date", "Time"].iter().any(|w| text.contains(w));
    let sqlstate = match (overflow, time) {
        (true, true) => "22008",
        (true, false) => "22003",
        (false, true) => "22007",
        (false, false) => "22P02",
    };
    make(ErrorKind::InvalidInput, sqlstate, text)
}

fn sql_name(arrow_type: &str) -> &str {
    match arrow_type {
        "Int8" => "TINYINT",
        "Int16" => "SMALLINT",
        "Int32" => "INTEGER",
        "Int64" => "BIGINT",
        "UInt8" => "TINYINT UNSIGNED",
        "UInt16" => "SMALLINT UNSIGNED",
        "UInt32" => "INTEGER UNSIGNED",
        "UInt64" => "BIGINT UNSIGNED",
        "Float32" => "REAL",
        "Float64" => "DOUBLE",
        "Boolean" => "BOOLEAN",
        "Date32" | "Date64" => "DATE",
        other => other,
    }
}

fn parquet(error: &ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => external(inner.as_ref()),
        other => make(ErrorKind::InvalidInput, "22000", &other.to_string()),
    }
}

fn object_store(error: &datafusion::object_store::Error) -> Error {
    use datafusion::object_store::Error as Store;
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(current) = cause {
        if let Some(ours) = current.downcast_ref::<cairn_storage::Error>() {
            return ours.clone().into();
        }
        cause = current.source();
    }
    match error {
        Store::NotFound { path, .. } => make(ErrorKind::NotFound, "58P01", &format!("{path} does not exist")),
        Store::PermissionDenied { path, .. } | Store::Unauthenticated { path, .. } => {
            make(ErrorKind::PermissionDenied, "42501", &format!("not allowed to read or write {path}"))
        }
        other => make(ErrorKind::Unavailable, "58030", &other.to_string()),
    }
}

fn io(error: &std::io::Error) -> Error {
    if let Some(known) = error.get_ref().and_then(|inner| known(inner)) {
        return known;
    }
    use std::io::ErrorKind as Io;
    let (kind, sqlstate) = match error.kind() {
        Io::NotFound => (ErrorKind::NotFound, "58P01"),
        Io::PermissionDenied => (ErrorKind::PermissionDenied, "42501"),
        Io::StorageFull | Io::QuotaExceeded => (ErrorKind::ResourceExhausted, "53100"),
        Io::InvalidData | Io::InvalidInput => (ErrorKind::InvalidInput, "22000"),
        _ => (ErrorKind::Unavailable, "58030"),
    };
    make(kind, sqlstate, &error.to_string())
}

fn schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let made = make(ErrorKind::NotFound, "42703", "").map(|_| {
                cairn_storage::Error::new(
                    ErrorKind::NotFound,
                    format!("column {} does not exist", field.flat_name()),
                )
                .with_sqlstate("42703")
            });
            match hint_for(field, valid_fields) {
                Some(hint) => made.map(|e| e.with_hint(hint)),
                None => made,
            }
        }
        // Of a column and of an item with its name; of a name in a query, only the name is told.
        SchemaError::AmbiguousReference { field } if field.relation.is_some() => make(
            ErrorKind::InvalidInput,
            "42701",
            &format!("two columns of the result have the name {}", field.name),
        )
        .map(|e| e.with_hint("give one of them another name with AS")),
        SchemaError::AmbiguousReference { field } => make(
            ErrorKind::InvalidInput,
            "42702",
            &format!("column {} is in more than one table of the query", field.flat_name()),
        )
        .map(|e| e.with_hint("write the table's name or alias before it")),
        SchemaError::DuplicateQualifiedField { qualifier, name } => {
            make(ErrorKind::InvalidInput, "42701", &format!("column {qualifier}.{name} appears twice"))
                .map(|e| e.with_hint("give one of them another name with AS"))
        }
        SchemaError::DuplicateUnqualifiedField { name } => {
            make(ErrorKind::InvalidInput, "42701", &format!("column {name} appears twice"))
                .map(|e| e.with_hint("give one of them another name with AS"))
        }
    }
}

fn hint_for(field: &Column, valid: &[Column]) -> Option<String> {
    // Same letters in another case: the name was made with quotes.
    if let Some(quoted) =
        valid.iter().find(|c| c.name != field.name && c.name.eq_ignore_ascii_case(&field.name))
    {
        return Some(format!("did you mean \"{}\"? names with capitals need the quotes", quoted.name));
    }
    if let Some(other) = valid.iter().find(|c| c.name == field.name && field.relation.is_some()) {
        return Some(format!("did you mean {}?", other.flat_name()));
    }
    if let Some(near) = closest(&field.name, valid.iter().map(|c| c.name.as_str())) {
        return Some(format!("did you mean {near}?"));
    }
    if valid.is_empty() {
        return None;
    }
    let names: Vec<&str> = valid.iter().take(12).map(|c| c.name.as_str()).collect();
    let more = if valid.len() > names.len() { ", …" } else { "" };
    Some(format!("columns here: {}{more}", names.join(", ")))
}

/// Whether the bytes of a plan were refused for their depth: their reader counts it, and says so by its text alone.
fn nests_too_deeply(text: &str) -> bool {
    text.starts_with("Error decoding expr as protobuf: ") && text.contains(": recursion limit reached")
}

fn plan(text: &str) -> Error {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("table '") && lower.ends_with("not found") {
        let name = text.split('\'').nth(1).unwrap_or_default().trim_start_matches("cairn.");
        return make(ErrorKind::NotFound, "42P01", &format!("table {name} does not exist"));
    }
    if lower.starts_with("table function '") {
        return make(ErrorKind::NotFound, "42883", text);
    }
    if let Some(rest) = text.strip_prefix("Invalid function '") {
        let (name, hint) = rest.split_once('\'').unwrap_or((rest, ""));
        let made = make(ErrorKind::NotFound, "42883", &format!("function {name} does not exist"));
        return match hint.split("Did you mean '").nth(1).and_then(|h| h.split('\'').next()) {
            Some(near) => made.map(|e| e.with_hint(format!("did you mean {near}?"))),
            None => made,
        };
    }
    if let Some(call) = text.split("argument types '").nth(1)
        && let Some(("avg" | "sum", of)) = call.split_once('(')
        && of.starts_with("FixedSizeList(")
    {
        return Error::not_supported_yet("avg or sum of vectors")
            .map(|e| e.with_hint("l2_norm, vector_dims and the distances take vectors"));
    }
    if let Some(call) = text.split("argument types '").nth(1)
        && let Some((name @ "approx_percentile_cont", of)) = call.split_once('(')
        && of.contains("List(")
    {
        return match of.starts_with("List(") {
            true => make(ErrorKind::InvalidInput, "42883", &format!("{name} takes numbers, not lists"))
                .map(|e| e.with_hint("unnest() makes rows of a list")),
            false => {
                let message = format!(
                    "{name} takes a number from 0 to 1, or a list of them that is written out and not empty"
                );
                make(ErrorKind::InvalidInput, "42883", &message)
                    .map(|e| e.with_hint("for example quantile_cont(x, [0.1, 0.5])"))
            }
        };
    }
    if let Some(error) = no_call(text) {
        return error;
    }
    if lower.contains("require unique expression names") {
        return make(ErrorKind::InvalidInput, "42701", "two columns of the result have the same name")
            .map(|e| e.with_detail(text.to_owned()).with_hint("give one of them another name with AS"));
    }
    let sqlstate = [
        ("failed to resolve schema", "3F000"),
        ("failed to resolve catalog", "3D000"),
        ("group by", "42803"),
        ("aggregate", "42803"),
        ("coerc", "42804"),
        ("cannot infer common", "42804"),
        ("no function matches", "42883"),
        ("no placeholder value", "42P02"),
        ("placeholder", "42P02"),
        ("duplicate", "42701"),
        ("column count", "42601"),
        ("same number of columns", "42601"),
        ("ambiguous", "42702"),
    ]
    .iter()
    .find(|(needle, _)| lower.contains(needle))
    .map_or("42000", |(_, sqlstate)| sqlstate);
    make(ErrorKind::InvalidInput, sqlstate, text)
}

/// Arguments that a function does not take: what it is called with and how it can be, in place of how each of its signatures was tried.
fn no_call(text: &str) -> Option<Error> {
    let (tried, rest) = text.split_once("No function matches the given name and argument types '")?;
    let (call, rest) = rest.split_once("'. You might need to add explicit type casts.")?;
    let (_, candidates) = rest.split_once("Candidate functions:\n")?;
    let mut calls: Vec<String> = Vec::new();
    for candidate in candidates.lines().map(|line| sql_types(line.trim())) {
        if !candidate.is_empty() && !calls.contains(&candidate) {
            calls.push(candidate);
        }
    }
    // Some functions look at the types themselves, and say why.
    let why = match tried.split_once("user-defined coercion failed with: ") {
        Some((_, why)) => {
            let why = why.trim().trim_end_matches('.');
            let why = why.strip_prefix("Execution error: ").unwrap_or(why);
            let name = call.split('(').next().unwrap_or(call);
            format!("{name}: {}", why.strip_prefix("Error during planning: ").unwrap_or(why))
        }
        None => calls.join(", "),
    };
    let message = format!("{} is no call of {why}", sql_types(call));
    let made = make(ErrorKind::InvalidInput, "42883", &message);
    Some(made.map(|e| e.with_hint("convert an argument with CAST, or call another function")))
}

/// A call with the names of types that SQL has, within its parentheses.
fn sql_types(call: &str) -> String {
    let Some((name, arguments)) = call.split_once('(') else { return call.to_owned() };
    // So many of one kind.
    let counts = ["Numeric", "String", "Comparable"].into_iter().flat_map(|of| (1..5).map(move |n| (of, n)));
    let arguments = counts.fold(arguments.to_owned(), |arguments, (of, count)| {
        arguments.replace(&format!("{of}({count})"), &vec![of; count].join(", "))
    });
    let (mut named, mut rest) = (format!("{name}("), arguments.as_str());
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (arrow_type, behind) = rest.split_at(word);
        named.push_str(match arrow_type {
            "Utf8" | "LargeUtf8" | "Utf8View" | "String" => "TEXT",
            "Decimal" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => "DECIMAL",
            "Interval" | "Duration" => "INTERVAL",
            "Null" => "NULL",
            other => sql_name(other),
        });
        let other = behind.find(char::is_alphanumeric).unwrap_or(behind.len());
        let (between, behind) = behind.split_at(other);
        named.push_str(between);
        rest = behind;
    }
    named
}

fn execution(text: &str) -> Error {
    let lower = text.to_ascii_lowercase();
    if lower.contains("divide by zero") || lower.contains("division by zero") {
        return make(ErrorKind::InvalidInput, "22012", "division by zero");
    }
    if lower.contains("overflow") || lower.contains("out of range") {
        return make(ErrorKind::InvalidInput, "22003", text);
    }
    if lower.starts_with("cannot cast") || lower.contains("error parsing timestamp") {
        return cast(text);
    }
    if lower.contains("more than one row") {
        return make(ErrorKind::InvalidInput, "21000", text);
    }
    make(ErrorKind::InvalidInput, "22000", text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn our_errors_come_back_whole_from_any_depth() {
        let ours = Error::new(ErrorKind::ConstraintViolation, "duplicate key")
            .map(|e| e.with_sqlstate("23505").with_hint("h"));
        let wrapped = DataFusionError::Context(
            "while writing".into(),
            Box::new(DataFusionError::Shared(Arc::new(DataFusionError::ArrowError(
                Box::new(ArrowError::ExternalError(Box::new(DataFusionError::from(ours)))),
                None,
            )))),
        );
        let back = translate(&wrapped);
        assert_eq!(
            (back.kind(), back.sqlstate(), back.message(), back.hint()),
            (ErrorKind::ConstraintViolation, "23505", "duplicate key", Some("h"))
        );
    }

    #[test]
    fn plans_that_nest_too_deeply_say_so() {
        // As prost and datafusion-proto word it; the tests of plans in other processes make a true one.
        let bytes = |why: &str| {
            DataFusionError::Plan(format!(
                "Error decoding expr as protobuf: failed to decode Protobuf message: FilterExecNode.input: {why}"
            ))
        };
        let deep = translate(&bytes("recursion limit reached"));
        assert_eq!((deep.kind(), deep.sqlstate()), (ErrorKind::ResourceExhausted, "54001"), "{deep}");
        assert!(deep.message().contains("nested too deeply") && deep.hint().is_some(), "{deep}");
        assert_ne!(translate(&bytes("buffer underflow")).sqlstate(), "54001");
        let name = DataFusionError::Plan("table 'x: recursion limit reached' not found".into());
        assert_eq!(translate(&name).sqlstate(), "42P01");
    }

    #[test]
    fn who_holds_the_memory_is_told() {
        let detail = |text: &str| {
            let error = translate(&DataFusionError::ResourcesExhausted(text.to_owned()));
            assert_eq!(error.sqlstate(), "53200");
            error.detail().unwrap().to_owned()
        };
        let listed = "Additional allocation failed for HashJoinInput[1] with top memory consumers (across reservations) as:\n  GatherExec[1]#12(can spill: false) consumed 14.1 MB, peak 14.1 MB,\n  HashJoinInput[1]#7(can spill: false) consumed 8.0 MB, peak 9.0 MB,\n  TopK[0]#9(can spill: false) consumed 0.0 B, peak 0.0 B.\nError: Failed to allocate additional 1.2 MB for HashJoinInput[1] with 8.0 MB already allocated for this reservation - 0.0 B remain available for the total memory pool: fair(pool_size: 32.0 MB)";
        assert_eq!(
            detail(listed),
            "HashJoinInput[1] needs 1.2 MB more; most is held by GatherExec[1] 14.1 MB, HashJoinInput[1] 8.0 MB"
        );
        let bare = "Additional allocation failed for x with top memory consumers (across reservations) as:\n.\nError: no";
        assert_eq!(detail(bare), "x needs more");
        assert_eq!(detail("all is used\nup"), "all is used");
    }

    #[test]
    fn families_have_their_sqlstate() {
        let arrow = |e| DataFusionError::ArrowError(Box::new(e), None);
        for (error, sqlstate, message) in [
            (arrow(ArrowError::DivideByZero), "22012", "division by zero"),
            (
                arrow(ArrowError::CastError("Cannot cast string 'abc' to value of Int32 type".into())),
                "22P02",
                "'abc' is not a valid INTEGER",
            ),
            (
                arrow(ArrowError::CastError("Can't cast value 300 to type Int8".into())),
                "22003",
                "can't cast value 300 to type Int8",
            ),
            (
                DataFusionError::Plan("table 'cairn.public.x' not found".into()),
                "42P01",
                "table public.x does not exist",
            ),
            (
                DataFusionError::Plan("Invalid function 'summ'.\nDid you mean 'sum'?".into()),
                "42883",
                "function summ does not exist",
            ),
            (DataFusionError::NotImplemented("X".into()), "0A000", "X"),
        ] {
            let made = translate(&error);
            assert_eq!((made.sqlstate(), made.message()), (sqlstate, message));
        }
    }

    #[test]
    fn a_call_says_what_it_can_be() {
        // As DataFusion words them.
        let text = |tried: &str, call: &str, candidates: &str| {
            DataFusionError::Plan(format!(
                "{tried} No function matches the given name and argument types '{call}'. You might need to add explicit type casts.\n\tCandidate functions:\n{candidates}"
            ))
        };
        let internal = "Internal error: Function 'sum' failed to match any signature, errors: Error during planning: Function 'sum' requires Decimal, but received List(Int64) (DataType: List(Int64))..\nThis issue was likely caused by a bug in DataFusion's code.";
        let own = "Execution error: Function 'max' user-defined coercion failed with: Execution error: min/max was called with 0 arguments. It requires only 1..";
        for (error, message) in [
            (
                text(
                    internal,
                    "sum(List(Int64))",
                    "\tsum(Decimal)\n\tsum(Int64)\n\tsum(Duration)\n\tsum(Interval)",
                ),
                "sum(List(BIGINT)) is no call of sum(DECIMAL), sum(BIGINT), sum(INTERVAL)",
            ),
            (
                text("", "corr(Utf8, Decimal128(10, 2))", "\tcorr(y: Float64, x: Float64)"),
                "corr(TEXT, DECIMAL(10, 2)) is no call of corr(y: DOUBLE, x: DOUBLE)",
            ),
            (
                text("'sum' does not support zero arguments.", "sum()", "\tsum(Int64)"),
                "sum() is no call of sum(BIGINT)",
            ),
            (text("", "nvl(Utf8)", "\tnvl(String(2))"), "nvl(TEXT) is no call of nvl(TEXT, TEXT)"),
            (
                text(own, "max()", "\tmax(UserDefined)"),
                "max() is no call of max: min/max was called with 0 arguments. It requires only 1",
            ),
        ] {
            let made = translate(&error);
            assert_eq!((made.sqlstate(), made.message()), ("42883", message));
            assert!(made.hint().is_some());
        }
    }

    #[test]
    fn an_unknown_column_gets_a_hint() {
        let valid = vec![Column::from_name("title"), Column::from_name("Body")];
        let error = |name: &str| {
            translate(&DataFusionError::SchemaError(
                Box::new(SchemaError::FieldNotFound {
                    field: Box::new(Column::from_name(name)),
                    valid_fields: valid.clone(),
                }),
                Box::new(None),
            ))
        };
        assert_eq!(error("titel").hint(), Some("did you mean title?"));
        assert_eq!(error("body").hint(), Some("did you mean \"Body\"? names with capitals need the quotes"));
        assert_eq!(error("zzzzzz").sqlstate(), "42703");
    }
}

//! The page of the book that lists names is made of the lists themselves.

use std::fs;

use datafusion::arrow::datatypes::DataType;

use crate::Session;
use crate::config::{DATAFUSION_OPTIONS, SETTINGS};
use crate::rights::{Right, UserLimit};
use crate::system;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/reference.md");
/// Set, the test writes the page anew.
const WRITES: &str = "CAIRN_WRITE_BOOK";

const HEAD: &str = "\
# Names

All keywords, settings, rights, options, system tables and functions there are; [SQL](sql.md) says what statements mean, [Functions](functions.md) what
those do that Cairn adds. A test compares this page with the lists that the parser and the engine use;
`CAIRN_WRITE_BOOK=1 cargo test -p cairn-engine page_of_names` writes it anew.
";

/// `a`, `b`, `c`
fn listed<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Names, each with the values that it has where those are listed.
fn with_values(options: &[(&str, &[&str])]) -> String {
    let option = |(name, values): &(&str, &[&str])| match values {
        [] => format!("`{name}`"),
        values => format!("`{name}` ({})", listed(values.iter().map(|value| format!("'{value}'")))),
    };
    options.iter().map(option).collect::<Vec<_>>().join(", ")
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8View => "TEXT".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Timestamp(..) => "TIMESTAMPTZ".to_owned(),
        other => other.to_string(),
    }
}

fn page(session: &Session) -> String {
    let mut page = HEAD.to_owned();
    page.push_str(&format!("\n## Keywords\n\n{}\n", listed(Session::keywords())));
    page.push_str("\n## Settings\n\n| name | type | SET | what it is |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let set = if setting.changeable { "yes" } else { "" };
        page.push_str(&format!(
            "| `{}` | {} | {set} | {} |\n",
            setting.name, setting.value_type, setting.description
        ));
    }
    page.push_str(&format!(
        "\nOptions of the planner and the executor that SET takes, too: {}\n",
        listed(DATAFUSION_OPTIONS)
    ));
    let rights = listed(Right::ALL.map(Right::word));
    let limits = listed(UserLimit::ALL.map(UserLimit::name));
    page.push_str(&format!("\n## Users\n\nRights: {rights}, and `ALL`. Limits of a user: {limits}.\n"));
    page.push_str(&format!("\n## Jobs\n\nKinds: {}.\n", listed(Session::job_kinds())));
    page.push_str(&format!(
        "\n## Vector indexes and searches\n\nOptions of CREATE INDEX: {}. Operator classes: {}.\n\nArguments of `vector_search` by name: {}.\n",
        with_values(Session::index_options()),
        listed(Session::operator_classes()),
        with_values(Session::search_arguments())
    ));
    page.push_str("\n## System tables\n\n| table | columns; ? may be NULL |\n|---|---|\n");
    for table in system::names() {
        let schema = system::schema_of(table).unwrap();
        let column = |field: &datafusion::arrow::datatypes::FieldRef| {
            let null = if field.is_nullable() { "?" } else { "" };
            format!("`{}` {}{null}", field.name(), type_name(field.data_type()))
        };
        let columns = schema.fields().iter().map(column).collect::<Vec<_>>().join(", ");
        page.push_str(&format!("| `system.{table}` | {columns} |\n"));
    }
    page.push_str("\n## Functions\n\n`SHOW FUNCTIONS` says how each is called, and what it does.\n");
    let kinds = [
        ("scalar", "Of a row"),
        ("aggregate", "Of many rows"),
        ("window", "Of a window"),
        ("table", "That stand in FROM"),
    ];
    for (kind, heading) in kinds {
        let functions = session.engine.functions().iter().filter(|(_, other)| *other == kind);
        page.push_str(&format!("\n### {heading}\n\n{}\n", listed(functions.map(|(name, _)| name))));
    }
    page
}

#[tokio::test]
async fn the_page_of_names_is_as_the_lists_are() {
    let page = page(&super::session().await);
    if std::env::var_os(WRITES).is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let book = fs::read_to_string(PAGE).unwrap();
    let differs = page.lines().zip(book.lines()).find(|(made, written)| made != written);
    assert!(
        book == page,
        "docs/src/reference.md is not as the lists are; {WRITES}=1 writes it anew. The first line that differs: {differs:?}"
    );
}

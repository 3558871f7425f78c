//! Numbers with a point that are compared with a DECIMAL column: exact decimals instead of the doubles the planner reads.
//!
//! `price = 70000.07` must find 70000.07; the double beside it, widened, is another number. Only columns of the
//! tables that a statement names or searches count, and only names that are no REAL or DOUBLE column there too: a double
//! compared with a decimal would be cast to one, which NaN and infinity do not survive.

use std::collections::HashSet;
use std::ops::ControlFlow;

use cairn_storage::Snapshot;
use cairn_storage::schema::{ColumnType, TableDef};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, ObjectName, TableFactor, Value,
    VisitMut, Visitor,
};

use super::place::schema_and_name;
use super::walk;
use crate::dml::ident_text;
use crate::search::searched;

/// Digits a DECIMAL holds.
const DIGITS_MAX: usize = 38;

/// Makes the numbers exact that a statement compares with DECIMAL columns, of the tables that it searches too.
pub(crate) fn compare_exactly(statement: &mut ast::Statement, snapshot: &Snapshot, search_path: &str) {
    let decimals = decimal_columns(statement, snapshot, search_path);
    exact_within(statement, &decimals);
}

/// The same in a condition over the rows of one table.
pub(crate) fn compare_exactly_in(condition: &mut Expr, table: &TableDef) {
    let mut columns = Columns::default();
    columns.add(table);
    exact_within(condition, &columns.only_decimal());
}

fn exact_within(tree: &mut impl VisitMut, decimals: &HashSet<String>) {
    if decimals.is_empty() {
        return;
    }
    let is_decimal = |expr: &Expr| match expr {
        Expr::Identifier(name) => decimals.contains(&ident_text(name)),
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|n| decimals.contains(&ident_text(n))),
        _ => false,
    };
    let _ = walk::expressions_mut(tree, |expr| {
        match expr {
            Expr::BinaryOp { left, op, right } if is_comparison(op) => {
                if is_decimal(left) {
                    exact(right);
                } else if is_decimal(right) {
                    exact(left);
                }
            }
            Expr::Between { expr, low, high, .. } if is_decimal(expr) => {
                exact(low);
                exact(high);
            }
            Expr::InList { expr, list, .. } if is_decimal(expr) => list.iter_mut().for_each(exact),
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Names that are DECIMAL columns of the tables of a statement and never floating ones.
fn decimal_columns(statement: &ast::Statement, snapshot: &Snapshot, search_path: &str) -> HashSet<String> {
    let mut tables = Tables { snapshot, search_path, columns: Columns::default() };
    let _ = walk::visit(statement, &mut tables);
    tables.columns.only_decimal()
}

/// Names of DECIMAL columns, and of floating ones.
#[derive(Default)]
struct Columns {
    decimals: HashSet<String>,
    floats: HashSet<String>,
}

impl Columns {
    fn add(&mut self, table: &TableDef) {
        for column in &table.columns {
            let names = match column.column_type {
                ColumnType::Decimal { .. } => &mut self.decimals,
                ColumnType::Float32 | ColumnType::Float64 => &mut self.floats,
                _ => continue,
            };
            names.insert(column.name.clone());
        }
    }

    fn only_decimal(mut self) -> HashSet<String> {
        self.decimals.retain(|name| !self.floats.contains(name));
        self.decimals
    }
}

/// The columns of the tables that a statement names or searches.
struct Tables<'a> {
    snapshot: &'a Snapshot,
    search_path: &'a str,
    columns: Columns,
}

impl Tables<'_> {
    fn add(&mut self, name: &ObjectName) {
        if let Ok((schema, table)) = schema_and_name(name, self.search_path)
            && let Some(def) = self.snapshot.catalog().table(&schema, &table)
        {
            self.columns.add(def);
        }
    }
}

impl Visitor for Tables<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        self.add(name);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let Some(name) = searched(factor) {
            self.add(&name);
        }
        ControlFlow::Continue(())
    }
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn exact(expr: &mut Expr) {
    let digits = match expr {
        Expr::UnaryOp { expr, .. } => return exact(expr),
        Expr::Nested(expr) => return exact(expr),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits.clone(),
            _ => return,
        },
        _ => return,
    };
    let Some((whole, fraction)) = digits.split_once('.') else { return };
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let count = whole.trim_start_matches('0').len() + fraction.len();
    if !plain(whole) || !plain(fraction) || fraction.is_empty() || count > DIGITS_MAX {
        return;
    }
    let info = ExactNumberInfo::PrecisionAndScale(count.max(1) as u64, fraction.len() as i64);
    *expr = Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::value(Value::SingleQuotedString(digits))),
        data_type: DataType::Decimal(info),
        array: false,
        format: None,
    };
}

//! Which conditions of a reader may be tried on rows that the view hides.
//!
//! Owns: the list of them: comparisons of a table's column with a constant of its very type, tests for NULL, and AND, OR and NOT of
//! these. They fail for no row and have no effect but their answer, which drops a hidden row as the view does. Anything else waits
//! for the rows that show.

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

use super::columns::Columns;

impl Columns {
    /// Whether a condition gives hidden values away to nobody.
    pub(super) fn are_kept_by(&self, condition: &Expr) -> bool {
        match condition {
            Expr::Literal(..) => true,
            Expr::Column(_) => self.type_of(condition) == Some(&DataType::Boolean),
            Expr::Not(inner)
            | Expr::IsTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsNotUnknown(inner) => self.are_kept_by(inner),
            Expr::IsNull(column) | Expr::IsNotNull(column) => self.type_of(column).is_some(),
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
                self.are_kept_by(left) && self.are_kept_by(right)
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                compares(*op) && (self.is_alike(left, right) || self.is_alike(right, left))
            }
            Expr::InList(InList { expr, list, .. }) => list.iter().all(|value| self.is_alike(expr, value)),
            Expr::Between(Between { expr, low, high, .. }) => {
                self.is_alike(expr, low) && self.is_alike(expr, high)
            }
            _ => false,
        }
    }

    /// Whether it is a column and a constant of its type, and values of that type can be compared, whatever they are.
    fn is_alike(&self, column: &Expr, value: &Expr) -> bool {
        let (Some(data_type), Expr::Literal(value, _)) = (self.type_of(column), value) else { return false };
        !data_type.is_nested() && value.data_type() == *data_type
    }
}

fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::logical_plan::table_scan;
    use datafusion::logical_expr::{cast, col, lit};

    use super::*;

    #[test]
    fn only_what_fails_for_no_row_comes_first() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("s", DataType::Utf8, true),
            Field::new("flag", DataType::Boolean, true),
        ]);
        let plan = table_scan(Some("t"), &schema, None).unwrap();
        let number = cast(col("s"), DataType::Int64).alias("number");
        let plan = plan.project([col("id"), col("s"), col("flag"), number]).unwrap().build().unwrap();
        let columns = Columns::of(&plan);
        let five = || lit(5_i64);
        for harmless in [
            col("id").eq(five()),
            five().lt(col("v.id")),
            col("s").not_eq(lit("x")).or(col("id").is_null()),
            col("id").in_list(vec![five(), lit(6_i64)], true),
            col("id").between(five(), five()),
            col("flag").and(!col("flag").is_true()),
            col("s").is_not_null(),
        ] {
            assert!(columns.are_kept_by(&harmless), "{harmless}");
        }
        for other in [
            cast(col("s"), DataType::Int64).gt(five()),
            col("number").gt(five()),
            col("number").is_null(),
            col("id").eq(lit(5_i32)),
            (five() / col("id")).gt(five()),
            col("id").eq(five()).and((five() / col("id")).gt(five())),
            col("id").eq(col("number")),
            col("id").in_list(vec![five() / col("id")], false),
            col("s").like(lit("h%")),
            col("nothing").is_null(),
        ] {
            assert!(!columns.are_kept_by(&other), "{other}");
        }
    }
}

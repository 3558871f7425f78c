//! Conditions of a search that name columns of the row it is for: `filter => 'tenant = q.tenant'`.
//!
//! Owns: telling them from conditions over the searched table alone, and putting the values of one row into them. Each row's
//! search is then among the rows its own conditions leave, so its answer is never shorter than it must be.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue, TableReference, internal_err};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Placeholder;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(in crate::search) struct RowFilter {
    /// Over the columns of the table; a placeholder stands for each value, by its place.
    conditions: Vec<Expr>,
    /// Columns of the row.
    values: Vec<Expr>,
    written: Vec<String>,
}

impl RowFilter {
    /// Takes a condition in that names columns of other relations than `searched`; gives any other one back.
    ///
    /// # Errors
    /// None today; visiting can fail.
    pub(in crate::search) fn take(
        &mut self,
        condition: Expr,
        searched: &TableReference,
    ) -> Result<Option<Expr>> {
        let is_own = |column: &Column| column.relation.as_ref() == Some(searched);
        if condition.column_refs().into_iter().all(is_own) {
            return Ok(Some(condition));
        }
        self.written.push(condition.to_string().replace(&format!("{searched}."), ""));
        let condition = condition.transform(|expr| {
            if !matches!(&expr, Expr::Column(column) if !is_own(column)) {
                return Ok(Transformed::no(expr));
            }
            let place = self.values.iter().position(|known| *known == expr).unwrap_or_else(|| {
                self.values.push(expr);
                self.values.len() - 1
            });
            Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(place.to_string(), None))))
        })?;
        self.conditions.push(condition.data);
        Ok(None)
    }

    /// What it takes from a row.
    pub(super) fn values(&self) -> &[Expr] {
        &self.values
    }

    /// The conditions as they are written; empty: there are none.
    pub(super) fn written(&self) -> String {
        self.written.join(" AND ")
    }

    /// The conditions for a row that has these values.
    ///
    /// # Errors
    /// `Internal` for too few of them.
    pub(super) fn bound(&self, values: &[ScalarValue]) -> Result<Vec<Expr>> {
        let literal = |expr: Expr| {
            let Expr::Placeholder(placeholder) = &expr else { return Ok(Transformed::no(expr)) };
            match placeholder.id.parse::<usize>().ok().and_then(|place| values.get(place)) {
                Some(value) => Ok(Transformed::yes(Expr::Literal(value.clone(), None))),
                None => internal_err!("no value {} of a row's conditions", placeholder.id),
            }
        };
        self.conditions.iter().map(|condition| Ok(condition.clone().transform(literal)?.data)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use datafusion::logical_expr::{col, lit};

    use super::*;

    #[test]
    fn values_of_a_row_take_the_places_of_its_columns() {
        let searched = TableReference::bare("s");
        let mut filter = RowFilter::default();
        let own = col("s.a").gt(lit(3));
        assert_eq!(filter.take(own.clone(), &searched).unwrap(), Some(own));
        assert!(filter.values().is_empty() && filter.written().is_empty());
        let both = col("s.a").eq(col("q.x")).or(col("q.y").lt(col("q.x")));
        assert_eq!(filter.take(both, &searched).unwrap(), None);
        assert_eq!(filter.values(), [col("q.x"), col("q.y")]);
        assert_eq!(filter.written(), "a = q.x OR q.y < q.x");
        let bound = filter.bound(&[ScalarValue::from(7), ScalarValue::Int32(None)]).unwrap();
        let null = Expr::Literal(ScalarValue::Int32(None), None);
        assert_eq!(bound, [col("s.a").eq(lit(7)).or(null.lt(lit(7)))]);
        assert!(filter.bound(&[ScalarValue::from(7)]).is_err());
    }
}

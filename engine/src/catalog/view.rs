//! Views: a stored query, planned each time it is named.
//!
//! Owns: planning a view's text at the statement's snapshot with the search path it was made with, and how deep views may stand on
//! views. Cycles cannot arise: a view is only made over what exists, and its text never changes while others stand on it
//! without being planned again.

use std::sync::Arc;

use cairn_storage::ErrorKind;
use cairn_storage::schema::ViewDef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::execution::context::SessionState;

use super::screen::{ScreenedView, hides_rows};
use super::{SnapshotCatalog, plan_below};
use crate::error::{Error, Result};
use crate::statement::parse_query;

/// Most views that may stand on one another.
pub(crate) const VIEW_DEPTH_MAX: usize = 32;

/// The view as a table of the statement.
///
/// # Errors
/// `ResourceExhausted` (54001) too deep, which a cycle is as well; otherwise what is wrong with its query now.
pub(super) async fn provider(
    state: &SessionState,
    catalog: &SnapshotCatalog,
    view: &ViewDef,
) -> Result<Arc<dyn TableProvider>> {
    let name = format!("{}.{}", view.schema, view.name);
    if catalog.0.depth >= VIEW_DEPTH_MAX {
        return Err(Error::new(
            ErrorKind::ResourceExhausted,
            format!("view {name} stands on more than {VIEW_DEPTH_MAX} views"),
        )
        .map(|e| {
            e.with_sqlstate("54001")
                .with_hint("a view that names itself, also through others, can only be dropped")
        }));
    }
    let query = parse_query(&view.sql)?;
    let rights = catalog.0.rights.of_view(view);
    // Boxed: a view's query may name views in turn.
    let plan =
        Box::pin(plan_below(state, catalog, query, &view.search_path, rights)).await.map_err(|error| {
            let message = format!("view {name} cannot be used: {}", error.message());
            let (kind, sqlstate, hint) = (error.kind(), error.sqlstate(), error.hint().map(str::to_owned));
            Error::new(kind, message).map(|e| {
                let e = e.with_sqlstate(sqlstate);
                match hint {
                    Some(hint) => e.with_hint(hint),
                    None => e,
                }
            })
        })?;
    if catalog.0.rights.need_screen(view) && hides_rows(&plan)? {
        return Ok(Arc::new(ScreenedView::new(name, plan, state)?));
    }
    Ok(Arc::new(ViewTable::new(plan, Some(view.sql.clone()))))
}

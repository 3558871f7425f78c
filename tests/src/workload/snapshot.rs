//! What every snapshot must show, whoever reads it and whatever is done meanwhile.
//!
//! Owns: one look in a transaction that only reads: money is neither made nor lost, accounts and transfers agree, searches are right for the
//! rows of the same snapshot, and the end of the transaction sees what its beginning saw. Does not own: what was acknowledged (`model`).

use std::collections::BTreeMap;

use cairn_engine::Session;
use rand::Rng;
use rand::rngs::StdRng;

use super::part::query;
use super::search::{self, Recall, Vector};
use super::{ACCOUNTS, CREDIT, WRITERS};
use crate::connection::Connection;

/// Accounts whose amount is not what the transfers make of it.
const UNBALANCED: &str = "SELECT a.id, a.amount, a.base, p.amount FROM account a LEFT JOIN (
         SELECT account, sum(amount) AS amount FROM (
             SELECT payee AS account, amount FROM transfer UNION ALL SELECT payer, -amount FROM transfer
         ) GROUP BY account
     ) p ON p.account = a.id WHERE a.amount <> a.base + coalesce(p.amount, 0)";
/// Everything of one table that writers change all the time.
const SUMMED: &str = "SELECT count(*), sum(v), sum(id), max(_version) FROM keyed";

/// Looks once.
///
/// # Errors
/// What is wrong, or what a query fails with.
pub(super) fn look(connection: &Connection, session: &Session, rng: &mut StdRng) -> Result<Recall, String> {
    query(connection, session, "BEGIN READ ONLY")?;
    let looked = look_within(connection, session, rng);
    let ended = query(connection, session, "ROLLBACK");
    looked.and_then(|recall| ended.map(|_| recall))
}

fn look_within(connection: &Connection, session: &Session, rng: &mut StdRng) -> Result<Recall, String> {
    let query = |sql: &str| query(connection, session, sql);
    let before = query(SUMMED)?;
    let money = query("SELECT count(*), sum(amount) FROM account")?;
    if money != [[ACCOUNTS.to_string(), (ACCOUNTS * CREDIT).to_string()]] {
        return Err(format!("accounts and their money are {money:?}"));
    }
    let unbalanced = query(UNBALANCED)?;
    if !unbalanced.is_empty() {
        return Err(format!("accounts and transfers do not agree: {unbalanced:?}"));
    }
    let writer = rng.random_range(0..WRITERS);
    let mut items: BTreeMap<i64, Option<Vector>> = BTreeMap::new();
    for row in query(&format!("SELECT id, e::TEXT FROM item{writer}"))? {
        let id = row[0].parse::<i64>().map_err(|error| format!("{}: {error}", row[0]))?;
        let e = if row[1] == "NULL" { None } else { Some(search::read(&row[1])?) };
        if items.insert(id, e).is_some() {
            return Err(format!("item{writer} has {id} twice"));
        }
    }
    let recall = search::check(&items, writer, rng, query)?;
    let after = query(SUMMED)?;
    if before != after {
        return Err(format!("within one transaction keyed was {before:?}, then {after:?}"));
    }
    Ok(recall)
}

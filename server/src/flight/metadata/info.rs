//! What the server can do, in the terms of SqlInfo.

use std::collections::HashMap;

use arrow_flight::sql::metadata::SqlInfoDataBuilder;
use arrow_flight::sql::{
    CommandGetSqlInfo, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedElementActions, SqlSupportedGroupBy, SqlSupportedSubqueries, SqlSupportedTransaction,
    SqlSupportedUnions, SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use cairn_engine::{COLUMNS_MAX, KEY_COLUMNS_MAX, NAME_BYTES_MAX, Result, STATEMENT_BYTES_MAX, Session};
use datafusion::arrow::array::RecordBatch;

use super::unbuilt;

/// The format of what is sent: columnar format 1, any version of it.
const ARROW_FORMAT: &str = "1.0";
/// ANSI92_ENTRY_SQL.
const ANSI92_ENTRY: i32 = 1;

/// A set of enum values as a bit mask.
macro_rules! mask {
    ($($value:expr),* $(,)?) => { 0 $(| (1_i32 << ($value as i32)))* };
}

pub(super) fn rows(session: &Session, wanted: CommandGetSqlInfo) -> Result<RecordBatch> {
    let info = data(session).build().map_err(unbuilt)?;
    wanted.into_builder(&info).build().map_err(unbuilt)
}

fn data(session: &Session) -> SqlInfoDataBuilder {
    let mut info = SqlInfoDataBuilder::new();
    server(&mut info, session);
    names(&mut info);
    grammar(&mut info);
    words(&mut info, session);
    limits(&mut info);
    info
}

fn server(info: &mut SqlInfoDataBuilder, session: &Session) {
    info.append(SqlInfo::FlightSqlServerName, "Cairn");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_FORMAT);
    info.append(SqlInfo::FlightSqlServerReadOnly, session.engine().database().is_read_only());
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::Savepoint as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, true);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
}

fn names(info: &mut SqlInfoDataBuilder) {
    let lower = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32;
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, true);
    info.append(SqlInfo::SqlDdlTable, true);
    info.append(SqlInfo::SqlIdentifierCase, lower);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    // As written: none of the enum's values says so but "unknown".
    info.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32,
    );
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlProcedureTerm, "");
    info.append(SqlInfo::SqlCatalogTerm, "database");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    let everywhere = mask!(
        SqlSupportedElementActions::SqlElementInIndexDefinitions,
        SqlSupportedElementActions::SqlElementInPrivilegeDefinitions,
    );
    info.append(SqlInfo::SqlSchemasSupportedActions, everywhere);
    info.append(SqlInfo::SqlCatalogsSupportedActions, 0_i32);
}

fn grammar(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    for yes in [
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
        SqlInfo::SqlTransactionsSupported,
    ] {
        info.append(yes, true);
    }
    for no in [
        SqlInfo::SqlSupportsDifferentTableCorrelationNames,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
    ] {
        info.append(no, false);
    }
    let grouped = SqlSupportedGroupBy::SqlGroupByUnrelated;
    info.append(SqlInfo::SqlSupportedGroupBy, mask!(grouped, SqlSupportedGroupBy::SqlGroupByBeyondSelect));
    let core = SupportedSqlGrammar::SqlCoreGrammar;
    info.append(SqlInfo::SqlSupportedGrammar, mask!(SupportedSqlGrammar::SqlMinimumGrammar, core));
    info.append(SqlInfo::SqlAnsi92SupportedLevel, ANSI92_ENTRY);
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32);
    info.append(SqlInfo::SqlSupportedPositionedCommands, 0_i32);
    let subqueries = mask!(
        SqlSupportedSubqueries::SqlSubqueriesInComparisons,
        SqlSupportedSubqueries::SqlSubqueriesInExists,
        SqlSupportedSubqueries::SqlSubqueriesInIns,
    );
    info.append(SqlInfo::SqlSupportedSubqueries, subqueries);
    let unions = mask!(SqlSupportedUnions::SqlUnion, SqlSupportedUnions::SqlUnionAll);
    info.append(SqlInfo::SqlSupportedUnions, unions);
    // Snapshot isolation is nearest to it: a transaction never reads another state than that of its beginning.
    let level = SqlTransactionIsolationLevel::SqlTransactionRepeatableRead;
    info.append(SqlInfo::SqlDefaultTransactionIsolation, level as i32);
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, mask!(level));
    info.append(SqlInfo::SqlSupportsConvert, conversions());
}

/// CAST from one family of types to another.
fn conversions() -> HashMap<i32, Vec<i32>> {
    use SqlSupportsConvert as To;
    let numbers = [
        To::SqlConvertTinyint,
        To::SqlConvertSmallint,
        To::SqlConvertInteger,
        To::SqlConvertBigint,
        To::SqlConvertReal,
        To::SqlConvertFloat,
        To::SqlConvertDecimal,
        To::SqlConvertNumeric,
    ];
    let moments = [To::SqlConvertDate, To::SqlConvertTime, To::SqlConvertTimestamp];
    let texts = [To::SqlConvertChar, To::SqlConvertVarchar, To::SqlConvertLongvarchar];
    let ordinals = |families: &[&[To]]| families.concat().into_iter().map(|to| to as i32).collect::<Vec<_>>();
    let mut conversions = HashMap::new();
    for from in numbers {
        conversions.insert(from as i32, ordinals(&[&numbers, &texts, &[To::SqlConvertBit]]));
    }
    for from in texts {
        let binary = [To::SqlConvertBit, To::SqlConvertBinary, To::SqlConvertVarbinary];
        conversions.insert(from as i32, ordinals(&[&numbers, &texts, &moments, &binary]));
    }
    for (from, to) in [
        (To::SqlConvertDate, &[To::SqlConvertDate, To::SqlConvertTimestamp][..]),
        (To::SqlConvertTime, &[To::SqlConvertTime]),
        (To::SqlConvertTimestamp, &moments),
        (To::SqlConvertBit, &numbers),
        (To::SqlConvertVarbinary, &[To::SqlConvertVarbinary, To::SqlConvertBinary]),
    ] {
        conversions.insert(from as i32, ordinals(&[to, &texts]));
    }
    conversions
}

fn words(info: &mut SqlInfoDataBuilder, session: &Session) {
    let nothing: &[&str] = &[];
    info.append(SqlInfo::SqlKeywords, Session::keywords());
    // The engine does not sort its functions by what they are about.
    info.append(SqlInfo::SqlNumericFunctions, nothing);
    info.append(SqlInfo::SqlStringFunctions, nothing);
    info.append(SqlInfo::SqlDatetimeFunctions, nothing);
    info.append(SqlInfo::SqlSystemFunctions, session.functions());
}

/// Limits; 0 where there is none.
fn limits(info: &mut SqlInfoDataBuilder) {
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    for name in [
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxTableNameLength,
    ] {
        info.append(name, number(NAME_BYTES_MAX));
    }
    info.append(SqlInfo::SqlMaxColumnsInTable, number(COLUMNS_MAX));
    info.append(SqlInfo::SqlMaxColumnsInIndex, number(KEY_COLUMNS_MAX));
    info.append(SqlInfo::SqlMaxStatementLength, number(STATEMENT_BYTES_MAX));
    for none in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        info.append(none, 0_i64);
    }
    info.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, true);
}

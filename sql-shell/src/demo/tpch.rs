//! The eight tables of TPC-H, generated.

use std::fs::File;

use datafusion::arrow::array::RecordBatchReader;
use datafusion::parquet::arrow::ArrowWriter;
use tempfile::NamedTempFile;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

/// Scale factor: 0.1 is about 866,000 rows.
pub(crate) const SCALE: f64 = 0.1;

/// Makes the reader of one table.
pub(crate) type Generator = fn() -> Box<dyn RecordBatchReader + Send>;

/// Name, definition and generator of each table, in the order they are loaded.
pub(crate) const TABLES: &[(&str, &str, Generator)] = &[
    (
        "region",
        "CREATE TABLE region (r_regionkey BIGINT PRIMARY KEY, r_name TEXT NOT NULL, r_comment TEXT)",
        || Box::new(RegionArrow::new(RegionGenerator::new(SCALE, 1, 1))),
    ),
    (
        "nation",
        "CREATE TABLE nation (n_nationkey BIGINT PRIMARY KEY, n_name TEXT NOT NULL, n_regionkey BIGINT NOT NULL, \
         n_comment TEXT)",
        || Box::new(NationArrow::new(NationGenerator::new(SCALE, 1, 1))),
    ),
    (
        "supplier",
        "CREATE TABLE supplier (s_suppkey BIGINT PRIMARY KEY, s_name TEXT NOT NULL, s_address TEXT NOT NULL, \
         s_nationkey BIGINT NOT NULL, s_phone TEXT NOT NULL, s_acctbal DECIMAL(15,2) NOT NULL, s_comment TEXT)",
        || Box::new(SupplierArrow::new(SupplierGenerator::new(SCALE, 1, 1))),
    ),
    (
        "customer",
        "CREATE TABLE customer (c_custkey BIGINT PRIMARY KEY, c_name TEXT NOT NULL, c_address TEXT NOT NULL, \
         c_nationkey BIGINT NOT NULL, c_phone TEXT NOT NULL, c_acctbal DECIMAL(15,2) NOT NULL, \
         c_mktsegment TEXT NOT NULL, c_comment TEXT)",
        || Box::new(CustomerArrow::new(CustomerGenerator::new(SCALE, 1, 1))),
    ),
    (
        "part",
        "CREATE TABLE part (p_partkey BIGINT PRIMARY KEY, p_name TEXT NOT NULL, p_mfgr TEXT NOT NULL, \
         p_brand TEXT NOT NULL, p_type TEXT NOT NULL, p_size INTEGER NOT NULL, p_container TEXT NOT NULL, \
         p_retailprice DECIMAL(15,2) NOT NULL, p_comment TEXT)",
        || Box::new(PartArrow::new(PartGenerator::new(SCALE, 1, 1))),
    ),
    (
        "partsupp",
        "CREATE TABLE partsupp (ps_partkey BIGINT, ps_suppkey BIGINT, ps_availqty INTEGER NOT NULL, \
         ps_supplycost DECIMAL(15,2) NOT NULL, ps_comment TEXT, PRIMARY KEY (ps_partkey, ps_suppkey))",
        || Box::new(PartSuppArrow::new(PartSuppGenerator::new(SCALE, 1, 1))),
    ),
    (
        "orders",
        "CREATE TABLE orders (o_orderkey BIGINT PRIMARY KEY, o_custkey BIGINT NOT NULL, o_orderstatus TEXT NOT NULL, \
         o_totalprice DECIMAL(15,2) NOT NULL, o_orderdate DATE NOT NULL, o_orderpriority TEXT NOT NULL, \
         o_clerk TEXT NOT NULL, o_shippriority INTEGER NOT NULL, o_comment TEXT)",
        || Box::new(OrderArrow::new(OrderGenerator::new(SCALE, 1, 1))),
    ),
    (
        "lineitem",
        "CREATE TABLE lineitem (l_orderkey BIGINT, l_partkey BIGINT NOT NULL, l_suppkey BIGINT NOT NULL, \
         l_linenumber INTEGER, l_quantity DECIMAL(15,2) NOT NULL, l_extendedprice DECIMAL(15,2) NOT NULL, \
         l_discount DECIMAL(15,2) NOT NULL, l_tax DECIMAL(15,2) NOT NULL, l_returnflag TEXT NOT NULL, \
         l_linestatus TEXT NOT NULL, l_shipdate DATE NOT NULL, l_commitdate DATE NOT NULL, \
         l_receiptdate DATE NOT NULL, l_shipinstruct TEXT NOT NULL, l_shipmode TEXT NOT NULL, l_comment TEXT, \
         PRIMARY KEY (l_orderkey, l_linenumber))",
        || Box::new(LineItemArrow::new(LineItemGenerator::new(SCALE, 1, 1))),
    ),
];

/// Writes the rows of `generator` into a Parquet file that goes away with the returned handle. The error is a sentence.
pub(crate) async fn write(generator: Generator) -> Result<NamedTempFile, String> {
    let written = tokio::task::spawn_blocking(move || write_now(generator)).await;
    written.map_err(|_| "the generator stopped unexpectedly".to_owned())?
}

fn write_now(generator: Generator) -> Result<NamedTempFile, String> {
    let failed = |error: &dyn std::fmt::Display| format!("a temporary file can't be written: {error}");
    let file = super::temporary().map_err(|e| failed(&e))?;
    let reader = generator();
    let copy: File = file.reopen().map_err(|e| failed(&e))?;
    let mut writer = ArrowWriter::try_new(copy, reader.schema(), None).map_err(|e| failed(&e))?;
    for batch in reader {
        writer.write(&batch.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
    }
    writer.close().map_err(|e| failed(&e))?;
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn definitions_name_the_generated_columns() {
        for (name, create, generator) in TABLES {
            let schema = generator().schema();
            let found: Vec<usize> =
                schema.fields().iter().map(|f| create.find(&format!("{} ", f.name())).unwrap_or(0)).collect();
            assert!(found.iter().all(|&at| at > 0) && found.is_sorted(), "{name}: {found:?}");
        }
    }

    #[test]
    fn files_hold_the_rows() {
        let (_, _, nation) = TABLES[1];
        let file = write_now(nation).unwrap();
        assert!(file.as_file().metadata().unwrap().len() > 1000);
    }
}

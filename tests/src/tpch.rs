//! TPC-H: tables, data, queries with the validation parameters, and comparing with known answers.
//!
//! Owns: DDL with the keys of the specification, Parquet files made by `tpchgen`, the 22 queries. Known answers come
//! from another engine (`answers/make.py`). Does not own: how a database is opened or asked.

use std::fs::File;
use std::path::Path;

use datafusion::arrow::array::RecordBatchReader;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::{ParquetError, Result};
use datafusion::parquet::file::properties::WriterProperties;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

/// Bytes of a row group of the files, about.
const ROW_GROUP_BYTES: usize = 16 << 20;

/// One table: name, columns, primary key.
pub struct Table {
    /// Name.
    pub name: &'static str,
    /// Column definitions.
    pub columns: &'static str,
    /// Key columns.
    pub key: &'static str,
}

/// The eight tables, smallest first.
pub const TABLES: [Table; 8] = [
    Table {
        name: "region",
        columns: "r_regionkey BIGINT NOT NULL, r_name TEXT NOT NULL, r_comment TEXT NOT NULL",
        key: "r_regionkey",
    },
    Table {
        name: "nation",
        columns: "n_nationkey BIGINT NOT NULL, n_name TEXT NOT NULL, n_regionkey BIGINT NOT NULL, n_comment TEXT NOT NULL",
        key: "n_nationkey",
    },
    Table {
        name: "supplier",
        columns: "s_suppkey BIGINT NOT NULL, s_name TEXT NOT NULL, s_address TEXT NOT NULL, s_nationkey BIGINT NOT NULL, \
                  s_phone TEXT NOT NULL, s_acctbal DECIMAL(15,2) NOT NULL, s_comment TEXT NOT NULL",
        key: "s_suppkey",
    },
    Table {
        name: "customer",
        columns: "c_custkey BIGINT NOT NULL, c_name TEXT NOT NULL, c_address TEXT NOT NULL, c_nationkey BIGINT NOT NULL, \
                  c_phone TEXT NOT NULL, c_acctbal DECIMAL(15,2) NOT NULL, c_mktsegment TEXT NOT NULL, \
                  c_comment TEXT NOT NULL",
        key: "c_custkey",
    },
    Table {
        name: "part",
        columns: "p_partkey BIGINT NOT NULL, p_name TEXT NOT NULL, p_mfgr TEXT NOT NULL, p_brand TEXT NOT NULL, \
                  p_type TEXT NOT NULL, p_size INTEGER NOT NULL, p_container TEXT NOT NULL, \
                  p_retailprice DECIMAL(15,2) NOT NULL, p_comment TEXT NOT NULL",
        key: "p_partkey",
    },
    Table {
        name: "partsupp",
        columns: "ps_partkey BIGINT NOT NULL, ps_suppkey BIGINT NOT NULL, ps_availqty INTEGER NOT NULL, \
                  ps_supplycost DECIMAL(15,2) NOT NULL, ps_comment TEXT NOT NULL",
        key: "ps_partkey, ps_suppkey",
    },
    Table {
        name: "orders",
        columns: "o_orderkey BIGINT NOT NULL, o_custkey BIGINT NOT NULL, o_orderstatus TEXT NOT NULL, \
                  o_totalprice DECIMAL(15,2) NOT NULL, o_orderdate DATE NOT NULL, o_orderpriority TEXT NOT NULL, \
                  o_clerk TEXT NOT NULL, o_shippriority INTEGER NOT NULL, o_comment TEXT NOT NULL",
        key: "o_orderkey",
    },
    Table {
        name: "lineitem",
        columns: "l_orderkey BIGINT NOT NULL, l_partkey BIGINT NOT NULL, l_suppkey BIGINT NOT NULL, \
                  l_linenumber INTEGER NOT NULL, l_quantity DECIMAL(15,2) NOT NULL, \
                  l_extendedprice DECIMAL(15,2) NOT NULL, l_discount DECIMAL(15,2) NOT NULL, \
                  l_tax DECIMAL(15,2) NOT NULL, l_returnflag TEXT NOT NULL, l_linestatus TEXT NOT NULL, \
                  l_shipdate DATE NOT NULL, l_commitdate DATE NOT NULL, l_receiptdate DATE NOT NULL, \
                  l_shipinstruct TEXT NOT NULL, l_shipmode TEXT NOT NULL, l_comment TEXT NOT NULL",
        key: "l_orderkey, l_linenumber",
    },
];

impl Table {
    /// CREATE TABLE, with or without the primary key.
    #[must_use]
    pub fn create(&self, with_key: bool) -> String {
        if with_key {
            format!("CREATE TABLE {} ({}, PRIMARY KEY ({}))", self.name, self.columns, self.key)
        } else {
            format!("CREATE TABLE {} ({})", self.name, self.columns)
        }
    }

    /// COPY of the file [`write_parquet`] made in `dir`.
    #[must_use]
    pub fn copy_from(&self, dir: &Path) -> String {
        format!("COPY {} FROM '{}'", self.name, dir.join(format!("{}.parquet", self.name)).display())
    }
}

/// Writes the eight tables as `<name>.parquet` into `dir`: ZSTD(1), row groups of about 16 MB, tpchgen's order.
///
/// # Errors
/// When a file can't be written.
pub fn write_parquet(dir: &Path, scale: f64) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let write = |name: &str, batches: &mut dyn RecordBatchReader| {
        write_file(&dir.join(format!("{name}.parquet")), batches)
    };
    write("region", &mut RegionArrow::new(RegionGenerator::new(scale, 1, 1)))?;
    write("nation", &mut NationArrow::new(NationGenerator::new(scale, 1, 1)))?;
    write("supplier", &mut SupplierArrow::new(SupplierGenerator::new(scale, 1, 1)))?;
    write("customer", &mut CustomerArrow::new(CustomerGenerator::new(scale, 1, 1)))?;
    write("part", &mut PartArrow::new(PartGenerator::new(scale, 1, 1)))?;
    write("partsupp", &mut PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1)))?;
    write("orders", &mut OrderArrow::new(OrderGenerator::new(scale, 1, 1)))?;
    write("lineitem", &mut LineItemArrow::new(LineItemGenerator::new(scale, 1, 1)))
}

fn write_file(path: &Path, batches: &mut dyn RecordBatchReader) -> Result<()> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .build();
    // Under another name until it is whole: a data directory is used again by later runs.
    let part = path.with_extension("part");
    let mut writer = ArrowWriter::try_new(File::create(&part)?, batches.schema(), Some(properties))?;
    for batch in batches {
        writer.write(&batch.map_err(|e| ParquetError::External(Box::new(e)))?)?;
    }
    writer.close()?;
    Ok(std::fs::rename(part, path)?)
}

/// The validation parameters of the specification, `:1` first.
const PARAMETERS: [&[&str]; 22] = [
    &["90"],
    &["15", "BRASS", "EUROPE"],
    &["BUILDING", "1995-03-15"],
    &["1993-07-01"],
    &["ASIA", "1994-01-01"],
    &["1994-01-01", "0.06", "24"],
    &["FRANCE", "GERMANY"],
    &["BRAZIL", "AMERICA", "ECONOMY ANODIZED STEEL"],
    &["green"],
    &["1993-10-01"],
    &["GERMANY", "0.0001"],
    &["MAIL", "SHIP", "1994-01-01"],
    &["special", "requests"],
    &["1995-09-01"],
    &["1996-01-01"],
    &["Brand#45", "MEDIUM POLISHED", "49", "14", "23", "45", "19", "3", "36", "9"],
    &["Brand#23", "MED BOX"],
    &["300"],
    &["Brand#12", "Brand#23", "Brand#34", "1", "10", "20"],
    &["forest", "1994-01-01", "CANADA"],
    &["SAUDI ARABIA"],
    &["13", "31", "23", "29", "30", "18", "17"],
];

/// Rows the specification asks of the queries that want only the first ones.
const FIRST_ROWS: [(usize, usize); 5] = [(2, 100), (3, 10), (10, 20), (18, 100), (21, 100)];

/// The statements of query `number`, 1 to 22; its rows are those of the only SELECT.
///
/// # Panics
/// For other numbers.
#[must_use]
pub fn query(number: usize) -> Vec<String> {
    let template = tpchgen::q_and_a::queries::query(i32::try_from(number).unwrap()).unwrap();
    let mut text = template.replace(":s", "0").replace(" day (3)", " day");
    // From the last on: `:1` is a prefix of `:10`.
    for (index, value) in PARAMETERS[number - 1].iter().enumerate().rev() {
        text = text.replace(&format!(":{}", index + 1), value);
    }
    let mut statements: Vec<String> =
        text.split(';').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect();
    if let Some((_, rows)) = FIRST_ROWS.iter().find(|(of, _)| *of == number) {
        let last = statements.last_mut().unwrap();
        if !last.contains("limit ") {
            last.push_str(&format!("\nlimit {rows}"));
        }
    }
    statements
}

/// Columns that engines give with different numbers of digits: averages and quotients. (query, column from 0)
const ROUNDED: [(usize, usize); 6] = [(1, 6), (1, 7), (1, 8), (8, 1), (14, 0), (17, 0)];

/// Compares rows with the known answer of query `number`; where they differ, the first difference.
///
/// # Errors
/// The difference.
pub fn compare(number: usize, rows: &[Vec<String>]) -> std::result::Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("answers/tpch/q{number:02}.csv"));
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let known: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split('|').collect()).collect();
    if known.len() != rows.len() {
        return Err(format!("q{number}: {} rows, want {}", rows.len(), known.len()));
    }
    for (line, (row, want)) in rows.iter().zip(&known).enumerate() {
        if row.len() != want.len() {
            return Err(format!("q{number}: {} columns, want {}", row.len(), want.len()));
        }
        for (column, (found, wanted)) in row.iter().zip(want).enumerate() {
            let same = if ROUNDED.contains(&(number, column)) {
                near(found, wanted)
            } else {
                plain(found) == plain(wanted)
            };
            if !same {
                return Err(format!("q{number}: row {line} column {column} is {found:?}, want {wanted:?}"));
            }
        }
    }
    Ok(())
}

/// A number without trailing zeros after its point; other text with its spaces trimmed.
fn plain(text: &str) -> &str {
    let text = text.trim();
    let number = text.contains('.') && text.parse::<f64>().is_ok();
    if number { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn near(found: &str, wanted: &str) -> bool {
    match (found.parse::<f64>(), wanted.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-5_f64.max(1e-7 * b.abs()),
        _ => found == wanted,
    }
}

//! `localtimestamp`: what clocks of the session's zone show, without a zone.

use std::hash::{Hash, Hasher};

use chrono::{Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::function::{documented, out_of_range};
use crate::zones::UTC;

/// The function, which has one value in a statement.
pub(crate) fn local_timestamp() -> ScalarUDF {
    ScalarUDF::from(LocalTimestamp {
        signature: Signature::nullary(Volatility::Stable),
        aliases: vec!["current_localtimestamp".to_owned()],
        documentation: documented(
            "Time and Date Functions",
            "What clocks of the session's time zone show when the statement begins, a TIMESTAMP.",
            "localtimestamp()",
            "SELECT localtimestamp",
        ),
    })
}

#[derive(Debug)]
struct LocalTimestamp {
    signature: Signature,
    aliases: Vec<String>,
    documentation: Documentation,
}

// There is one function of the name.
impl PartialEq for LocalTimestamp {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for LocalTimestamp {}

impl Hash for LocalTimestamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl ScalarUDFImpl for LocalTimestamp {
    fn name(&self) -> &str {
        "localtimestamp"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("localtimestamp was not computed when its statement was planned")
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(now) = info.query_execution_start_time() else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let zone: Tz = info.config_options().execution.time_zone.as_deref().unwrap_or(UTC).parse()?;
        let utc = now.naive_utc();
        let local = utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix());
        let micros = local.ok_or_else(out_of_range)?.and_utc().timestamp_micros();
        let value = ScalarValue::TimestampMicrosecond(Some(micros), None);
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

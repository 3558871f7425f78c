//! A function as a value: its name, what it takes and gives, how it is computed, and what is said about it.
//!
//! Owns: which types an argument may have and what it is converted to, calls of constants alone, the limit of texts and lists that a
//! call makes, documentation. Does not own: any single function (the modules of their subjects), functions of DataFusion.

mod call;
mod invalid;
mod out;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

pub(crate) use call::{
    Call, Instants, Primitives, Texts, Unit, Values, interval, interval_out_of_range, naive, out_of_range,
};
pub use invalid::InvalidArgument;
pub(crate) use invalid::invalid;
pub(crate) use out::{TextLists, TextRows, booleans, integers, numbers};

/// What an argument may be, and with that what it is converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text of any form; a view.
    Text,
    /// Bytes; a view.
    Bytes,
    /// A whole number; BIGINT.
    Integer,
    /// A number; DOUBLE.
    Number,
    /// A boolean.
    Boolean,
    /// A date or a timestamp, as it is; text is read as a timestamp.
    Instant,
    /// An interval; text is read as one.
    Interval,
    /// A list of anything.
    List,
    /// Anything, as it is.
    Any,
}

impl Kind {
    /// What a value of the type becomes; None: it cannot be an argument.
    pub(crate) fn converted(self, from: &DataType) -> Option<DataType> {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        match (self, from) {
            (Self::Any, _) => Some(from.clone()),
            (Self::Text, from) if is_text(from) || from.is_null() => Some(DataType::Utf8View),
            (
                Self::Bytes,
                DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
                | DataType::Null,
            ) => Some(DataType::BinaryView),
            (Self::Integer, from) if from.is_integer() || from.is_null() => Some(DataType::Int64),
            (Self::Number, from) if from.is_numeric() || from.is_null() => Some(DataType::Float64),
            (Self::Boolean, DataType::Boolean | DataType::Null) => Some(DataType::Boolean),
            (Self::Instant, DataType::Date32 | DataType::Timestamp(..)) => Some(from.clone()),
            (Self::Instant, DataType::Date64) => Some(DataType::Timestamp(TimeUnit::Millisecond, None)),
            (Self::Instant, from) if is_text(from) || from.is_null() => {
                Some(DataType::Timestamp(TimeUnit::Microsecond, None))
            }
            (Self::Interval, DataType::Interval(_) | DataType::Duration(_)) => Some(interval),
            (Self::Interval, from) if is_text(from) || from.is_null() => Some(interval),
            (Self::List, DataType::List(_)) => Some(from.clone()),
            (Self::List, DataType::LargeList(item) | DataType::FixedSizeList(item, _)) => {
                Some(DataType::List(Arc::clone(item)))
            }
            (Self::List, DataType::Null) => Some(DataType::new_list(DataType::Null, true)),
            _ => None,
        }
    }
}

/// Whether values of the type are texts.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// How the result's type follows from the arguments' types, which are converted already.
pub(crate) type Returns = fn(&[DataType]) -> DataType;
/// How the rows are computed.
pub(crate) type Run = fn(&Call<'_>) -> Result<ArrayRef>;

/// One function.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    name: &'static str,
    aliases: &'static [&'static str],
    takes: &'static [&'static [Kind]],
    /// Of what kind there may be any number of arguments behind those.
    rest: Option<Kind>,
    returns: Returns,
    run: Run,
    volatility: Volatility,
    syntax: &'static str,
    does: &'static str,
    example: &'static str,
}

impl Spec {
    /// A function called as `syntax`, which begins with its name. `takes` are the lists of arguments that it may have; of those that fit,
    /// the first is taken. `example` is a call and what comes of it.
    pub(crate) fn new(
        syntax: &'static str,
        takes: &'static [&'static [Kind]],
        returns: Returns,
        run: Run,
        does: &'static str,
        example: &'static str,
    ) -> Self {
        let name = syntax.split('(').next().unwrap_or(syntax);
        Self {
            name,
            aliases: &[],
            takes,
            rest: None,
            returns,
            run,
            volatility: Volatility::Immutable,
            syntax,
            does,
            example,
        }
    }

    /// Other names of it.
    pub(crate) fn also(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// With any number of arguments of `kind` behind.
    pub(crate) fn and_more(self, kind: Kind) -> Self {
        Self { rest: Some(kind), ..self }
    }

    /// Another value each time it is asked.
    pub(crate) fn volatile(self) -> Self {
        Self { volatility: Volatility::Volatile, ..self }
    }

    /// The same value within a statement only.
    pub(crate) fn stable(self) -> Self {
        Self { volatility: Volatility::Stable, ..self }
    }

    /// As a function of DataFusion, which makes `limit` bytes at most; `section` is its heading.
    pub(crate) fn function(self, section: &'static str, limit: u64) -> ScalarUDF {
        let documentation = documented(section, self.does, self.syntax, self.example);
        ScalarUDF::from(Function {
            signature: Signature::user_defined(self.volatility),
            aliases: self.aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            documentation,
            spec: self,
            limit,
        })
    }
}

/// A [`Spec`] that DataFusion can call.
#[derive(Debug)]
struct Function {
    spec: Spec,
    aliases: Vec<String>,
    signature: Signature,
    documentation: Documentation,
    /// Bytes that a call makes at most, beside those of its arguments.
    limit: u64,
}

// There is one function of a name.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name && self.limit == other.limit
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

impl Function {
    /// What arguments of these types become.
    fn fitting(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        fitting(self.spec.takes, self.spec.rest, types)
    }
}

/// Whether `function` is one of these that reads dates and timestamps, as clocks show them.
pub(crate) fn reads_clocks(function: &ScalarUDF) -> bool {
    let spec = function.inner().downcast_ref::<Function>().map(|function| &function.spec);
    spec.is_some_and(|spec| spec.takes.iter().any(|form| form.contains(&Kind::Instant)))
}

/// What arguments of `types` become by the first of the lists `takes` that they fit, with any number of `rest` behind; None: they fit none.
pub(crate) fn fitting(takes: &[&[Kind]], rest: Option<Kind>, types: &[DataType]) -> Option<Vec<DataType>> {
    takes.iter().find_map(|form| {
        if types.len() != form.len() && (rest.is_none() || types.len() < form.len()) {
            return None;
        }
        let kinds = form.iter().copied().map(Some).chain(std::iter::repeat(rest));
        types.iter().zip(kinds).map(|(from, kind)| kind?.converted(from)).collect()
    })
}

/// A call with arguments of `types`, which is none of those that `syntax` says.
pub(crate) fn refused(name: &str, syntax: &str, types: &[DataType]) -> DataFusionError {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    invalid("42883", format!("{name}({}) is no call of {syntax}", types.join(", ")))
}

/// What is said about a function; `section` is its heading.
pub(crate) fn documented(section: &'static str, does: &str, syntax: &str, example: &str) -> Documentation {
    let section = DocSection { include: true, label: section, description: None };
    Documentation::builder(section, does, syntax).with_sql_example(format!("```sql\n{example}\n```")).build()
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Types that fit no call stay as they are: `return_type` says so, in words of its own.
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(self.fitting(arg_types).unwrap_or_else(|| arg_types.to_vec()))
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match self.fitting(arg_types) {
            Some(types) => Ok((self.spec.returns)(&types)),
            None => Err(refused(self.spec.name, self.spec.syntax, arg_types)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        // What is another value each time is one for each row.
        let constant = constant && self.spec.volatility != Volatility::Volatile;
        let rows = if constant { 1 } else { args.number_rows };
        let call = Call::new(self.spec.name, &args.args, rows, args.return_type(), self.limit);
        let made = (self.spec.run)(&call)?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)
        } else {
            ColumnarValue::Array(made)
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

//! Aggregates that make JSON: `json_agg`, which is `array_agg` written as JSON, and `json_object_agg`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::udf_eq::UdfEq;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility,
};

use super::{SECTION, Spec};
use crate::bounded::TooLarge;
use crate::function::{Kind, documented, invalid};
use crate::json::Writer;

pub(super) fn functions() -> Vec<Spec> {
    vec![Spec {
        name: "json_object_agg",
        aliases: &["json_group_object", "jsonb_object_agg"],
        takes: &[&[Kind::Any, Kind::Any]],
        returns: |_| DataType::Utf8View,
        states: |_| vec![DataType::Utf8View],
        make: |_, limit| Ok(Box::new(Members { text: String::new(), limit })),
        syntax: "json_object_agg(key, value)",
        does: "An object of JSON with a member for each row; NULL without rows. Keys come in any order.",
        example: "SELECT json_object_agg(k, v) FROM (VALUES ('a', 1)) AS t(k, v)  -- {\"a\":1}",
    }]
}

/// `json_agg`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct JsonList {
    lists: UdfEq<Arc<dyn AggregateUDFImpl>>,
    aliases: Vec<String>,
    signature: Signature,
    documentation: Documentation,
    limit: u64,
}

impl JsonList {
    /// Written from what `lists`, which is `array_agg`, makes; `limit` is what one value may have, in bytes.
    pub(super) fn new(lists: &AggregateUDF, limit: u64) -> Self {
        Self {
            lists: Arc::clone(lists.inner()).into(),
            aliases: vec!["json_group_array".to_owned(), "jsonb_agg".to_owned()],
            signature: Signature::any(1, Volatility::Immutable),
            documentation: documented(
                SECTION,
                "An array of JSON of the values, NULL included, in the order of an ORDER BY within; NULL without rows.",
                "json_agg(x)",
                "SELECT json_agg(x ORDER BY x) FROM (VALUES (2), (1)) AS t(x)  -- [1,2]",
            ),
            limit,
        }
    }

    /// The list that is written, from the types of the arguments.
    fn list(of: &[FieldRef]) -> FieldRef {
        let item = of.first().map_or(DataType::Null, |field| field.data_type().clone());
        Arc::new(Field::new("list", DataType::new_list(item, true), true))
    }
}

impl AggregateUDFImpl for JsonList {
    fn name(&self) -> &str {
        "json_agg"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let return_field = Self::list(args.expr_fields);
        let inner = self.lists.accumulator(AccumulatorArgs { return_field, ..args })?;
        Ok(Box::new(Written { inner, limit: self.limit }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let return_field = Self::list(args.input_fields);
        self.lists.state_fields(StateFieldsArgs { return_field, ..args })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.lists.order_sensitivity()
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial_ordering: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let Some(lists) = Arc::clone(&self.lists).with_beneficial_ordering(beneficial_ordering)? else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Self {
            lists: lists.into(),
            aliases: self.aliases.clone(),
            signature: self.signature.clone(),
            documentation: self.documentation.clone(),
            limit: self.limit,
        })))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// A list, written when it is whole.
#[derive(Debug)]
struct Written {
    inner: Box<dyn Accumulator>,
    limit: u64,
}

impl Accumulator for Written {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let list = self.inner.evaluate()?;
        if list.is_null() {
            return Ok(ScalarValue::Utf8View(None));
        }
        let (list, mut text) = (list.to_array()?, String::new());
        Writer::new(&list)?.write(0, &mut text, self.limit)?;
        Ok(ScalarValue::Utf8View(Some(text)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
}

/// Members of an object, as they are written between its braces.
#[derive(Debug)]
struct Members {
    text: String,
    limit: u64,
}

impl Members {
    fn check(&self) -> Result<()> {
        if self.text.len() as u64 <= self.limit {
            return Ok(());
        }
        Err(TooLarge::error(format!("json_object_agg would make a value of more than {} bytes", self.limit)))
    }
}

impl Accumulator for Members {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [keys, values] = values else { return internal_err!("{} columns in place of 2", values.len()) };
        let (rows, keys, values) = (keys.len(), Writer::new(keys)?, Writer::new(values)?);
        for row in 0..rows {
            if keys.is_null(row) {
                return Err(invalid("22004", "NULL is no key of json_object_agg"));
            }
            if !self.text.is_empty() {
                self.text.push(',');
            }
            keys.write_key(row, &mut self.text, self.limit)?;
            self.text.push(':');
            values.write(row, &mut self.text, self.limit)?;
        }
        self.check()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let text = (!self.text.is_empty()).then(|| format!("{{{}}}", self.text));
        Ok(ScalarValue::Utf8View(text))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.text.capacity()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let text = std::mem::take(&mut self.text);
        Ok(vec![ScalarValue::Utf8View((!text.is_empty()).then_some(text))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [texts] = states else { return internal_err!("{} columns in place of 1", states.len()) };
        for text in texts.as_string_view().iter().flatten() {
            if !self.text.is_empty() {
                self.text.push(',');
            }
            self.text.push_str(text);
            self.check()?;
        }
        Ok(())
    }
}

//! Of numbers: how they are distributed, and what they are multiplied.
//!
//! Central moments are merged by the formulas of Pébay (2008), so that large values do not drown small differences.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::Accumulator;

use super::{Make, Spec};
use crate::function::Kind;

const NUMBER: &[&[Kind]] = &[&[Kind::Number]];

/// DOUBLE of DOUBLE, with the state of [`Shape`].
fn of(
    name: &'static str,
    syntax: &'static str,
    does: &'static str,
    example: &'static str,
    make: Make,
) -> Spec {
    Spec {
        name,
        aliases: &[],
        takes: NUMBER,
        returns: |_| DataType::Float64,
        states: |_| vec![DataType::Float64; 5],
        make,
        syntax,
        does,
        example,
    }
}

pub(super) fn functions() -> Vec<Spec> {
    fn two(_: &[DataType]) -> Vec<DataType> {
        vec![DataType::Float64; 2]
    }
    vec![
        of(
            "skewness",
            "skewness(x)",
            "How lopsided the numbers are, corrected for a sample; NULL of less than 3, or where all are the same.",
            "SELECT skewness(x) FROM (VALUES (1), (2), (2), (5), (9)) AS t(x)  -- 1.294",
            |_, _| Ok(Box::new(Shape { of: skewness, moments: Moments::default() })),
        ),
        of(
            "kurtosis",
            "kurtosis(x)",
            "How heavy the tails are, above those of a normal distribution, corrected for a sample; NULL of less than 4, or where all are the same.",
            "SELECT kurtosis(x) FROM (VALUES (1), (2), (2), (5), (9)) AS t(x)  -- 0.906",
            |_, _| Ok(Box::new(Shape { of: kurtosis, moments: Moments::default() })),
        ),
        of(
            "kurtosis_pop",
            "kurtosis_pop(x)",
            "As kurtosis, of the whole population.",
            "SELECT kurtosis_pop(x) FROM (VALUES (1), (2), (2), (5), (9)) AS t(x)  -- -0.774",
            |_, _| Ok(Box::new(Shape { of: kurtosis_pop, moments: Moments::default() })),
        ),
        of(
            "sem",
            "sem(x)",
            "The standard error of the mean, with the deviation of the population, as in DuckDB.",
            "SELECT sem(x) FROM (VALUES (1), (2), (2), (5), (9)) AS t(x)  -- 1.308",
            |_, _| Ok(Box::new(Shape { of: sem, moments: Moments::default() })),
        ),
        Spec {
            states: two,
            ..of(
                "product",
                "product(x)",
                "The product of all numbers, a DOUBLE.",
                "SELECT product(x) FROM (VALUES (2), (3), (4)) AS t(x)  -- 24.0",
                |_, _| Ok(Box::new(Product { count: 0.0, product: 1.0 })),
            )
        },
        Spec {
            states: two,
            aliases: &["geometric_mean"],
            ..of(
                "geomean",
                "geomean(x)",
                "The geometric mean; NaN with numbers below 0.",
                "SELECT geomean(x) FROM (VALUES (1), (4), (16)) AS t(x)  -- 4.0",
                |_, _| Ok(Box::new(Pair { takes: Takes::Logarithms, count: 0.0, sum: 0.0 })),
            )
        },
        Spec {
            states: two,
            aliases: &["wavg"],
            takes: &[&[Kind::Number, Kind::Number]],
            ..of(
                "weighted_avg",
                "weighted_avg(x, weight)",
                "The mean of numbers with weights; rows with a NULL do not count.",
                "SELECT weighted_avg(x, w) FROM (VALUES (1, 1), (4, 2)) AS t(x, w)  -- 3.0",
                |_, _| Ok(Box::new(Pair { takes: Takes::Weights, count: 0.0, sum: 0.0 })),
            )
        },
        Spec {
            name: "count_if",
            aliases: &["countif"],
            takes: &[&[Kind::Boolean]],
            returns: |_| DataType::Int64,
            states: |_| vec![DataType::Int64],
            make: |_, _| Ok(Box::new(CountIf(0))),
            syntax: "count_if(condition)",
            does: "In how many rows the condition holds.",
            example: "SELECT count_if(x > 1) FROM (VALUES (1), (2), (3)) AS t(x)  -- 2",
        },
    ]
}

fn number_of(state: &ArrayRef, row: usize) -> f64 {
    let state = state.as_primitive::<Float64Type>();
    if state.is_valid(row) { state.value(row) } else { 0.0 }
}

fn floats(values: &[f64]) -> Vec<ScalarValue> {
    values.iter().map(|value| ScalarValue::Float64(Some(*value))).collect()
}

fn columns<const N: usize>(states: &[ArrayRef]) -> Result<&[ArrayRef; N]> {
    match states.try_into() {
        Ok(states) => Ok(states),
        Err(_) => internal_err!("{} columns of state in place of {N}", states.len()),
    }
}

/// How many numbers, their mean, and the sums of the second to fourth powers of their distances from it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moments {
    n: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Moments {
    fn one(x: f64) -> Self {
        Self { n: 1.0, mean: x, ..Self::default() }
    }

    fn merged(self, other: Self) -> Self {
        if self.n == 0.0 {
            return other;
        }
        if other.n == 0.0 {
            return self;
        }
        let (a, b) = (self, other);
        let n = a.n + b.n;
        let d = b.mean - a.mean;
        let d_n = d / n;
        let ab = a.n * b.n;
        Self {
            n,
            mean: a.mean + b.n * d_n,
            m2: a.m2 + b.m2 + d * d_n * ab,
            m3: a.m3 + b.m3 + d * d_n * d_n * ab * (a.n - b.n) + 3.0 * d_n * (a.n * b.m2 - b.n * a.m2),
            m4: a.m4
                + b.m4
                + d * d_n * d_n * d_n * ab * (a.n * a.n - ab + b.n * b.n)
                + 6.0 * d_n * d_n * (a.n * a.n * b.m2 + b.n * b.n * a.m2)
                + 4.0 * d_n * (a.n * b.m3 - b.n * a.m3),
        }
    }
}

fn skewness(of: &Moments) -> Option<f64> {
    if of.n < 3.0 || of.m2 <= 0.0 {
        return None;
    }
    let plain = of.n.sqrt() * of.m3 / of.m2.powf(1.5);
    Some(plain * (of.n * (of.n - 1.0)).sqrt() / (of.n - 2.0))
}

fn kurtosis_pop(of: &Moments) -> Option<f64> {
    (of.n >= 2.0 && of.m2 > 0.0).then(|| of.n * of.m4 / (of.m2 * of.m2) - 3.0)
}

fn kurtosis(of: &Moments) -> Option<f64> {
    let n = of.n;
    let plain = kurtosis_pop(of).filter(|_| n > 3.0)?;
    Some((n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * plain + 6.0))
}

fn sem(of: &Moments) -> Option<f64> {
    (of.n > 0.0).then(|| (of.m2 / of.n).sqrt() / of.n.sqrt())
}

#[derive(Debug)]
struct Shape {
    of: fn(&Moments) -> Option<f64>,
    moments: Moments,
}

impl Accumulator for Shape {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = columns::<1>(values)?;
        for x in values.as_primitive::<Float64Type>().iter().flatten() {
            self.moments = self.moments.merged(Moments::one(x));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        // Infinities have no shape.
        Ok(ScalarValue::Float64((self.of)(&self.moments).filter(|shape| !shape.is_nan())))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let of = &self.moments;
        Ok(floats(&[of.n, of.mean, of.m2, of.m3, of.m4]))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [n, mean, m2, m3, m4] = columns::<5>(states)?;
        for row in 0..n.len() {
            let at = |state| number_of(state, row);
            let other = Moments { n: at(n), mean: at(mean), m2: at(m2), m3: at(m3), m4: at(m4) };
            self.moments = self.moments.merged(other);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Product {
    count: f64,
    product: f64,
}

impl Accumulator for Product {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = columns::<1>(values)?;
        for x in values.as_primitive::<Float64Type>().iter().flatten() {
            self.count += 1.0;
            self.product *= x;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.count > 0.0).then_some(self.product)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(floats(&[self.count, self.product]))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts, products] = columns::<2>(states)?;
        for row in 0..counts.len() {
            let count = number_of(counts, row);
            if count > 0.0 {
                self.count += count;
                self.product *= number_of(products, row);
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// Of one column, and answers with the number whose logarithm the mean is.
    Logarithms,
    /// Of numbers and weights.
    Weights,
}

/// A sum that is divided by another one.
#[derive(Debug)]
struct Pair {
    takes: Takes,
    count: f64,
    sum: f64,
}

impl Accumulator for Pair {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match self.takes {
            Takes::Logarithms => {
                let [values] = columns::<1>(values)?;
                for x in values.as_primitive::<Float64Type>().iter().flatten() {
                    self.count += 1.0;
                    self.sum += x.ln();
                }
            }
            Takes::Weights => {
                let [values, weights] = columns::<2>(values)?;
                let weights = weights.as_primitive::<Float64Type>();
                for (x, weight) in values.as_primitive::<Float64Type>().iter().zip(weights) {
                    if let (Some(x), Some(weight)) = (x, weight) {
                        self.count += weight;
                        self.sum += x * weight;
                    }
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mean = (self.count != 0.0).then(|| self.sum / self.count);
        Ok(ScalarValue::Float64(match self.takes {
            Takes::Logarithms => mean.map(f64::exp),
            Takes::Weights => mean,
        }))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(floats(&[self.count, self.sum]))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts, sums] = columns::<2>(states)?;
        for row in 0..counts.len() {
            self.count += number_of(counts, row);
            self.sum += number_of(sums, row);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct CountIf(i64);

impl Accumulator for CountIf {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = columns::<1>(values)?;
        self.0 += i64::try_from(values.as_boolean().true_count()).unwrap_or(i64::MAX);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.0)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Int64(Some(self.0))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts] = columns::<1>(states)?;
        self.0 += counts.as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn near(a: Option<f64>, b: f64) {
        assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} {b}");
    }

    #[test]
    fn shapes_are_those_of_duckdb() {
        let all = |values: &[f64]| {
            values.iter().fold(Moments::default(), |moments, x| moments.merged(Moments::one(*x)))
        };
        let values = [1.0, 2.0, 2.0, 5.0, 9.0];
        // In one go, and in two parts.
        for moments in [all(&values), all(&values[..2]).merged(all(&values[2..]))] {
            near(skewness(&moments), 1.294_262_998_848_746);
            near(kurtosis(&moments), 0.905_755_961_219_320_2);
            near(kurtosis_pop(&moments), -0.773_561_009_695_169_9);
            near(sem(&moments), 1.308_434_178_703_690_2);
        }
        let same = all(&[1.0; 5]);
        assert_eq!((skewness(&same), kurtosis(&same)), (None, None));
        assert_eq!((sem(&Moments::default()), kurtosis(&all(&values[..3]))), (None, None));
    }
}

//! A small language of expressions, written as SQL and evaluated here.
//!
//! Owns: three-valued logic, comparisons and the few functions it has, and how expressions are made. None can fail: numbers
//! stay small, divisors are constants. Columns are names; whoever evaluates says what they stand for.

use std::cmp::Ordering;

use rand::Rng;
use rand::rngs::StdRng;

use super::value::{SqlType, Value, quoted};
use super::{one_of, weighted};

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

const COMPARISONS: [Comparison; 6] = [
    Comparison::Equal,
    Comparison::Unequal,
    Comparison::Less,
    Comparison::AtMost,
    Comparison::Greater,
    Comparison::AtLeast,
];

impl Comparison {
    fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "<>",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

/// An expression. Those of type BOOLEAN are conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// A column by its name as SQL has it, `c1` or `a.c1`.
    Column(String, SqlType),
    /// A constant.
    Literal(Value, SqlType),
    /// `+`, `-` or `*`.
    Arithmetic(char, Box<Expression>, Box<Expression>),
    /// `x % 3`
    Remainder(Box<Expression>, i64),
    /// `length(x)`
    Length(Box<Expression>),
    /// `upper(x)`, or `lower(x)`.
    Cased(bool, Box<Expression>),
    /// `x || y`
    Concatenated(Box<Expression>, Box<Expression>),
    /// `coalesce(x, y)`
    Coalesce(Box<Expression>, Box<Expression>),
    /// `CASE WHEN condition THEN x ELSE y END`
    Case(Box<Expression>, Box<Expression>, Box<Expression>),
    /// `x < y`
    Compare(Comparison, Box<Expression>, Box<Expression>),
    /// `x IS NULL`; true: `IS NOT NULL`.
    IsNull(Box<Expression>, bool),
    /// `x IS DISTINCT FROM y`; true: `IS NOT DISTINCT FROM`.
    Distinct(Box<Expression>, Box<Expression>, bool),
    /// `x BETWEEN y AND z`
    Between(Box<Expression>, Box<Expression>, Box<Expression>),
    /// `x IN (…)`; true: `NOT IN`.
    In(Box<Expression>, Vec<Value>, bool),
    /// `x LIKE pattern`; true: `NOT LIKE`.
    Like(Box<Expression>, String, bool),
    /// `x AND y`
    And(Box<Expression>, Box<Expression>),
    /// `x OR y`
    Or(Box<Expression>, Box<Expression>),
    /// `NOT x`
    Not(Box<Expression>),
}

/// What a column stands for.
pub type Scope<'a> = &'a dyn Fn(&str) -> Value;

impl Expression {
    /// The type of its values.
    #[must_use]
    pub fn sql_type(&self) -> SqlType {
        match self {
            Self::Column(_, sql_type) | Self::Literal(_, sql_type) => *sql_type,
            Self::Arithmetic(_, left, _) => left.sql_type(),
            Self::Remainder(..) | Self::Length(_) => SqlType::BigInt,
            Self::Cased(..) | Self::Concatenated(..) => SqlType::Text,
            Self::Coalesce(left, _) => left.sql_type(),
            Self::Case(_, then, _) => then.sql_type(),
            Self::Compare(..)
            | Self::IsNull(..)
            | Self::Distinct(..)
            | Self::Between(..)
            | Self::In(..)
            | Self::Like(..)
            | Self::And(..)
            | Self::Or(..)
            | Self::Not(_) => SqlType::Boolean,
        }
    }

    /// As SQL.
    #[must_use]
    pub fn sql(&self) -> String {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Self::Column(name, _) => name.clone(),
            Self::Literal(value, sql_type) => value.operand(*sql_type),
            Self::Arithmetic(sign, left, right) => format!("({} {sign} {})", left.sql(), right.sql()),
            Self::Remainder(of, divisor) => format!("({} % {divisor})", of.sql()),
            Self::Length(of) => format!("length({})", of.sql()),
            Self::Cased(upper, of) => {
                format!("{}({})", if *upper { "upper" } else { "lower" }, of.sql())
            }
            Self::Concatenated(left, right) => format!("({} || {})", left.sql(), right.sql()),
            Self::Coalesce(left, right) => format!("coalesce({}, {})", left.sql(), right.sql()),
            Self::Case(condition, then, otherwise) => {
                format!("CASE WHEN {} THEN {} ELSE {} END", condition.sql(), then.sql(), otherwise.sql())
            }
            Self::Compare(how, left, right) => format!("({} {} {})", left.sql(), how.sql(), right.sql()),
            Self::IsNull(of, negated) => format!("({} IS {}NULL)", of.sql(), not(negated)),
            Self::Distinct(left, right, negated) => {
                format!("({} IS {}DISTINCT FROM {})", left.sql(), not(negated), right.sql())
            }
            Self::Between(of, low, high) => {
                format!("({} BETWEEN {} AND {})", of.sql(), low.sql(), high.sql())
            }
            Self::In(of, values, negated) => {
                let values: Vec<String> = values.iter().map(Value::literal).collect();
                format!("({} {}IN ({}))", of.sql(), not(negated), values.join(", "))
            }
            Self::Like(of, pattern, negated) => {
                format!("({} {}LIKE {})", of.sql(), not(negated), quoted(pattern))
            }
            Self::And(left, right) => format!("({} AND {})", left.sql(), right.sql()),
            Self::Or(left, right) => format!("({} OR {})", left.sql(), right.sql()),
            Self::Not(of) => format!("(NOT {})", of.sql()),
        }
    }

    /// Whether the condition is true, which NULL is not.
    ///
    /// # Panics
    /// When it is no condition.
    #[must_use]
    pub fn holds(&self, scope: Scope<'_>) -> bool {
        self.truth(scope) == Some(true)
    }

    fn truth(&self, scope: Scope<'_>) -> Option<bool> {
        match self.evaluate(scope) {
            Value::Null => None,
            Value::Boolean(value) => Some(value),
            other => panic!("{} is {other:?}, no condition", self.sql()),
        }
    }

    /// Its value.
    ///
    /// # Panics
    /// When types do not fit: the generator is wrong then.
    #[must_use]
    pub fn evaluate(&self, scope: Scope<'_>) -> Value {
        match self {
            Self::Column(name, _) => scope(name),
            Self::Literal(value, _) => value.clone(),
            Self::Arithmetic(sign, left, right) => {
                let calculate = |a: i64, b: i64| match sign {
                    '+' => a + b,
                    '-' => a - b,
                    _ => a * b,
                };
                match (left.evaluate(scope), right.evaluate(scope)) {
                    (Value::Null, _) | (_, Value::Null) => Value::Null,
                    (Value::Integer(a), Value::Integer(b)) => Value::Integer(calculate(a, b)),
                    (Value::Double(a), Value::Double(b)) => Value::Double(calculate(a, b)),
                    (a, b) => panic!("{a:?} {sign} {b:?}"),
                }
            }
            Self::Remainder(of, divisor) => match of.evaluate(scope) {
                Value::Integer(value) => Value::Integer(value % divisor),
                _ => Value::Null,
            },
            Self::Length(of) => match of.evaluate(scope) {
                Value::Text(text) => Value::Integer(text.chars().count() as i64),
                _ => Value::Null,
            },
            Self::Cased(upper, of) => match of.evaluate(scope) {
                Value::Text(text) if *upper => Value::Text(text.to_uppercase()),
                Value::Text(text) => Value::Text(text.to_lowercase()),
                _ => Value::Null,
            },
            Self::Concatenated(left, right) => match (left.evaluate(scope), right.evaluate(scope)) {
                (Value::Text(a), Value::Text(b)) => Value::Text(a + &b),
                _ => Value::Null,
            },
            Self::Coalesce(left, right) => match left.evaluate(scope) {
                Value::Null => right.evaluate(scope),
                value => value,
            },
            Self::Case(condition, then, otherwise) => {
                if condition.holds(scope) {
                    then.evaluate(scope)
                } else {
                    otherwise.evaluate(scope)
                }
            }
            condition => condition.decide(scope).map_or(Value::Null, Value::Boolean),
        }
    }

    /// The value of what is a condition by its form.
    fn decide(&self, scope: Scope<'_>) -> Option<bool> {
        match self {
            Self::Compare(how, left, right) => {
                order(&left.evaluate(scope), &right.evaluate(scope)).map(|order| how.holds(order))
            }
            Self::IsNull(of, negated) => Some(of.evaluate(scope).is_null() != *negated),
            Self::Distinct(left, right, negated) => {
                Some((left.evaluate(scope) != right.evaluate(scope)) != *negated)
            }
            Self::Between(of, low, high) => {
                let value = of.evaluate(scope);
                let above = order(&value, &low.evaluate(scope)).map(Ordering::is_ge);
                let below = order(&value, &high.evaluate(scope)).map(Ordering::is_le);
                both(above, below)
            }
            Self::In(of, values, negated) => {
                let value = of.evaluate(scope);
                let mut found = Some(false);
                for listed in values {
                    found = either(found, order(&value, listed).map(Ordering::is_eq));
                }
                found.map(|found| found != *negated)
            }
            Self::Like(of, pattern, negated) => match of.evaluate(scope) {
                Value::Text(text) => {
                    let (text, pattern): (Vec<char>, Vec<char>) =
                        (text.chars().collect(), pattern.chars().collect());
                    Some(is_like(&text, &pattern) != *negated)
                }
                _ => None,
            },
            Self::And(left, right) => both(left.truth(scope), right.truth(scope)),
            Self::Or(left, right) => either(left.truth(scope), right.truth(scope)),
            Self::Not(of) => of.truth(scope).map(|value| !value),
            other => panic!("{} is no condition", other.sql()),
        }
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    if left.is_null() || right.is_null() { None } else { Some(left.cmp(right)) }
}

fn both(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn either(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    both(left.map(|value| !value), right.map(|value| !value)).map(|value| !value)
}

fn is_like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skipped| is_like(&text[skipped..], rest)),
        Some(('_', rest)) => !text.is_empty() && is_like(&text[1..], rest),
        Some((letter, rest)) => text.first() == Some(letter) && is_like(&text[1..], rest),
    }
}

const PATTERNS: [&str; 6] = ["a%", "%b", "%b%", "_b", "%", "%世%"];

/// Parts of conditions.
#[derive(Clone, Copy, Debug)]
enum Form {
    Compare,
    IsNull,
    Distinct,
    Between,
    In,
    Like,
    And,
    Or,
    Not,
    Column,
}

/// How often each part of a condition is made.
const CONDITIONS: [(u32, Form); 10] = [
    (30, Form::Compare),
    (8, Form::IsNull),
    (4, Form::Distinct),
    (6, Form::Between),
    (8, Form::In),
    (5, Form::Like),
    (12, Form::And),
    (10, Form::Or),
    (6, Form::Not),
    (4, Form::Column),
];

/// Makes expressions over some columns.
#[derive(Debug)]
pub struct Maker<'a> {
    /// Where choices come from.
    pub random: &'a mut StdRng,
    /// Names and types; vectors are left aside.
    pub columns: Vec<(String, SqlType)>,
}

impl Maker<'_> {
    fn columns_of(&self, sql_type: SqlType) -> Vec<String> {
        self.columns.iter().filter(|(_, known)| *known == sql_type).map(|(name, _)| name.clone()).collect()
    }

    /// A type that values can be compared in, one of a column's where there are any.
    fn comparable(&mut self) -> SqlType {
        let types: Vec<SqlType> =
            self.columns.iter().map(|(_, known)| *known).filter(|known| *known != SqlType::Vector).collect();
        if types.is_empty() { SqlType::BigInt } else { *one_of(self.random, &types) }
    }

    fn leaf(&mut self, sql_type: SqlType) -> Expression {
        let columns = self.columns_of(sql_type);
        if columns.is_empty() || self.random.random_bool(0.3) {
            let null = self.random.random_bool(0.05);
            let value = if null { Value::Null } else { sql_type.any(self.random) };
            return Expression::Literal(value, sql_type);
        }
        Expression::Column(one_of(self.random, &columns).clone(), sql_type)
    }

    /// An expression of a type, nested at most `depth` deep.
    pub fn of(&mut self, sql_type: SqlType, depth: u32) -> Expression {
        if depth == 0 || self.random.random_bool(0.5) {
            return self.leaf(sql_type);
        }
        let boxed = Box::<Expression>::new;
        match (sql_type, self.random.random_range(0..6)) {
            (SqlType::Boolean, _) => self.condition(depth - 1),
            (SqlType::BigInt, 0..=2) => {
                let sign = *one_of(self.random, &['+', '-', '*']);
                let (left, right) = (self.of(sql_type, depth - 1), self.of(sql_type, depth - 1));
                Expression::Arithmetic(sign, boxed(left), boxed(right))
            }
            (SqlType::BigInt, 3) => {
                let divisor = self.random.random_range(2..7);
                Expression::Remainder(boxed(self.of(sql_type, depth - 1)), divisor)
            }
            (SqlType::BigInt, 4) => Expression::Length(boxed(self.of(SqlType::Text, depth - 1))),
            (SqlType::Double, 0..=2) => {
                let sign = *one_of(self.random, &['+', '-']);
                let (left, right) = (self.of(sql_type, depth - 1), self.of(sql_type, depth - 1));
                Expression::Arithmetic(sign, boxed(left), boxed(right))
            }
            (SqlType::Text, 0 | 1) => {
                let upper = self.random.random_bool(0.5);
                Expression::Cased(upper, boxed(self.of(sql_type, depth - 1)))
            }
            (SqlType::Text, 2 | 3) => {
                let (left, right) = (self.of(sql_type, depth - 1), self.leaf(sql_type));
                Expression::Concatenated(boxed(left), boxed(right))
            }
            (SqlType::BigInt | SqlType::Double | SqlType::Text, 5) => {
                let condition = self.condition(depth - 1);
                let (then, otherwise) = (self.leaf(sql_type), self.of(sql_type, depth - 1));
                Expression::Case(boxed(condition), boxed(then), boxed(otherwise))
            }
            (SqlType::BigInt | SqlType::Double | SqlType::Text | SqlType::Date, _) => {
                let (left, right) = (self.leaf(sql_type), self.leaf(sql_type));
                Expression::Coalesce(boxed(left), boxed(right))
            }
            _ => self.leaf(sql_type),
        }
    }

    /// A condition, nested at most `depth` deep.
    pub fn condition(&mut self, depth: u32) -> Expression {
        let form = weighted(self.random, &CONDITIONS);
        let negated = self.random.random_bool(0.4);
        let boxed = Box::<Expression>::new;
        let sql_type = self.comparable();
        let inner = depth.saturating_sub(1);
        match form {
            Form::And if depth > 0 => {
                let (left, right) = (self.condition(inner), self.condition(inner));
                Expression::And(boxed(left), boxed(right))
            }
            Form::Or if depth > 0 => {
                let (left, right) = (self.condition(inner), self.condition(inner));
                Expression::Or(boxed(left), boxed(right))
            }
            Form::Not if depth > 0 => Expression::Not(boxed(self.condition(inner))),
            Form::IsNull => Expression::IsNull(boxed(self.leaf(sql_type)), negated),
            Form::Distinct => {
                let (left, right) = (self.leaf(sql_type), self.leaf(sql_type));
                Expression::Distinct(boxed(left), boxed(right), negated)
            }
            Form::Between if sql_type != SqlType::Boolean => {
                let of = self.of(sql_type, inner);
                let (low, high) = (self.leaf(sql_type), self.leaf(sql_type));
                Expression::Between(boxed(of), boxed(low), boxed(high))
            }
            Form::In => {
                let of = self.leaf(sql_type);
                let mut values: Vec<Value> =
                    (0..self.random.random_range(1..4)).map(|_| sql_type.any(self.random)).collect();
                if self.random.random_bool(0.1) {
                    values.push(Value::Null);
                }
                Expression::In(boxed(of), values, negated)
            }
            Form::Like => {
                let pattern = (*one_of(self.random, &PATTERNS)).to_owned();
                Expression::Like(boxed(self.leaf(SqlType::Text)), pattern, negated)
            }
            Form::Column => {
                let columns = self.columns_of(SqlType::Boolean);
                match columns.first() {
                    Some(name) => Expression::Column(name.clone(), SqlType::Boolean),
                    None => Expression::IsNull(boxed(self.leaf(sql_type)), negated),
                }
            }
            Form::Compare | Form::And | Form::Or | Form::Not | Form::Between => {
                let how = *one_of(self.random, &COMPARISONS);
                let (left, right) = (self.of(sql_type, inner), self.leaf(sql_type));
                Expression::Compare(how, boxed(left), boxed(right))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn logic_has_three_values() {
        let null = || Box::new(Expression::Literal(Value::Null, SqlType::Boolean));
        let constant = |value| Box::new(Expression::Literal(Value::Boolean(value), SqlType::Boolean));
        let nothing: Scope<'_> = &|name| panic!("no column {name}");
        for (expression, value) in [
            (Expression::And(null(), constant(false)), Value::Boolean(false)),
            (Expression::And(null(), constant(true)), Value::Null),
            (Expression::Or(null(), constant(true)), Value::Boolean(true)),
            (Expression::Not(null()), Value::Null),
            (Expression::In(constant(true), vec![Value::Boolean(false), Value::Null], true), Value::Null),
            (Expression::Distinct(null(), null(), false), Value::Boolean(false)),
        ] {
            assert_eq!(expression.evaluate(nothing), value, "{}", expression.sql());
        }
    }

    #[test]
    fn patterns_match_as_in_sql() {
        let is = |text: &str, pattern: &str| {
            is_like(&text.chars().collect::<Vec<_>>(), &pattern.chars().collect::<Vec<_>>())
        };
        assert!(is("", "%") && is("äb", "_b") && is("abc", "%b%") && is("ab", "%b"));
        assert!(!is("b", "_b") && !is("abc", "%b"));
    }

    /// Whatever is made can be evaluated, and the same seed makes the same.
    #[test]
    fn made_expressions_have_values() {
        let columns: Vec<(String, SqlType)> =
            [SqlType::BigInt, SqlType::Text, SqlType::Boolean, SqlType::Double]
                .iter()
                .enumerate()
                .map(|(number, sql_type)| (format!("c{number}"), *sql_type))
                .collect();
        let make = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            Maker { random: &mut random, columns: columns.clone() }.condition(3)
        };
        let row: Scope<'_> = &|name| match name {
            "c0" => Value::Integer(3),
            "c1" => Value::Text("ab".into()),
            "c2" => Value::Null,
            _ => Value::Double(2),
        };
        for seed in 0..500 {
            let condition = make(seed);
            assert!(matches!(condition.evaluate(row), Value::Null | Value::Boolean(_)));
            assert_eq!(condition, make(seed));
        }
    }
}

//! Inner joins in a row as a set of relations with what connects them, and in which order they cost least.
//!
//! Owns: the relations of a tree, the rows expected of every set of them, the greedy search (Fegaras, "A new heuristic for optimizing large
//! queries", DEXA 1998: the pair whose join has the fewest rows is joined first), and the tree in a given order. The rows of a set do not
//! depend on the order in which it is joined.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::{Column, NullEquality, Result, TableReference};
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, Join, JoinConstraint, JoinType, LogicalPlan, Operator,
};

use super::estimate;
use super::selectivity::selectivity;

/// Relations that are looked at together at most.
const RELATIONS: usize = 32;
/// Semi and anti joins of which every place is tried at most.
const HALVES: usize = 4;
/// What a row costs that goes into a hash table, beside one that is looked up in it.
const BUILD: f64 = 3.0;
/// An order is only taken where what depends on it costs less than this part of the written one: guesses are guesses.
const GAIN: f64 = 0.85;

/// Some of the relations of a tree, one bit each.
type Set = u64;

/// One relation.
struct Relation {
    plan: Arc<LogicalPlan>,
    rows: f64,
}

/// Two expressions that are to be equal.
struct Key {
    sides: [(Expr, Set); 2],
}

/// Any other condition of several relations.
struct Condition {
    expr: Expr,
    of: Set,
}

/// A semi or anti join above the tree. When its keys come from one relation it leaves the same rows below the joins.
struct Half {
    join: Join,
    /// None: they come from several, it stays above.
    relation: Option<usize>,
    kept: f64,
    /// Rows of its right side.
    rows: f64,
}

/// In which order relations are joined.
#[derive(Clone)]
enum Order {
    Relation(usize),
    Join(Box<Order>, Box<Order>, Set),
}

impl Order {
    fn set(&self) -> Set {
        match self {
            // A tree of more relations than a set has bits is given up.
            Self::Relation(i) => 1_u64.checked_shl(*i as u32).unwrap_or(0),
            Self::Join(_, _, set) => *set,
        }
    }

    fn join(left: Self, right: Self) -> Self {
        let set = left.set() | right.set();
        Self::Join(Box::new(left), Box::new(right), set)
    }
}

/// A tree of inner joins, and the semi and anti joins above it.
pub(super) struct Tree {
    relations: Vec<Relation>,
    keys: Vec<Key>,
    conditions: Vec<Condition>,
    /// From below.
    halves: Vec<Half>,
    written: Order,
    /// The part of all pairs that some keys and conditions leave.
    parts: Vec<(Set, f64)>,
}

/// Whether `plan` is a join that can be put in another order with its neighbours.
pub(super) fn is_inner(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.join_type == JoinType::Inner
        && join.null_equality == NullEquality::NullEqualsNothing
        && !join.on.iter().any(|(a, b)| a.is_volatile() || b.is_volatile())
        && !join.filter.as_ref().is_some_and(Expr::is_volatile))
}

/// The left side of a semi or anti join that may go below the joins there.
pub(super) fn half(plan: &LogicalPlan) -> Option<&Join> {
    match plan {
        LogicalPlan::Join(join)
            if matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
                && !join.null_aware
                && !join.on.iter().any(|(a, b)| a.is_volatile() || b.is_volatile())
                && !join.filter.as_ref().is_some_and(Expr::is_volatile) =>
        {
            Some(join)
        }
        _ => None,
    }
}

impl Tree {
    /// The tree at `plan`. None where nothing is known of a relation, or there is nothing to choose.
    pub(super) fn of(plan: &LogicalPlan) -> Option<Self> {
        let mut above = Vec::new();
        let mut top = plan;
        let mut flat = Flat::default();
        while let Some(join) = half(flat.within(top)) {
            above.push(join);
            top = &join.left;
        }
        top = flat.within(top);
        // Each has a bit.
        if !is_inner(top) || above.len() >= usize::BITS as usize {
            return None;
        }
        let written = flat.add(top);
        if flat.plans.len() > RELATIONS || (flat.plans.len() == 2 && above.is_empty()) {
            return None;
        }
        let rights = above.iter().map(|join| join.right.as_ref());
        if flat.leaves_out && !are_distinct(flat.plans.iter().copied().chain(rights)) {
            return None;
        }
        let relations = flat
            .plans
            .into_iter()
            .map(|plan| Some(Relation { rows: estimate::rows(plan)?, plan: Arc::new(plan.clone()) }));
        let relations: Vec<_> = relations.collect::<Option<_>>()?;
        let mut tree = Self {
            relations,
            keys: Vec::new(),
            conditions: Vec::new(),
            halves: Vec::new(),
            written,
            parts: Vec::new(),
        };
        for (a, b) in flat.keys {
            let (of_a, of_b) = (tree.relations_of(&a)?, tree.relations_of(&b)?);
            tree.keys.push(Key { sides: [(a, of_a), (b, of_b)] });
        }
        for expr in flat.conditions {
            let of = tree.relations_of(&expr)?;
            match tree.key_in(&expr) {
                Some(key) => tree.keys.push(key),
                None => tree.conditions.push(Condition { expr, of }),
            }
        }
        tree.parts = tree.parts();
        for join in above.into_iter().rev() {
            tree.halves.push(tree.half(join)?);
        }
        Some(tree)
    }

    /// The tree in the order that is expected to cost least; None: the written one.
    pub(super) fn ordered(&self) -> Result<Option<LogicalPlan>> {
        let kept = |below: usize| {
            let rows = |i: usize| {
                let halves = self.halves_beside(i, below);
                halves.fold(self.relations[i].rows, |rows, half| rows * half.kept).max(1.0)
            };
            (0..self.relations.len()).map(rows).collect::<Vec<_>>()
        };
        let written = self.cost(&self.written, 0, &kept(0));
        // Whatever the order, each row of the largest relation is looked at in a join.
        let certain = kept(usize::MAX).into_iter().fold(0.0, f64::max);
        let places = if self.halves.len() <= HALVES { 1 << self.halves.len() } else { 1 };
        let mut best: Option<(f64, Order, usize)> = None;
        let movable = self.halves.iter().enumerate().filter(|(_, half)| half.relation.is_some());
        let movable: usize = movable.map(|(h, _)| 1 << h).sum();
        for below in (0..places).filter(|below| below & !movable == 0) {
            let rows = kept(below);
            let Some(order) = self.greedy(&rows) else { return Ok(None) };
            let cost = self.cost(&order, below, &rows);
            if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, order, below));
            }
        }
        match best {
            Some((cost, order, below))
                if written > certain && cost - certain < (written - certain) * GAIN =>
            {
                let rows = kept(below);
                let mut plan = self.plan(&order, below, &rows)?;
                for (_, half) in self.halves.iter().enumerate().filter(|(h, _)| below >> h & 1 == 0) {
                    plan = half.above(Arc::new(plan))?;
                }
                Ok(Some(plan))
            }
            _ => Ok(None),
        }
    }

    /// An equality of two relations, as a key to join them by. Those of numbers with a fraction stay conditions.
    fn key_in(&self, expr: &Expr) -> Option<Key> {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else { return None };
        let (of_left, of_right) = (self.relations_of(left)?, self.relations_of(right)?);
        let of_one = |of: Set| (of.count_ones() == 1).then(|| &self.relations[of.trailing_zeros() as usize]);
        let of_type = |expr: &Expr, of| expr.get_type(of_one(of)?.plan.schema().as_ref()).ok();
        let (a, b) = (of_type(left, of_left)?, of_type(right, of_right)?);
        let is_plain = !a.is_floating() && !a.is_nested() && !expr.is_volatile();
        let sides = [(left.as_ref().clone(), of_left), (right.as_ref().clone(), of_right)];
        (of_left != of_right && a == b && is_plain).then_some(Key { sides })
    }

    fn half(&self, join: &Join) -> Option<Half> {
        let of = self.relations_of_half(join)?;
        let rows = estimate::rows(&join.right)?;
        let relation = (of.count_ones() == 1).then_some(of.trailing_zeros() as usize);
        let left = relation.map_or(rows, |relation| self.relations[relation].rows);
        Some(Half { join: join.clone(), relation, kept: estimate::kept(join, left, rows), rows })
    }

    /// The relations whose columns a semi join looks at.
    fn relations_of_half(&self, join: &Join) -> Option<Set> {
        let filter = join.filter.iter().flat_map(Expr::column_refs);
        let mut left = filter.filter(|column| !join.right.schema().has_column(column));
        let of = left.try_fold(0, |of, column| Some(of | self.relation_of(column)?))?;
        join.on.iter().try_fold(of, |of, (left, _)| Some(of | self.relations_of(left)?))
    }

    /// The relation with that column.
    fn relation_of(&self, column: &Column) -> Option<Set> {
        let mut with = self.relations.iter().enumerate().filter(|(_, r)| r.plan.schema().has_column(column));
        match (with.next(), with.next()) {
            (Some((i, _)), None) => Some(1 << i),
            _ => None,
        }
    }

    /// The relations whose columns are in `expr`; None where there are none.
    fn relations_of(&self, expr: &Expr) -> Option<Set> {
        let mut columns = expr.column_refs().into_iter();
        columns.try_fold(0, |set, column| Some(set | self.relation_of(column)?)).filter(|set| *set != 0)
    }

    fn parts(&self) -> Vec<(Set, f64)> {
        let mut parts = Vec::new();
        let mut together: Vec<(Set, Vec<&Key>)> = Vec::new();
        for key in &self.keys {
            let of = key.sides[0].1 | key.sides[1].1;
            match together.iter_mut().find(|(set, _)| *set == of) {
                Some((_, keys)) => keys.push(key),
                None => together.push((of, vec![key])),
            }
        }
        for (of, keys) in together {
            parts.push((of, self.part_of_keys(&keys)));
        }
        for condition in &self.conditions {
            let known = |column: &Column| {
                let relation = self.relation_of(column)?.trailing_zeros() as usize;
                estimate::column(&self.relations[relation].plan, column)
            };
            parts.push((condition.of, selectivity(&split_conjunction(&condition.expr), &known)));
        }
        parts
    }

    /// The part of the pairs that keys of the same relations leave. Several of them make one key of all their columns, which the side of fewer
    /// such keys refers to.
    fn part_of_keys(&self, keys: &[&Key]) -> f64 {
        let values = |(expr, of): &(Expr, Set)| match of.count_ones() {
            1 => {
                let relation = &self.relations[of.trailing_zeros() as usize];
                estimate::distinct(expr, &relation.plan, relation.rows)
            }
            _ => 1.0,
        };
        if let [key] = keys {
            return 1.0 / values(&key.sides[0]).max(values(&key.sides[1]));
        }
        let mut relations: Vec<(Set, f64)> = Vec::new();
        for side in keys.iter().flat_map(|key| &key.sides) {
            match relations.iter_mut().find(|(of, _)| *of == side.1) {
                Some((_, product)) => *product *= values(side),
                None => relations.push((side.1, values(side))),
            }
        }
        let capped = relations.iter().map(|(of, product)| match of.count_ones() {
            1 => product.min(self.relations[of.trailing_zeros() as usize].rows),
            _ => *product,
        });
        1.0 / capped.fold(f64::INFINITY, f64::min).max(1.0)
    }

    /// The rows expected of a set.
    fn rows(&self, set: Set, rows: &[f64]) -> f64 {
        let all: f64 =
            rows.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, rows)| rows).product();
        let parts: f64 = self.parts.iter().filter(|(of, _)| of & !set == 0).map(|(_, part)| part).product();
        (all * parts).max(1.0)
    }

    fn cost(&self, order: &Order, below: usize, rows: &[f64]) -> f64 {
        let mut all = self.rows(order.set(), rows);
        let halves = self.halves.iter().enumerate().map(|(h, half)| {
            if let Some(relation) = half.relation.filter(|_| below >> h & 1 == 1) {
                return step(self.relations[relation].rows, half.rows);
            }
            let cost = step(all, half.rows);
            all *= half.kept;
            cost
        });
        halves.sum::<f64>() + self.joins(order, rows)
    }

    fn joins(&self, order: &Order, rows: &[f64]) -> f64 {
        match order {
            Order::Relation(_) => 0.0,
            Order::Join(left, right, set) => {
                self.joins(left, rows)
                    + self.joins(right, rows)
                    + step(self.rows(left.set(), rows), self.rows(right.set(), rows))
                    + self.rows(*set, rows)
            }
        }
    }

    /// None where a relation is connected to no other.
    fn greedy(&self, rows: &[f64]) -> Option<Order> {
        let mut left: Vec<Order> = (0..self.relations.len()).map(Order::Relation).collect();
        while left.len() > 1 {
            let mut best: Option<(f64, f64, usize, usize)> = None;
            for (i, a) in left.iter().enumerate() {
                for (j, b) in left.iter().enumerate().skip(i + 1) {
                    if !self.are_connected(a.set(), b.set()) {
                        continue;
                    }
                    let made = self.rows(a.set() | b.set(), rows);
                    let cost = step(self.rows(a.set(), rows), self.rows(b.set(), rows));
                    if best.is_none_or(|(least, price, ..)| (made, cost) < (least, price)) {
                        best = Some((made, cost, i, j));
                    }
                }
            }
            let (_, _, i, j) = best?;
            let b = left.remove(j);
            let a = left.remove(i);
            left.push(Order::join(a, b));
        }
        left.pop()
    }

    fn are_connected(&self, a: Set, b: Set) -> bool {
        self.keys.iter().any(|key| key.between(a, b).is_some())
    }

    /// The joins in that order, those semi joins that belong there beside their relation.
    fn plan(&self, order: &Order, below: usize, rows: &[f64]) -> Result<LogicalPlan> {
        let (left, right) = match order {
            Order::Relation(i) => return self.relation(*i, below),
            // What goes into the hash table stands on the left.
            Order::Join(a, b, _) if self.rows(a.set(), rows) <= self.rows(b.set(), rows) => (a, b),
            Order::Join(a, b, _) => (b, a),
        };
        let (a, b) = (left.set(), right.set());
        let is_here = |of: Set| of & !(a | b) == 0 && of & !a != 0 && of & !b != 0;
        let (mut on, mut filters) = (Vec::new(), Vec::new());
        for key in &self.keys {
            if let Some(pair) = key.between(a, b) {
                on.push(pair);
            } else if is_here(key.sides[0].1 | key.sides[1].1) {
                let [left, right] = key.sides.clone();
                filters.push(Expr::BinaryExpr(BinaryExpr::new(
                    Box::new(left.0),
                    Operator::Eq,
                    Box::new(right.0),
                )));
            }
        }
        filters.extend(self.conditions.iter().filter(|c| is_here(c.of)).map(|c| c.expr.clone()));
        let join = Join::try_new(
            Arc::new(self.plan(left, below, rows)?),
            Arc::new(self.plan(right, below, rows)?),
            on,
            conjunction(filters),
            JoinType::Inner,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        Ok(LogicalPlan::Join(join))
    }

    fn relation(&self, i: usize, below: usize) -> Result<LogicalPlan> {
        let mut plan = Arc::clone(&self.relations[i].plan);
        let of: Set = 1 << i;
        let keys = self.keys.iter().filter(|key| key.sides[0].1 | key.sides[1].1 == of).map(|key| {
            let [left, right] = key.sides.clone();
            Expr::BinaryExpr(BinaryExpr::new(Box::new(left.0), Operator::Eq, Box::new(right.0)))
        });
        let own = keys.chain(self.conditions.iter().filter(|c| c.of == of).map(|c| c.expr.clone()));
        if let Some(predicate) = conjunction(own) {
            plan = Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, plan)?));
        }
        for half in self.halves_beside(i, below) {
            plan = Arc::new(half.above(plan)?);
        }
        Ok(Arc::unwrap_or_clone(plan))
    }

    /// The semi joins that are put directly above a relation; `below` has a bit for each that is put below the joins.
    fn halves_beside(&self, relation: usize, below: usize) -> impl Iterator<Item = &Half> {
        let placed = self.halves.iter().enumerate().filter(move |(h, _)| below >> h & 1 == 1);
        placed.map(|(_, half)| half).filter(move |half| half.relation == Some(relation))
    }
}

impl Key {
    /// Its sides as those of a join of `a` with `b`.
    fn between(&self, a: Set, b: Set) -> Option<(Expr, Expr)> {
        let [(x, of_x), (y, of_y)] = &self.sides;
        if of_x & !a == 0 && of_y & !b == 0 {
            Some((x.clone(), y.clone()))
        } else if of_x & !b == 0 && of_y & !a == 0 {
            Some((y.clone(), x.clone()))
        } else {
            None
        }
    }
}

impl Half {
    /// The semi join over `left`.
    fn above(&self, left: Arc<LogicalPlan>) -> Result<LogicalPlan> {
        let Join { right, on, filter, join_type, join_constraint, null_equality, null_aware, .. } =
            self.join.clone();
        let join =
            Join::try_new(left, right, on, filter, join_type, join_constraint, null_equality, null_aware)?;
        Ok(LogicalPlan::Join(join))
    }
}

/// What joining two inputs costs: the smaller one is put into a hash table, the other looked up in it.
pub(in crate::rules) fn step(left: f64, right: f64) -> f64 {
    BUILD * left.min(right) + left.max(right)
}

/// A tree that is being taken apart.
#[derive(Default)]
struct Flat<'a> {
    plans: Vec<&'a LogicalPlan>,
    keys: Vec<(Expr, Expr)>,
    conditions: Vec<Expr>,
    /// Whether columns that somebody left out within the tree are there again.
    leaves_out: bool,
}

/// Whether every column of the plans is found by its name, whatever the order they are joined in.
fn are_distinct<'a>(mut plans: impl Iterator<Item = &'a LogicalPlan>) -> bool {
    let mut seen: HashMap<&str, Vec<Option<&TableReference>>> = HashMap::new();
    plans.all(|plan| {
        plan.schema().iter().all(|(table, field)| {
            let others = seen.entry(field.name()).or_default();
            let mut others_differ = others.iter().map(|other| match (table, other) {
                (Some(table), Some(other)) => !table.resolved_eq(other),
                _ => false,
            });
            let is_distinct = others_differ.all(|differs| differs);
            others.push(table);
            is_distinct
        })
    })
}

impl<'a> Flat<'a> {
    /// What is below projections that only leave columns out, where that is a part of the tree. The planner's rules put them between joins.
    fn within(&mut self, plan: &'a LogicalPlan) -> &'a LogicalPlan {
        let mut below = plan;
        while let LogicalPlan::Projection(projection) = below
            && projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_)))
        {
            below = &projection.input;
        }
        if std::ptr::eq(below, plan) || !(is_inner(below) || half(below).is_some()) {
            return plan;
        }
        self.leaves_out = true;
        below
    }

    fn add(&mut self, plan: &'a LogicalPlan) -> Order {
        // A semi join within the tree is a relation of it.
        let plan = match self.within(plan) {
            below if is_inner(below) => below,
            _ => plan,
        };
        let LogicalPlan::Join(join) = plan else { return self.relation(plan) };
        if !is_inner(plan) {
            return self.relation(plan);
        }
        let (left, right) = (self.add(&join.left), self.add(&join.right));
        self.keys.extend(join.on.iter().cloned());
        self.conditions.extend(join.filter.clone().into_iter().flat_map(split_conjunction_owned));
        Order::join(left, right)
    }

    fn relation(&mut self, plan: &'a LogicalPlan) -> Order {
        self.plans.push(plan);
        Order::Relation(self.plans.len() - 1)
    }
}

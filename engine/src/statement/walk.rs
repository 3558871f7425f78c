//! Walks over the parser's syntax tree, each kind of walk compiled once.
//!
//! The parser makes its walk anew for every type of visitor, some thousand functions each: three dozen visitors were more
//! than half of this crate's machine code and of its build time. Here every visitor goes behind a trait object, so the
//! tree is walked by one type. The calls of a trait object are nothing beside the walk itself.
//!
//! Order is the parser's: [`expressions`] and [`relations`] see a node before what is in it, [`expressions_mut`] after.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor,
    VisitorMut,
};

/// Shows `node` and all within it to `visitor`, until it breaks.
pub(crate) fn visit<N: Visit + ?Sized, V: Visitor>(node: &N, visitor: &mut V) -> ControlFlow<V::Break> {
    let mut kept = Kept { visitor, broke: None };
    let _ = node.visit(&mut Dyn(&mut kept as &mut dyn Visitor<Break = ()>));
    kept.flow()
}

/// Shows `node` and all within it to `visitor`, which may change them, until it breaks.
pub(crate) fn visit_mut<N: VisitMut + ?Sized, V: VisitorMut>(
    node: &mut N,
    visitor: &mut V,
) -> ControlFlow<V::Break> {
    let mut kept = Kept { visitor, broke: None };
    let _ = node.visit(&mut Dyn(&mut kept as &mut dyn VisitorMut<Break = ()>));
    kept.flow()
}

/// Shows every expression to `see`, outer ones before those in them.
pub(crate) fn expressions<B>(node: &impl Visit, see: impl FnMut(&Expr) -> ControlFlow<B>) -> ControlFlow<B> {
    visit(node, &mut Expressions(see))
}

/// Shows every expression to `change`, inner ones before those they are in.
pub(crate) fn expressions_mut<B>(
    node: &mut impl VisitMut,
    change: impl FnMut(&mut Expr) -> ControlFlow<B>,
) -> ControlFlow<B> {
    visit_mut(node, &mut Expressions(change))
}

/// Shows the name of every relation to `see`.
pub(crate) fn relations<B>(
    node: &impl Visit,
    see: impl FnMut(&ObjectName) -> ControlFlow<B>,
) -> ControlFlow<B> {
    visit(node, &mut Relations(see))
}

/// A visitor, and what it broke with: the walk itself carries no value.
struct Kept<'a, V, B> {
    visitor: &'a mut V,
    broke: Option<B>,
}

impl<V, B> Kept<'_, V, B> {
    fn keep(&mut self, flow: ControlFlow<B>) -> ControlFlow<()> {
        match flow {
            ControlFlow::Continue(()) => ControlFlow::Continue(()),
            ControlFlow::Break(value) => {
                self.broke = Some(value);
                ControlFlow::Break(())
            }
        }
    }

    fn flow(self) -> ControlFlow<B> {
        self.broke.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }
}

/// The one type the parser's walk is made for.
struct Dyn<'a, V: ?Sized>(&'a mut V);

/// Hands every step of a walk on, from [`Dyn`] to [`Kept`] to the visitor.
macro_rules! hand_on {
    ($visitor:ident, $($step:ident: $node:ty),+ $(,)?) => {
        impl $visitor for Dyn<'_, dyn $visitor<Break = ()> + '_> {
            type Break = ();

            $(fn $step(&mut self, node: $node) -> ControlFlow<()> {
                self.0.$step(node)
            })+
        }

        impl<V: $visitor> $visitor for Kept<'_, V, V::Break> {
            type Break = ();

            $(fn $step(&mut self, node: $node) -> ControlFlow<()> {
                let flow = self.visitor.$step(node);
                self.keep(flow)
            })+
        }
    };
}

macro_rules! hand_on_all {
    ($visitor:ident, $($reference:tt)+) => {
        hand_on!(
            $visitor,
            pre_visit_query: $($reference)+ Query,
            post_visit_query: $($reference)+ Query,
            pre_visit_select: $($reference)+ Select,
            post_visit_select: $($reference)+ Select,
            pre_visit_relation: $($reference)+ ObjectName,
            post_visit_relation: $($reference)+ ObjectName,
            pre_visit_table_factor: $($reference)+ TableFactor,
            post_visit_table_factor: $($reference)+ TableFactor,
            pre_visit_expr: $($reference)+ Expr,
            post_visit_expr: $($reference)+ Expr,
            pre_visit_statement: $($reference)+ Statement,
            post_visit_statement: $($reference)+ Statement,
            pre_visit_value: $($reference)+ ValueWithSpan,
            post_visit_value: $($reference)+ ValueWithSpan,
        );
    };
}

hand_on_all!(Visitor, &);
hand_on_all!(VisitorMut, &mut);

struct Expressions<F>(F);

impl<B, F: FnMut(&Expr) -> ControlFlow<B>> Visitor for Expressions<F> {
    type Break = B;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<B> {
        self.0(expr)
    }
}

impl<B, F: FnMut(&mut Expr) -> ControlFlow<B>> VisitorMut for Expressions<F> {
    type Break = B;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<B> {
        self.0(expr)
    }
}

struct Relations<F>(F);

impl<B, F: FnMut(&ObjectName) -> ControlFlow<B>> Visitor for Relations<F> {
    type Break = B;

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<B> {
        self.0(name)
    }
}

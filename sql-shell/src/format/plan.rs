//! A plan as a tree.
//!
//! Owns: turning the indents of EXPLAIN's text into branches, metrics below their node. Does not own: what the nodes say.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Layout;
use crate::style::Paint;

/// Where the metrics of EXPLAIN ANALYZE begin in a node's line.
const METRICS: &str = ", metrics=[";
/// Text is not broken into lines shorter than this.
const TEXT_WIDTH_MIN: usize = 30;
const MARGIN: &str = "  ";

/// One node and what it says.
struct Node<'a> {
    depth: usize,
    text: &'a str,
    metrics: Option<&'a str>,
}

impl<'a> Node<'a> {
    fn read(line: &'a str) -> Self {
        let text = line.trim_start_matches(' ');
        let depth = (line.len() - text.len()) / 2;
        let text = text.trim_end();
        match text.strip_suffix(']').and_then(|inner| inner.rsplit_once(METRICS)) {
            Some((text, metrics)) => Self { depth, text, metrics: Some(metrics).filter(|m| !m.is_empty()) },
            None => Self { depth, text, metrics: None },
        }
    }
}

/// Writes the plan `text`, whose nodes are indented by two blanks a level.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(text: &str, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let nodes: Vec<Node<'_>> = text.lines().filter(|l| !l.trim().is_empty()).map(Node::read).collect();
    for (at, node) in nodes.iter().enumerate() {
        let mut before = String::from(MARGIN);
        let mut below = String::from(MARGIN);
        for level in 1..=node.depth {
            let goes_on = has_sibling(&nodes[at + 1..], level);
            below.push_str(if goes_on { "│  " } else { "   " });
            before.push_str(match (level == node.depth, goes_on) {
                (true, true) => "├─ ",
                (true, false) => "└─ ",
                (false, true) => "│  ",
                (false, false) => "   ",
            });
        }
        let has_children = nodes.get(at + 1).is_some_and(|next| next.depth > node.depth);
        below.push_str(if has_children { "│  " } else { "   " });
        let name = node.text.find([':', ',', ' ', '(']).unwrap_or(node.text.len());
        for (i, line) in broken(node.text, width_left(layout, &below)).into_iter().enumerate() {
            let branches = layout.style.paint(Paint::Faint, if i == 0 { &before } else { &below });
            match line.get(..name).filter(|_| i == 0) {
                Some(start) => {
                    let start = layout.style.paint(Paint::Strong, start);
                    writeln!(out, "{branches}{start}{}", &line[name..])?;
                }
                None => writeln!(out, "{branches}{line}")?,
            }
        }
        for line in node.metrics.map(|m| broken(m, width_left(layout, &below))).into_iter().flatten() {
            writeln!(out, "{}", layout.style.paint(Paint::Faint, &format!("{below}{line}")))?;
        }
    }
    Ok(())
}

/// Whether, of the nodes behind one, another stands at `level` below the same parent.
fn has_sibling(later: &[Node<'_>], level: usize) -> bool {
    later.iter().find(|node| node.depth <= level).is_some_and(|node| node.depth == level)
}

fn width_left(layout: &Layout, below: &str) -> Option<usize> {
    layout.width.map(|width| width.saturating_sub(below.width()).max(TEXT_WIDTH_MIN))
}

/// `text` in lines of at most `width` columns, broken behind a comma or blank where there is one.
fn broken(text: &str, width: Option<usize>) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = width.and_then(|width| end_of_line(rest, width)) {
        lines.push(rest[..end].trim_end());
        rest = rest[end..].trim_start();
    }
    lines.push(rest);
    lines
}

/// Where to break `text`; None: it fits.
fn end_of_line(text: &str, width: usize) -> Option<usize> {
    let mut used = 0;
    let mut last_gap = None;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > width {
            return Some(last_gap.unwrap_or(at).max(1));
        }
        if c == ' ' {
            last_gap = Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Wishes;
    use super::*;
    use crate::style::Style;

    fn shown(text: &str, width: Option<usize>) -> String {
        let layout = Layout { width, scrolls: false, style: Style::PLAIN, wishes: Wishes::default() };
        let mut out = Vec::new();
        write(text, &layout, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn branches_join_siblings() {
        let plan =
            "HashJoinExec: on=[a]\n  FilterExec: a > 1\n    Scan: t\n  ProjectionExec: b\n    Scan: u\n";
        assert_eq!(
            shown(plan, None),
            "  HashJoinExec: on=[a]\n  ├─ FilterExec: a > 1\n  │  └─ Scan: t\n  └─ ProjectionExec: b\n     └─ Scan: u\n"
        );
    }

    #[test]
    fn metrics_stand_below_their_node() {
        let plan = "Sort: a, metrics=[output_rows=1, elapsed=2µs]\n  Scan: t, metrics=[]\n";
        assert_eq!(shown(plan, None), "  Sort: a\n  │  output_rows=1, elapsed=2µs\n  └─ Scan: t\n");
    }

    #[test]
    fn long_nodes_are_broken_at_blanks() {
        let plan = "Projection: first, second, third, fourth, fifth\n  Scan: t";
        assert_eq!(
            shown(plan, Some(30)),
            "  Projection: first, second,\n  │  third, fourth, fifth\n  └─ Scan: t\n"
        );
        assert_eq!(shown(&"x".repeat(100), Some(40)).lines().count(), 3);
    }
}

//! Every row can be reached from the pivots, and from another row.
//!
//! A row without a way to it is linked from a near row with room for one more neighbour; one that nothing has room for becomes a
//! pivot itself.

use std::collections::VecDeque;

use super::graph::{DEGREE, Graph, NO_ROW};

/// Rows looked back at for one with room.
const LOOK_BACK: usize = 4096;

/// Adds edges until every row is reached from `pivots`; returns the rows that have to become pivots.
pub(crate) fn repair(graph: &mut Graph, pivots: &[u32]) -> Vec<u32> {
    let mut reached = vec![false; graph.0.len()];
    pivots.iter().for_each(|&pivot| spread(graph, pivot, &mut reached));
    let mut orphans = Vec::new();
    // Rows are in cluster order: those just before an unreached one are near it.
    for row in 0..graph.0.len() as u32 {
        if reached[row as usize] {
            continue;
        }
        let own = graph.list(row).iter().copied();
        let before = (0..row).rev().take(LOOK_BACK);
        let after = row + 1..(row as usize + LOOK_BACK).min(graph.0.len()) as u32;
        let host =
            own.chain(before).chain(after).find(|&h| reached[h as usize] && graph.list(h).len() < DEGREE);
        match host {
            Some(host) => push(graph, host, row),
            None => orphans.push(row),
        }
        spread(graph, row, &mut reached);
    }
    link_unnamed(graph);
    orphans
}

/// Marks what can be reached from `start`.
fn spread(graph: &Graph, start: u32, reached: &mut [bool]) {
    if std::mem::replace(&mut reached[start as usize], true) {
        return;
    }
    let mut queue = VecDeque::from([start]);
    while let Some(row) = queue.pop_front() {
        for &neighbour in graph.list(row) {
            if !std::mem::replace(&mut reached[neighbour as usize], true) {
                queue.push_back(neighbour);
            }
        }
    }
}

/// A pivot that no row names is reached only by queries near it: one of its neighbours names it where there is room.
fn link_unnamed(graph: &mut Graph) {
    let mut named = vec![false; graph.0.len()];
    for row in 0..graph.0.len() as u32 {
        graph.list(row).iter().for_each(|&n| named[n as usize] = true);
    }
    for row in 0..graph.0.len() as u32 {
        if !named[row as usize] {
            let host = graph.list(row).iter().copied().find(|&h| graph.list(h).len() < DEGREE);
            if let Some(host) = host {
                push(graph, host, row);
            }
        }
    }
}

fn push(graph: &mut Graph, host: u32, row: u32) {
    if let Some(free) = graph.0[host as usize].iter_mut().find(|n| **n == NO_ROW) {
        *free = row;
    }
}

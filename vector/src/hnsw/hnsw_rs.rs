//! The `hnsw_rs` crate as builder: its lowest layer becomes the graph.
//!
//! For comparison and as an oracle in tests. Its codes, pivots, file and search are the unit's own.

use hnsw_rs::prelude::{DistCosine, DistDot, DistL1, DistL2, Distance, Hnsw};

use super::BuildError;
use super::encode::Clustered;
use super::graph::{DEGREE, Graph};
use super::options::BuildOptions;
use crate::metric::{Metric, l2_normalize};
use crate::parallel::{Work, each};
use crate::rows::Rows;

const LAYERS: usize = 16;

/// The graph of all rows but those held out.
///
/// # Errors
/// Those of reading, and cancellation between insertions.
pub(crate) fn connect(
    rows: &dyn Rows,
    clustered: &Clustered,
    held_out: &[bool],
    options: &BuildOptions,
    work: &Work<'_>,
) -> Result<Graph, BuildError> {
    match options.metric {
        Metric::L2 => insert(rows, clustered, held_out, options, work, DistL2 {}),
        Metric::L1 => insert(rows, clustered, held_out, options, work, DistL1 {}),
        Metric::Cosine => insert(rows, clustered, held_out, options, work, DistCosine {}),
        Metric::InnerProduct => insert(rows, clustered, held_out, options, work, DistDot {}),
    }
}

fn insert<D: Distance<f32> + Send + Sync>(
    rows: &dyn Rows,
    clustered: &Clustered,
    held_out: &[bool],
    options: &BuildOptions,
    work: &Work<'_>,
    distance: D,
) -> Result<Graph, BuildError> {
    let m = options.hnsw_rs.m.clamp(2, DEGREE / 2);
    let ef = options.hnsw_rs.ef_construction.clamp(m, 4096);
    let count = clustered.order.len();
    let hnsw = Hnsw::<f32, D>::new(m, count.max(1), LAYERS, ef, distance);
    let ordinals = (0..count as u32).filter(|&ordinal| !held_out[ordinal as usize]);
    each(work, ordinals, |ordinal| {
        let row = clustered.order[ordinal as usize] as usize;
        let mut vector = vec![0.0; rows.dim()];
        rows.read(row..row + 1, &mut vector).map_err(BuildError::Rows)?;
        if options.metric == Metric::InnerProduct {
            // Its product distance is 1 - a·b of unit vectors and panics on others.
            let raw = vector.clone();
            l2_normalize((&raw).into(), &mut vector)?;
        }
        hnsw.insert((&vector, ordinal as usize));
        Ok(())
    })?;
    Ok(freeze(&hnsw, count))
}

fn freeze<D: Distance<f32> + Send + Sync>(hnsw: &Hnsw<'_, f32, D>, count: usize) -> Graph {
    let mut graph = Graph::empty(count);
    for layer in 0..LAYERS {
        for point in hnsw.get_point_indexation().get_layer_iterator(layer) {
            let lists = point.get_neighborhood_id();
            let neighbours = lists.first().into_iter().flatten().map(|n| n.d_id as u32);
            let list = &mut graph.0[point.get_origin_id()];
            list.iter_mut().zip(neighbours).for_each(|(to, neighbour)| *to = neighbour);
        }
    }
    graph
}

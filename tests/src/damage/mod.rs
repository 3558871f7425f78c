//! Damage: a small database, one file of it changed, opened and asked.
//!
//! * [`home`]: the databases, through SQL; what is asked of them; which file is what.
//! * [`harm`]: what is done to a file, and copies of a directory with that in them.
//! * [`trial`]: one opening of such a copy, in a process of its own; [`worker`] is the other end, with a time limit.
//! * [`allocation`]: the allocator of that process, which notes the largest request.
//! * [`judge`]: what may come of it. The rules stand there.
//! * [`report`]: what came of all of them.
//!
//! Which cases are tried: `tests/damage.rs`.

pub mod allocation;
pub mod harm;
pub mod home;
pub mod judge;
pub mod report;
pub mod trial;
pub mod worker;

//! Several processes as one cluster: who is who, one plan for all, and nobody goes on alone.
//!
//! Between each two processes there are two connections. One carries timely's rows and belongs to timely once everybody is there.
//! The other carries our own few [`words`]: process 0's plan, the wish to stop, and a sign of life every second. Both begin with a
//! [`greeting`], so that stray bytes on the port and processes of another build or other settings are told apart at the door.
//!
//! - [`place`]: which process this is, and where the others are
//! - [`greeting`]: what two processes must agree on
//! - [`gather`]: dials and listens until everybody is there, or the time is up
//! - [`peers`]: the connections of a running cluster: plan, stop, death
//!
//! When a process dies the others end at once: rows that it had are gone, and all go on together from the store. Nothing here
//! authenticates or encrypts: the port belongs on a network whose every member is trusted, and is no health check.

pub mod gather;
pub mod greeting;
pub mod peers;
pub mod place;
pub mod words;

use crate::plan::Plan;
use serde::{Deserialize, Serialize};
use timely::CommunicationConfig;
use timely::communication::Hooks;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};

/// What process 0 decides for everybody before anybody reads: all of it in one message. Slice 0 begins when a process has it, by
/// that process's own clock: so processes whose clocks differ still cut much the same slices.
#[derive(Clone, Serialize, Deserialize)]
pub struct Start {
    /// Where the run starts.
    pub plan: Plan,
}

/// How timely's workers reach each other.
pub struct Fabric {
    /// One for each worker of this process.
    pub builders: Vec<AllocatorBuilder>,
    /// Dropped last: it waits for what is still to be sent.
    pub guard: Box<dyn std::any::Any + Send>,
}

/// Workers of one process only.
pub fn alone(workers: usize) -> Result<Fabric, String> {
    let communication = if workers == 1 { CommunicationConfig::Thread } else { CommunicationConfig::Process(workers) };
    let (builders, guard) = communication.try_build()?;
    Ok(Fabric { builders, guard })
}

/// Workers of all processes: `sockets` has a connection to each process but our own.
pub fn together(workers: usize, process: usize, sockets: Vec<Option<std::net::TcpStream>>) -> Result<Fabric, String> {
    let hooks = Hooks::default();
    let local = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), hooks.spill.clone());
    let (builders, guard) = initialize_networking_from_sockets(local, sockets, process, workers, hooks)
        .map_err(|error| format!("connections to the other processes: {error}"))?;
    Ok(Fabric { builders: builders.into_iter().map(AllocatorBuilder::Tcp).collect(), guard: Box::new(guard) })
}

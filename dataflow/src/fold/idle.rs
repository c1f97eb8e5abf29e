//! Time that a worker does not need for its source, spent on events of the slice that is still open: what is folded then need not be
//! folded when the slice ends, and all its changes are committed sooner. While there is something to read, whole slices are folded, which
//! costs less for each event.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use timely::scheduling::Activator;

/// What a worker's loop and its fold tell each other.
#[derive(Clone, Debug, Default)]
pub struct Idle(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: RefCell<Option<Activator>>,
    granted: Cell<bool>,
}

impl Idle {
    /// The worker has nothing to read: whoever waits for that is activated.
    pub fn grant(&self) {
        if let Some(waiting) = self.0.waiting.take() {
            self.0.granted.set(true);
            waiting.activate();
        }
    }

    /// There is something to do when the worker is idle.
    pub(super) fn wait(&self, activator: &Activator) {
        self.0.waiting.borrow_mut().get_or_insert_with(|| activator.clone());
    }

    /// Whether the worker was idle since this was last asked.
    pub(super) fn granted(&self) -> bool {
        self.0.granted.take()
    }
}

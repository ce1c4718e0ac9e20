//! Whether a command is alone: no process of another one can be alive. Then every child of the agent
//! belongs to its tree, whatever that child did to hide where it comes from.
//!
//! Invariant: a command is alone at most from its start to the start of the next one, and only if
//! nothing was there at its start: a child that no tree owns may be anybody's from then on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::tree::may_have_orphans;

/// Whether one command is alone. By default it is not.
#[derive(Debug, Clone, Default)]
pub struct Alone(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    holds: AtomicBool,
    left_nothing: AtomicBool,
}

impl Alone {
    fn new(holds: bool) -> Self {
        Self(Arc::new(Flags { holds: holds.into(), left_nothing: false.into() }))
    }

    /// Whether it is. Ask after a look at the processes: what had been started by then is heeded.
    pub(super) fn holds(&self) -> bool {
        self.0.holds.load(Ordering::SeqCst)
    }

    /// Notes that its leader has ended and that the agent had no other children. That is no news of
    /// other commands' trees, so it counts only for one that is alone.
    pub(super) fn note_nothing_left(&self) {
        self.0.left_nothing.store(self.holds(), Ordering::SeqCst);
    }
}

/// That of the newest command. Only the newest can be alone.
#[derive(Debug, Default)]
pub(super) struct Newest(Alone);

impl Newest {
    /// A command is about to start, and will be the only one that runs, or not. Call it before its
    /// process is made.
    pub(super) fn succeed(&mut self, is_only: bool) -> Alone {
        self.succeed_if(is_only, || may_have_orphans(|_child| false))
    }

    fn succeed_if(&mut self, is_only: bool, has_children: impl FnOnce() -> bool) -> Alone {
        let Self(Alone(last)) = self;
        // A look at the children is saved where the last command has just had one.
        let empty = is_only && (last.left_nothing.load(Ordering::SeqCst) || !has_children());
        last.holds.store(false, Ordering::SeqCst);
        *self = Self(Alone::new(empty));
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_alone_until_the_next_one() {
        let mut newest = Newest::default();
        let one = newest.succeed_if(true, || false);
        assert!(one.holds());
        let beside = newest.succeed_if(false, || false);
        assert!(!one.holds() && !beside.holds());
        let after = newest.succeed_if(true, || true);
        assert!(!after.holds(), "somebody was there");
        assert!(newest.succeed_if(true, || false).holds());
    }

    #[test]
    fn one_that_left_nothing_saves_its_successor_the_look_if_it_was_alone() {
        let mut newest = Newest::default();
        newest.succeed_if(true, || false).note_nothing_left();
        assert!(newest.succeed_if(true, || panic!("a look")).holds());
        let beside = newest.succeed_if(false, || false);
        beside.note_nothing_left();
        assert!(!newest.succeed_if(true, || true).holds(), "it knew nothing of the others");
    }
}

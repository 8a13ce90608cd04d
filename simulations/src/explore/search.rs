//! Breadth first through everything that can happen.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::fingerprint::PlainKeys;

/// Something that can be explored. States are told apart by fingerprint.
pub(super) trait System {
    /// A state.
    type State: Clone;
    /// What can happen in one.
    type Action: Clone;

    /// Where it begins.
    fn initial(&mut self) -> Self::State;

    /// What can happen in `state`, always in the same order.
    fn actions(&mut self, state: &Self::State) -> Vec<Self::Action>;

    /// Lets `action` happen; `false` if that is beyond the bounds.
    ///
    /// # Errors
    /// What broke.
    fn apply(&mut self, state: &mut Self::State, action: &Self::Action) -> Result<bool, Broken>;

    /// Looks at a state in which nothing more can happen.
    ///
    /// # Errors
    /// What should have happened.
    fn ended(&mut self, state: &Self::State, beyond: bool) -> Result<(), Broken>;

    /// Tells it from others.
    fn fingerprint(&self, state: &Self::State) -> u128;
}

/// A broken invariant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// Its number in the cluster protocol.
    pub invariant: u8,
    /// What was seen.
    pub text: String,
}

/// How far a search got.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Different states.
    pub states: u64,
    /// Actions that were tried.
    pub transitions: u64,
    /// Actions from the beginning to the states that are looked at now.
    pub depth: u32,
    /// States that wait to be looked at.
    pub waiting: u64,
    /// States in which nothing more can happen.
    pub ends: u64,
    /// Time taken.
    pub elapsed: Duration,
}

/// What a search found.
#[derive(Clone, Debug)]
pub(super) struct Found<A> {
    /// How far it got: everything, unless something is broken or there were too many states.
    pub(super) progress: Progress,
    /// The shortest way to a broken invariant.
    pub(super) broken: Option<(Vec<A>, Broken)>,
    /// All states within the bounds were seen.
    pub(super) complete: bool,
}

/// Explores `system`, at most `states_max` states; `told` hears of the progress.
pub(super) fn search<S: System>(system: &mut S, states_max: u64, told: &mut dyn FnMut(&Progress)) -> Found<S::Action> {
    let began = Instant::now();
    let mut seen: HashSet<u128, PlainKeys> = HashSet::default();
    // By state, in the order in which they were found: from which one, by which of its actions.
    let mut ways: Vec<(u32, u16)> = vec![(0, 0)];
    let mut progress = Progress { states: 1, ..Progress::default() };
    let first = system.initial();
    seen.insert(system.fingerprint(&first));
    let mut level = vec![(0u32, first)];
    let end = |progress: Progress, broken, complete| Found {
        progress: Progress { elapsed: began.elapsed(), ..progress },
        broken,
        complete,
    };
    while !level.is_empty() {
        let mut next = Vec::new();
        for (done, (number, state)) in level.iter().enumerate() {
            let (mut moved, mut beyond) = (false, false);
            for (which, action) in system.actions(state).into_iter().enumerate() {
                progress.transitions += 1;
                let mut after = state.clone();
                match system.apply(&mut after, &action) {
                    Ok(true) => moved = true,
                    Ok(false) => {
                        beyond = true;
                        continue;
                    }
                    Err(broken) => {
                        ways.push((*number, which as u16));
                        let path = path(system, &ways, ways.len() - 1);
                        return end(progress, Some((path, broken)), false);
                    }
                }
                if seen.insert(system.fingerprint(&after)) {
                    next.push((ways.len() as u32, after));
                    ways.push((*number, which as u16));
                    progress.states += 1;
                }
            }
            if !moved {
                progress.ends += 1;
                if let Err(broken) = system.ended(state, beyond) {
                    let path = path(system, &ways, *number as usize);
                    return end(progress, Some((path, broken)), false);
                }
            }
            if done % 4096 == 0 {
                progress.elapsed = began.elapsed();
                progress.waiting = (level.len() - done + next.len()) as u64;
                told(&progress);
                if progress.states > states_max {
                    return end(progress, None, false);
                }
            }
        }
        level = next;
        progress.depth += u32::from(!level.is_empty());
    }
    progress.waiting = 0;
    end(progress, None, true)
}

/// The actions that led to the state `number`, found by going there again.
fn path<S: System>(system: &mut S, ways: &[(u32, u16)], number: usize) -> Vec<S::Action> {
    let (mut choices, mut at) = (Vec::new(), number);
    while at != 0 {
        let (from, which) = ways[at];
        choices.push(which);
        at = from as usize;
    }
    let mut state = system.initial();
    let mut actions = Vec::new();
    for which in choices.into_iter().rev() {
        let Some(action) = system.actions(&state).into_iter().nth(which.into()) else { break };
        let _ = system.apply(&mut state, &action);
        actions.push(action);
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two jugs of 3 and 5: which amounts can they hold? 4 is "broken".
    struct Jugs {
        forbidden: u8,
    }

    impl System for Jugs {
        type State = (u8, u8);
        type Action = (&'static str, fn((u8, u8)) -> (u8, u8));

        fn initial(&mut self) -> (u8, u8) {
            (0, 0)
        }

        fn actions(&mut self, _: &(u8, u8)) -> Vec<Self::Action> {
            vec![
                ("fill 3", |(_, b)| (3, b)),
                ("fill 5", |(a, _)| (a, 5)),
                ("empty 3", |(_, b)| (0, b)),
                ("empty 5", |(a, _)| (a, 0)),
                ("3 to 5", |(a, b)| (a - a.min(5 - b), b + a.min(5 - b))),
                ("5 to 3", |(a, b)| (a + b.min(3 - a), b - b.min(3 - a))),
            ]
        }

        fn apply(&mut self, state: &mut (u8, u8), action: &Self::Action) -> Result<bool, Broken> {
            *state = action.1(*state);
            let broken = Broken { invariant: 1, text: format!("{state:?}") };
            if state.1 == self.forbidden { Err(broken) } else { Ok(true) }
        }

        fn ended(&mut self, _: &(u8, u8), _: bool) -> Result<(), Broken> {
            Ok(())
        }

        fn fingerprint(&self, state: &(u8, u8)) -> u128 {
            super::super::fingerprint::of(state)
        }
    }

    #[test]
    fn every_state_is_reached_once_and_the_way_to_a_broken_one_is_the_shortest() {
        let all = search(&mut Jugs { forbidden: 9 }, 1_000, &mut |_| ());
        assert_eq!((all.progress.states, all.progress.depth, all.complete, all.broken.is_none()), (16, 7, true, true));
        let found = search(&mut Jugs { forbidden: 4 }, 1_000, &mut |_| ());
        let (path, broken) = found.broken.expect("4 can be measured");
        let names: Vec<_> = path.iter().map(|action| action.0).collect();
        assert_eq!(names, ["fill 5", "5 to 3", "empty 3", "5 to 3", "fill 5", "5 to 3"]);
        assert_eq!(broken.text, "(3, 4)");
    }
}

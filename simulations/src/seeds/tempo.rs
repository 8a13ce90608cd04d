//! How long things take, in nanoseconds of virtual time.

use std::time::Duration;

use super::dice::Dice;

pub(super) const MS: u64 = 1_000_000;

/// Spans of one run. They keep the proportions of the real ones, on a smaller scale: so more happens within a session.
#[derive(Clone, Debug)]
pub(super) struct Tempo {
    pub(super) heartbeat: Duration,
    pub(super) session: Duration,
    pub(super) lag_max: Duration,
    /// A fetch that finds nothing waits so long.
    pub(super) fetch_wait: Duration,
    /// A fetch that was not answered for so long is given up.
    pub(super) fetch_timeout: Duration,
    /// A question to the controller is repeated after so long.
    pub(super) ask_timeout: Duration,
    /// Pause after a refusal.
    pub(super) backoff: Duration,
    /// Between two rounds of the flusher.
    pub(super) flush: Duration,
    /// A produce waits for replicas at most so long.
    pub(super) produce_timeout: Duration,
    /// Mean span between two injections, ns.
    pub(super) injection: u64,
    /// A commit of the quorum takes up to this, ns.
    pub(super) commit_max: u64,
    /// A sync takes up to this, ns.
    pub(super) sync_max: u64,
    /// A quorum without a leader elects one after up to this, ns.
    pub(super) election_max: u64,
}

impl Tempo {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let ms = Duration::from_millis;
        let session = dice.between(900, 2_000);
        Self {
            heartbeat: ms(session / 5),
            session: ms(session),
            lag_max: ms(dice.between(1_000, 2_500)),
            fetch_wait: ms(dice.between(150, 500)),
            // Later than the leader answers, also where its clock is slow and the follower's is fast.
            fetch_timeout: ms(dice.between(700, 1_200)),
            ask_timeout: ms(dice.between(150, 500)),
            backoff: ms(dice.between(20, 120)),
            flush: ms(dice.between(100, 1_000)),
            produce_timeout: ms(dice.between(500, 2_500)),
            injection: dice.between(40, 160) * MS,
            commit_max: dice.between(2, 60) * MS,
            sync_max: dice.between(1, 30) * MS,
            election_max: dice.between(100, 700) * MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_answer_before_followers_lose_patience_whatever_their_clocks() {
        for seed in 0..2_000 {
            let tempo = Tempo::draw(&mut Dice::of(&[seed]));
            assert!(tempo.fetch_wait * 11 + ms(20) < tempo.fetch_timeout * 9, "{tempo:?}");
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}

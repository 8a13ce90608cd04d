//! Nodes crash and come back, while others look topics up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rafka_model::TopicName;
use rafka_node::mesh::Mesh;
use tokio::task::JoinSet;

use super::measure::{Sample, look_up, lookups_of};
use super::peer::Peer;
use super::{SETTLE, Swarm};
use crate::progress::Progress;
use crate::random::Random;
use crate::report::Churn;
use crate::stats::ms;

/// One node in this many is down at a time.
const DOWN_SHARE: usize = 10;
/// How long a node stays away: longer than its session.
const AWAY: Duration = Duration::from_millis(3_000);
/// Tasks that look topics up meanwhile.
const WORKERS: usize = 4;

/// The nodes that lookups may begin at.
type Alive = Arc<Mutex<Vec<Mesh>>>;

impl Swarm {
    /// Lets a share of the nodes crash and return, again and again; then waits until all is well.
    pub(super) async fn churn(&mut self, progress: Progress) -> Result<Churn, String> {
        let seconds = self.config.churn;
        let bar = progress.phase("nodes come and go", seconds.as_secs() as usize);
        let alive: Alive = Arc::new(Mutex::new(self.meshes()));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let random = Random::new(self.random.draw());
            workers.spawn(keep_looking(alive.clone(), self.topics.clone(), random, Instant::now() + seconds));
        }
        let began = Instant::now();
        let down = (self.config.nodes / DOWN_SHARE).max(1);
        let mut crashes = 0;
        while began.elapsed() < seconds {
            // The founder stays: it is the registry's only door.
            let gone: Vec<usize> =
                self.random.choose(down, self.config.nodes - 1).into_iter().map(|number| number + 1).collect();
            for number in &gone {
                self.peers[*number] = None;
            }
            crashes += gone.len();
            set(&alive, self.meshes());
            tokio::time::sleep(AWAY).await;
            self.come_back(&gone).await?;
            set(&alive, self.meshes());
            bar.set_position(began.elapsed().as_secs());
        }
        let lasted = began.elapsed();
        bar.finish_and_clear();
        let healing = Instant::now();
        let samples: Vec<Sample> = workers.join_all().await.into_iter().flatten().collect();
        self.in_service().await?;
        self.neighbours_known(progress).await?;
        self.settled().await?;
        let healed_ms = ms(healing.elapsed());
        let resolve = self.resolve_all(progress).await;
        let lookups = lookups_of(&samples);
        Ok(Churn { seconds: lasted.as_secs_f64(), crashes, down, lookups, healed_ms, resolve })
    }

    /// Starts nodes again, each through the address of another one.
    async fn come_back(&mut self, gone: &[usize]) -> Result<(), String> {
        let doors: Vec<_> = self.alive().map(Peer::address).collect();
        let mut origins = Vec::new();
        for number in gone {
            let door = doors[self.random.below(doors.len())].clone();
            origins.push(self.origin(*number, Some(door)));
        }
        let around = &self.around;
        let starts =
            origins.into_iter().map(|origin| async move { (origin.number, Peer::start(origin, around).await) });
        for (number, started) in futures::future::join_all(starts).await {
            self.peers[number] = Some(started.map_err(|reason| format!("node {number} did not come back: {reason}"))?);
        }
        Ok(())
    }

    /// Waits until the registry has everybody in service.
    async fn in_service(&self) -> Result<(), String> {
        let mut images = self.around.registry.images().subscribe();
        let all = images.wait_for(|image| image.nodes.values().all(|node| !node.fenced));
        match tokio::time::timeout(SETTLE, all).await {
            Ok(_) => Ok(()),
            Err(_) => Err("a node that came back was not taken into service".to_owned()),
        }
    }
}

fn set(alive: &Alive, meshes: Vec<Mesh>) {
    *alive.lock().unwrap_or_else(PoisonError::into_inner) = meshes;
}

/// Looks random topics up from random nodes until `end`.
async fn keep_looking(alive: Alive, topics: Vec<TopicName>, mut random: Random, end: Instant) -> Vec<Sample> {
    let mut samples = Vec::new();
    while Instant::now() < end {
        let mesh = {
            let alive = alive.lock().unwrap_or_else(PoisonError::into_inner);
            alive[random.below(alive.len())].clone()
        };
        let topic = topics[random.below(topics.len())].clone();
        samples.extend(look_up(&mesh, topic).await);
    }
    samples
}

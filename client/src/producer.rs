//! The producer: records in, batches out to the leaders of their partitions.

mod accumulator;
mod batch;
mod deliver;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use rafka_model::{Timestamp, TopicName};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use self::accumulator::Accumulator;
use self::batch::{Batch, Finished};
use crate::backoff::Random;
use crate::client::wall_clock;
use crate::config::ProducerConfig;
use crate::{Client, Delivery, Error, ErrorKind, Record};

/// A batch below this size shares a request with other small ones for the same leader.
const SMALL_BYTES: usize = 64 * 1024;

/// Publishes records. Cheap to clone; clones share batches and buffer.
///
/// Dropping the last clone gives up what was not delivered: its [`Pending`]s resolve to [`ErrorKind::Closed`], and
/// what is on the wire may or may not arrive. [`Producer::close`] delivers first.
#[derive(Clone)]
pub struct Producer(Arc<Owner>);

struct Owner {
    inner: Arc<Inner>,
    /// Ends the task below with the last producer.
    _stop: DropGuard,
}

struct Inner {
    client: Client,
    config: ProducerConfig,
    accumulator: Mutex<Accumulator>,
    /// One permit is one byte of [`ProducerConfig::buffer_bytes`].
    room: Semaphore,
    wake: Notify,
    /// Held while a producer id is asked for.
    asking: tokio::sync::Mutex<()>,
}

/// The promise of a record's delivery. May be dropped: the record is delivered all the same.
#[derive(Clone)]
pub struct Pending {
    finished: Finished,
    index: u32,
    timestamp: Timestamp,
}

impl Producer {
    pub(crate) fn start(client: Client, config: ProducerConfig) -> Self {
        let buffer = config.buffer_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let config = ProducerConfig { buffer_bytes: buffer, ..config };
        let inner = Arc::new(Inner {
            client,
            accumulator: Mutex::new(Accumulator::new(config.clone(), Random::from_system())),
            room: Semaphore::new(buffer),
            wake: Notify::new(),
            asking: tokio::sync::Mutex::default(),
            config,
        });
        let stop = CancellationToken::new();
        tokio::spawn(run(Arc::clone(&inner), stop.clone()));
        Self(Arc::new(Owner { inner, _stop: stop.drop_guard() }))
    }

    /// Puts a record into the batch of its partition, and waits until it is delivered. To publish fast, have many of
    /// these under way at once, or use [`Self::enqueue`].
    ///
    /// Cancel safe: dropped early, the record is either not taken or delivered in the background.
    ///
    /// # Errors
    /// As [`Self::enqueue`] and [`Pending`].
    pub async fn send(&self, record: Record) -> Result<Delivery, Error> {
        self.enqueue(record).await?.await
    }

    /// Puts a record into the batch of its partition; waits only while the buffer is full, and at the first record of a
    /// topic for its partitions. Records of one partition keep the order of these calls.
    ///
    /// Cancel safe: dropped early, the record is not taken.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a topic or partition that does not exist; [`ErrorKind::Invalid`] for a record that
    /// fits neither the buffer nor any batch; [`ErrorKind::Unreachable`] if the topic could not be looked up within
    /// the delivery timeout; [`ErrorKind::Closed`].
    pub async fn enqueue(&self, record: Record) -> Result<Pending, Error> {
        let inner = &self.0.inner;
        let bytes = Accumulator::cost(&record);
        if bytes > inner.config.buffer_bytes {
            let what = format!("record of {bytes} bytes for {}", record.topic);
            let limit = format!("the producer's buffer has {} bytes", inner.config.buffer_bytes);
            return Err(Error::new(ErrorKind::Invalid, what).because(limit).hint("raise `buffer_bytes`"));
        }
        let known = inner.accumulator.lock().partitions(&record.topic);
        match (known, record.partition) {
            (None, _) => inner.learn(&record.topic).await?,
            (Some(known), Some(partition)) if partition.0 >= known => {
                // It may have been added since: the way there knows.
                let route = inner.client.routes().route(&record.topic, partition).await?;
                inner.accumulator.lock().learn(&record.topic, route.partitions);
            }
            _ => {}
        }
        // The buffer is far smaller than 4 GiB.
        let permit = match inner.room.try_acquire_many(bytes as u32) {
            Ok(permit) => permit,
            Err(_) => {
                inner.accumulator.lock().press();
                inner.wake.notify_one();
                inner.room.acquire_many(bytes as u32).await.map_err(|_| Error::closed("the producer"))?
            }
        };
        let timestamp = record.timestamp.unwrap_or_else(wall_clock);
        let pushed = inner.accumulator.lock().push(inner.client.now(), timestamp, &record, bytes)?;
        // Given back when the batch is done.
        permit.forget();
        if pushed.wake {
            inner.wake.notify_one();
        }
        Ok(Pending { finished: pushed.finished, index: pushed.index, timestamp })
    }

    /// Sends everything that waits, whatever its linger, and returns when all of it was delivered or has failed.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The first failure of any record since the last flush, for those who do not look at [`Pending`]s.
    pub async fn flush(&self) -> Result<(), Error> {
        let inner = &self.0.inner;
        let waiting = inner.accumulator.lock().flush();
        inner.wake.notify_one();
        for finished in waiting {
            // A batch that was dropped is told of as a failure or as closing.
            let _ = finished.await;
        }
        inner.accumulator.lock().take_failure().map_or(Ok(()), Err)
    }

    /// Takes no more records and delivers those it has.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn close(&self) -> Result<(), Error> {
        self.0.inner.accumulator.lock().close();
        self.flush().await
    }
}

impl Future for Pending {
    type Output = Result<Delivery, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fate = ready!(self.finished.poll_unpin(cx));
        Poll::Ready(match fate {
            Ok(fate) => fate.of(self.index, self.timestamp),
            Err(_) => Err(Error::closed("the producer")),
        })
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Inner {
    /// Finds out how many partitions a topic has.
    async fn learn(&self, topic: &TopicName) -> Result<(), Error> {
        let end = Instant::now() + Duration::from_millis(self.config.delivery_timeout_ms);
        let (mut failures, mut random) = (0, Random::from_system());
        loop {
            let error = match self.client.find_topic(topic).await {
                Ok(view) => {
                    self.accumulator.lock().learn(topic, view.partitions);
                    return Ok(());
                }
                Err(error) => error,
            };
            failures += 1;
            let pause = self.client.backoff().after(failures, &mut random);
            if !error.is_retriable() || error.kind() == ErrorKind::NotFound || Instant::now() + pause >= end {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    /// Gets a producer id from the cluster, once for all who wait for one.
    async fn new_producer_id(&self) -> Result<(), Error> {
        let _turn = self.asking.lock().await;
        if self.accumulator.lock().has_producer_id() {
            return Ok(());
        }
        let id = self.client.new_producer_id().await?;
        debug!(%id, "producer id");
        self.accumulator.lock().adopt(id);
        Ok(())
    }

    fn free(&self, bytes: usize) {
        self.room.add_permits(bytes);
    }
}

/// Sends what is due until `stop`; then gives up what is left.
async fn run(inner: Arc<Inner>, stop: CancellationToken) {
    let mut deliveries = JoinSet::new();
    let mut stopped = pin!(stop.cancelled());
    loop {
        let now = inner.client.now();
        let (ready, freed, next) = {
            let mut accumulator = inner.accumulator.lock();
            let (ready, freed) = accumulator.poll(now);
            (ready, freed, accumulator.next_deadline())
        };
        inner.free(freed);
        dispatch(&inner, ready, &mut deliveries);
        let next = next.map(|next| Instant::now() + next.since(now));
        tokio::select! {
            () = inner.wake.notified() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            // Each wakes this task through `wake` as well; here they are only reaped.
            Some(_) = deliveries.join_next(), if !deliveries.is_empty() => {}
            () = &mut stopped => break,
        }
    }
    deliveries.shutdown().await;
    inner.accumulator.lock().abandon(&Error::closed("the producer"));
    debug!("the producer has stopped");
}

/// Large batches travel alone; small ones for one leader share a request, if the leaders are known.
fn dispatch(inner: &Arc<Inner>, ready: Vec<Batch>, deliveries: &mut JoinSet<()>) {
    let (small, large): (Vec<_>, Vec<_>) = ready.into_iter().partition(|batch| batch.bytes() < SMALL_BYTES);
    for batch in large {
        deliveries.spawn(deliver::one(Arc::clone(inner), batch));
    }
    let mut groups = std::collections::BTreeMap::new();
    for batch in small {
        // Dropped at the first wait, so only a cached route comes out of it.
        match inner.client.routes().route(&batch.topic, batch.partition()).now_or_never() {
            Some(Ok(route)) => {
                let (group, bytes) = groups.entry(route.peer).or_insert_with(|| (Vec::new(), 0));
                *bytes += batch.bytes();
                group.push((route, batch));
                if *bytes >= inner.config.batch_bytes {
                    deliveries.spawn(deliver::together(Arc::clone(inner), std::mem::take(group)));
                    *bytes = 0;
                }
            }
            _ => {
                deliveries.spawn(deliver::one(Arc::clone(inner), batch));
            }
        }
    }
    for (group, _) in groups.into_values().filter(|(group, _)| !group.is_empty()) {
        deliveries.spawn(deliver::together(Arc::clone(inner), group));
    }
}

//! Starting: what is opened in which order, and which tasks run then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rafka_broker::controller::Registration;
use rafka_broker::metadata::Image;
use rafka_dht::{SignedRecord, Verifier};
use rafka_log::disk::{Disk, FileDisk};
use rafka_model::limits::GROUP_ENDS_MS_MAX;
use rafka_model::{ClusterId, Monotonic, NodeId};
use rafka_protocols::certificate::token_hash;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::found::{Plan, plan};
use super::{Server, ServerError, Stop};
use crate::cluster::feed::WatchClient;
use crate::cluster::load::Loads;
use crate::cluster::registrar::Registrar;
use crate::cluster::{Cluster, Reachable, Standing, greet, hints, load, publish};
use crate::config::Config;
use crate::consensus::{self, Member, NoPeers, RaftLog};
use crate::controller::{ClusterKey, Driver};
use crate::datadir::{DataDir, LastEnd};
use crate::groups::{self, Groups};
use crate::image::{ImageFile, ImageStore};
use crate::kafka;
use crate::lanes;
use crate::logging::LevelHandle;
use crate::memory;
use crate::mesh::identity::Identity;
use crate::mesh::{self, Multiaddr, OpenDoor, Started, SwarmRecorder};
use crate::metrics::Metrics;
use crate::ops::{self, Health, Shown};
use crate::partitions::{Partitions, Setup, SystemClock};
use crate::service::{self, Service};
use crate::tasks::Tasks;

/// Records on their way to the publisher.
const RECORD_QUEUE: usize = 64;

/// What the node is in its cluster, before it speaks.
struct Place {
    cluster: ClusterId,
    public_key: [u8; 32],
    images: Arc<ImageStore>,
    /// On a voter.
    key: Option<Arc<ClusterKey>>,
    /// On a node that joins: whom it heard of.
    first: Vec<Reachable>,
}

pub(super) async fn start(config: Config, level: Option<LevelHandle>, began: Instant) -> Result<Server, ServerError> {
    let data = Arc::new(DataDir::open(&config.node.data_dir)?);
    let identity = Identity::load_or_create(&data.identity_key())?;
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(data.root()));
    let health = Health::new();
    let tasks = Tasks::new(health.clone());
    let stop = Stop::default();
    let kafka = kafka::bind(&config.kafka, config.node.roles).await?;
    let place = find_place(&config, &data, &identity, &disk).await?;
    let token = config.cluster.join_token.as_ref().map(|token| token_hash(token.expose()));

    let metrics = Arc::new(Metrics::new());
    let clock = rafka_dht::clock::system();
    let verifier = Verifier::new(place.cluster, &place.public_key)
        .map_err(|e| ServerError::Conflict(format!("the cluster key is not usable: {e}")))?;
    let swarm = mesh::Config {
        key: identity.keypair.clone(),
        cluster: place.cluster,
        verifier: verifier.clone(),
        listen: config.mesh.listen.iter().map(|address| address.multiaddr().clone()).collect(),
        door: door(&config, &place.images.current()),
        clock: clock.clone(),
    };
    let Started { mesh, inbound, gossip, connected, counters, shared, task: swarm_task } =
        mesh::start(swarm, SwarmRecorder::new(&metrics)).await?;
    metrics.exchanges(counters);
    tasks.spawn("swarm", &stop.ops, async move { drop(AbortOnDropHandle::new(swarm_task).await) });

    let lanes = lanes::start(&config.mesh, place.cluster, mesh.local(), shared).await?;
    let (listening_lanes, lanes_task) = (lanes.listening, lanes.task);
    metrics.lanes(lanes.lanes.counters());
    tasks.spawn("lanes", &stop.ops, async move { drop(AbortOnDropHandle::new(lanes_task).await) });

    let told = kafka.iter().filter_map(|bound| bound.registered(&config.kafka)).collect();
    let registration = Registration { kafka: told, ..registration(&config, &data, &mesh, &listening_lanes) };
    let (raft, controller) = match &place.key {
        None => (None, None),
        Some(key) => {
            let raft = open_quorum(&data, &disk, &place.images, &registration).await?;
            let settings = rafka_broker::controller::Config {
                session_ms: config.cluster.session_ms,
                num_partitions: config.topic.num_partitions,
                // Followers do not fetch yet.
                replication_factor_max: 1,
                ..rafka_broker::controller::Config::default()
            };
            let (handle, driver) = Driver::new(raft.clone(), place.images.clone(), key.clone(), settings);
            let halt = stop.quorum.clone();
            tasks.spawn("controller", &stop.ops, driver.run(halt));
            (Some(raft), Some(handle))
        }
    };
    let cluster = Arc::new(Cluster {
        id: place.cluster,
        public_key: place.public_key,
        images: place.images.clone(),
        mesh,
        lanes: lanes.lanes,
        controller,
        session: Duration::from_millis(config.cluster.session_ms),
        clock,
        standing: watch::Sender::new(Standing {
            node: data.membership().and_then(|m| m.node_id),
            ..Standing::default()
        }),
        certificate: arc_swap::ArcSwapOption::empty(),
        heard: Mutex::new(Monotonic::default()),
        loads: Loads::default(),
        producer_ids: Default::default(),
    });
    let partitions = Arc::new(open_partitions(&config, &data, &disk)?);
    let groups = open_groups(&config, &cluster, &partitions);
    metrics.groups(groups.clone());
    let service = Arc::new(Service {
        cluster: cluster.clone(),
        partitions: partitions.clone(),
        groups: groups.clone(),
        metrics: metrics.clone(),
        insecure: config.security.insecure,
        topic_defaults: config.topic.clone(),
    });
    let listening = kafka.iter().map(kafka::Bound::shown).collect();
    open_kafka(&config, kafka, &service, &data, &stop, &tasks);

    let serve = service::run(service, inbound, stop.accept.clone(), stop.ops.clone(), stop.requests.clone());
    tasks.spawn("requests", &stop.ops, serve);
    let (records, record_queue) = mpsc::channel(RECORD_QUEUE);
    tasks.spawn("memory", &stop.ops, memory::give_back(partitions.clone()));
    tasks.spawn("publisher", &stop.membership, publish::run(cluster.clone(), record_queue));
    let hurry = Arc::new(Notify::new());
    tasks.spawn("hints", &stop.membership, hints::listen(cluster.clone(), gossip, hurry.clone()));
    tasks.spawn("members", &stop.membership, follow_members(cluster.clone()));
    tasks.spawn("greeter", &stop.membership, greet::run(cluster.clone(), connected));
    tasks.spawn("reconciler", &stop.membership, reconcile(cluster.clone(), partitions.clone()));
    tasks.spawn("groups", &stop.groups, groups.clone().run());
    tasks.spawn("group ends", &stop.groups, groups.clone().follow_ends());
    let source = load::Source { partitions: partitions.clone(), data: data.clone(), metrics: metrics.clone() };
    tasks.spawn("load teller", &stop.membership, load::tell(cluster.clone(), source));
    if cluster.controller.is_some() {
        tasks.spawn("hint teller", &stop.membership, hints::tell(cluster.clone()));
        tasks.spawn("records", &stop.membership, own_records(cluster.clone(), verifier, records));
    } else {
        let file = ImageFile::new(disk.clone(), data.root());
        tasks.spawn("image keeper", &stop.ops, file.keep(cluster.images.clone(), stop.membership.clone()));
        let feed = WatchClient { cluster: cluster.clone(), first: place.first.clone(), hurry, records, verifier };
        tasks.spawn("feed", &stop.membership, feed.run());
    }
    let ops = open_ops(&config, &cluster, &partitions, &data, &metrics, &health, level, &stop).await?;
    let registration = Registration { ops: ops.map(|address| address.to_string()), ..registration };
    let (refuse, refused) = watch::channel(None);
    let registrar = Registrar {
        cluster: cluster.clone(),
        data: data.clone(),
        registration,
        token,
        first: place.first,
        bootstrap: config.mesh.bootstrap.clone(),
        heartbeat: Duration::from_millis(config.cluster.heartbeat_ms),
        partitions: partitions.clone(),
        health: health.clone(),
    };
    tasks.spawn("registrar", &stop.membership, async move { drop(refuse.send(Some(registrar.run().await))) });

    health.started();
    Ok(Server {
        config,
        data,
        cluster,
        partitions,
        groups,
        raft,
        health,
        ops,
        kafka: listening,
        lanes: listening_lanes,
        tasks,
        stop,
        refused,
        began,
    })
}

/// Which cluster, and what is known of it: from the data directory, from a peer, or made anew.
async fn find_place(
    config: &Config,
    data: &DataDir,
    identity: &Identity,
    disk: &Arc<dyn Disk>,
) -> Result<Place, ServerError> {
    let member = data.membership();
    if let (Some(member), Some(pinned)) = (member, config.cluster.id)
        && member.cluster_id != pinned
    {
        return Err(ServerError::Conflict(format!(
            "the data directory belongs to cluster {}, but --cluster-id names {pinned}\n  hint: drop --cluster-id, or give this node a --data-dir of its own",
            member.cluster_id
        )));
    }
    let voter = RaftLog::exists(&**disk, data.root(), 0).map_err(|e| ServerError::Consensus(e.to_string()))?;
    if voter {
        let key = ClusterKey::load(data.root()).map_err(|e| ServerError::Consensus(e.to_string()))?;
        return Ok(Place::voter(key, ImageStore::default()));
    }
    let image = ImageFile::new(disk.clone(), data.root()).load().map_err(|e| ServerError::Consensus(e.to_string()))?;
    match (member, &image.cluster) {
        (Some(member), Some(cluster)) if cluster.id == member.cluster_id => {
            let (cluster, public_key) = (cluster.id, cluster.public_key);
            return Ok(Place {
                cluster,
                public_key,
                images: Arc::new(ImageStore::new(image)),
                key: None,
                first: Vec::new(),
            });
        }
        _ => {}
    }
    match plan(config, data, identity, member.map(|member| member.cluster_id)).await? {
        Plan::Found => {
            let key = ClusterKey::load_or_create(data.root()).map_err(|e| ServerError::Consensus(e.to_string()))?;
            info!(cluster = %key.cluster_id(), "founding a cluster");
            Ok(Place::voter(key, ImageStore::default()))
        }
        Plan::Join(key, first) => Ok(Place {
            cluster: key.id,
            public_key: key.public_key,
            images: Arc::new(ImageStore::default()),
            key: None,
            first,
        }),
    }
}

impl Place {
    fn voter(key: ClusterKey, images: ImageStore) -> Self {
        let (cluster, public_key) = (key.cluster_id(), key.public_key());
        Self { cluster, public_key, images: Arc::new(images), key: Some(Arc::new(key)), first: Vec::new() }
    }
}

/// Who is let in without proof: everybody if so configured; this machine, unless there is a token.
fn door(config: &Config, image: &Image) -> OpenDoor {
    let token = config.cluster.join_token.is_some()
        || image.cluster.as_ref().is_some_and(|cluster| cluster.join_token_hash.is_some());
    match (config.security.insecure, token) {
        (true, _) => OpenDoor::Everyone,
        (false, true) => OpenDoor::Closed,
        (false, false) => OpenDoor::Loopback,
    }
}

fn registration(config: &Config, data: &DataDir, mesh: &mesh::Mesh, lanes: &[Multiaddr]) -> Registration {
    let addresses = advertised(config, mesh.listening());
    Registration {
        peer_id: mesh.local().to_string(),
        directory: data.directory_id(),
        boot: data.boot_id(),
        incarnation: data.incarnation(),
        lanes: lanes::advertised(&config.mesh, &addresses, lanes),
        addresses,
        kafka: std::collections::BTreeMap::new(),
        ops: None,
        rack: config.node.rack.as_ref().map(|rack| rack.as_str().to_owned()),
        weight_milli: config.node.weight_milli,
        role: config.node.roles,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features_max: crate::controller::FEATURE_LEVEL,
        unclean: data.last_end() == LastEnd::PowerLost,
    }
}

/// What others are told to dial: what is configured, else what is listened on, loopback only if there is nothing else.
fn advertised(config: &Config, listening: Vec<Multiaddr>) -> Vec<String> {
    if !config.mesh.advertise.is_empty() {
        return config.mesh.advertise.iter().map(|address| address.multiaddr().to_string()).collect();
    }
    let (near, far): (Vec<_>, Vec<_>) = listening.into_iter().partition(mesh::is_loopback);
    let told = if far.is_empty() { near } else { far };
    told.iter().take(rafka_model::limits::NODE_ADDRESSES_MAX).map(ToString::to_string).collect()
}

async fn open_quorum(
    data: &DataDir,
    disk: &Arc<dyn Disk>,
    images: &Arc<ImageStore>,
    registration: &Registration,
) -> Result<RaftLog, ServerError> {
    // The founder is node 1: the first entry registers it.
    let config = consensus::Config::new(NodeId(1));
    let raft = RaftLog::open(&config, disk.clone(), data.root(), images.clone(), NoPeers).await;
    let raft = raft.map_err(|error| ServerError::Consensus(error.to_string()))?;
    let member = Member { peer_id: registration.peer_id.clone(), addresses: registration.addresses.clone() };
    raft.initialize(member).await.map_err(|error| ServerError::Consensus(error.to_string()))?;
    Ok(raft)
}

fn open_partitions(config: &Config, data: &DataDir, disk: &Arc<dyn Disk>) -> Result<Partitions, ServerError> {
    let log = &config.log;
    let setup = Setup {
        config: crate::partitions::Config {
            cache_bytes: config.cache.bytes_max,
            retention_check_ms: log.retention_check_ms,
            checkpoint_ms: log.checkpoint_ms,
            flush_ms: log.flush_ms,
            flush_bytes: log.flush_bytes,
            flushes_per_second: log.flushes_per_second,
            fsync_threads: log.fsync_threads,
            open_threads: log.open_threads,
            producer_id_expiration_ms: log.producer_id_expiration_ms,
            cleaner_check_ms: log.cleaner_check_ms,
            cleaner_buffer_bytes: log.cleaner_buffer_bytes,
            cleaner_bytes_per_second: log.cleaner_bytes_per_second,
        },
        dir: data.root().to_path_buf(),
        disk: disk.clone(),
        clock: Arc::new(SystemClock::new()),
        shutdown: match data.last_end() {
            LastEnd::PowerLost => rafka_log::Shutdown::PowerLost,
            LastEnd::New | LastEnd::Clean | LastEnd::Killed => rafka_log::Shutdown::MemoryKept,
        },
    };
    Partitions::open(setup).map_err(|error| ServerError::Partitions(error.to_string()))
}

fn open_groups(config: &Config, cluster: &Arc<Cluster>, partitions: &Arc<Partitions>) -> Groups {
    let settings = &config.groups;
    let coordinator = rafka_broker::group::Config {
        initial_rebalance_delay_ms: settings.initial_rebalance_delay_ms,
        min_session_timeout_ms: settings.min_session_timeout_ms,
        max_session_timeout_ms: settings.max_session_timeout_ms,
        max_size: settings.max_size,
        offsets_retention_ms: settings.offsets_retention_minutes * 60_000,
        offsets_retention_check_interval_ms: settings.offsets_retention_check_interval_ms,
        offset_metadata_max_bytes: settings.offset_metadata_max_bytes,
        consumer_max_size: settings.consumer_max_size,
        consumer_session_timeout_ms: settings.consumer_session_timeout_ms,
        consumer_heartbeat_interval_ms: settings.consumer_heartbeat_interval_ms,
        consumer_assignment_interval_ms: settings.consumer_assignment_interval_ms,
        consumer_migration_policy: settings.consumer_migration_policy,
    };
    let (controller, others) = (cluster.clone(), cluster.clone());
    Groups::new(groups::Setup {
        config: groups::Config {
            coordinator,
            commit_timeout_ms: settings.offsets_commit_timeout_ms,
            topic_partitions: settings.offsets_topic_num_partitions,
            topic_replication_factor: settings.offsets_topic_replication_factor,
            topic_segment_bytes: settings.offsets_topic_segment_bytes,
        },
        images: cluster.images.clone(),
        partitions: partitions.clone(),
        clock: Arc::new(SystemClock::new()),
        change: Box::new(move |request| {
            let controller = controller.clone();
            Box::pin(async move { controller.change(request).await })
        }),
        ask_leader: Box::new(move |node, request| {
            let (others, deadline) = (others.clone(), Duration::from_millis(GROUP_ENDS_MS_MAX));
            Box::pin(async move { others.list_offsets(node, request, deadline).await })
        }),
    })
}

fn open_kafka(
    config: &Config,
    bound: Vec<kafka::Bound>,
    service: &Arc<Service>,
    data: &Arc<DataDir>,
    stop: &Stop,
    tasks: &Tasks,
) {
    let metrics = Arc::new(rafka_kafka::metrics::Metrics::default());
    service.metrics.kafka(metrics.clone());
    let desk = service::kafka::Desk { service: service.clone(), data: data.clone(), shown: config.shown.clone() };
    let setup = kafka::Setup {
        desk,
        cluster: service.cluster.clone(),
        metrics,
        accept: stop.accept.clone(),
        end: stop.ops.clone(),
        connections: stop.requests.clone(),
        relayed_bytes_max: config.cache.relayed_bytes_max,
    };
    kafka::open(&config.kafka, bound, setup, tasks);
}

/// Tells the swarm who is in the cluster.
async fn follow_members(cluster: Arc<Cluster>) {
    let mut images = cluster.images.subscribe();
    loop {
        let members = Cluster::members(&images.borrow_and_update());
        cluster.mesh.set_members(members);
        if images.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps what this node hosts in step with the image.
async fn reconcile(cluster: Arc<Cluster>, partitions: Arc<Partitions>) {
    let mut images = cluster.images.subscribe();
    let mut standing = cluster.standing_changes();
    loop {
        let image = images.borrow_and_update().clone();
        let me = standing.borrow_and_update().node;
        if let Some(me) = me {
            let done = partitions.reconcile(image.clone(), me).await;
            for (partition, reason) in &done.failed {
                warn!(%partition, reason, "a partition cannot be opened");
            }
        }
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            changed = standing.wait_for(|standing| standing.node != me) => if changed.is_err() { return },
        }
    }
}

/// On a voter: hands the publisher what the controller signs for this node.
async fn own_records(cluster: Arc<Cluster>, verifier: Verifier, records: mpsc::Sender<Vec<SignedRecord>>) {
    let Some(controller) = cluster.controller.clone() else { return };
    let mut images = cluster.images.subscribe();
    let mut given = rafka_model::MetadataIndex::default();
    loop {
        let index = images.borrow_and_update().index;
        if let Some(me) = cluster.standing().node {
            let signed = controller.records_for(me, given);
            given = index;
            let signed: Vec<_> = signed.iter().filter_map(|bytes| verifier.verify(bytes).ok()).collect();
            if !signed.is_empty() && records.send(signed).await.is_err() {
                return;
            }
        }
        if images.changed().await.is_err() {
            return;
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "each part is shown by the door, and nothing else bundles them")]
async fn open_ops(
    config: &Config,
    cluster: &Arc<Cluster>,
    partitions: &Arc<Partitions>,
    data: &Arc<DataDir>,
    metrics: &Arc<Metrics>,
    health: &Health,
    level: Option<LevelHandle>,
    stop: &Stop,
) -> Result<Option<std::net::SocketAddr>, ServerError> {
    let sampled = super::sample::Sampler::new(cluster, partitions, data, config.ops.metric_partitions_max);
    let status = sampled.clone();
    metrics.sample(config.ops.metric_partitions_max, move || sampled.sample());
    let shown =
        Shown { metrics: metrics.clone(), health: health.clone(), level, status: Arc::new(move || status.status()) };
    let running = ops::start(&config.ops, shown, stop.ops.clone()).await?;
    Ok(running.map(|running| running.address))
}

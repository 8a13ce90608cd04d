//! Byte for byte against `kafka-protocol`, whose messages are generated from Kafka's own definitions.
//!
//! Its codec is not bounded, so it is given what we encoded, never what a stranger could send.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use rafka_kafka::ApiKey;
use rafka_kafka::testing::{Chance, Part, codec};

/// Random messages of each API, version and direction.
const SAMPLES: usize = 60;

/// Versions that `kafka-protocol` does not have; these are checked with our own codec alone.
const NOT_THEIRS: &[(ApiKey, i16)] =
    &[(ApiKey::ListOffsets, 11), (ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10), (ApiKey::DescribeLogDirs, 5)];

/// Decodes and encodes again.
type Recode = fn(Bytes, i16) -> Result<Bytes, String>;

/// What it knows of one API, request and response.
struct Oracle {
    key: ApiKey,
    versions: [(i16, i16); 2],
    recode: [Recode; 2],
}

fn recode<M: Message + Decodable + Encodable>(mut bytes: Bytes, version: i16) -> Result<Bytes, String> {
    let message = M::decode(&mut bytes, version).map_err(|error| format!("decode: {error:#}"))?;
    if !bytes.is_empty() {
        return Err(format!("{} bytes left", bytes.len()));
    }
    let mut again = BytesMut::new();
    message.encode(&mut again, version).map_err(|error| format!("encode: {error:#}"))?;
    Ok(again.freeze())
}

macro_rules! oracles {
    ($($api:ident: $request:ident, $response:ident;)*) => {
        &[$(Oracle {
            key: ApiKey::$api,
            versions: [
                (theirs::$request::VERSIONS.min, theirs::$request::VERSIONS.max),
                (theirs::$response::VERSIONS.min, theirs::$response::VERSIONS.max),
            ],
            recode: [recode::<theirs::$request>, recode::<theirs::$response>],
        }),*]
    };
}

const ORACLES: &[Oracle] = oracles! {
    Produce: ProduceRequest, ProduceResponse;
    Fetch: FetchRequest, FetchResponse;
    ListOffsets: ListOffsetsRequest, ListOffsetsResponse;
    Metadata: MetadataRequest, MetadataResponse;
    OffsetCommit: OffsetCommitRequest, OffsetCommitResponse;
    OffsetFetch: OffsetFetchRequest, OffsetFetchResponse;
    FindCoordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    JoinGroup: JoinGroupRequest, JoinGroupResponse;
    Heartbeat: HeartbeatRequest, HeartbeatResponse;
    LeaveGroup: LeaveGroupRequest, LeaveGroupResponse;
    SyncGroup: SyncGroupRequest, SyncGroupResponse;
    DescribeGroups: DescribeGroupsRequest, DescribeGroupsResponse;
    ListGroups: ListGroupsRequest, ListGroupsResponse;
    ApiVersions: ApiVersionsRequest, ApiVersionsResponse;
    CreateTopics: CreateTopicsRequest, CreateTopicsResponse;
    DeleteTopics: DeleteTopicsRequest, DeleteTopicsResponse;
    DeleteRecords: DeleteRecordsRequest, DeleteRecordsResponse;
    InitProducerId: InitProducerIdRequest, InitProducerIdResponse;
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    DescribeAcls: DescribeAclsRequest, DescribeAclsResponse;
    CreateAcls: CreateAclsRequest, CreateAclsResponse;
    DeleteAcls: DeleteAclsRequest, DeleteAclsResponse;
    DescribeConfigs: DescribeConfigsRequest, DescribeConfigsResponse;
    AlterConfigs: AlterConfigsRequest, AlterConfigsResponse;
    DescribeLogDirs: DescribeLogDirsRequest, DescribeLogDirsResponse;
    CreatePartitions: CreatePartitionsRequest, CreatePartitionsResponse;
    DeleteGroups: DeleteGroupsRequest, DeleteGroupsResponse;
    ElectLeaders: ElectLeadersRequest, ElectLeadersResponse;
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    ListPartitionReassignments: ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    OffsetDelete: OffsetDeleteRequest, OffsetDeleteResponse;
    DescribeClientQuotas: DescribeClientQuotasRequest, DescribeClientQuotasResponse;
    AlterClientQuotas: AlterClientQuotasRequest, AlterClientQuotasResponse;
    DescribeUserScramCredentials: DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse;
    AlterUserScramCredentials: AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse;
    DescribeQuorum: DescribeQuorumRequest, DescribeQuorumResponse;
    UpdateFeatures: UpdateFeaturesRequest, UpdateFeaturesResponse;
    DescribeCluster: DescribeClusterRequest, DescribeClusterResponse;
    DescribeProducers: DescribeProducersRequest, DescribeProducersResponse;
    ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse;
    ConsumerGroupDescribe: ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse;
    ListConfigResources: ListConfigResourcesRequest, ListConfigResourcesResponse;
    DescribeTopicPartitions: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
};

#[test]
fn every_api_has_an_oracle() {
    let known: Vec<ApiKey> = ORACLES.iter().map(|oracle| oracle.key).collect();
    assert_eq!(known, ApiKey::ALL);
}

#[test]
fn random_messages_are_the_same_bytes_to_both() {
    let mut alone = Vec::new();
    for oracle in ORACLES {
        for (i, part) in [Part::Request, Part::Response].into_iter().enumerate() {
            let (first, last) = oracle.versions[i];
            for version in oracle.key.versions() {
                let known = (first..=last).contains(&version);
                if !known && !alone.contains(&(oracle.key, version)) {
                    alone.push((oracle.key, version));
                }
                check(oracle, part, version, known.then_some(oracle.recode[i]));
            }
        }
    }
    assert_eq!(alone, NOT_THEIRS);
}

fn check(oracle: &Oracle, part: Part, version: i16, theirs: Option<Recode>) {
    let key = oracle.key;
    let ours = codec(key, part);
    for sample in 0..SAMPLES {
        let seed = u64::from(key.number() as u16) << 32 | (version as u64) << 16 | sample as u64;
        // The sample is decoded by ours, and compared, on the way.
        let encoded = (ours.sample)(key, version, &mut Chance::new(seed));
        let encoded = Bytes::from(encoded.unwrap_or_else(|error| panic!("{key} {version} {part:?}: {error}")).concat());
        let Some(theirs) = theirs else { continue };
        let again = theirs(encoded.clone(), version);
        assert_eq!(again, Ok(encoded), "{key} {version} {part:?}, seed {seed:#x}");
    }
}

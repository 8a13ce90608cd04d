//! Who belongs to a cluster: certificates signed by the cluster key, and proofs that a joiner knows the join token.

use ed25519_dalek::{Signature, VerifyingKey};
use libp2p::PeerId;
use rafka_model::limits::CERTIFICATE_BYTES_MAX;
use rafka_model::{ClusterId, NodeId, cbor};
use serde::{Deserialize, Serialize};

/// Signed bytes begin with this, so that a signature of something else is never one of a certificate.
const CERTIFICATE_DOMAIN: &[u8] = b"rafka certificate 1\0";
const PROOF_DOMAIN: &[u8] = b"rafka join proof 1\0";

/// What the cluster says of a peer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The peer, as text.
    pub peer_id: String,
    /// Its id, if it is a node.
    pub node: Option<NodeId>,
    /// What it may do.
    pub role: Role,
    /// End of its validity, ms since 1970 UTC.
    pub not_after_ms: i64,
    /// Never reused, so that it can be revoked.
    pub serial: u64,
}

/// What the holder of a certificate may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Be a member: serve, publish records, gossip.
    Node,
    /// Ask.
    Client,
}

/// Why bytes are not a certificate to trust.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate at all.
    #[error("malformed certificate: {0}")]
    Malformed(String),
    /// The cluster key did not sign it.
    #[error("certificate has a wrong signature")]
    Signature,
    /// Of another cluster.
    #[error("certificate of cluster {0}")]
    OtherCluster(ClusterId),
    /// Of another peer than the one at the other end.
    #[error("certificate of peer {0}")]
    OtherPeer(String),
    /// No longer valid.
    #[error("certificate expired {expired_ms} ms ago")]
    Expired {
        /// Since when, ms.
        expired_ms: i64,
    },
}

#[derive(Serialize, Deserialize)]
struct Signed {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
}

impl Certificate {
    /// Encodes the certificate with the signature that `sign` makes over the bytes given to it: an Ed25519 signature
    /// by the cluster key.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`] if it would be larger than [`CERTIFICATE_BYTES_MAX`].
    pub fn sign(&self, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Result<Vec<u8>, CertificateError> {
        let malformed = |error: cbor::CborError| CertificateError::Malformed(error.to_string());
        let body = cbor::encode(self, CERTIFICATE_BYTES_MAX).map_err(malformed)?;
        let signature = sign(&signed_bytes(&body)).to_vec();
        cbor::encode(&Signed { body, signature }, CERTIFICATE_BYTES_MAX).map_err(malformed)
    }

    /// Decodes and verifies a certificate that the peer at the other end of a channel showed.
    ///
    /// # Errors
    /// [`CertificateError`] says which check failed.
    pub fn verify(bytes: &[u8], public_key: &[u8; 32], peer: &PeerId, now_ms: i64) -> Result<Self, CertificateError> {
        let malformed = |error: cbor::CborError| CertificateError::Malformed(error.to_string());
        let signed: Signed = cbor::decode(bytes, CERTIFICATE_BYTES_MAX).map_err(malformed)?;
        let key = VerifyingKey::from_bytes(public_key).map_err(|_| CertificateError::Signature)?;
        let signature = Signature::from_slice(&signed.signature).map_err(|_| CertificateError::Signature)?;
        key.verify_strict(&signed_bytes(&signed.body), &signature).map_err(|_| CertificateError::Signature)?;
        let certificate: Self = cbor::decode(&signed.body, CERTIFICATE_BYTES_MAX).map_err(malformed)?;
        if certificate.cluster_id != ClusterId::of_public_key(public_key) {
            return Err(CertificateError::OtherCluster(certificate.cluster_id));
        }
        if certificate.peer_id.parse::<PeerId>().ok() != Some(*peer) {
            return Err(CertificateError::OtherPeer(certificate.peer_id));
        }
        if now_ms > certificate.not_after_ms {
            let expired_ms = now_ms.saturating_sub(certificate.not_after_ms);
            return Err(CertificateError::Expired { expired_ms });
        }
        Ok(certificate)
    }
}

fn signed_bytes(body: &[u8]) -> Vec<u8> {
    [CERTIFICATE_DOMAIN, body].concat()
}

/// What the cluster keeps of its join token.
#[must_use]
pub fn token_hash(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

/// Proves knowledge of `token_hash` to `server`, and to nobody else: the peer ids are those that the Noise channel has
/// proven, so the proof is of no use on another channel.
#[must_use]
pub fn proof(token_hash: &[u8; 32], cluster: &ClusterId, joiner: &PeerId, server: &PeerId) -> [u8; 32] {
    *keyed(token_hash, cluster, joiner, server).as_bytes()
}

/// True if `proof` is the one that `joiner` owes to `server`; takes the same time whatever it holds.
#[must_use]
pub fn verify_proof(
    proof: &[u8; 32],
    token_hash: &[u8; 32],
    cluster: &ClusterId,
    joiner: &PeerId,
    server: &PeerId,
) -> bool {
    keyed(token_hash, cluster, joiner, server) == blake3::Hash::from_bytes(*proof)
}

fn keyed(token_hash: &[u8; 32], cluster: &ClusterId, joiner: &PeerId, server: &PeerId) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(token_hash);
    hasher.update(PROOF_DOMAIN).update(&cluster.0);
    for peer in [joiner, server] {
        let bytes = peer.to_bytes();
        hasher.update(&(bytes.len() as u64).to_be_bytes()).update(&bytes);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn certificate(peer: &PeerId) -> Certificate {
        Certificate {
            cluster_id: ClusterId::of_public_key(&key().verifying_key().to_bytes()),
            peer_id: peer.to_string(),
            node: Some(NodeId(3)),
            role: Role::Node,
            not_after_ms: 1_000,
            serial: 9,
        }
    }

    fn signed(certificate: &Certificate) -> Vec<u8> {
        certificate.sign(|bytes| key().sign(bytes).to_bytes()).expect("small")
    }

    #[test]
    fn a_certificate_holds_for_its_peer_until_it_expires() {
        let peer = PeerId::random();
        let public = key().verifying_key().to_bytes();
        let bytes = signed(&certificate(&peer));
        assert_eq!(Certificate::verify(&bytes, &public, &peer, 1_000), Ok(certificate(&peer)));
        assert_eq!(
            Certificate::verify(&bytes, &public, &peer, 1_001),
            Err(CertificateError::Expired { expired_ms: 1 })
        );
        let other = PeerId::random();
        assert_eq!(Certificate::verify(&bytes, &public, &other, 0), Err(CertificateError::OtherPeer(peer.to_string())));
    }

    #[test]
    fn other_keys_and_other_clusters_are_refused() {
        let peer = PeerId::random();
        let public = key().verifying_key().to_bytes();
        let stranger = SigningKey::from_bytes(&[8; 32]);
        let forged = certificate(&peer).sign(|bytes| stranger.sign(bytes).to_bytes()).expect("small");
        assert_eq!(Certificate::verify(&forged, &public, &peer, 0), Err(CertificateError::Signature));
        let foreign = Certificate { cluster_id: ClusterId([1; 32]), ..certificate(&peer) };
        assert_eq!(
            Certificate::verify(&signed(&foreign), &public, &peer, 0),
            Err(CertificateError::OtherCluster(ClusterId([1; 32])))
        );
        let undomained = key().sign(&cbor::encode(&certificate(&peer), 4096).expect("small")).to_bytes();
        let replayed = certificate(&peer).sign(|_| undomained).expect("small");
        assert_eq!(Certificate::verify(&replayed, &public, &peer, 0), Err(CertificateError::Signature));
    }

    #[test]
    fn flipped_bits_never_change_what_is_trusted() {
        let peer = PeerId::random();
        let public = key().verifying_key().to_bytes();
        let bytes = signed(&certificate(&peer));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // The envelope may be written in more than one way; what is signed may not.
            if let Ok(trusted) = Certificate::verify(&flipped, &public, &peer, 0) {
                assert_eq!(trusted, certificate(&peer), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_proof_is_bound_to_both_ends_cluster_and_token() {
        let (joiner, server) = (PeerId::random(), PeerId::random());
        let (token, cluster) = (token_hash("secret"), ClusterId([2; 32]));
        let made = proof(&token, &cluster, &joiner, &server);
        assert!(verify_proof(&made, &token, &cluster, &joiner, &server));
        assert!(!verify_proof(&made, &token, &cluster, &server, &joiner));
        assert!(!verify_proof(&made, &token_hash("other"), &cluster, &joiner, &server));
        assert!(!verify_proof(&made, &token, &ClusterId([3; 32]), &joiner, &server));
    }
}

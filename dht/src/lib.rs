//! Kademlia directory: signed records, the validating store, resolve

//! Byte-bounded LRU of committed batches, the sidecar of every node

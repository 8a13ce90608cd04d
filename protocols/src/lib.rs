//! libp2p wire contracts of the mesh

pub mod address;

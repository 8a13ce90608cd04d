//! libp2p wire contracts of the mesh

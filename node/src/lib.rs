//! A node of the mesh: composition root of Rafka

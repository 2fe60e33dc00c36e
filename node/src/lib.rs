//! The node: what wires the rooms of the mesh together into one program.

//! The system between real network namespaces. These tests need root, or a kernel that lets users make namespaces.

mod apparatus;

//! api
/// What goes over the wire between the daemon and its clients.
pub mod wire {
    pub mod codes;
}

//! The operations: what a caller asks for and what it gets. One file per group.

use std::sync::Arc;

/// Everything behind the faces. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    #[expect(dead_code, reason = "filled by the operations")]
    inner: Arc<()>,
}

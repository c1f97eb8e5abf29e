//! TLS with rustls.
//!
//! - [`postgres`]: connections to Postgres with libpq's options
//! - [`https`]: the certificate of a port of ours
//!
//! No message holds a key or a password.

mod files;
pub mod https;
pub mod postgres;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, LazyLock};

/// The cryptography, the same everywhere: no process-wide default is needed.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

//! An encrypted front before a bridge, as a proxy would be: its own authority, one certificate, bytes carried on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The front. Its listener ends when dropped.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    target: Arc<Mutex<String>>,
    home: TempDir,
    listening: JoinHandle<()>,
}

impl TlsFront {
    /// Listens on a port of its own with a certificate for `name`, and leads nowhere yet.
    ///
    /// # Panics
    /// When there is no port or no certificate.
    pub async fn open(name: &str) -> Self {
        let home = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let (acceptor, authority) = certified(name);
        let roots = home.path().join("authority.pem");
        std::fs::write(roots, authority).unwrap_or_else(|error| panic!("{error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.unwrap_or_else(|error| panic!("{error}"));
        let address = listener.local_addr();
        let target = Arc::<Mutex<String>>::default();
        let to = Arc::clone(&target);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let to = to.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust us ends the handshake: that is its affair.
                    let mut client = acceptor.accept(client).await.ok()?;
                    let mut bridge = TcpStream::connect(to).await.ok()?;
                    copy_bidirectional(&mut client, &mut bridge).await.ok()
                });
            }
        });
        Self {
            address: address.unwrap_or_else(|error| panic!("{error}")),
            target,
            home,
            listening,
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The authority that signed its certificate, as a file.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.home.path().join(Path::new("authority.pem"))
    }

    /// Connections to come lead to `target` (`127.0.0.1:port`).
    pub fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A certificate for `name`, and the authority's own in PEM.
fn certified(name: &str) -> (TlsAcceptor, String) {
    let key = || KeyPair::generate().unwrap_or_else(|error| panic!("{error}"));
    let (authority_key, own_key) = (key(), key());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key);
    let root = root.unwrap_or_else(|error| panic!("{error}")).pem();
    let issuer = Issuer::new(authority, authority_key);
    let own = CertificateParams::new([name.to_owned()])
        .and_then(|own| own.signed_by(&own_key, &issuer))
        .unwrap_or_else(|error| panic!("{error}"));
    let own_key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(vec![own.der().clone()], own_key)
        })
        .unwrap_or_else(|error| panic!("{error}"));
    (TlsAcceptor::from(Arc::new(config)), root)
}

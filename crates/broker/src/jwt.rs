//! The cryptography behind `jsonwebtoken`, by the crates this program has already: HMAC-SHA-256 signs and reads our
//! own tokens, `ring` (which TLS uses, too) verifies those of an issuer. So neither of the crate's own back ends
//! (one holds an RSA with a known side channel, the other a C toolchain) comes in. Other algorithms are refused.

use std::sync::Once;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature as by_ring;
use sha2::Sha256;
use signature::{Signer, Verifier};

struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn keyed(secret: &[u8]) -> Result<Self, Error> {
        Hmac::new_from_slice(secret)
            .map(Self)
            .map_err(|_| ErrorKind::InvalidKeyFormat.into())
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mut mac = self.0.clone();
        mac.update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], given: &Vec<u8>) -> Result<(), signature::Error> {
        let mut mac = self.0.clone();
        mac.update(message);
        // Compares in constant time.
        mac.verify_slice(given).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// A public key of an issuer; nothing is ever signed with it.
struct Public {
    algorithm: Algorithm,
    key: PublicKey,
}

enum PublicKey {
    Rsa(
        &'static by_ring::RsaParameters,
        by_ring::RsaPublicKeyComponents<Vec<u8>>,
    ),
    /// A point of a curve, as the curve encodes it.
    Point(&'static dyn by_ring::VerificationAlgorithm, Vec<u8>),
}

impl Verifier<Vec<u8>> for Public {
    fn verify(&self, message: &[u8], given: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match &self.key {
            PublicKey::Rsa(parameters, key) => key.verify(parameters, message, given),
            PublicKey::Point(curve, point) => {
                by_ring::UnparsedPublicKey::new(*curve, point).verify(message, given)
            }
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Public {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn public(algorithm: Algorithm, key: &DecodingKey) -> Result<Public, Error> {
    // The key says what it is for; a token's own word about it is only held against that.
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let rsa = match algorithm {
        Algorithm::RS256 => Some(&by_ring::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&by_ring::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&by_ring::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&by_ring::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&by_ring::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&by_ring::RSA_PSS_2048_8192_SHA512),
        _ => None,
    };
    let key = match (rsa, algorithm, key.kind()) {
        (Some(parameters), _, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let (n, e) = (n.clone(), e.clone());
            PublicKey::Rsa(parameters, by_ring::RsaPublicKeyComponents { n, e })
        }
        (None, Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
            PublicKey::Point(&by_ring::ECDSA_P256_SHA256_FIXED, point.clone())
        }
        (None, Algorithm::ES384, DecodingKeyKind::SecretOrDer(point)) => {
            PublicKey::Point(&by_ring::ECDSA_P384_SHA384_FIXED, point.clone())
        }
        (None, Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
            PublicKey::Point(&by_ring::ED25519, point.clone())
        }
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Public { algorithm, key })
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape the library asks for"
)]
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if *algorithm != Algorithm::HS256 || key.family() != AlgorithmFamily::Hmac {
        return Err(ErrorKind::UnsupportedAlgorithm.into());
    }
    Ok(Box::new(Hs256::keyed(key.as_bytes())?))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape the library asks for"
)]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if *algorithm == Algorithm::HS256 && key.family() == AlgorithmFamily::Hmac {
        return Ok(Box::new(Hs256::keyed(key.try_get_as_bytes()?)?));
    }
    Ok(Box::new(public(*algorithm, key)?))
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Key sets are read from their parts; thumbprints and private keys never come up.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the provider the process's own. To be called before the first token; again does nothing.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Refused only when somebody in this process installed another, which then does the same work.
        let _ = PROVIDER.install_default();
    });
}

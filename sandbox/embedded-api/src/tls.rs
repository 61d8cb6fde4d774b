//! A CA and a serving certificate of its own for each server, and the rustls configuration made of them.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Why no TLS identity could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate could not be made, most often because a subject name is neither a DNS name nor an address.
    #[error("making the certificate of API server {name:?} for the names {names:?}: {source}")]
    Certificate {
        /// The server's name.
        name: String,
        /// The subject names that were asked for.
        names: Vec<String>,
        /// What rcgen says.
        source: rcgen::Error,
    },
    /// rustls refuses the identity.
    #[error("configuring TLS for API server {name:?}: {source}")]
    Rustls {
        /// The server's name.
        name: String,
        /// What rustls says.
        source: rustls::Error,
    },
}

/// What a server shows, and what its clients trust.
pub(crate) struct Identity {
    pub(crate) ca_pem: String,
    pub(crate) config: Arc<ServerConfig>,
}

impl Identity {
    /// Makes a CA and a certificate for `names` (DNS names or addresses).
    pub(crate) fn generate(name: &str, names: &[String]) -> Result<Self, TlsError> {
        let wrong = |source| TlsError::Certificate { name: name.to_owned(), names: names.to_vec(), source };
        let (ca, ca_pem) = authority(name).map_err(wrong)?;
        let key = KeyPair::generate().map_err(wrong)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(wrong)?;
        params.distinguished_name.push(DnType::CommonName, format!("{name} API server"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &ca).map_err(wrong)?;
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config =
            server_config(chain, key).map_err(|source| TlsError::Rustls { name: name.to_owned(), source })?;
        Ok(Self { ca_pem, config: Arc::new(config) })
    }
}

fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, format!("{name} CA"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn server_config(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_for_names_and_addresses() {
        let identity =
            Identity::generate("east", &["localhost".into(), "127.0.0.1".into(), "fd00::1".into()]).unwrap();
        assert!(identity.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn a_name_that_cannot_stand_in_a_certificate_is_named() {
        let Err(error) = Identity::generate("east", &["bad\u{e9}".into()]) else { panic!("it was accepted") };
        assert!(error.to_string().contains("bad"), "{error}");
    }
}

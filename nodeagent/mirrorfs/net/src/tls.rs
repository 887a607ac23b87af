//! Who may speak: TLS 1.3 both ways, the peer known by its public key.
//!
//! The Member names the key, so the key decides, not the certificate's dates: the API server that would renew it may be
//! away for long, and clocks step. TLS proves that the peer holds the key's private half.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};

/// SHA-256 of a public key (its SubjectPublicKeyInfo).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KeyPin(pub [u8; 32]);

impl KeyPin {
    /// The pin of the key that a certificate carries.
    ///
    /// # Errors
    /// When the certificate can't be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<KeyPin, Error> {
        let parsed = webpki::EndEntityCert::try_from(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &parsed.subject_public_key_info());
        let mut pin = [0; 32];
        pin.copy_from_slice(digest.as_ref());
        Ok(KeyPin(pin))
    }
}

/// What this node shows, and whom it accepts: two keys while the peer's is being rotated.
pub struct Identity {
    pub certificates: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub peers: Vec<KeyPin>,
}

impl Identity {
    /// For the side that connects.
    ///
    /// # Errors
    /// When certificate and key don't fit together.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = provider();
        let verifier = Arc::new(Pinned::new(&provider, &self.peers));
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(self.certificates.clone(), self.key.clone_key())?;
        Ok(Arc::new(config))
    }

    /// For the side that listens.
    ///
    /// # Errors
    /// When certificate and key don't fit together.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Error> {
        let provider = provider();
        let verifier = Arc::new(Pinned::new(&provider, &self.peers));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.certificates.clone(), self.key.clone_key())?;
        // No resumption: each connection proves its key anew.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Accepts the certificates whose key is pinned.
#[derive(Debug)]
struct Pinned {
    pins: Vec<KeyPin>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(provider: &CryptoProvider, pins: &[KeyPin]) -> Pinned {
        Pinned { pins: pins.to_vec(), algorithms: provider.signature_verification_algorithms }
    }

    fn verify(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.pins.contains(&KeyPin::of(certificate)?) {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

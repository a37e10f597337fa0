//! libpq's meaning of `sslmode`, in rustls's terms.

use super::{Connection, RootCert, SslMode};
use crate::{Error, Result};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use std::{path::Path, sync::Arc};

/// What is checked of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Nothing: it only has to prove that it owns its key.
    Nothing,
    /// That a trusted authority issued it.
    Authority,
    /// And that it names the host.
    Name,
}

/// The TLS settings of a connection.
pub(super) fn client_config(connection: &Connection) -> Result<ClientConfig> {
    let check = match (connection.sslmode, &connection.sslrootcert) {
        (SslMode::VerifyFull, _) => Check::Name,
        // libpq treats `require` with a root certificate at hand as `verify-ca`.
        (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => Check::Authority,
        _ => Check::Nothing,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trusted = if check == Check::Nothing { Vec::new() } else { trusted(connection)? };
    let mut roots = RootCertStore::empty();
    // A certificate that isn't an authority's can't be a root, but may be the server's own, which is checked below.
    roots.add_parsable_certificates(trusted.iter().cloned());
    let verifier = Verifier { check, roots, trusted, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match (&connection.sslcert, &connection.sslkey) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| tls(format!("{}: {error}", key.display())))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| tls(format!("{}: {error}", certificate.display())))
        }
        (Some(file), None) => Err(tls(format!("the certificate {} has no sslkey", file.display()))),
        (None, _) => Ok(builder.with_no_client_auth()),
    }
}

fn trusted(connection: &Connection) -> Result<Vec<CertificateDer<'static>>> {
    match &connection.sslrootcert {
        Some(RootCert::File(file)) => certificates(file),
        Some(RootCert::System) => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                return Err(tls(format!(
                    "the operating system has no trusted certificates {}",
                    errors.join("; ")
                )));
            }
            Ok(found.certs)
        }
        None => Err(tls(format!(
            "sslmode={} needs sslrootcert, and there is no ~/.postgresql/root.crt",
            connection.sslmode.name()
        ))),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |what: String| tls(format!("{}: {what}", file.display()));
    let read = CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))?;
    let certificates: Vec<_> =
        read.collect::<std::result::Result<_, _>>().map_err(|error| bad(error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad("no certificate in it".to_owned()));
    }
    Ok(certificates)
}

fn tls(what: String) -> Error {
    Error::Tls { what }
}

/// Checks the server's certificate as far as the mode asks. rustls's own verifier always checks the name as well.
#[derive(Debug)]
struct Verifier {
    check: Check,
    roots: RootCertStore,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if self.check == Check::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let issued = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        );
        // Servers often have a self-signed certificate, which is given as root. OpenSSL accepts it, webpki doesn't; it is
        // the very certificate that the operator trusts, byte for byte. An expired one stays refused.
        let expired = matches!(
            issued,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. }
            ))
        );
        if expired || !self.trusted.contains(end_entity) {
            issued?;
        }
        if self.check == Check::Name {
            verify_server_name(&parsed, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

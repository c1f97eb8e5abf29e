//! Whether a server is the one that was meant, by its certificate.

use crate::files;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use tidemark_settings::SettingsError;
use tidemark_settings::store::ssl::{Roots, Ssl, SslMode};

/// What a certificate must be, by `sslmode` and `sslrootcert`.
#[derive(Debug)]
pub(crate) struct Trust {
    /// None: any certificate will do.
    roots: Option<RootCertStore>,
    /// The certificates of the roots, one of which may be the server's own.
    own: Vec<CertificateDer<'static>>,
    /// Whether the certificate must be for the name that was connected to.
    names: bool,
    /// A certificate of which nothing is verified may be of a kind that cannot be: version 1, or a key of an unknown curve.
    lenient: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Any server will do.
pub(crate) fn anybody() -> Arc<Trust> {
    let algorithms = crate::provider().signature_verification_algorithms;
    Arc::new(Trust { roots: None, own: Vec::new(), names: false, lenient: true, algorithms })
}

impl Trust {
    /// `bound`: the login is bound to the certificate, so the server must prove that it has its key.
    pub(super) fn of(ssl: &Ssl, bound: bool) -> Result<Arc<Trust>, SettingsError> {
        let (own, roots) = match &ssl.roots {
            _ if ssl.mode == SslMode::Disable => (Vec::new(), None),
            Roots::Unchecked => (Vec::new(), None),
            Roots::File(path) => {
                let own = files::certificates("sslrootcert", path)?;
                let mut roots = RootCertStore::empty();
                for certificate in &own {
                    let added = roots.add(certificate.clone());
                    added.map_err(|error| {
                        files::wrong("sslrootcert", path, format!("holds a certificate that cannot be read: {error}"))
                    })?;
                }
                (own, Some(roots))
            }
            Roots::System => {
                let mut roots = RootCertStore::empty();
                let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if added == 0 {
                    let why = "sslrootcert=system: this system has no CA certificates: install the package ca-certificates, or name a file";
                    return Err(SettingsError::Conflict(why.to_owned()));
                }
                (Vec::new(), Some(roots))
            }
        };
        let algorithms = crate::provider().signature_verification_algorithms;
        let lenient = roots.is_none() && !bound;
        Ok(Arc::new(Trust { roots, own, names: ssl.mode == SslMode::VerifyFull, lenient, algorithms }))
    }

    /// Lets a signature pass that cannot be verified here, if nothing else is verified either. A wrong one that can be verified never passes.
    fn or_lenient(
        &self,
        scheme: SignatureScheme,
        verified: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let unknown = || !self.algorithms.supported_schemes().contains(&scheme);
        match verified {
            Err(Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::BadEncoding)) if self.lenient => {
                Ok(HandshakeSignatureValid::assertion())
            }
            Err(_) if self.lenient && unknown() => Ok(HandshakeSignatureValid::assertion()),
            verified => verified,
        }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let signed = verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, self.algorithms.all);
            match signed {
                // A server that has no CA gives its own certificate as one. It is looked at after the times of the certificate.
                Err(Error::InvalidCertificate(CertificateError::Other(why)))
                    if format!("{why:?}").contains("CaUsedAsEndEntity") && self.own.contains(certificate) => {}
                signed => signed?,
            }
            if self.names {
                verify_server_name(&parsed, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.or_lenient(signature.scheme, verify_tls12_signature(message, certificate, signature, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.or_lenient(signature.scheme, verify_tls13_signature(message, certificate, signature, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms.supported_schemes();
        if self.lenient {
            schemes.extend([SignatureScheme::ECDSA_NISTP521_SHA512, SignatureScheme::ED448]);
        }
        schemes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use std::time::{Duration, SystemTime};

    const DAY: Duration = Duration::from_secs(86_400);

    fn params(ca: bool, expired: bool) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["db".to_owned()]).unwrap();
        if ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params.not_before = (SystemTime::now() - DAY * 9).into();
        params.not_after = if expired { SystemTime::now() - DAY } else { SystemTime::now() + DAY }.into();
        params
    }

    /// The verdict on a server that shows this and was reached by this name, where the root file has that.
    fn verdict(shown: &CertificateDer<'_>, name: &'static str, mode: SslMode, roots: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.crt");
        std::fs::write(&path, roots).unwrap();
        let trust = Trust::of(&Ssl { mode, roots: Roots::File(path), client: None }, false).unwrap();
        let name = ServerName::try_from(name).unwrap();
        match trust.verify_server_cert(shown, &[], &name, &[], UnixTime::now()) {
            Ok(_) => "trusted".to_owned(),
            Err(Error::InvalidCertificate(why)) => format!("{why:?}").split(' ').next().unwrap_or_default().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_mode_verifies_what_libpq_does() {
        let ca = CertifiedIssuer::self_signed(params(true, false), KeyPair::generate().unwrap()).unwrap();
        let twin = CertifiedIssuer::self_signed(params(true, false), KeyPair::generate().unwrap()).unwrap();
        let mut named = params(true, false);
        named.distinguished_name.push(DnType::CommonName, "another");
        let other = CertifiedIssuer::self_signed(named, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let good = params(false, false).signed_by(&key, &ca).unwrap();
        let expired = params(false, true).signed_by(&key, &ca).unwrap();
        for (shown, name, mode, roots, expected) in [
            (&good, "db", SslMode::VerifyFull, &ca, "trusted"),
            (&good, "elsewhere", SslMode::VerifyFull, &ca, "NotValidForNameContext"),
            (&good, "elsewhere", SslMode::VerifyCa, &ca, "trusted"),
            (&good, "elsewhere", SslMode::Require, &ca, "trusted"),
            (&good, "db", SslMode::Require, &other, "UnknownIssuer"),
            (&good, "db", SslMode::VerifyFull, &other, "UnknownIssuer"),
            (&good, "db", SslMode::VerifyCa, &twin, "BadSignature"),
            (&expired, "db", SslMode::VerifyCa, &ca, "ExpiredContext"),
        ] {
            assert_eq!(verdict(shown.der(), name, mode, &roots.pem()), expected, "{mode} {name}");
        }
    }

    #[test]
    fn a_server_s_own_certificate_may_be_the_root() {
        for ca in [true, false] {
            let key = KeyPair::generate().unwrap();
            let (own, expired) = (params(ca, false).self_signed(&key).unwrap(), params(ca, true).self_signed(&key).unwrap());
            let other = params(ca, false).self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(verdict(own.der(), "db", SslMode::VerifyFull, &own.pem()), "trusted");
            assert_eq!(verdict(own.der(), "x", SslMode::VerifyFull, &own.pem()), "NotValidForNameContext");
            assert_eq!(verdict(expired.der(), "db", SslMode::VerifyFull, &expired.pem()), "ExpiredContext");
            assert_ne!(verdict(own.der(), "db", SslMode::VerifyFull, &other.pem()), "trusted");
        }
    }

    #[test]
    fn without_a_root_nothing_is_verified() {
        let own = params(false, true).self_signed(&KeyPair::generate().unwrap()).unwrap();
        let name = ServerName::try_from("elsewhere").unwrap();
        assert!(anybody().verify_server_cert(own.der(), &[], &name, &[], UnixTime::now()).is_ok());
    }
}

//! Whom a registry's certificate has to come from: the authorities that this machine trusts (SSL_CERT_FILE and
//! SSL_CERT_DIR replace them), and what lies in certs.d (containers-certs.d(5)), client certificates included.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Result, Step};
use crate::host::paths::{Surroundings, home};

/// The machine's own authorities, read when the first https connection is made.
#[derive(Default)]
pub struct Trust {
    roots: OnceLock<RootCertStore>,
    /// `--cert-dir`
    cert_dir: Option<PathBuf>,
}

impl Trust {
    pub fn new(cert_dir: Option<PathBuf>) -> Self {
        Self { roots: OnceLock::new(), cert_dir }
    }

    /// How to speak TLS to a registry (`quay.io`, `localhost:5000`); without `verify` everybody is trusted.
    ///
    /// # Errors
    /// A file of certs.d cannot be read, or holds no certificate or key.
    pub fn config(&self, registry: &str, verify: bool) -> Result<Arc<ClientConfig>> {
        let own = match self.directory(registry) {
            Some(directory) => Own::read(&directory)?,
            None => Own::default(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let failed = || format!("cannot speak TLS to `{registry}`");
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .step(failed)?;
        let verifier: Arc<dyn ServerCertVerifier> = if verify {
            let mut roots = self.roots.get_or_init(system_roots).clone();
            roots.add_parsable_certificates(own.authorities.iter().cloned());
            let inner = match roots.is_empty() {
                true => None,
                false => Some(
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                        .build()
                        .step(failed)?,
                ),
            };
            Arc::new(Verifier { inner, own: own.authorities, provider })
        } else {
            Arc::new(Everybody(provider))
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match own.client {
            None => builder.with_no_client_auth(),
            Some(Client { chain, key, file }) => {
                builder.with_client_auth_cert(chain, key).map_err(|cause| {
                    Error::new(format!("cannot use the client certificate `{}`", file.display()))
                        .because(cause)
                })?
            }
        };
        Ok(Arc::new(config))
    }

    /// `--cert-dir`, or the first directory of certs.d that the registry has.
    fn directory(&self, registry: &str) -> Option<PathBuf> {
        if let Some(named) = &self.cert_dir {
            return Some(named.clone());
        }
        let config = home(&Surroundings::current()).ok().map(|home| home.join(".config"));
        let own = config
            .iter()
            .flat_map(|config| ["containers", "docker"].map(|program| config.join(program).join("certs.d")));
        let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
        own.chain(system).map(|directory| directory.join(registry)).find(|directory| directory.is_dir())
    }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        log::info!("cannot read a certificate authority of this machine: {error}");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    roots
}

/// What a directory of certs.d holds.
#[derive(Default)]
struct Own {
    authorities: Vec<CertificateDer<'static>>,
    client: Option<Client>,
}

struct Client {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    file: PathBuf,
}

impl Own {
    /// `*.crt` are authorities; `NAME.cert` and `NAME.key` are a certificate of the client's and its key.
    fn read(directory: &Path) -> Result<Self> {
        let failed = || format!("cannot read the certificates in `{}`", directory.display());
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(directory).step(failed)? {
            files.push(entry.step(failed)?.path());
        }
        files.sort();
        let mut own = Self::default();
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => own.authorities.extend(certificates(&file)?),
                Some("cert") if own.client.is_none() => {
                    let key = file.with_extension("key");
                    if !key.exists() {
                        return Err(Error::new(format!(
                            "cannot use the client certificate `{}`",
                            file.display()
                        ))
                        .because(format!("its key `{}` is missing", key.display()))
                        .hint("a certificate of an authority has the extension `.crt`"));
                    }
                    let key = PrivateKeyDer::from_pem_file(&key)
                        .step(|| format!("cannot read the private key `{}`", key.display()))?;
                    own.client = Some(Client { chain: certificates(&file)?, key, file });
                }
                Some("key") if !file.with_extension("cert").exists() => {
                    return Err(Error::new(format!("cannot use the private key `{}`", file.display()))
                        .because(format!(
                            "its certificate `{}` is missing",
                            file.with_extension("cert").display()
                        )));
                }
                _ => {}
            }
        }
        Ok(own)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let failed = || format!("cannot read the certificate `{}`", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file)
        .step(failed)?
        .collect::<std::result::Result<_, _>>()
        .step(failed)?;
    if found.is_empty() {
        return Err(Error::new(failed()).because("it holds no certificate in PEM"));
    }
    Ok(found)
}

/// Chains as webpki checks them, and beyond that a certificate that lies in certs.d itself: registries at home sign
/// their own, marked as authorities, and webpki takes no authority for a server.
#[derive(Debug)]
struct Verifier {
    inner: Option<Arc<WebPkiServerVerifier>>,
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let checked = match &self.inner {
            Some(inner) => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        match checked {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Other(_) | CertificateError::UnknownIssuer,
            )) if self.own.iter().any(|own| own == end_entity) => {
                // Somebody has put it there by hand: of whom it is and for how long, they have decided.
                let parsed = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// For registries that the user has called insecure.
#[derive(Debug)]
struct Everybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Everybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! Certificates of an authority that nobody else knows.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority, a certificate that it signed, and another authority. The files are gone when this is dropped.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    /// A certificate for a name or an address.
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = authority(&folder.path().join("ca.pem"));
        authority(&folder.path().join("other.pem"));
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.path().join("server.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("server.key"), key.serialize_pem()).unwrap();
        Self(folder)
    }

    /// One of `ca.pem`, `other.pem`, `server.pem` and `server.key`.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// What a Redis has to be told to use them on its port for TLS: name and value of each setting.
    pub(crate) fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("tls-port", "TLS_PORT".to_owned()),
            ("tls-cert-file", self.path("server.pem")),
            ("tls-key-file", self.path("server.key")),
            ("tls-ca-cert-file", self.path("ca.pem")),
            ("tls-auth-clients", "no".to_owned()),
        ]
    }
}

fn authority(file: &Path) -> Issuer<'static, KeyPair> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(file, certificate.pem()).unwrap();
    Issuer::new(params, key)
}

//! https for the simulated Azure, and for proxies in tests, with an authority of its own.

use crate::error::{Error, Result};
use crate::files::{self, Access, MadeFile};
use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

/// The error of a certificate that cannot be made.
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::bug(format!("making a certificate: {error}")).with_source(error)
}

/// Serves `routes` in the background, and writes the authority's certificate to `folder/ca.pem`.
pub fn serve(listener: TcpListener, routes: Router, folder: &Path) -> Result<()> {
    serve_as(&[], listener, routes, folder)
}

/// Serves as `serve` does, with a certificate for `further` names as well.
pub fn serve_as(
    further: &[&str],
    listener: TcpListener,
    routes: Router,
    folder: &Path,
) -> Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "azimg simulated Azure");
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().map_err(failed)?;
    let authority = CertifiedIssuer::self_signed(authority, key).map_err(failed)?;

    let names = ["localhost", "127.0.0.1", "::1"].iter().chain(further);
    let names: Vec<String> = names.map(|name| (*name).to_owned()).collect();
    let mut server = CertificateParams::new(names).map_err(failed)?;
    server.use_authority_key_identifier_extension = true;
    server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = server.signed_by(&key, &authority).map_err(failed)?;

    let pem = authority.pem();
    let file = MadeFile { name: "ca.pem", bytes: pem.as_bytes(), access: Access::Readable };
    files::put_made(folder, ".azimg-sim", "--tls", &[file])?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .map_err(failed)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = RustlsConfig::from_config(Arc::new(config));
    let server =
        axum_server::from_tcp_rustls(listener, config).map_err(|e| Error::io("the listener", e))?;
    tokio::spawn(async move {
        if let Err(error) = server.serve(routes.into_make_service()).await {
            tracing::error!(%error, "the simulated Azure stopped");
        }
    });
    Ok(())
}

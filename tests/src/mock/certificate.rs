//! A certificate authority of one use, and a server certificate for loopback signed by it.

use std::{fs, io, path::Path};

use openssl::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{SslAcceptor, SslMethod},
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
            SubjectKeyIdentifier,
        },
    },
};

/// Makes both, writes the authority to `ca` (PEM) and returns what accepts TLS connections, and the server's
/// certificate and key (PEM).
pub(super) fn acceptor(ca: &Path) -> io::Result<(SslAcceptor, String)> {
    let (authority, authority_key) = authority()?;
    fs::write(ca, authority.to_pem()?)?;
    let (certificate, key) = server(&authority, &authority_key)?;
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_certificate(&certificate)?;
    acceptor.set_private_key(&key)?;
    // HTTP/1.1 is all there is, also for clients that offer more.
    acceptor.set_alpn_select_callback(|_, offered| {
        openssl::ssl::select_next_proto(b"\x08http/1.1", offered).ok_or(openssl::ssl::AlpnError::NOACK)
    });
    let identity = [certificate.to_pem()?, key.private_key_to_pem_pkcs8()?].concat();
    Ok((acceptor.build(), String::from_utf8_lossy(&identity).into_owned()))
}

fn authority() -> Result<(X509, PKey<Private>), ErrorStack> {
    let (mut builder, key) = builder("tokentap test authority")?;
    let name = common_name("tokentap test authority")?;
    builder.set_issuer_name(&name)?;
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(identifier)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok((builder.build(), key))
}

fn server(authority: &X509, authority_key: &PKey<Private>) -> Result<(X509, PKey<Private>), ErrorStack> {
    let (mut builder, key) = builder("localhost")?;
    builder.set_issuer_name(authority.subject_name())?;
    builder.append_extension(BasicConstraints::new().build()?)?;
    builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let context = builder.x509v3_context(Some(authority), None);
    let extensions = [
        SubjectAlternativeName::new().ip("127.0.0.1").dns("localhost").build(&context)?,
        SubjectKeyIdentifier::new().build(&context)?,
        AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
    ];
    for extension in extensions {
        builder.append_extension(extension)?;
    }
    builder.sign(authority_key, MessageDigest::sha256())?;
    Ok((builder.build(), key))
}

fn builder(name: &str) -> Result<(X509Builder, PKey<Private>), ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::ONE, false)?;
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&*common_name(name)?)?;
    builder.set_not_before(&*Asn1Time::from_unix(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(30)?)?;
    builder.set_pubkey(&key)?;
    Ok((builder, key))
}

fn common_name(name: &str) -> Result<openssl::x509::X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    builder.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(builder.build())
}

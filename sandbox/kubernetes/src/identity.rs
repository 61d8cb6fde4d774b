//! The cluster's own CA, the certificates that it signs, and the key that signs service-account tokens.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The object identifier of `O`, once more: rcgen holds one value for each name of an attribute.
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It could not be made, most often because a name is neither a DNS name nor an address.
    #[error("making a certificate for {subject:?} with the names {names:?}: {source}")]
    Certificate {
        /// Whose.
        subject: String,
        /// The names in it.
        names: Vec<String>,
        /// What rcgen says.
        source: rcgen::Error,
    },
    /// A certificate here names two groups at most.
    #[error("user {user:?} in {groups:?}: a client certificate holds two groups here; use a service account")]
    Groups {
        /// Whose certificate.
        user: String,
        /// The groups that were asked for.
        groups: Vec<String>,
    },
}

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The cluster's certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pair: Pair,
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its key is nobody's business.
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    pub(crate) fn generate(cluster: &str) -> Result<Self, IdentityError> {
        let subject = format!("{cluster} CA");
        let make = || {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, subject.as_str());
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
                KeyUsagePurpose::DigitalSignature,
            ];
            let pair = Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() };
            Ok(Self { issuer: Issuer::new(params, key), pair })
        };
        make().map_err(|source| IdentityError::Certificate {
            subject: subject.clone(),
            names: Vec::new(),
            source,
        })
    }

    /// What a server shows for these DNS names and addresses.
    pub(crate) fn server(&self, names: &[String]) -> Result<Pair, IdentityError> {
        let make = || {
            let mut params = CertificateParams::new(names.to_vec())?;
            params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            self.sign(params)
        };
        let subject = "kube-apiserver".to_owned();
        make().map_err(|source| IdentityError::Certificate { subject, names: names.to_vec(), source })
    }

    /// What a user in these groups shows.
    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> Result<Pair, IdentityError> {
        if groups.len() > 2 {
            let groups = groups.iter().map(|&group| group.to_owned()).collect();
            return Err(IdentityError::Groups { user: user.to_owned(), groups });
        }
        let make = || {
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name.push(DnType::CommonName, user);
            let attributes = [DnType::OrganizationName, DnType::CustomDnType(ORGANIZATION.to_vec())];
            for (attribute, &group) in attributes.into_iter().zip(groups) {
                params.distinguished_name.push(attribute, group);
            }
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            self.sign(params)
        };
        make().map_err(|source| IdentityError::Certificate {
            subject: user.to_owned(),
            names: Vec::new(),
            source,
        })
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The keys of the service-account issuer: the private and the public one, as PEM.
pub(crate) fn issuer_keys() -> Result<(String, String), IdentityError> {
    let subject = "service-account issuer".to_owned();
    let key = KeyPair::generate().map_err(|source| IdentityError::Certificate {
        subject,
        names: Vec::new(),
        source,
    })?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_groups_are_refused_in_words() {
        let authority = Authority::generate("east").unwrap();
        assert!(authority.client("jane", &["a", "b"]).is_ok());
        let Err(error) = authority.client("jane", &["a", "b", "c"]) else { panic!("it was made") };
        assert!(error.to_string().contains("jane"), "{error}");
    }

    #[test]
    fn a_name_that_cannot_stand_in_a_certificate_is_named() {
        let Err(error) = Authority::generate("east").unwrap().server(&["bad\u{e9}".to_owned()]) else {
            panic!("it was made")
        };
        assert!(error.to_string().contains("bad"), "{error}");
    }
}

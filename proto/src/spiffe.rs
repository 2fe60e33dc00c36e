use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The trust domain of a mesh, such as `demo.example`: one mesh, one trust domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TrustDomain(Arc<str>);

/// A node's name in its certificate: `spiffe://<trust-domain>/node/<name>` (SPIFFE-ID specification, section 2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    node: Arc<str>,
}

/// Why some text is no [`SpiffeId`] or [`TrustDomain`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Not `spiffe://<trust-domain>/node/<name>`.
    #[error("'{0}' is not of the form spiffe://<trust-domain>/node/<name>")]
    Shape(String),
    /// The trust domain is no lower-case DNS name.
    #[error("'{0}' is not a trust domain: 1 to 255 of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain(String),
    /// The node's name is not usable.
    #[error("'{0}' is not a node name: 1 to 63 of a-z, A-Z, 0-9, '.', '-' and '_', not starting with '.' or '-'")]
    Node(String),
}

impl TrustDomain {
    /// The domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        if (1..=255).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(SpiffeIdError::TrustDomain(text.to_owned()))
        }
    }
}

impl SpiffeId {
    /// The id of a node of a mesh.
    ///
    /// # Errors
    /// If the name is empty, too long or has characters that do not belong there.
    pub fn try_new(trust_domain: TrustDomain, node: &str) -> Result<Self, SpiffeIdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
        let good = (1..=63).contains(&node.len()) && node.bytes().all(allowed) && !node.starts_with(['.', '-']);
        if good { Ok(Self { trust_domain, node: node.into() }) } else { Err(SpiffeIdError::Node(node.to_owned())) }
    }

    /// The mesh it belongs to.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let shape = || SpiffeIdError::Shape(text.to_owned());
        let rest = text.strip_prefix("spiffe://").ok_or_else(shape)?;
        let (domain, path) = rest.split_once('/').ok_or_else(shape)?;
        Self::try_new(domain.parse()?, path.strip_prefix("node/").ok_or_else(shape)?)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/node/{}", self.trust_domain, self.node)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({self})")
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({self})")
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.to_string()
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = SpiffeIdError;

    fn try_from(text: String) -> Result<Self, SpiffeIdError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_survives_its_text_form() {
        let id: SpiffeId = "spiffe://demo.example/node/web-1".parse().unwrap();
        assert_eq!((id.trust_domain().as_str(), id.node()), ("demo.example", "web-1"));
        assert_eq!(id.to_string(), "spiffe://demo.example/node/web-1");
    }

    #[test]
    fn what_is_no_node_of_a_mesh_is_refused() {
        for bad in [
            "",
            "spiffe://",
            "spiffe://demo.example",
            "spiffe://demo.example/svc/web",
            "spiffe://demo.example/node/",
            "spiffe://demo.example/node/a/b",
            "spiffe://Demo/node/a",
            "https://demo.example/node/a",
            "spiffe://demo.example/node/..",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }
}

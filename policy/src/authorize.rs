//! May this stream be served?

use starling_proto::{ErrorCode, ServiceName, ServicePattern};

/// Leave to serve one stream. It exists only if a check was passed: what serves a stream asks for one, so that no way
/// around the check can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a stream is served with its permit"]
pub struct Permit {
    source: Option<ServiceName>,
    destination: ServiceName,
}

impl Permit {
    /// The service that calls, vouched for by its node's certificate; `None`: the node itself.
    #[must_use]
    pub const fn source(&self) -> Option<&ServiceName> {
        self.source.as_ref()
    }

    /// The service that is called.
    #[must_use]
    pub const fn destination(&self) -> &ServiceName {
        &self.destination
    }
}

/// Why a stream is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The caller speaks for a service that is not its own.
    #[error("the caller claims to be service '{source_service}', which its certificate does not name")]
    SourceNotNamed {
        /// What it claims to be.
        source_service: ServiceName,
    },
    /// This node may not serve it.
    #[error("service '{destination}' is not named by this node's certificate")]
    DestinationNotNamed {
        /// What it was asked for.
        destination: ServiceName,
    },
}

impl Denied {
    /// The word that the caller is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        ErrorCode::Refused
    }
}

/// Checks the names of a stream against the certificates of both its ends: the caller may speak only for services that
/// its certificate names (`peer_services`), and this node may serve only those that its own names (`own_services`).
///
/// A stream without a source comes from the peer's node itself, which its certificate always names.
///
/// # Errors
/// If either service is not named where it must be. The source is judged first: a stranger is not told what is here.
pub fn check_identity(
    peer_services: &[ServicePattern],
    own_services: &[ServicePattern],
    source: Option<&ServiceName>,
    destination: &ServiceName,
) -> Result<Permit, Denied> {
    if let Some(source) = source
        && !names(peer_services, source)
    {
        return Err(Denied::SourceNotNamed { source_service: source.clone() });
    }
    if !names(own_services, destination) {
        return Err(Denied::DestinationNotNamed { destination: destination.clone() });
    }
    Ok(Permit { source: source.cloned(), destination: destination.clone() })
}

fn names(certificate: &[ServicePattern], service: &ServiceName) -> bool {
    certificate.iter().any(|pattern| pattern.matches(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(all: &[&str]) -> Vec<ServicePattern> {
        all.iter().map(|pattern| pattern.parse().unwrap()).collect()
    }

    fn check(peer: &[&str], own: &[&str], source: Option<&str>, destination: &str) -> Result<Permit, Denied> {
        let source: Option<ServiceName> = source.map(|name| name.parse().unwrap());
        check_identity(&patterns(peer), &patterns(own), source.as_ref(), &destination.parse().unwrap())
    }

    #[test]
    fn a_stream_is_served_when_both_certificates_name_what_it_names() {
        for (name, peer, own, source, destination) in [
            ("both by name", &["web"][..], &["orders"][..], Some("web"), "orders"),
            ("one of several", &["api", "web"], &["stock", "orders"], Some("web"), "orders"),
            ("by glob", &["shop/*"], &["shop/or*"], Some("web.shop"), "orders.shop"),
            ("the node itself", &[], &["orders"], None, "orders"),
            ("a service calls itself", &["orders"], &["orders"], Some("orders"), "orders"),
        ] {
            let permit = check(peer, own, source, destination).expect(name);
            let got = (permit.source().map(ToString::to_string), permit.destination().to_string());
            assert_eq!(got, (source.map(str::to_owned), destination.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_stream_that_claims_another_s_name_is_refused_and_told_so() {
        let source_of = |name: &str| Denied::SourceNotNamed { source_service: name.parse().unwrap() };
        let destination = |name: &str| Denied::DestinationNotNamed { destination: name.parse().unwrap() };
        for (name, peer, own, source, target, denied) in [
            ("source not named", &["web"][..], &["orders"][..], Some("admin"), "orders", source_of("admin")),
            ("source of another namespace", &["web"], &["orders"], Some("web.shop"), "orders", source_of("web.shop")),
            ("a certificate that names nothing", &[], &["orders"], Some("web"), "orders", source_of("web")),
            ("destination not named", &["web"], &["orders"], Some("web"), "stock", destination("stock")),
            ("destination of another namespace", &["web"], &["shop/*"], Some("web"), "orders", destination("orders")),
            ("a node that may serve nothing", &["web"], &[], Some("web"), "orders", destination("orders")),
            ("the node itself, not named here", &[], &[], None, "orders", destination("orders")),
            ("both wrong: the source is named", &["web"], &["orders"], Some("admin"), "stock", source_of("admin")),
        ] {
            let error = check(peer, own, source, target).expect_err(name);
            assert_eq!(error, denied, "{name}");
            assert_eq!(error.code(), ErrorCode::Refused, "{name}");
        }
    }

    #[test]
    fn a_denial_says_why_in_plain_words() {
        let caller = check(&["web"], &["orders"], Some("admin.shop"), "orders").unwrap_err();
        assert_eq!(
            caller.to_string(),
            "the caller claims to be service 'admin.shop', which its certificate does not name"
        );
        let here = check(&["web"], &["orders"], Some("web"), "stock").unwrap_err();
        assert_eq!(here.to_string(), "service 'stock' is not named by this node's certificate");
    }
}
